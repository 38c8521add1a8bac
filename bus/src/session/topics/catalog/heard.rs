//! What peers say of their topics and subscriptions.

use std::sync::{Arc, atomic::Ordering};

use super::{clashes, selects};
use crate::{
    message::Source,
    session::{
        frame::{Denial, Frame, SubscriptionInfo, TopicInfo},
        node::Node,
        peer::Session,
        topics::{pattern, subscription::Attachment},
    },
    shm::{checked::Violation, sync::lock},
};

/// Most messages that publishers keep for the subscriptions of one peer (`WhenFull::KeepLast`), all together.
const KEPT_PER_PEER: u64 = 1 << 20;

impl Node {
    pub(crate) fn heard_topic(self: &Arc<Self>, session: &Arc<Session>, info: TopicInfo) {
        let node = session.peer.id;
        let what = info.announcement();
        let limit = self.config.peer_topics;
        let mut catalog = lock(&self.catalog);
        // Relaxed, here and below: under the catalog's lock.
        if session.topics.load(Ordering::Relaxed) as usize >= limit {
            drop(catalog);
            return session.exceeds("topics", limit, "Config::peer_topics");
        }
        session.topics.fetch_add(1, Ordering::Relaxed);
        if !session.may_publish(&info.name) {
            drop(catalog);
            lock(&session.denied_topics).insert(info.id);
            session.deny(Denial::Publish, &info.name);
            return session.send(&Frame::Heard(what), &[]);
        }
        if catalog.own_subscriptions().any(|own| clashes(own, &info)) {
            tracing::warn!(topic = %info.name, peer = %session.peer.name,
                "a topic we subscribe to is published there with another type; nothing of it arrives");
        }
        catalog
            .peer_topics
            .insert((node, info.id), (session.clone(), info));
        drop(catalog);
        session.send(&Frame::Heard(what), &[]);
        self.touch();
    }

    pub(crate) fn forgot_topic(&self, session: &Arc<Session>, id: u32) {
        self.end_attachments(session.peer.id, id);
        let known = lock(&self.catalog)
            .peer_topics
            .remove(&(session.peer.id, id))
            .is_some();
        if known || lock(&session.denied_topics).remove(&id) {
            session.topics.fetch_sub(1, Ordering::Relaxed);
        }
        self.touch();
    }

    pub(crate) fn heard_subscription(self: &Arc<Self>, session: &Arc<Session>, wanted: SubscriptionInfo) {
        let node = session.peer.id;
        let limit = self.config.peer_topics;
        let (topics, denied): (Vec<_>, Vec<_>) = {
            let mut catalog = lock(&self.catalog);
            let known = catalog
                .peer_subscriptions
                .iter()
                .filter(|((of, ..), _)| *of == node);
            let kept = known.fold(u64::from(wanted.keep), |kept, (_, (_, info))| {
                kept + u64::from(info.keep)
            });
            if session.subscriptions.load(Ordering::Relaxed) as usize >= limit || session.attaching() >= limit
            {
                drop(catalog);
                return session.exceeds("subscriptions", limit, "Config::peer_topics");
            }
            if kept > KEPT_PER_PEER {
                return session.close(format!(
                    "its subscriptions would have {kept} messages kept for them, more than {KEPT_PER_PEER}"
                ));
            }
            if catalog
                .peer_subscriptions
                .contains_key(&(node, wanted.port, wanted.mailbox))
            {
                return session.violated(Violation::Subscribed {
                    port: wanted.port,
                    mailbox: wanted.mailbox,
                });
            }
            let topics = catalog
                .topics
                .values()
                .filter(|topic| selects(&wanted, &topic.info))
                .cloned()
                .partition(|topic| session.may_subscribe(&topic.info.name));
            let key = (node, wanted.port, wanted.mailbox);
            if catalog
                .peer_subscriptions
                .insert(key, (session.clone(), wanted.clone()))
                .is_none()
            {
                session.subscriptions.fetch_add(1, Ordering::Relaxed);
            }
            topics
        };
        // Who asks for it by name is told; a pattern gets what it may, and does not learn what there is besides.
        if !denied.is_empty() && !pattern::is_wild(&wanted.pattern) {
            session.deny(Denial::Subscribe, &wanted.pattern);
        } else if !denied.is_empty() {
            session.counters.denied.add(1);
        }
        let heard = Frame::Heard(wanted.announcement());
        if topics.is_empty() {
            return session.send(&heard, &[]);
        }
        let (node, session) = (Arc::downgrade(self), session.clone());
        let counted = session.begin_attaching();
        self.spawn(async move {
            let _counted = counted;
            for topic in topics {
                let Some(node) = node.upgrade() else { return };
                node.attach(&topic, &session, &wanted).await;
            }
            // Not before: whoever is told may rely on being reached.
            session.send(&heard, &[]);
        });
    }

    pub(crate) fn forgot_subscription(&self, session: &Arc<Session>, port: u32, mailbox: u32) {
        let topics: Vec<_> = {
            let mut catalog = lock(&self.catalog);
            let known = catalog
                .peer_subscriptions
                .remove(&(session.peer.id, port, mailbox));
            if known.is_some() {
                session.subscriptions.fetch_sub(1, Ordering::Relaxed);
            }
            catalog.topics.values().cloned().collect()
        };
        for link in session.links_to(port) {
            link.stop_topic_routes(mailbox);
            for topic in &topics {
                topic.detach(link.id, mailbox);
            }
        }
    }

    /// A publisher says that a subscription of ours gets its topic from now on.
    pub(crate) fn attached(
        &self,
        session: &Arc<Session>,
        port: u32,
        mailbox: u32,
        topic: u32,
        link: u32,
        route: u32,
    ) {
        let known = {
            let catalog = lock(&self.catalog);
            let name = catalog
                .peer_topics
                .get(&(session.peer.id, topic))
                .map(|(_, info)| info.name.clone());
            catalog.subscriptions.get(&(port, mailbox)).cloned().zip(name)
        };
        let losses = session.losses_of(link);
        let (Some((mailbox, name)), Some(losses), Ok(route)) = (known, losses, u16::try_from(route)) else {
            // The subscription or the topic has ended meanwhile.
            return;
        };
        let source = Source {
            topic: name,
            node: session.peer.name.clone(),
            topic_id: topic,
        };
        if let Some(subscription) = &mailbox.subscription {
            subscription.attach(Attachment::new(session.peer.id, source, losses, route));
        }
        // Its first messages may have waited for this.
        mailbox.port.poke();
        self.touch();
    }
}
