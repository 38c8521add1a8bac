//! A subscription as its node keeps it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    message::Source,
    session::frame::SubscriptionInfo,
    shm::{
        cells::Cells,
        sync::{AtomicU64 as SharedU64, lock},
    },
};

/// One publisher's topic, as a subscription gets it. Its messages know it.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) source: Arc<Source>,
    /// The publisher's node.
    node: u64,
    /// The publisher's count of what it dropped for this subscription: foreign memory, one word per route.
    losses: Cells<SharedU64>,
    route: u16,
    /// Messages that newer ones pushed out of the queue here.
    overwritten: AtomicU64,
}

impl Attachment {
    pub(crate) fn new(node: u64, source: Source, losses: Cells<SharedU64>, route: u16) -> Arc<Self> {
        Arc::new(Self {
            source: Arc::new(source),
            node,
            losses,
            route,
            overwritten: AtomicU64::new(0),
        })
    }

    fn key(&self) -> (u64, u32) {
        (self.node, self.source.topic_id)
    }

    fn lost(&self) -> u64 {
        // Acquire: pairs with the Release of the publisher's store.
        let dropped = self
            .losses
            .get(usize::from(self.route))
            .map_or(0, |w| w.load(std::sync::atomic::Ordering::Acquire));
        // Relaxed: a count.
        dropped.saturating_add(self.overwritten.load(Ordering::Relaxed))
    }
}

/// How much a subscription has lost of one publisher's topic.
#[derive(Debug, Clone)]
pub(crate) struct LostOf {
    pub(crate) source: Arc<Source>,
    pub(crate) lost: u64,
}

/// Who publishes what is wanted.
#[derive(Debug, Default)]
struct Publishers {
    /// By node and topic number.
    attached: HashMap<(u64, u32), Arc<Attachment>>,
    /// Lost messages of publishers that are gone.
    lost_before: u64,
}

/// What belongs to a subscription besides its mailbox.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) info: SubscriptionInfo,
    publishers: Mutex<Publishers>,
}

impl Subscription {
    pub(crate) fn new(info: SubscriptionInfo) -> Self {
        Self {
            info,
            publishers: Mutex::default(),
        }
    }

    /// Most messages the queue holds before the oldest goes; `None`: the window bounds it.
    pub(crate) fn keep_last(&self) -> Option<usize> {
        (self.info.keep > 0).then_some(self.info.keep as usize)
    }

    /// Whether what is not handled goes to another member.
    pub(crate) fn is_group(&self) -> bool {
        self.info.group.is_some()
    }

    pub(crate) fn attach(&self, attachment: Arc<Attachment>) {
        let mut publishers = lock(&self.publishers);
        let before = publishers.attached.insert(attachment.key(), attachment);
        // Saturating, here and below: a peer may say any number.
        publishers.lost_before = publishers
            .lost_before
            .saturating_add(before.map_or(0, |before| before.lost()));
    }

    /// One publisher has ended, or all of a node; what was lost of them stays counted.
    pub(crate) fn detach(&self, node: u64, topic: Option<u32>) {
        let mut publishers = lock(&self.publishers);
        let Publishers {
            attached,
            lost_before,
        } = &mut *publishers;
        let meant = |key: &(u64, u32)| key.0 == node && topic.is_none_or(|topic| topic == key.1);
        for (_, gone) in attached.extract_if(|key, _| meant(key)) {
            *lost_before = lost_before.saturating_add(gone.lost());
        }
    }

    /// A message was pushed out of the queue by a newer one.
    pub(crate) fn overwritten(&self, attachment: &Attachment) {
        let mut publishers = lock(&self.publishers);
        if publishers.attached.contains_key(&attachment.key()) {
            // Relaxed: a count; the lock keeps it from being folded away meanwhile.
            attachment.overwritten.fetch_add(1, Ordering::Relaxed);
        } else {
            publishers.lost_before = publishers.lost_before.saturating_add(1);
        }
    }

    /// Whether nobody who publishes what is wanted is known.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.publishers).attached.is_empty()
    }

    pub(crate) fn is_attached(&self, node: u64, topic: u32) -> bool {
        lock(&self.publishers).attached.contains_key(&(node, topic))
    }

    pub(crate) fn attachment(&self, node: u64, topic: u32) -> Option<Arc<Attachment>> {
        lock(&self.publishers).attached.get(&(node, topic)).cloned()
    }

    /// What was lost, per publisher and topic.
    pub(crate) fn losses(&self) -> Vec<LostOf> {
        let lost = |of: &Arc<Attachment>| LostOf {
            source: of.source.clone(),
            lost: of.lost(),
        };
        lock(&self.publishers).attached.values().map(lost).collect()
    }

    /// What was lost in all, publishers that are gone included.
    pub(crate) fn lost(&self) -> u64 {
        let publishers = lock(&self.publishers);
        let now = publishers.attached.values().map(|of| of.lost());
        now.fold(publishers.lost_before, u64::saturating_add)
    }
}
