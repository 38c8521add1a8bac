//! What a node counts of itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        // Relaxed: a count orders nothing.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Messages handed to handlers.
    pub(crate) handled: Count,
    /// Messages that arrived for an actor that had stopped.
    pub(crate) dead_letters: Count,
    /// Messages sent and not released by a peer that was lost.
    pub(crate) undelivered: Count,
    /// Loans whose payload was moved, because the rest of the message found no room behind it.
    pub(crate) loans_copied: Count,
    pub(crate) panics: Count,
    pub(crate) violations: Count,
    pub(crate) handshakes_refused: Count,
    /// What nodes of other users asked for and may not have.
    pub(crate) denied: Count,
    /// Sessions closed because the peer announced more than it may.
    pub(crate) quotas: Count,
    /// Messages sent on links that are gone.
    pub(crate) sent_on_lost_links: Count,
    /// Those of them that were replies.
    pub(crate) replies_on_lost_links: Count,
}

/// What a node's links have carried, those that are gone included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traffic {
    /// Messages and replies sent.
    pub(crate) sent: u64,
    /// The replies among them.
    pub(crate) replies: u64,
    /// Those sent that their receivers have not released.
    pub(crate) unreleased: u64,
}
