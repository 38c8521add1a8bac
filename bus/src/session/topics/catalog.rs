//! Which topics and subscriptions there are, here and at the peers, and bringing them together.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{
    pattern,
    publishing::{Topic, Unattached},
    subscription::{Attachment, Subscription},
};
use crate::{
    error::TopicError,
    message::Source,
    session::{
        frame::{Binding, Denial, Frame, KindInfo, SubscriptionInfo, TopicInfo},
        mailbox::{Kind, Mailbox},
        node::Node,
        peer::Session,
        port::Port,
        schemas,
    },
    shm::{checked::Violation, sync::lock},
};

/// Most messages that publishers keep for the subscriptions of one peer (`WhenFull::KeepLast`), all together.
const KEPT_PER_PEER: u64 = 1 << 20;

/// What is known of topics. Sessions are those of the announcing peers.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    topics: HashMap<u32, Arc<Topic>>,
    next_topic: u32,
    subscriptions: HashMap<(u32, u32), Arc<Mailbox>>,
    peer_topics: HashMap<(u64, u32), (Arc<Session>, TopicInfo)>,
    peer_subscriptions: HashMap<(u64, u32, u32), (Arc<Session>, SubscriptionInfo)>,
    /// Topics that nodes of other users deny us, by what was asked for; as long as somebody here asks for them.
    denied: HashMap<String, u64>,
}

/// A party whose type differs from ours: whom to ask about it, and what for.
struct Conflict {
    session: Option<Arc<Session>>,
    /// The topic or pattern it announced.
    name: String,
}

impl Catalog {
    /// What a new peer is told.
    pub(crate) fn own_frames(&self) -> Vec<Frame> {
        let topics = self.topics.values().map(|topic| Frame::Topic(topic.info.clone()));
        let subscriptions = self.subscriptions.values().filter_map(|mailbox| {
            mailbox
                .subscription
                .as_ref()
                .map(|own| Frame::Subscribe(own.info.clone()))
        });
        topics.chain(subscriptions).collect()
    }

    /// A peer denies us topics. Kept only as long as somebody here waits for just these.
    pub(crate) fn denied(&mut self, by: u64, topics: Vec<String>) {
        for topic in topics {
            if self.own_subscriptions().any(|own| own.pattern == topic) {
                self.denied.insert(topic, by);
            }
        }
    }

    fn own_subscriptions(&self) -> impl Iterator<Item = &SubscriptionInfo> {
        self.subscriptions
            .values()
            .filter_map(|mailbox| mailbox.subscription.as_ref().map(|own| &own.info))
    }

    /// Somebody who publishes this topic, or subscribes to it, with another type.
    fn conflict_of_topic(&self, topic: &TopicInfo) -> Option<Conflict> {
        let differs = |name: &str, kind: &KindInfo| name == topic.name && *kind != topic.kind;
        let wants = |wanted: &SubscriptionInfo| clashes(wanted, topic);
        let own = self
            .topics
            .values()
            .find(|own| differs(&own.info.name, &own.info.kind));
        let own = own.map(|own| own.info.name.clone());
        let own = own.or_else(|| {
            self.own_subscriptions()
                .find(|own| wants(own))
                .map(|own| own.pattern.clone())
        });
        if let Some(name) = own {
            return Some(Conflict { session: None, name });
        }
        let mut theirs = self
            .peer_topics
            .values()
            .filter(|(_, info)| differs(&info.name, &info.kind));
        let theirs = theirs.next().map(|(session, info)| (session, &info.name));
        let wanted = || self.peer_subscriptions.values().find(|(_, info)| wants(info));
        let theirs = theirs.or_else(|| wanted().map(|(session, info)| (session, &info.pattern)));
        theirs.map(|(session, name)| Conflict {
            session: Some(session.clone()),
            name: name.clone(),
        })
    }

    /// Somebody who publishes a topic that this pattern selects, with another type.
    fn conflict_of_subscription(&self, wanted: &SubscriptionInfo) -> Option<Conflict> {
        let differs = |info: &TopicInfo| clashes(wanted, info);
        if let Some(own) = self.topics.values().find(|own| differs(&own.info)) {
            return Some(Conflict {
                session: None,
                name: own.info.name.clone(),
            });
        }
        let (session, info) = self.peer_topics.values().find(|(_, info)| differs(info))?;
        Some(Conflict {
            session: Some(session.clone()),
            name: info.name.clone(),
        })
    }
}

/// Whether a subscription is for a topic whose messages are not what it expects. A pattern with wildcards
/// passes over topics of messages with another name: it wants the topics of its own type.
fn clashes(wanted: &SubscriptionInfo, topic: &TopicInfo) -> bool {
    let meant = !pattern::is_wild(&wanted.pattern) || wanted.kind.name == topic.kind.name;
    meant && wanted.kind != topic.kind && pattern::matches(&wanted.pattern, &topic.name)
}

fn selects(wanted: &SubscriptionInfo, topic: &TopicInfo) -> bool {
    pattern::matches(&wanted.pattern, &topic.name) && wanted.kind == topic.kind
}

impl Node {
    // ---- publishing ----

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
                None => self.own_session().await?,
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

    fn may_begin(&self, conflict: Option<Conflict>) -> Result<(), Option<Conflict>> {
        match conflict {
            Some(conflict) => Err(Some(conflict)),
            None if self.is_closed() => Err(None),
            None => Ok(()),
        }
    }

    /// Brings one topic and one subscription together.
    async fn attach(self: &Arc<Self>, topic: &Arc<Topic>, session: &Arc<Session>, wanted: &SubscriptionInfo) {
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
        self.end_attachments(self.id(), topic.info.id);
        self.touch();
    }

    /// A publisher has ended: what it published is moved to its subscriptions' queues, which then forget it.
    fn end_attachments(&self, node: u64, topic: u32) {
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

    // ---- subscribing ----

    /// Subscribes, and waits until everybody who is known to publish what is wanted sends it here.
    pub(crate) async fn subscribe(
        self: &Arc<Self>,
        port: &Arc<Port>,
        kind: Kind,
        wanted: SubscriptionInfo,
        within: Duration,
    ) -> Result<Arc<Mailbox>, TopicError> {
        pattern::check_pattern(&wanted.pattern)?;
        let limit = self.config.mailboxes;
        let number = port.reserve_mailbox(limit).ok_or(TopicError::TooMany { limit })?;
        let wanted = SubscriptionInfo {
            port: port.id,
            mailbox: number,
            kind: kind.info(),
            ..wanted
        };
        let binding = Binding {
            name: wanted.pattern.clone(),
            port: port.id,
            mailbox: number,
            window: wanted.depth,
            kinds: vec![kind.info()],
        };
        let subscription = Subscription::new(wanted.clone());
        let mailbox = Mailbox::new(
            binding,
            vec![kind],
            port.clone(),
            Some(subscription),
            Arc::downgrade(self),
        );
        let mut changed = self.changed.subscribe();
        let begun = {
            let _order = lock(&self.registry);
            let mut catalog = lock(&self.catalog);
            self.may_begin(catalog.conflict_of_subscription(&wanted))
                .map(|()| {
                    port.add_mailbox(mailbox.clone());
                    catalog.subscriptions.insert((port.id, number), mailbox.clone());
                    let own: Vec<_> = catalog
                        .topics
                        .values()
                        .filter(|own| selects(&wanted, &own.info))
                        .cloned()
                        .collect();
                    let theirs = catalog
                        .peer_topics
                        .iter()
                        .filter(|(_, (_, info))| selects(&wanted, info));
                    let mut expected: Vec<_> = theirs.map(|(key, _)| *key).collect();
                    expected.extend(own.iter().map(|own| (self.id(), own.info.id)));
                    for session in &self.sessions {
                        session.announce_topics(&Frame::Subscribe(wanted.clone()));
                    }
                    (own, expected)
                })
        };
        let (own, expected) = match begun {
            Ok(begun) => begun,
            Err(conflict) => {
                port.remove_mailbox(number);
                return Err(match conflict {
                    Some(conflict) => self.explain(conflict, kind).await,
                    None => TopicError::Closed,
                });
            }
        };
        // From here on a dropped future must not leave the subscription behind.
        let guard = Unsubscribe(&mailbox);
        let heard_by = Instant::now() + self.config.announce_deadline.min(within);
        for topic in own {
            let session = self.own_session().await?;
            self.attach(&topic, &session, &wanted).await;
        }
        let all = async {
            loop {
                changed.borrow_and_update();
                let waiting = expected.iter().any(|(node, topic)| {
                    let attached = mailbox
                        .subscription
                        .as_ref()
                        .is_none_or(|s| s.is_attached(*node, *topic));
                    let catalog = lock(&self.catalog);
                    let there = match *node == self.id() {
                        true => catalog.topics.contains_key(topic),
                        false => catalog.peer_topics.contains_key(&(*node, *topic)),
                    };
                    !attached && there
                });
                if !waiting || self.is_closed() || changed.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(within, all).await.is_err() {
            return Err(TopicError::NotAttached {
                pattern: wanted.pattern,
                waited: within,
            });
        }
        // Nor does a publisher miss it that has just begun, and of which nothing was heard here yet.
        self.until_heard(wanted.announcement(), &wanted.pattern, heard_by)
            .await;
        let denied = lock(&self.catalog).denied.remove(&wanted.pattern);
        // Somebody who publishes it denies it, and nobody lets us have it.
        if let Some(by) = denied.filter(|_| mailbox.subscription.as_ref().is_some_and(Subscription::is_idle))
        {
            let by = self.sessions.get(&by).map(|session| session.peer.name.clone());
            return Err(TopicError::Denied {
                topic: wanted.pattern,
                node: by.unwrap_or_default(),
                uid: nix::unistd::geteuid().as_raw(),
            });
        }
        std::mem::forget(guard);
        Ok(mailbox)
    }

    /// A subscription's mailbox was closed.
    pub(crate) fn unsubscribe(&self, binding: &Binding) {
        {
            let _order = lock(&self.registry);
            lock(&self.catalog)
                .subscriptions
                .remove(&(binding.port, binding.mailbox));
            for session in &self.sessions {
                session.send(
                    &Frame::Unsubscribe {
                        port: binding.port,
                        mailbox: binding.mailbox,
                    },
                    &[],
                );
            }
        }
        if let Some(port) = self.port(binding.port) {
            port.remove_mailbox(binding.mailbox);
            // What had to wait for this subscription's attachment may go on.
            port.poke();
        }
        if let Some(own) = self.own_session_now() {
            self.forgot_subscription(&own, binding.port, binding.mailbox);
        }
    }

    // ---- what peers say ----

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

    /// A session has ended, and its links are lost.
    pub(crate) fn topics_lost(&self, session: &Arc<Session>) {
        let node = session.peer.id;
        let (topics, mailboxes): (Vec<_>, Vec<_>) = {
            let mut catalog = lock(&self.catalog);
            if !session.is_self {
                catalog.peer_topics.retain(|(of, _), _| *of != node);
                catalog.peer_subscriptions.retain(|(of, ..), _| *of != node);
            }
            (
                catalog.topics.values().cloned().collect(),
                catalog.subscriptions.values().cloned().collect(),
            )
        };
        for topic in topics {
            topic.notify();
        }
        for mailbox in mailboxes {
            if let Some(subscription) = &mailbox.subscription {
                subscription.detach(node, None);
            }
        }
        self.touch();
    }

    /// The node leaves.
    pub(crate) fn close_topics(&self) {
        let (topics, mailboxes) = {
            let mut catalog = lock(&self.catalog);
            (
                std::mem::take(&mut catalog.topics),
                catalog.subscriptions.values().cloned().collect::<Vec<_>>(),
            )
        };
        for topic in topics.into_values() {
            topic.close();
        }
        for mailbox in mailboxes {
            mailbox.close();
        }
    }

    /// What differs, field by field.
    async fn explain(self: &Arc<Self>, conflict: Conflict, kind: Kind) -> TopicError {
        let ours = ((kind.schema)(), (kind.reply)());
        let (node, difference) = match &conflict.session {
            Some(session) => {
                let theirs = session
                    .ask_schemas(&conflict.name, kind.name)
                    .await
                    .unwrap_or_default();
                (
                    session.peer.name.clone(),
                    schemas::explain(&ours.0, &ours.1, &theirs),
                )
            }
            None => {
                let theirs = self.describe_topic(&conflict.name).unwrap_or_default();
                (
                    self.config.node.clone(),
                    schemas::explain(&ours.0, &ours.1, &theirs),
                )
            }
        };
        TopicError::Schema {
            topic: conflict.name,
            node,
            message: kind.name.to_owned(),
            difference,
        }
    }

    /// The archived schemas of a topic or subscription of ours, by its name or pattern.
    pub(crate) fn describe_topic(&self, name: &str) -> Option<crate::session::peer::Described> {
        let catalog = lock(&self.catalog);
        let topic = catalog
            .topics
            .values()
            .find(|own| own.info.name == name)
            .map(|own| own.kind);
        let wanted = || {
            catalog
                .subscriptions
                .values()
                .find(|own| own.binding.name == name)
                .map(|own| own.kinds[0])
        };
        let kind = topic.or_else(wanted)?;
        drop(catalog);
        Some((
            schemas::answer(&(kind.schema)()),
            schemas::answer(&(kind.reply)()),
        ))
    }
}

/// Ends a topic whose publisher was not completed.
struct Unpublish<'a>(&'a Node, &'a Topic);

impl Drop for Unpublish<'_> {
    fn drop(&mut self) {
        self.0.unpublish(self.1);
    }
}

/// Ends a subscription that was not completed.
struct Unsubscribe<'a>(&'a Arc<Mailbox>);

impl Drop for Unsubscribe<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
