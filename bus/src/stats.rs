//! What a node tells about itself.

use crate::session::{counters::Traffic, node::Node};

/// A node's counts since it joined, and its memory now.
///
/// ```no_run
/// # async fn f(bus: shmbus::Bus) {
/// let stats = bus.stats();
/// println!("{} sent, {} handled, {} B in use", stats.sent, stats.handled, stats.pool_used_bytes);
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Messages and replies sent.
    pub sent: u64,
    /// Messages handed to handlers of this node.
    pub handled: u64,
    /// Replies and failures sent to askers.
    pub replies: u64,
    /// Messages that arrived for an actor that had stopped, or had not been handled when it did.
    pub dead_letters: u64,
    /// Messages that a lost peer had not released: it may or may not have handled them.
    pub undelivered: u64,
    /// Sent messages that their receivers have not released yet.
    pub unreleased: u64,
    /// Asks that wait for a reply, or whose asker has gone while the reply is still to come.
    pub open_asks: u64,
    /// Loans whose payload had to be copied once, because the rest of the message did not fit behind it, or, in a reply,
    /// because it was lent for an asker of another user.
    pub loans_copied: u64,
    /// Handlers that panicked.
    pub panics: u64,
    /// Sessions closed because the peer broke the protocol.
    pub violations: u64,
    /// Handshakes that led to no session.
    pub handshakes_refused: u64,
    /// What nodes of other users asked for and are not permitted ([`Config::permit`](crate::Config::permit)).
    pub denied: u64,
    /// Sessions closed because the peer announced more than a quota allows.
    pub quotas_exceeded: u64,
    /// Peers there is a session with.
    pub peers: u64,
    /// Buffers of the pool in use, those of other users' pools included.
    pub pool_buffers: u64,
    /// Bytes of these pools in use, in whole buffers.
    pub pool_used_bytes: u64,
    /// Bytes of these pools' segments (reserved, not all touched).
    pub pool_reserved_bytes: u64,
}

impl Stats {
    pub(crate) fn of(node: &Node) -> Self {
        let counters = &node.counters;
        let Traffic {
            sent,
            replies,
            unreleased,
        } = node.traffic();
        let (buffers, used, reserved) = node.pool_usage();
        Self {
            sent,
            handled: counters.handled.get(),
            replies,
            dead_letters: counters.dead_letters.get(),
            undelivered: counters.undelivered.get(),
            unreleased,
            open_asks: node
                .ports()
                .iter()
                .map(|port| port.with(|state| state.asks.open_count()) as u64)
                .sum(),
            loans_copied: counters.loans_copied.get(),
            panics: counters.panics.get(),
            violations: counters.violations.get(),
            handshakes_refused: counters.handshakes_refused.get(),
            denied: counters.denied.get(),
            quotas_exceeded: counters.quotas.get(),
            peers: node.sessions.len() as u64,
            pool_buffers: buffers as u64,
            pool_used_bytes: used,
            pool_reserved_bytes: reserved,
        }
    }
}
