//! Which topics and subscriptions there are, here and at the peers, and bringing them together.

mod explain;
mod heard;
mod publish;
mod subscribe;

use std::{collections::HashMap, sync::Arc};

use super::{pattern, publishing::Topic};
use crate::{
    error::TopicError,
    session::{
        frame::{Frame, KindInfo, SubscriptionInfo, TopicInfo},
        mailbox::Mailbox,
        node::Node,
        peer::Session,
    },
    shm::sync::lock,
};

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

/// Refuses what the frame's limits would refuse, before anybody is to hear of it: that would end every session.
fn may_announce(frame: &Frame, topic: &str) -> Result<(), TopicError> {
    let encoded = frame.encode().map(drop);
    encoded.map_err(|error| TopicError::NotAnnounced {
        topic: topic.to_owned(),
        problem: error.to_string(),
    })
}

fn selects(wanted: &SubscriptionInfo, topic: &TopicInfo) -> bool {
    pattern::matches(&wanted.pattern, &topic.name) && wanted.kind == topic.kind
}

impl Node {
    fn may_begin(&self, conflict: Option<Conflict>) -> Result<(), Option<Conflict>> {
        match conflict {
            Some(conflict) => Err(Some(conflict)),
            None if self.is_closed() => Err(None),
            None => Ok(()),
        }
    }

    /// A session has ended, and its links are lost.
    pub(crate) fn topics_lost(&self, session: &Arc<Session>) {
        let node = session.peer.id;
        let (topics, mailboxes): (Vec<_>, Vec<_>) = {
            let mut catalog = lock(&self.catalog);
            if !session.is_self {
                catalog.peer_topics.retain(|(of, _), _| *of != node);
                catalog.peer_subscriptions.retain(|(of, ..), _| *of != node);
                catalog.denied.retain(|_, by| *by != node);
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
}
