//! The publisher's side of one subscription: what it gets now, what waits for room, what is dropped.

use std::{collections::VecDeque, sync::Arc, task::Waker};

use crate::{
    error::Bound,
    session::link::{Link, NoSend, SentBuffer, Unhandled},
    shm::{
        descriptor::Descriptor,
        doorbell::published,
        faults::fault,
        pool::{Held, Pool},
    },
};

/// What happens to a message for which a subscription has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Wait,
    DropNewest,
    /// This many wait here; the oldest of them goes.
    KeepLast(usize),
}

/// A published message that is kept: in a history, or until there is room. It holds its buffer.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) descriptor: Descriptor,
    buffer: Option<SentBuffer>,
    pool: Arc<Pool>,
    /// The same in the pools of other users, one after the other.
    copy: Option<Box<Stored>>,
}

impl Stored {
    /// Takes over the caller's reference to the buffer.
    pub(crate) fn new(descriptor: Descriptor, buffer: Option<SentBuffer>, pool: &Arc<Pool>) -> Self {
        Self {
            descriptor,
            buffer,
            pool: pool.clone(),
            copy: None,
        }
    }

    /// The same message where nodes of that pool's user may read it; copied there once. `None`: there is no memory.
    fn in_pool(&mut self, pool: &Arc<Pool>) -> Option<&mut Stored> {
        if self.buffer.is_none() || Arc::ptr_eq(&self.pool, pool) {
            return Some(self);
        }
        if self.copy.is_none() {
            let from = self.buffer?;
            let copy = self
                .pool
                .copy(from.held, from.segment, from.offset, from.len, pool)
                .ok()?;
            let buffer = SentBuffer {
                segment: copy.segment(),
                offset: copy.offset() as u64,
                held: copy.into_held(),
                len: from.len,
            };
            self.copy = Some(Box::new(Self::new(self.descriptor, Some(buffer), pool)));
        }
        self.copy.as_mut()?.in_pool(pool)
    }

    /// The same message, to be kept: in that pool, or as it is. `None`: there is no memory.
    fn kept_for(&mut self, pool: Option<&Arc<Pool>>) -> Option<Stored> {
        match pool {
            None => Some(self.clone()),
            Some(pool) => self.in_pool(pool).map(|copy| copy.clone()),
        }
    }

    /// It is kept for long: its copies are made again if there is need.
    pub(crate) fn forget_copies(&mut self) {
        self.copy = None;
    }

    /// What a member of a group gave back.
    pub(crate) fn unhandled(message: Unhandled, pool: &Arc<Pool>) -> Self {
        let mut descriptor = message.descriptor;
        descriptor.set_redelivered();
        Self::new(descriptor, Some(message.buffer), pool)
    }

    fn held(&self) -> Option<Held> {
        self.buffer.map(|buffer| buffer.held)
    }

    /// Sends it to one subscription, for which one more reference is taken.
    fn send(&mut self, link: &Link, mailbox: u32, route: u16) -> Result<(), NoSend> {
        let pool = &link.session.pool;
        if self.buffer.is_some() && !Arc::ptr_eq(&self.pool, pool) {
            // Not copied only to learn that there is no room.
            if !link.has_room(route) {
                return Err(NoSend::Full(Bound::Window));
            }
            let copy = self.in_pool(pool).ok_or(NoSend::Full(Bound::Pool))?;
            return copy.send(link, mailbox, route);
        }
        self.retain(1);
        let sent = self.send_retained(link, mailbox, route);
        match sent {
            Ok(()) => {
                published();
                link.ring_published();
            }
            Err(_) => self.pool.release(self.held()),
        }
        sent
    }

    /// Takes references for so many subscriptions.
    pub(crate) fn retain(&self, count: usize) {
        if let Some(held) = self.held() {
            self.pool.retain(held, count as u32);
        }
    }

    /// Gives references back that no subscription has got.
    pub(crate) fn release(&self, count: usize) {
        if let Some(held) = self.held().filter(|_| count > 0) {
            self.pool.release(std::iter::repeat_n(held, count));
        }
    }

    /// Sends it with a reference that was taken before. The subscription's port is still to be rung.
    fn send_retained(&mut self, link: &Link, mailbox: u32, route: u16) -> Result<(), NoSend> {
        self.descriptor.readdress(mailbox, route);
        link.send_published(&mut self.descriptor, self.buffer)
    }
}

impl Clone for Stored {
    fn clone(&self) -> Self {
        if let Some(held) = self.held() {
            self.pool.retain(held, 1);
        }
        Self {
            descriptor: self.descriptor,
            buffer: self.buffer,
            pool: self.pool.clone(),
            copy: None,
        }
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.pool.release(self.held());
    }
}

/// Counts of what went through outlets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flow {
    pub(crate) delivered: u64,
    pub(crate) dropped: u64,
    /// Something waits for memory, which may come back from any peer of its user.
    pub(crate) starved: bool,
}

/// One subscription of one node, as its publisher sees it.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) link: Arc<Link>,
    pub(crate) mailbox: u32,
    pub(crate) route: u16,
    pub(crate) policy: Policy,
    /// Of another user: what it gets is copied to memory for that user.
    foreign: bool,
    /// What waits for room, oldest first: the history a late joiner gets, or what `KeepLast` keeps.
    backlog: VecDeque<Stored>,
    lost: u64,
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.link.release_route(self.route);
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    Done,
    /// The subscription is gone.
    Gone,
}

impl Outlet {
    pub(crate) fn new(link: Arc<Link>, mailbox: u32, route: u16, policy: Policy) -> Self {
        Self {
            foreign: link.session.is_foreign(),
            link,
            mailbox,
            route,
            policy,
            backlog: VecDeque::new(),
            lost: 0,
        }
    }

    /// Whether a message offered now would be sent at once. What waits is sent first: there may have been room for it
    /// since the pump ran last.
    pub(crate) fn has_room(&mut self, waker: &Waker, flow: &mut Flow) -> bool {
        if !self.backlog.is_empty() && self.flush(waker, flow) == Offered::Gone {
            // Found out once more, and taken away, when it is offered something.
            return true;
        }
        self.backlog.is_empty() && self.takes_more()
    }

    fn takes_more(&self) -> bool {
        self.link.has_room(self.route)
    }

    /// Sends, or does what the policy says. What is sent takes one of the `references`; its port is still to be rung.
    pub(crate) fn offer(
        &mut self,
        message: &mut Stored,
        references: &mut usize,
        waker: &Waker,
        flow: &mut Flow,
    ) -> Offered {
        if !self.backlog.is_empty() && self.flush(waker, flow) == Offered::Gone {
            return Offered::Gone;
        }
        if self.backlog.is_empty() {
            let sent = if self.foreign {
                message.send(&self.link, self.mailbox, self.route)
            } else {
                message.send_retained(&self.link, self.mailbox, self.route)
            };
            match sent {
                Ok(()) => {
                    // A copy has its own.
                    *references -= usize::from(!self.foreign);
                    flow.delivered += 1;
                    return Offered::Done;
                }
                Err(NoSend::Full(_)) => {}
                Err(NoSend::Lost | NoSend::Stopped) => return Offered::Gone,
            }
        }
        match self.policy {
            Policy::DropNewest => self.lose(flow),
            Policy::KeepLast(keep) => {
                let Some(kept) = message.kept_for(self.pool()) else {
                    self.lose(flow);
                    return Offered::Done;
                };
                self.backlog.push_back(kept);
                while self.backlog.len() > keep.max(1) {
                    self.backlog.pop_front();
                    self.lose(flow);
                }
                return self.flush(waker, flow);
            }
            // Its room was seen before, and was taken by a tell on the same link.
            Policy::Wait => {
                self.backlog.push_back(message.clone());
                return self.flush(waker, flow);
            }
        }
        Offered::Done
    }

    /// Where what waits for a subscription of another user is kept: what such a one holds up is its own memory.
    fn pool(&self) -> Option<&Arc<Pool>> {
        self.foreign.then_some(&self.link.session.pool)
    }

    fn lose(&mut self, flow: &mut Flow) {
        self.lost += 1;
        flow.dropped += 1;
        self.link.tell_losses(self.route, self.lost);
    }

    /// The topic ends: what still waits is lost, and counted so.
    pub(crate) fn end(mut self, flow: &mut Flow) {
        while self.backlog.pop_front().is_some() {
            self.lose(flow);
        }
    }

    /// Puts a history in front of everything that is published from now on.
    pub(crate) fn begin_with(
        &mut self,
        history: impl Iterator<Item = Stored>,
        waker: &Waker,
        flow: &mut Flow,
    ) -> Offered {
        for mut message in history {
            match message.kept_for(self.pool()) {
                Some(kept) => self.backlog.push_back(kept),
                None => self.lose(flow),
            }
        }
        self.flush(waker, flow)
    }

    /// Sends what waits, as far as there is room; `waker` is called when there is more.
    pub(crate) fn flush(&mut self, waker: &Waker, flow: &mut Flow) -> Offered {
        let mut registered = false;
        while let Some(message) = self.backlog.front_mut() {
            fault!(History);
            match message.send(&self.link, self.mailbox, self.route) {
                Ok(()) => {
                    flow.delivered += 1;
                    self.backlog.pop_front();
                }
                Err(NoSend::Full(bound)) if registered => {
                    flow.starved |= matches!(bound, Bound::Pool | Bound::Peer);
                    break;
                }
                Err(NoSend::Full(_)) => {
                    self.link.wait(waker);
                    registered = true;
                }
                Err(NoSend::Lost | NoSend::Stopped) => return Offered::Gone,
            }
        }
        Offered::Done
    }
}

/// Subscriptions that share a topic's messages.
#[derive(Debug)]
pub(crate) struct Group {
    name: String,
    /// Of another user: the pool of that user. Users share no group.
    pool: Option<Arc<Pool>>,
    members: Vec<Outlet>,
    /// Members that left, until everything they had has come back.
    leaving: Vec<Outlet>,
    /// What waits for a member with room: given back, or not sent yet.
    backlog: VecDeque<Stored>,
    /// Most messages that wait while there is no member, or under a dropping policy.
    depth: usize,
    pub(crate) policy: Policy,
    next: usize,
}

impl Group {
    /// `pool`: that of the members' user, if it is another one.
    pub(crate) fn new(name: String, pool: Option<Arc<Pool>>, depth: usize, policy: Policy) -> Self {
        let (members, leaving) = (Vec::new(), Vec::new());
        Self {
            name,
            pool,
            members,
            leaving,
            backlog: VecDeque::new(),
            depth,
            policy,
            next: 0,
        }
    }

    /// Whether members of this group and of this pool are its own.
    pub(crate) fn is(&self, name: &str, pool: Option<&Arc<Pool>>) -> bool {
        self.name == name && self.pool.as_ref().map(Arc::as_ptr) == pool.map(Arc::as_ptr)
    }

    pub(crate) fn join(&mut self, member: Outlet) {
        self.members.push(member);
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Outlet> {
        self.members.iter()
    }

    /// It has no members now.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.members.is_empty()
    }

    /// Nobody is left, and nothing waits for somebody.
    pub(crate) fn is_over(&self) -> bool {
        self.members.is_empty() && self.leaving.is_empty() && self.backlog.is_empty()
    }

    /// Whether a message published now would be taken at once. What waits is sent first, as in [`Outlet::has_room`].
    pub(crate) fn has_room(&mut self, waker: &Waker, flow: &mut Flow) -> bool {
        if !self.backlog.is_empty() {
            self.flush(waker, flow);
        }
        if self.members.is_empty() {
            return self.backlog.len() < self.depth;
        }
        self.backlog.is_empty() && self.members.iter().any(Outlet::takes_more)
    }

    /// Gives a message to a member that has room, in turn.
    fn give(&mut self, message: &mut Stored, flow: &mut Flow) -> bool {
        let mut tried = 0;
        while tried < self.members.len() {
            let at = self.next % self.members.len();
            let member = &self.members[at];
            match message.send(&member.link, member.mailbox, member.route) {
                Ok(()) => {
                    self.next = at + 1;
                    flow.delivered += 1;
                    return true;
                }
                Err(NoSend::Full(bound)) => {
                    flow.starved |= matches!(bound, Bound::Pool | Bound::Peer);
                    self.next = at + 1;
                    tried += 1;
                }
                Err(NoSend::Lost | NoSend::Stopped) => self.leaving.push(self.members.swap_remove(at)),
            }
        }
        false
    }

    /// Offers a message; it waits here if nobody has room and the policy or the depth allow.
    pub(crate) fn offer(&mut self, message: &mut Stored, waker: &Waker, flow: &mut Flow) {
        self.flush(waker, flow);
        if self.backlog.is_empty() && self.give(message, flow) {
            return;
        }
        let bounded = self.policy != Policy::Wait || self.members.is_empty();
        if bounded && self.backlog.len() >= self.depth {
            flow.dropped += 1;
            return;
        }
        match message.kept_for(self.pool.as_ref()) {
            Some(kept) => self.backlog.push_back(kept),
            None => flow.dropped += 1,
        }
        self.flush(waker, flow);
    }

    /// Takes back what members gave back or left behind, and sends what waits, as far as there is room.
    pub(crate) fn flush(&mut self, waker: &Waker, flow: &mut Flow) {
        // First, so that what they leave behind is taken below, however late it is found.
        let lost = self.members.extract_if(.., |member| member.link.is_lost());
        self.leaving.extend(lost);
        for member in self.members.iter().chain(&self.leaving) {
            let pool = &member.link.session.pool;
            for message in member.link.take_unhandled(member.route).into_iter().rev() {
                self.backlog.push_front(Stored::unhandled(message, pool));
            }
        }
        self.leaving.retain(|member| member.link.holds(member.route));
        let mut registered = false;
        while let Some(mut message) = self.backlog.pop_front() {
            if message.descriptor.is_redelivered() {
                fault!(HandOver);
            }
            if self.give(&mut message, flow) {
                continue;
            }
            self.backlog.push_front(message);
            if registered || self.members.is_empty() {
                break;
            }
            for member in &self.members {
                member.link.wait(waker);
            }
            registered = true;
        }
    }

    /// A member left. What it gives back unhandled goes to others.
    pub(crate) fn leave(&mut self, link: u32, mailbox: u32) {
        let gone = self
            .members
            .extract_if(.., |member| member.link.id == link && member.mailbox == mailbox);
        self.leaving.extend(gone);
    }
}
