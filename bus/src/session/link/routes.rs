//! Routes: each is one window, of one mailbox of the peer, or of one topic of one of its subscriptions.

use std::collections::HashMap;

use super::{BATCH_ROUTE, Link};
use crate::shm::{batch, layout::LOSSES, sync::lock};

impl Link {
    /// The window of a mailbox, shared by all addresses of this node's port. `None`: too many.
    pub(crate) fn route(&self, mailbox: u32, limit: u32) -> Option<u16> {
        let mut sending = lock(&self.sending);
        if let Some(route) = sending.by_mailbox.get(&mailbox) {
            return Some(*route);
        }
        let route = sending.open_window(mailbox, limit, None, usize::from(BATCH_ROUTE))?;
        sending.by_mailbox.insert(mailbox, route);
        Some(route)
    }

    /// A window of its own for one topic of one subscription, until
    /// [`release_route`](Self::release_route). `None`: too many.
    pub(crate) fn topic_route(&self, mailbox: u32, limit: u32, group: bool) -> Option<u16> {
        let mut sending = lock(&self.sending);
        if sending.lost {
            return None;
        }
        let group = group.then(HashMap::new);
        if sending.windows.len() < LOSSES {
            return sending.open_window(mailbox, limit, group, LOSSES);
        }
        if let Err(violation) = self.take_returns(&mut sending) {
            drop(sending);
            self.session.violated(violation);
            return None;
        }
        let route = sending.reuse_window(mailbox, limit, group)?;
        self.tell_losses(route, 0);
        Some(route)
    }

    /// The topic has no more use for a route.
    pub(crate) fn release_route(&self, route: u16) {
        let mut sending = lock(&self.sending);
        if let Some(window) = sending.windows.get_mut(usize::from(route)) {
            window.stopped = true;
            window.released = true;
            // What comes back from now on has nobody to go to.
            window.group = None;
        }
        let unhandled: Vec<_> = sending
            .unhandled
            .extract_if(.., |one| one.route == route)
            .map(|one| one.buffer.held)
            .collect();
        drop(sending);
        if !unhandled.is_empty() {
            self.pool.release(unhandled);
        }
    }

    /// A subscription has ended: its windows take nothing any more. What the peer holds it still returns.
    pub(crate) fn stop_topic_routes(&self, mailbox: u32) {
        for window in &mut lock(&self.sending).windows {
            if window.mailbox == mailbox {
                window.stopped = true;
            }
        }
        self.room.wake();
    }

    /// The peer unbound a mailbox: who waits for room in it is told.
    pub(crate) fn stop_route(&self, mailbox: u32) {
        let mut sending = lock(&self.sending);
        if let Some(route) = sending.by_mailbox.get(&mailbox).copied() {
            sending.windows[usize::from(route)].stopped = true;
        }
        drop(sending);
        self.room.wake();
    }

    /// Most messages that one batch of this route may have, so that several find room in the window, and, if they are asks, among
    /// the places for replies. Few: they are better sent one by one.
    pub(crate) fn batch_limit(&self, route: u16, asks: bool) -> u32 {
        let sending = lock(&self.sending);
        let window = sending.windows.get(usize::from(route));
        let most = batch::MOST.min(sending.returns_limit / 4);
        let most = if asks {
            most.min(self.room.most_together())
        } else {
            most
        };
        window.map_or(0, |window| (window.limit / 4).min(most))
    }
}
