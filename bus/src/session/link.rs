//! A link: two ports of two nodes, joined by one ring each way.
//!
//! The *asking* end (whose node opened an address) sends tells and asks and gets replies; the *answering*
//! end sends replies only, so a reply always has room: an ask is sent only while fewer asks are open than
//! the answering end's ring has slots. This file is the sending half of either end.

pub(crate) mod left;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use tokio::sync::Notify;

use super::{budget::Share, peer::Session};
use crate::{
    error::Bound,
    shm::{
        batch,
        bell::Bell,
        cells::Cells,
        checked::Violation,
        descriptor::{BufferRef, Descriptor, Inline},
        doorbell::{Parker, Ringer},
        faults::fault,
        inbound::Inbound,
        layout::LOSSES,
        pool::{Buffer, Held, Pool},
        returns::{Return, ReturnReader},
        ring::Producer,
        room::Room,
        sync::{AtomicU64, lock},
    },
};

/// Returns are taken back at the latest after so many sends, so that buffers are used again while warm.
const COLLECT_EVERY: u32 = 32;
/// A payload from this size on looks for returns first: the buffer just released is still in the cache.
const COLLECT_FOR: usize = 16 << 10;

/// Why nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSend {
    Full(Bound),
    /// The peer, or this end's port, is gone.
    Lost,
    /// The mailbox was unbound.
    Stopped,
}

/// An archived message on its way out.
#[derive(Debug)]
pub(crate) enum Parcel {
    Inline(Inline),
    Buffer(Buffer, usize),
}

/// The route of a reply's buffer: no window counts it.
const NO_ROUTE: u16 = u16::MAX;
/// The route of a batch's buffer, which no window counts either: the messages in it are counted, and released, one by one.
const BATCH_ROUTE: u16 = NO_ROUTE - 1;

/// A message, or a batch of them, to be sent with others.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) descriptor: Descriptor,
    pub(crate) parcel: Option<Parcel>,
    pub(crate) messages: u32,
}

/// What a request takes of a link.
#[derive(Debug, Clone, Copy)]
struct Need {
    /// Of the IO queue.
    slots: u64,
    /// Of the window.
    messages: u32,
    /// Entries of the peer's return ring.
    returns: u32,
}

impl Need {
    /// For one message.
    fn message(slots: u64) -> Self {
        Self {
            slots,
            messages: 1,
            returns: 1,
        }
    }
}

/// Puts a small payload where it travels. Again and again, if the message is refused for want of room.
fn put_inline(descriptor: &mut Descriptor, parcel: &Option<Parcel>) {
    if let Some(Parcel::Inline(inline)) = parcel {
        descriptor.set_inline(inline);
    }
}

/// What this end knows of one window.
#[derive(Debug)]
struct Window {
    /// The receiving mailbox.
    mailbox: u32,
    limit: u32,
    /// Unreleased messages; those sent inline among them.
    held: u32,
    held_inline: u32,
    stopped: bool,
    /// Whose topic it was has no more use for it: once empty, it serves another.
    released: bool,
    /// For a group's subscription: what the peer has not released, to be given to another member.
    group: Option<HashMap<u32, Descriptor>>,
}

/// A message that a group's member had and did not handle. Who takes it holds its buffer.
#[derive(Debug)]
pub(crate) struct Unhandled {
    pub(crate) route: u16,
    pub(crate) descriptor: Descriptor,
    pub(crate) buffer: SentBuffer,
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
struct Tokens {
    /// With each, its route and the length of its message.
    held: Vec<Option<(Held, u16, u64)>>,
    free: Vec<u32>,
    /// Buffers among them that have a segment of their own.
    dedicated: u32,
    /// Those that are batches.
    batches: u32,
}

impl Tokens {
    fn issue(&mut self, buffer: Held, route: u16, len: u64) -> u32 {
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

    fn are_out(&self) -> bool {
        self.held.len() > self.free.len()
    }

    fn redeem(&mut self, token: u32) -> Result<(Held, u16, u64), Violation> {
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
struct Sending {
    producer: Producer,
    returns: ReturnReader,
    tokens: Tokens,
    /// What this link may still send of what the peer may hold.
    share: Share,
    windows: Vec<Window>,
    /// The window of each mailbox of the peer's port.
    by_mailbox: HashMap<u32, u16>,
    /// Messages, and batches as such, that the return ring still has to account for.
    unreturned: u32,
    returns_limit: u32,
    /// Tells the peer that a sender of ours waits for room.
    waiting: Parker,
    since_collect: u32,
    redeemed: Vec<Held>,
    /// Something was taken back of which those who wait for room have not been told yet.
    regained: bool,
    /// The peer's position when they were told.
    told_head: u64,
    unhandled: Vec<Unhandled>,
    /// The window that was given a new use last.
    reused_last: usize,
    lost: bool,
    sent: u64,
}

/// One end of a link.
#[derive(Debug)]
pub(crate) struct Link {
    /// This node's number for it.
    pub(crate) id: u32,
    /// Whether this end asks (and the other answers).
    pub(crate) asking: bool,
    pub(crate) session: Arc<Session>,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) room: Arc<Room>,
    /// Most messages of the peer that may be unreleased here: the entries of our return ring.
    pub(crate) receiving_limit: u32,
    sending: Mutex<Sending>,
    pool: Arc<Pool>,
    ringer: Ringer,
    bell: Bell,
    /// Our loss counters, by route.
    losses: Cells<AtomicU64>,
    /// The peer's.
    pub(crate) peer_losses: Cells<AtomicU64>,
    /// To be woken when something comes back unhandled: the topics with groups on this link.
    groups: Mutex<Vec<Weak<Notify>>>,
    lost: AtomicBool,
    /// The peer holds segments of large messages. They are freed when it releases them, and not when something is
    /// sent next.
    lends_segments: AtomicBool,
}

/// The pieces of a new link.
pub(crate) struct LinkPieces {
    pub(crate) id: u32,
    pub(crate) asking: bool,
    pub(crate) session: Arc<Session>,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) room: Arc<Room>,
    pub(crate) producer: Producer,
    pub(crate) returns: ReturnReader,
    /// Entries of the peer's return ring.
    pub(crate) sending_limit: u32,
    /// Entries of our return ring.
    pub(crate) receiving_limit: u32,
    pub(crate) waiting: Parker,
    pub(crate) pool: Arc<Pool>,
    pub(crate) ringer: Ringer,
    pub(crate) bell: Bell,
    pub(crate) losses: Cells<AtomicU64>,
    pub(crate) peer_losses: Cells<AtomicU64>,
}

impl Link {
    pub(crate) fn new(pieces: LinkPieces) -> Arc<Self> {
        let LinkPieces {
            id,
            asking,
            session,
            inbound,
            room,
            producer,
            returns,
            ..
        } = pieces;
        let share = session.budget.share();
        Arc::new(Self {
            id,
            asking,
            session,
            inbound,
            room,
            receiving_limit: pieces.receiving_limit,
            sending: Mutex::new(Sending {
                producer,
                returns,
                tokens: Tokens::default(),
                share,
                windows: Vec::new(),
                by_mailbox: HashMap::new(),
                unreturned: 0,
                returns_limit: pieces.sending_limit,
                waiting: pieces.waiting,
                since_collect: 0,
                redeemed: Vec::new(),
                regained: false,
                told_head: 0,
                unhandled: Vec::new(),
                reused_last: 0,
                lost: false,
                sent: 0,
            }),
            pool: pieces.pool,
            ringer: pieces.ringer,
            bell: pieces.bell,
            losses: pieces.losses,
            peer_losses: pieces.peer_losses,
            groups: Mutex::default(),
            lost: AtomicBool::new(false),
            lends_segments: AtomicBool::new(false),
        })
    }

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

    /// Topics with a group here are woken when a member gives something back unhandled, or is lost.
    pub(crate) fn watch_groups(&self, topic: &Arc<Notify>) {
        let mut groups = lock(&self.groups);
        // Those of topics that have ended are not kept.
        groups.retain(|known| known.strong_count() > 0 && known.as_ptr() != Arc::as_ptr(topic));
        groups.push(Arc::downgrade(topic));
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

    /// Tells the peer how many messages of a route were dropped so far.
    pub(crate) fn tell_losses(&self, route: u16, lost: u64) {
        if let Some(word) = self.losses.get(usize::from(route)) {
            // Release: who reads the count sees what was sent before it.
            word.store(lost, Ordering::Release);
        }
    }

    /// What we tell the peer of losses: its view of them where the peer is this node itself.
    pub(crate) fn own_losses(&self) -> Cells<AtomicU64> {
        self.losses.clone()
    }

    /// What members of groups gave back unhandled on this route, in the order it was published.
    pub(crate) fn take_unhandled(&self, route: u16) -> Vec<Unhandled> {
        let mut sending = lock(&self.sending);
        let mut taken: Vec<_> = sending
            .unhandled
            .extract_if(.., |one| one.route == route)
            .collect();
        taken.sort_by_key(|one| one.descriptor.correlation());
        taken
    }

    /// Whether the peer holds messages of this route.
    pub(crate) fn holds(&self, route: u16) -> bool {
        let mut sending = lock(&self.sending);
        if sending.lost {
            return sending.unhandled.iter().any(|one| one.route == route);
        }
        if let Err(violation) = self.take_returns(&mut sending) {
            self.session.violated(violation);
        }
        sending
            .windows
            .get(usize::from(route))
            .is_some_and(|window| window.held > 0)
            || sending.unhandled.iter().any(|one| one.route == route)
    }

    /// Whether a group's subscription is reached by this link, which may give messages back unasked.
    pub(crate) fn has_groups(&self) -> bool {
        !lock(&self.groups).is_empty()
    }

    /// Whether a message of this route would find room now.
    pub(crate) fn has_room(&self, route: u16) -> bool {
        let mut sending = lock(&self.sending);
        // Lost and stopped routes refuse nothing: they are found out when something is sent.
        sending.lost
            || !matches!(
                self.check_room(&mut sending, route, Need::message(1)),
                Err(Refusal::No(NoSend::Full(_)))
            )
    }

    /// Sends one topic message to one subscription, whose port is told of it by [`ring_published`](Self::ring_published).
    /// `buffer` brings one reference, which is the link's on success and stays the caller's on failure.
    pub(crate) fn send_published(
        &self,
        descriptor: &mut Descriptor,
        buffer: Option<SentBuffer>,
    ) -> Result<(), NoSend> {
        let route = descriptor.route();
        let mut sending = lock(&self.sending);
        let outcome = (|| {
            self.begin(&mut sending)?;
            self.check_room(&mut sending, route, Need::message(descriptor.slots()))?;
            if let Some(buffer) = buffer {
                self.afford(&mut sending, buffer.len, buffer.segment)?;
                let token = self.issue(&mut sending, buffer.held, route, buffer.len);
                descriptor.set_buffer(BufferRef {
                    segment: buffer.segment,
                    token,
                    offset: buffer.offset,
                    len: buffer.len,
                });
                if let Some(group) = &mut sending.windows[usize::from(route)].group {
                    group.insert(token, *descriptor);
                }
            }
            sending.producer.push(descriptor);
            sending.count(route, buffer.is_none(), 1);
            Ok(())
        })();
        drop(sending);
        self.refused(outcome)
    }

    /// Wakes the subscriber's port if it sleeps. The caller has called [`published`](crate::shm::doorbell::published) since
    /// it sent.
    pub(crate) fn ring_published(&self) {
        if self.ringer.is_due() {
            fault!(Ringing);
            self.bell.ring();
        }
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

    /// Sends a tell or an ask: `descriptor` with what is in the parcel, or with the payload that it has already.
    /// On failure the parcel stays with the caller.
    pub(crate) fn send_request(
        &self,
        descriptor: &mut Descriptor,
        parcel: &mut Option<Parcel>,
    ) -> Result<(), NoSend> {
        put_inline(descriptor, parcel);
        let mut sending = lock(&self.sending);
        let outcome = self.try_request(&mut sending, descriptor, parcel);
        drop(sending);
        self.sent(outcome)
    }

    /// As [`send_request`](Self::send_request), for all that there is room for, with one ring of the bell: those sent
    /// are gone from the front of `requests`. Gives how many messages that were, and why the next request was not sent.
    pub(crate) fn send_requests(&self, requests: &mut VecDeque<Request>) -> (usize, Result<(), NoSend>) {
        let (mut outcome, mut count) = (Ok(()), 0);
        let mut sending = lock(&self.sending);
        while let Some(request) = requests.front_mut() {
            let Request {
                descriptor,
                parcel,
                messages,
            } = request;
            put_inline(descriptor, parcel);
            outcome = if descriptor.is_batch() {
                self.try_batch(&mut sending, descriptor, parcel, *messages)
            } else {
                self.try_request(&mut sending, descriptor, parcel)
            };
            if outcome.is_err() {
                break;
            }
            count += *messages as usize;
            requests.pop_front();
        }
        drop(sending);
        if count > 0 {
            self.ring();
        }
        (count, self.refused(outcome))
    }

    /// What comes before every message: now and then, what the peer has released is taken back.
    fn begin(&self, sending: &mut Sending) -> Result<(), Refusal> {
        if sending.lost {
            return Err(Refusal::No(NoSend::Lost));
        }
        sending.since_collect += 1;
        if sending.since_collect >= COLLECT_EVERY {
            self.take_returns(sending)?;
        }
        Ok(())
    }

    fn try_request(
        &self,
        sending: &mut Sending,
        descriptor: &mut Descriptor,
        parcel: &mut Option<Parcel>,
    ) -> Result<(), Refusal> {
        self.begin(sending)?;
        let route = descriptor.route();
        self.check_room(sending, route, Need::message(descriptor.slots()))?;
        let buffered = self.push(sending, descriptor, parcel, route)?;
        sending.count(route, !buffered, 1);
        Ok(())
    }

    /// As [`try_request`](Self::try_request), for a batch of so many messages.
    fn try_batch(
        &self,
        sending: &mut Sending,
        descriptor: &mut Descriptor,
        parcel: &mut Option<Parcel>,
        messages: u32,
    ) -> Result<(), Refusal> {
        self.begin(sending)?;
        let route = descriptor.route();
        let need = Need {
            slots: 1,
            messages,
            // The batch as such is given back too.
            returns: messages + 1,
        };
        self.check_room(sending, route, need)?;
        self.push(sending, descriptor, parcel, BATCH_ROUTE)?;
        sending.count(route, true, messages);
        sending.unreturned += 1;
        Ok(())
    }

    /// Most messages that one batch of this route may have, so that several find room in the window. 0: it is too small for
    /// batches.
    pub(crate) fn batch_limit(&self, route: u16) -> u32 {
        let sending = lock(&self.sending);
        let window = sending.windows.get(usize::from(route));
        let most = batch::MOST.min(sending.returns_limit / 4);
        window.map_or(0, |window| (window.limit / 4).min(most))
    }

    /// Whether the window, the return ring and the IO queue have room.
    fn check_room(&self, sending: &mut Sending, route: u16, need: Need) -> Result<(), Refusal> {
        // A second look at each bound comes after the returns were taken.
        for again in [false, true] {
            let window = &sending.windows[usize::from(route)];
            if window.stopped {
                return Err(Refusal::No(NoSend::Stopped));
            }
            let bound = if window.held + need.messages > window.limit {
                Bound::Window
            } else if sending.unreturned + need.returns > sending.returns_limit {
                Bound::Returns
            } else if !sending.producer.has_room(need.slots)? {
                Bound::Ring
            } else {
                break;
            };
            if again || (self.take_returns(sending)? == 0 && bound != Bound::Ring) {
                return Err(Refusal::No(NoSend::Full(bound)));
            }
        }
        Ok(())
    }

    /// What follows a send once the lock is released.
    fn sent(&self, outcome: Result<(), Refusal>) -> Result<(), NoSend> {
        if outcome.is_ok() {
            self.ring();
        }
        self.refused(outcome)
    }

    fn refused(&self, outcome: Result<(), Refusal>) -> Result<(), NoSend> {
        outcome.map_err(|refusal| match refusal {
            Refusal::No(why) => why,
            Refusal::Violation(violation) => {
                self.session.violated(violation);
                NoSend::Lost
            }
        })
    }

    /// Sends a reply, for which the ask keeps a place.
    pub(crate) fn send_reply(
        &self,
        descriptor: &mut Descriptor,
        parcel: &mut Option<Parcel>,
    ) -> Result<(), NoSend> {
        put_inline(descriptor, parcel);
        let mut sending = lock(&self.sending);
        let outcome = self.try_reply(&mut sending, descriptor, parcel);
        drop(sending);
        self.sent(outcome)
    }

    fn try_reply(
        &self,
        sending: &mut Sending,
        descriptor: &mut Descriptor,
        parcel: &mut Option<Parcel>,
    ) -> Result<(), Refusal> {
        self.begin(sending)?;
        let crowded = || Refusal::Violation(Violation::Asks(self.room.limit()));
        if !sending.producer.has_room(descriptor.slots())? {
            return Err(crowded());
        }
        if matches!(parcel, Some(Parcel::Buffer(..))) && sending.unreturned >= sending.returns_limit {
            self.take_returns(sending)?;
            if sending.unreturned >= sending.returns_limit {
                return Err(crowded());
            }
        }
        let buffered = self.push(sending, descriptor, parcel, NO_ROUTE)?;
        sending.unreturned += u32::from(buffered);
        sending.sent += 1;
        Ok(())
    }

    /// Writes the message's slots. After this nothing can fail. Returns whether it has a buffer.
    fn push(
        &self,
        sending: &mut Sending,
        descriptor: &mut Descriptor,
        parcel: &mut Option<Parcel>,
        route: u16,
    ) -> Result<bool, Refusal> {
        if let Some(Parcel::Buffer(buffer, len)) = parcel {
            self.afford(sending, *len as u64, buffer.segment())?;
        }
        let mut buffered = false;
        if let Some(Parcel::Buffer(buffer, len)) = parcel.take() {
            buffered = true;
            let (segment, offset) = (buffer.segment(), buffer.offset() as u64);
            let token = self.issue(sending, buffer.into_held(), route, len as u64);
            descriptor.set_buffer(BufferRef {
                segment,
                token,
                offset,
                len: len as u64,
            });
        }
        sending.producer.push(descriptor);
        Ok(buffered)
    }

    /// Counts a message of `len` bytes that the peer is to hold, if it may, and tells it of the segment. The
    /// announcement goes before the message: the socket keeps it even if we die at once.
    fn afford(&self, sending: &mut Sending, len: u64, segment: u32) -> Result<(), Refusal> {
        if !sending.share.take(len) {
            self.take_returns(sending)?;
            if !sending.share.take(len) {
                return Err(Refusal::No(NoSend::Full(Bound::Peer)));
            }
        }
        self.session.announce(&self.pool, segment).map_err(|why| {
            sending.share.give(len);
            Refusal::No(why)
        })
    }

    /// The peer is about to hold a buffer.
    fn issue(&self, sending: &mut Sending, buffer: Held, route: u16, len: u64) -> u32 {
        if buffer.is_dedicated() {
            // SeqCst, as for `Room::waiting`: set before the peer can release it, and ring.
            self.lends_segments.store(true, Ordering::SeqCst);
            sending.waiting.park();
        }
        sending.tokens.issue(buffer, route, len)
    }

    /// Whether anything here is to be looked after when the peer releases something.
    pub(crate) fn is_awaited(&self) -> bool {
        self.room.is_awaited() || self.lends_segments.load(Ordering::SeqCst)
    }

    fn ring(&self) {
        fault!(Published);
        if self.ringer.due() {
            fault!(Ringing);
            self.bell.ring();
        }
    }

    /// Takes back what the peer has released. Returns how many messages that were.
    fn take_returns(&self, sending: &mut Sending) -> Result<u32, Violation> {
        sending.since_collect = 0;
        let mut count = 0;
        let outcome = loop {
            match sending.returns.pop() {
                Ok(None) => break Ok(()),
                Ok(Some(what)) => match sending.settle(what) {
                    Ok(messages) => count += messages,
                    Err(violation) => break Err(violation),
                },
                Err(violation) => break Err(violation),
            }
        };
        sending.regained |= count > 0;
        if !sending.redeemed.is_empty() {
            self.pool.release(sending.redeemed.drain(..));
        }
        if !sending.unhandled.is_empty() {
            self.wake_groups();
        }
        outcome.map(|()| count)
    }

    /// Topics look for themselves, without waiting for this link's lock (`Topic::wake`).
    fn wake_groups(&self) {
        for topic in lock(&self.groups).iter().filter_map(Weak::upgrade) {
            topic.notify_one();
        }
    }

    /// Takes back what the peer has released; who waits for room is put on `wakers` if there is any.
    pub(crate) fn collect(&self, wakers: &mut Vec<Waker>) {
        let mut sending = lock(&self.sending);
        if sending.lost {
            return;
        }
        let outcome = self.take_returns(&mut sending).and_then(|_| {
            let head = sending.producer.peer_head()?;
            // Whoever sent meanwhile may have taken back what others wait for: all of it since they were told.
            let moved = std::mem::replace(&mut sending.told_head, head) != head;
            let progress = std::mem::take(&mut sending.regained) || moved;
            let lends_segments = sending.tokens.dedicated > 0;
            self.lends_segments.store(lends_segments, Ordering::SeqCst);
            if progress && !lends_segments {
                sending.waiting.unpark();
            }
            Ok(progress)
        });
        drop(sending);
        match outcome {
            Ok(true) => self.room.take_wakers(wakers),
            Ok(false) => {}
            Err(violation) => self.session.violated(violation),
        }
    }

    /// Takes returns before a large buffer is taken, so that the warm one is used again.
    pub(crate) fn warm(&self, bytes: usize) {
        if bytes < COLLECT_FOR {
            return;
        }
        let mut sending = lock(&self.sending);
        let outcome = if sending.lost {
            Ok(0)
        } else {
            self.take_returns(&mut sending)
        };
        drop(sending);
        if let Err(violation) = outcome {
            self.session.violated(violation);
        }
    }

    /// Registers a task that waits for room; it must try once more afterwards.
    pub(crate) fn wait(&self, waker: &Waker) {
        self.room.wait(waker);
        lock(&self.sending).waiting.park();
    }

    /// The port is about to sleep on the bell that the peer rings for those who wait for room. The peer may
    /// have rung already for something that was taken back before, and does not ring twice under one epoch.
    pub(crate) fn wait_on(&self) {
        let mut sending = lock(&self.sending);
        if sending.waiting.is_parked() {
            sending.waiting.park();
        }
    }

    /// The link ends: nothing more can be sent, and everything the peer held is ours again, at once if it is gone (see
    /// [`Left`]). Returns how many messages it had not released.
    pub(crate) fn lose(self: &Arc<Self>) -> u32 {
        let is_gone = self.session.is_hung_up();
        let mut sending = lock(&self.sending);
        if sending.lost {
            return 0;
        }
        // What it released before it died is not undelivered. A violation changes nothing any more.
        let _ = self.take_returns(&mut sending);
        sending.lost = true;
        // Relaxed: read only to answer sooner what the lock decides.
        self.lost.store(true, Ordering::Relaxed);
        let undelivered = sending.unreleased();
        if is_gone {
            sending.abandon_tokens();
        } else {
            for shared in sending.share_tokens() {
                self.pool.retain(shared, 1);
            }
        }
        self.pool.release(sending.redeemed.drain(..));
        let keeps = sending.tokens.are_out();
        drop(sending);
        if keeps && let Some(node) = self.session.node.upgrade() {
            node.left.keep(self.clone());
        }
        self.wake_groups();
        self.room.wake();
        undelivered
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Messages sent on this end, and those of them that the peer has not released.
    pub(crate) fn counts(&self) -> (u64, u32) {
        let mut sending = lock(&self.sending);
        if !sending.lost
            && let Err(violation) = self.take_returns(&mut sending)
        {
            self.session.violated(violation);
        }
        (sending.sent, if sending.lost { 0 } else { sending.unreleased() })
    }
}

impl Unhandled {
    fn new(route: u16, descriptor: Descriptor, held: Held) -> Option<Self> {
        let BufferRef {
            segment, offset, len, ..
        } = descriptor.buffer()?;
        Some(Self {
            route,
            descriptor,
            buffer: SentBuffer {
                held,
                segment,
                offset,
                len,
            },
        })
    }
}

impl Sending {
    fn open_window(
        &mut self,
        mailbox: u32,
        limit: u32,
        group: Option<HashMap<u32, Descriptor>>,
        most: usize,
    ) -> Option<u16> {
        let route = u16::try_from(self.windows.len())
            .ok()
            .filter(|route| usize::from(*route) < most)?;
        self.windows.push(Window {
            mailbox,
            limit,
            held: 0,
            held_inline: 0,
            stopped: false,
            released: false,
            group,
        });
        Some(route)
    }

    /// Gives a window that is no longer used a new use. In turn, so that one that was just given up, of
    /// which the peer may not know yet, has time.
    fn reuse_window(
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
        self.windows[at] = Window {
            mailbox,
            limit,
            held: 0,
            held_inline: 0,
            stopped: false,
            released: false,
            group,
        };
        u16::try_from(at).ok()
    }

    /// The peer is gone: what it held is ours again, or for another member of its group.
    fn abandon_tokens(&mut self) {
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
    fn count(&mut self, route: u16, inline: bool, messages: u32) {
        self.unreturned += messages;
        self.sent += u64::from(messages);
        let window = &mut self.windows[usize::from(route)];
        window.held += messages;
        window.held_inline += if inline { messages } else { 0 };
    }

    /// Messages sent that the peer has not released.
    fn unreleased(&self) -> u32 {
        self.unreturned - self.tokens.batches
    }

    fn settle(&mut self, what: Return) -> Result<u32, Violation> {
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
}

impl Sending {
    /// A token came back: its place in the window is free. Gives what was sent, for a group's route.
    fn redeem_place(&mut self, route: u16, token: u32) -> Option<Descriptor> {
        self.unreturned -= 1;
        let window = self.windows.get_mut(usize::from(route))?;
        window.held -= 1;
        window.group.as_mut()?.remove(&token)
    }
}

/// Why a slot was not written.
enum Refusal {
    No(NoSend),
    Violation(Violation),
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Refusal::Violation(violation)
    }
}

impl From<NoSend> for Refusal {
    fn from(why: NoSend) -> Self {
        Refusal::No(why)
    }
}
