//! What a link knows of what it sent: windows, tokens, and what is still out. Private memory of this process.

use std::collections::HashMap;

use super::{BATCH_ROUTE, Unhandled};
use crate::{
    session::budget::Share,
    shm::{
        checked::Violation,
        descriptor::Descriptor,
        doorbell::Parker,
        layout::LOSSES,
        pool::Held,
        returns::{Return, ReturnReader},
        ring::Producer,
    },
};

/// What this end knows of one window.
#[derive(Debug)]
pub(super) struct Window {
    /// The receiving mailbox.
    pub(super) mailbox: u32,
    pub(super) limit: u32,
    /// Unreleased messages; those sent inline among them.
    pub(super) held: u32,
    pub(super) held_inline: u32,
    pub(super) stopped: bool,
    /// Whose topic it was has no more use for it: once empty, it serves another.
    pub(super) released: bool,
    /// For a group's subscription: what the peer has not released, to be given to another member.
    pub(super) group: Option<HashMap<u32, Descriptor>>,
}

impl Window {
    fn new(mailbox: u32, limit: u32, group: Option<HashMap<u32, Descriptor>>) -> Self {
        Self {
            mailbox,
            limit,
            held: 0,
            held_inline: 0,
            stopped: false,
            released: false,
            group,
        }
    }
}

/// A buffer that was or will be sent under several tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentBuffer {
    pub(crate) held: Held,
    pub(crate) segment: u32,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Which buffers the peer holds. Private memory: a peer can give back only what stands here.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// With each, its route and the length of its message.
    pub(super) held: Vec<Option<(Held, u16, u64)>>,
    pub(super) free: Vec<u32>,
    /// Buffers among them that have a segment of their own.
    pub(super) dedicated: u32,
    /// Those that are batches.
    pub(super) batches: u32,
}

impl Tokens {
    pub(super) fn issue(&mut self, buffer: Held, route: u16, len: u64) -> u32 {
        self.dedicated += u32::from(buffer.is_dedicated());
        self.batches += u32::from(route == BATCH_ROUTE);
        match self.free.pop() {
            Some(token) => {
                self.held[token as usize] = Some((buffer, route, len));
                token
            }
            None => {
                self.held.push(Some((buffer, route, len)));
                self.held.len() as u32 - 1
            }
        }
    }

    pub(super) fn are_out(&self) -> bool {
        self.held.len() > self.free.len()
    }

    pub(super) fn redeem(&mut self, token: u32) -> Result<(Held, u16, u64), Violation> {
        let entry = self.held.get_mut(token as usize).and_then(Option::take);
        let entry = entry.ok_or(Violation::Token(token))?;
        self.dedicated -= u32::from(entry.0.is_dedicated());
        self.batches -= u32::from(entry.1 == BATCH_ROUTE);
        self.free.push(token);
        Ok(entry)
    }
}

/// What sending changes; all plain memory of this process, under one lock.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) producer: Producer,
    pub(super) returns: ReturnReader,
    pub(super) tokens: Tokens,
    /// What this link may still send of what the peer may hold.
    pub(super) share: Share,
    pub(super) windows: Vec<Window>,
    /// The window of each mailbox of the peer's port.
    pub(super) by_mailbox: HashMap<u32, u16>,
    /// Messages, and batches as such, that the return ring still has to account for.
    pub(super) unreturned: u32,
    pub(super) returns_limit: u32,
    /// Tells the peer that a sender of ours waits for room.
    pub(super) waiting: Parker,
    pub(super) since_collect: u32,
    pub(super) redeemed: Vec<Held>,
    /// Something was taken back of which those who wait for room have not been told yet.
    pub(super) regained: bool,
    /// The peer's position when they were told.
    pub(super) told_head: u64,
    pub(super) unhandled: Vec<Unhandled>,
    /// The window that was given a new use last.
    pub(super) reused_last: usize,
    /// Nothing more is sent.
    pub(super) shut: bool,
    /// Nor is anything taken back, but by what is [left](super::left).
    pub(super) lost: bool,
    pub(super) sent: u64,
}

impl Sending {
    pub(super) fn open_window(
        &mut self,
        mailbox: u32,
        limit: u32,
        group: Option<HashMap<u32, Descriptor>>,
        most: usize,
    ) -> Option<u16> {
        let route = u16::try_from(self.windows.len())
            .ok()
            .filter(|route| usize::from(*route) < most)?;
        self.windows.push(Window::new(mailbox, limit, group));
        Some(route)
    }

    /// Gives a window that is no longer used a new use. In turn, so that one that was just given up, of
    /// which the peer may not know yet, has time.
    pub(super) fn reuse_window(
        &mut self,
        mailbox: u32,
        limit: u32,
        group: Option<HashMap<u32, Descriptor>>,
    ) -> Option<u16> {
        let count = self.windows.len();
        let from = self.reused_last + 1;
        let at = (from..from + count).map(|at| at % count).find(|at| {
            let window = &self.windows[*at];
            *at < LOSSES && window.released && window.held == 0
        })?;
        self.reused_last = at;
        self.windows[at] = Window::new(mailbox, limit, group);
        u16::try_from(at).ok()
    }

    /// The peer is gone: what it held is ours again, or for another member of its group.
    pub(super) fn abandon_tokens(&mut self) {
        let tokens = std::mem::take(&mut self.tokens);
        self.share.give_all();
        for (token, (held, route, _)) in (0..)
            .zip(tokens.held)
            .filter_map(|(token, entry)| entry.map(|e| (token, e)))
        {
            let window = self.windows.get_mut(usize::from(route));
            let sent = window.and_then(|window| window.group.as_mut()?.remove(&token));
            match sent.and_then(|sent| Unhandled::new(route, sent, held)) {
                Some(unhandled) => self.unhandled.push(unhandled),
                None => self.redeemed.push(held),
            }
        }
    }

    /// So many more messages under way.
    pub(super) fn count(&mut self, route: u16, inline: bool, messages: u32) {
        self.unreturned += messages;
        self.sent += u64::from(messages);
        let window = &mut self.windows[usize::from(route)];
        window.held += messages;
        window.held_inline += if inline { messages } else { 0 };
    }

    /// Messages sent that the peer has not released.
    pub(super) fn unreleased(&self) -> u32 {
        self.unreturned - self.tokens.batches
    }

    pub(super) fn settle(&mut self, what: Return) -> Result<u32, Violation> {
        match what {
            Return::Token(token) => {
                let (buffer, route, len) = self.tokens.redeem(token)?;
                self.share.give(len);
                self.redeemed.push(buffer);
                self.redeem_place(route, token);
                Ok(1)
            }
            Return::Nack(token) => {
                let (held, route, len) = self.tokens.redeem(token)?;
                self.share.give(len);
                match self
                    .redeem_place(route, token)
                    .and_then(|sent| Unhandled::new(route, sent, held))
                {
                    Some(unhandled) => self.unhandled.push(unhandled),
                    // Not of a group: there is nobody else to give it to.
                    None => self.redeemed.push(held),
                }
                Ok(1)
            }
            Return::Credit { route, count } => {
                let messages = u32::from(count);
                let window = self.windows.get_mut(usize::from(route));
                let held = window.as_ref().map_or(0, |window| window.held_inline);
                // A credit of nothing is none: a peer that writes one after the other would keep us reading.
                let Some(window) = window.filter(|_| (1..=held).contains(&messages)) else {
                    return Err(Violation::Credit { route, count, held });
                };
                window.held_inline -= messages;
                window.held -= messages;
                self.unreturned -= messages;
                Ok(messages)
            }
        }
    }

    /// A token came back: its place in the window is free. Gives what was sent, for a group's route.
    pub(super) fn redeem_place(&mut self, route: u16, token: u32) -> Option<Descriptor> {
        self.unreturned -= 1;
        let window = self.windows.get_mut(usize::from(route))?;
        window.held -= 1;
        window.group.as_mut()?.remove(&token)
    }
}

#[cfg(test)]
mod tests;
