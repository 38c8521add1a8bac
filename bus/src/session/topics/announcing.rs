//! Who has heard of a topic or a subscription: an announcement is acknowledged by each peer, and whoever made it waits.
//!
//! What an acknowledgement proves, given that a session's frames keep their order:
//!
//! - **Of a subscription**: every topic that the peer published when it heard of it is attached, and a topic that begins
//!   there later finds the subscription in the peer's catalog. So once all have acknowledged, what any of them publishes
//!   from then on is for this subscription too.
//! - **Of a topic**: the peer knows the topic. So a subscription made there afterwards waits to be attached to it,
//!   and one of another type is refused.
//!
//! A node that joins meanwhile is told in the snapshot at the handshake, which is awaited like everything else if it
//! is still under way; its own `join` returns when it has read our snapshot, so it publishes and subscribes
//! nothing before it knows what we announced.

use std::collections::HashSet;

use tokio::time::{Instant, timeout_at};

use crate::{
    session::{frame::Announcement, node::Node},
    shm::{
        checked::Violation,
        sync::{Mutex, lock},
    },
};

/// Most announcements that one peer leaves unacknowledged: all topics and subscriptions it takes from us.
const UNHEARD: usize = 1 << 15;

/// What one peer has been told and has not acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Unheard(Mutex<HashSet<Announcement>>);

impl Unheard {
    /// Something is about to be announced. `false`: too much is unacknowledged.
    pub(crate) fn add(&self, what: Announcement) -> bool {
        let mut unheard = lock(&self.0);
        unheard.len() < UNHEARD && {
            unheard.insert(what);
            true
        }
    }

    /// The peer acknowledges.
    pub(crate) fn remove(&self, what: Announcement) -> Result<(), Violation> {
        match lock(&self.0).remove(&what) {
            true => Ok(()),
            false => Err(Violation::Acknowledgement),
        }
    }

    pub(crate) fn contains(&self, what: Announcement) -> bool {
        lock(&self.0).contains(&what)
    }
}

impl Node {
    /// Waits until every peer has acknowledged an announcement or is lost, at most until `by`.
    pub(crate) async fn until_heard(&self, what: Announcement, name: &str, by: Instant) {
        let mut changed = self.changed.subscribe();
        let all = async {
            loop {
                changed.borrow_and_update();
                let waiting = self.sessions.iter().any(|session| session.has_not_heard(what));
                if !waiting || self.is_closed() || changed.changed().await.is_err() {
                    return;
                }
            }
        };
        if timeout_at(by, all).await.is_err() {
            let silent = self.sessions.iter().filter(|session| session.has_not_heard(what));
            let silent: Vec<_> = silent.map(|session| session.peer.name.clone()).collect();
            tracing::warn!(
                topic = name,
                ?silent,
                "not every peer has said that it knows of this (`Config::announce_deadline`)"
            );
        }
    }
}

#[cfg(test)]
mod tests;
