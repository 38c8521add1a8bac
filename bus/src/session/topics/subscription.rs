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

/// One publisher's topic, as a subscription gets it.
#[derive(Debug)]
struct Attached {
    source: Arc<Source>,
    /// The publisher's count of what it dropped for this subscription: foreign memory, one word per route.
    losses: Cells<SharedU64>,
    route: u16,
    /// Messages that newer ones pushed out of the queue here.
    overwritten: u64,
}

impl Attached {
    fn lost(&self) -> u64 {
        // Acquire: pairs with the Release of the publisher's store.
        let dropped = self
            .losses
            .get(usize::from(self.route))
            .map_or(0, |w| w.load(std::sync::atomic::Ordering::Acquire));
        dropped.saturating_add(self.overwritten)
    }
}

/// How much a subscription has lost of one publisher's topic.
#[derive(Debug, Clone)]
pub(crate) struct LostOf {
    pub(crate) source: Arc<Source>,
    pub(crate) lost: u64,
}

/// What belongs to a subscription besides its mailbox.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) info: SubscriptionInfo,
    /// By session of the publisher (its node's id) and topic number.
    attached: Mutex<HashMap<(u64, u32), Attached>>,
    /// Lost messages of publishers that are gone.
    lost_before: AtomicU64,
}

impl Subscription {
    pub(crate) fn new(info: SubscriptionInfo) -> Self {
        Self {
            info,
            attached: Mutex::default(),
            lost_before: AtomicU64::new(0),
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

    pub(crate) fn attach(&self, node: u64, source: Arc<Source>, losses: Cells<SharedU64>, route: u16) {
        let attached = Attached {
            overwritten: 0,
            losses,
            route,
            source,
        };
        let before = lock(&self.attached).insert((node, attached.source.topic_id), attached);
        if let Some(before) = before {
            // Relaxed: a count.
            self.lost_before.fetch_add(before.lost(), Ordering::Relaxed);
        }
    }

    /// A publisher's node is gone; what was lost of it stays counted.
    pub(crate) fn detach_node(&self, node: u64) {
        for (_, gone) in lock(&self.attached).extract_if(|(of, _), _| *of == node) {
            self.lost_before.fetch_add(gone.lost(), Ordering::Relaxed);
        }
    }

    pub(crate) fn overwritten(&self, node: u64, topic: u32) {
        if let Some(attached) = lock(&self.attached).get_mut(&(node, topic)) {
            attached.overwritten += 1;
        }
    }

    pub(crate) fn is_attached(&self, node: u64, topic: u32) -> bool {
        lock(&self.attached).contains_key(&(node, topic))
    }

    pub(crate) fn source(&self, node: u64, topic: u32) -> Option<Arc<Source>> {
        lock(&self.attached)
            .get(&(node, topic))
            .map(|attached| attached.source.clone())
    }

    /// What was lost, per publisher and topic.
    pub(crate) fn losses(&self) -> Vec<LostOf> {
        lock(&self.attached)
            .values()
            .map(|attached| LostOf {
                source: attached.source.clone(),
                lost: attached.lost(),
            })
            .collect()
    }

    /// What was lost in all, publishers that are gone included.
    pub(crate) fn lost(&self) -> u64 {
        let now: u64 = lock(&self.attached).values().map(Attached::lost).sum();
        now + self.lost_before.load(Ordering::Relaxed)
    }
}
