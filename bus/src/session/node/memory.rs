//! What all links and pools of a node hold, and who waits for some of it.

use std::{
    sync::{Arc, Weak},
    task::Waker,
};

use super::Node;
use crate::{
    session::{counters::Traffic, handshake, link::Link},
    shm::{pool::Pool, sync::lock},
};

impl Node {
    pub(super) fn all_links(&self) -> Vec<Arc<Link>> {
        let sessions = self
            .sessions
            .iter()
            .map(|entry| entry.clone())
            .chain(self.own_ends());
        sessions
            .flat_map(|session| {
                lock(&session.links)
                    .by_id
                    .values()
                    .map(|(link, ..)| link.clone())
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// What the links have carried.
    pub(crate) fn traffic(&self) -> Traffic {
        self.left.collect();
        let mut traffic = Traffic {
            sent: self.counters.sent_on_lost_links.get(),
            replies: self.counters.replies_on_lost_links.get(),
            unreleased: 0,
        };
        for link in self.all_links() {
            let (sent, unreleased) = link.counts();
            traffic.sent += sent;
            traffic.unreleased += u64::from(unreleased);
            // The answering end of a link sends nothing else.
            traffic.replies += if link.asking { 0 } else { sent };
        }
        traffic
    }

    /// Takes back what the peers have released, everywhere.
    pub(crate) fn collect_all(&self) {
        self.left.collect();
        let mut wakers = Vec::new();
        for link in self.all_links() {
            link.collect(&mut wakers);
        }
        for waker in wakers {
            waker.wake();
        }
    }

    /// Registers a task that waits for pool memory; it must try once more afterwards.
    pub(crate) fn wait_for_memory(&self, waker: &Waker) {
        for pool in self.pools() {
            pool.wait(waker);
        }
        for link in self.all_links() {
            link.wait(waker);
        }
    }

    /// The pool for messages to this peer.
    pub(crate) fn pool_for(&self, peer: &handshake::Peer) -> Arc<Pool> {
        if peer.uid == self.me.uid {
            return self.pool.clone();
        }
        let mut pools = lock(&self.user_pools);
        pools.retain(|_, pool| pool.strong_count() > 0);
        if let Some(pool) = pools.get(&peer.uid).and_then(Weak::upgrade) {
            return pool;
        }
        let limit = self.config.user_pool_bytes;
        let pool = Pool::new(self.config.segment_bytes.min(limit), limit);
        pools.insert(peer.uid, Arc::downgrade(&pool));
        pool
    }

    pub(super) fn pools(&self) -> Vec<Arc<Pool>> {
        let others = lock(&self.user_pools)
            .values()
            .filter_map(Weak::upgrade)
            .collect::<Vec<_>>();
        std::iter::once(self.pool.clone()).chain(others).collect()
    }

    /// Buffers in use, bytes in use, bytes reserved, of all pools.
    pub(crate) fn pool_usage(&self) -> (usize, u64, u64) {
        self.pools()
            .iter()
            .map(|pool| pool.usage())
            .fold((0, 0, 0), |all, one| {
                (all.0 + one.0, all.1 + one.1, all.2 + one.2)
            })
    }
}
