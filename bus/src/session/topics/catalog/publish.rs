//! Beginning and ending a topic, and bringing it together with its subscriptions.

use std::sync::Arc;

use tokio::{sync::oneshot, time::Instant};

use super::{may_announce, selects};
use crate::{
    error::TopicError,
    message::Source,
    session::{
        frame::{Frame, SubscriptionInfo, TopicInfo},
        mailbox::Kind,
        node::Node,
        peer::Session,
        port::Port,
        topics::{
            pattern,
            publishing::{Topic, Unattached},
            subscription::Attachment,
        },
    },
    shm::sync::lock,
};

impl Node {
    /// Begins to publish a topic, and reaches everybody who is known to want it.
    pub(crate) async fn publish_topic(
        self: &Arc<Self>,
        port: Arc<Port>,
        name: &str,
        kind: Kind,
        history: usize,
    ) -> Result<Arc<Topic>, TopicError> {
        pattern::check_topic(name)?;
        let info = TopicInfo {
            id: 0,
            name: name.to_owned(),
            kind: kind.info(),
        };
        may_announce(&Frame::Topic(info.clone()), name)?;
        let begun = {
            // The registry's lock keeps new sessions out until both are told the same.
            let _order = lock(&self.registry);
            let mut catalog = lock(&self.catalog);
            self.may_begin(catalog.conflict_of_topic(&info)).map(|()| {
                let info = TopicInfo {
                    id: catalog.next_topic,
                    ..info
                };
                catalog.next_topic += 1;
                let topic = Topic::new(info.clone(), kind, self, port, history);
                catalog.topics.insert(info.id, topic.clone());
                let peers = catalog
                    .peer_subscriptions
                    .values()
                    .filter(|(session, wanted)| selects(wanted, &info) && session.may_subscribe(&info.name));
                let mut wanting: Vec<_> = peers
                    .map(|(session, wanted)| (Some(session.clone()), wanted.clone()))
                    .collect();
                let own = catalog
                    .own_subscriptions()
                    .filter(|wanted| selects(wanted, &info));
                wanting.extend(own.map(|wanted| (None, wanted.clone())));
                for session in &self.sessions {
                    session.announce_topics(&Frame::Topic(info.clone()));
                }
                (topic, wanting)
            })
        };
        let (topic, wanting) = match begun {
            Ok(begun) => begun,
            Err(Some(conflict)) => return Err(self.explain(conflict, kind).await),
            Err(None) => return Err(TopicError::Closed),
        };
        // From here on an error or a dropped future must not leave the topic behind.
        let guard = Unpublish(self, &topic);
        let heard_by = Instant::now() + self.config.announce_deadline;
        let mut attaching = Vec::new();
        for (session, wanted) in wanting {
            let session = match session {
                Some(session) => session,
                None => self.own_session()?,
            };
            let (done, attached) = oneshot::channel::<()>();
            let (node, topic) = (Arc::downgrade(self), topic.clone());
            self.spawn(async move {
                if let Some(node) = node.upgrade() {
                    node.attach(&topic, &session, &wanted).await;
                }
                drop(done);
            });
            attaching.push(attached);
        }
        let all = async {
            for attached in attaching {
                let _ = attached.await;
            }
        };
        if tokio::time::timeout(self.config.lookup_deadline, all)
            .await
            .is_err()
        {
            // A process that is stopped, say; it is reached when it goes on.
            tracing::warn!(topic = name, "not every subscriber is reached yet");
        }
        // Who subscribes from now on, wherever, knows this publisher.
        self.until_heard(topic.info.announcement(), name, heard_by).await;
        std::mem::forget(guard);
        Ok(topic)
    }

    /// Topics of this node and its own subscriptions that select them.
    pub(crate) fn own_pairs(&self) -> Vec<(Arc<Topic>, SubscriptionInfo)> {
        let catalog = lock(&self.catalog);
        let topics = catalog.topics.values().flat_map(|topic| {
            let wanted = catalog
                .own_subscriptions()
                .filter(|own| selects(own, &topic.info));
            wanted.map(|wanted| (topic.clone(), wanted.clone()))
        });
        topics.collect()
    }

    /// Brings one topic and one subscription together.
    pub(crate) async fn attach(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        session: &Arc<Session>,
        wanted: &SubscriptionInfo,
    ) {
        let link = match session.link(self, &topic.port, wanted.port).await {
            Ok(link) => link,
            Err(error) => {
                tracing::warn!(topic = %topic.info.name, peer = %session.peer.name, ?error,
                    "a subscriber is not reached");
                return;
            }
        };
        // It may have ended while the link was set up.
        let own = {
            let catalog = lock(&self.catalog);
            if session.is_self {
                match catalog.subscriptions.get(&(wanted.port, wanted.mailbox)) {
                    Some(own) => Some(own.clone()),
                    None => return,
                }
            } else {
                let key = (session.peer.id, wanted.port, wanted.mailbox);
                if !catalog.peer_subscriptions.contains_key(&key) {
                    return;
                }
                None
            }
        };
        // Announced before the topic's end can be; if the first message overtakes, the reader waits.
        let outcome = topic.attach(&link, wanted, |route| match &own {
            // Not by a frame: it would come after the end of a topic that is withdrawn at once.
            Some(own) => {
                let source = Source {
                    topic: topic.info.name.clone(),
                    node: self.config.node.clone(),
                    topic_id: topic.info.id,
                };
                if let Some(subscription) = &own.subscription {
                    let losses = link.own_losses();
                    subscription.attach(Attachment::new(self.id(), source, losses, route));
                }
            }
            None => session.send(
                &Frame::Attached {
                    port: wanted.port,
                    mailbox: wanted.mailbox,
                    topic: topic.info.id,
                    link: link.id,
                    route: u32::from(route),
                },
                &[],
            ),
        });
        if let Err(Unattached::NoRoute) = outcome {
            tracing::warn!(topic = %topic.info.name, peer = %session.peer.name,
                "a subscriber is not reached: its link has no room for another topic");
        }
        self.touch();
        // It may have ended just before, and then nobody else takes it off the topic.
        let ended = {
            let catalog = lock(&self.catalog);
            match &own {
                Some(own) => !catalog
                    .subscriptions
                    .contains_key(&(own.binding.port, own.binding.mailbox)),
                None => {
                    let key = (session.peer.id, wanted.port, wanted.mailbox);
                    !catalog.peer_subscriptions.contains_key(&key)
                }
            }
        };
        if ended {
            link.stop_topic_routes(wanted.mailbox);
            topic.detach(link.id, wanted.mailbox);
        }
    }

    /// A topic is no longer published.
    pub(crate) fn unpublish(&self, topic: &Topic) {
        {
            let _order = lock(&self.registry);
            if lock(&self.catalog).topics.remove(&topic.info.id).is_none() {
                return;
            }
            // First, so that no announcement of a subscription follows the end.
            topic.close();
            for session in &self.sessions {
                session.send(&Frame::Untopic { id: topic.info.id }, &[]);
            }
        }
        if let Some(own) = self.own_session_now() {
            // By a frame: its last messages may still wait for those that bring their segments.
            own.send(&Frame::Untopic { id: topic.info.id }, &[]);
        }
        self.touch();
    }

    /// A publisher has ended: what it published is moved to its subscriptions' queues, which then forget it.
    pub(super) fn end_attachments(&self, node: u64, topic: u32) {
        let mailboxes: Vec<_> = lock(&self.catalog)
            .subscriptions
            .values()
            .filter(|mailbox| {
                let subscription = mailbox.subscription.as_ref();
                subscription.is_some_and(|subscription| subscription.is_attached(node, topic))
            })
            .cloned()
            .collect();
        for mailbox in mailboxes {
            mailbox.port.catch_up();
            if let Some(subscription) = &mailbox.subscription {
                subscription.detach(node, Some(topic));
            }
        }
    }
}

/// Ends a topic whose publisher was not completed.
struct Unpublish<'a>(&'a Node, &'a Topic);

impl Drop for Unpublish<'_> {
    fn drop(&mut self) {
        self.0.unpublish(self.1);
    }
}
