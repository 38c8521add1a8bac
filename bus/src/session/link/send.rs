//! Sending: what a message takes is looked for first, then its slots are written, in one go and under the link's lock.

use std::{collections::VecDeque, sync::atomic::Ordering};

use super::{BATCH_ROUTE, Link, NO_ROUTE, NoSend, Parcel, SentBuffer, books::Sending};
use crate::{
    error::Bound,
    shm::{
        checked::Violation,
        descriptor::{BufferRef, Descriptor},
        faults::fault,
        layout::MOST_SLOTS,
        pool::Held,
        sync::lock,
    },
};

/// Returns are taken back at the latest after so many sends, so that buffers are used again while warm.
const COLLECT_EVERY: u32 = 32;

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

/// Puts a small payload where it travels. Again and again, if the message is refused for want of room.
fn put_inline(descriptor: &mut Descriptor, parcel: &Option<Parcel>) {
    if let Some(Parcel::Inline(inline)) = parcel {
        descriptor.set_inline(inline);
    }
}

impl Link {
    /// Whether a message of this route would find room now, whatever its length.
    pub(crate) fn has_room(&self, route: u16) -> bool {
        let mut sending = lock(&self.sending);
        // Lost and stopped routes refuse nothing: they are found out when something is sent.
        sending.shut
            || !matches!(
                self.check_room(&mut sending, route, Need::message(MOST_SLOTS)),
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
    /// are gone from the front of `requests`. Gives how many messages that were, and why the next request was not sent. Each
    /// that is an ask takes its reply's place.
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
            outcome = self.try_requests(&mut sending, descriptor, parcel, *messages);
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
        if sending.shut {
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

    /// As [`try_request`](Self::try_request), for what is one message or a batch, and a place for each reply.
    fn try_requests(
        &self,
        sending: &mut Sending,
        descriptor: &mut Descriptor,
        parcel: &mut Option<Parcel>,
        messages: u32,
    ) -> Result<(), Refusal> {
        self.begin(sending)?;
        let (route, is_batch) = (descriptor.route(), descriptor.is_batch());
        let need = Need {
            slots: descriptor.slots(),
            messages,
            // The batch as such is given back too.
            returns: messages + u32::from(is_batch),
        };
        self.check_room(sending, route, need)?;
        // Last of all, and not kept by what is not sent: it would keep others from asking, and itself wait for them.
        let asks = descriptor.wants_reply();
        if asks && !self.room.open_asks(messages) {
            return Err(Refusal::No(NoSend::Full(Bound::Asks)));
        }
        let counts = if is_batch { BATCH_ROUTE } else { route };
        let buffered = self.push(sending, descriptor, parcel, counts).inspect_err(|_| {
            if asks {
                self.room.close_asks(messages);
            }
        })?;
        sending.count(route, is_batch || !buffered, messages);
        sending.unreturned += u32::from(is_batch);
        Ok(())
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

    /// Sends a reply, or a batch of so many, for each of which its ask keeps a place.
    pub(crate) fn send_reply(
        &self,
        descriptor: &mut Descriptor,
        parcel: &mut Option<Parcel>,
        replies: u32,
    ) -> Result<(), NoSend> {
        put_inline(descriptor, parcel);
        let mut sending = lock(&self.sending);
        let outcome = self.try_reply(&mut sending, descriptor, parcel, replies);
        drop(sending);
        self.sent(outcome)
    }

    fn try_reply(
        &self,
        sending: &mut Sending,
        descriptor: &mut Descriptor,
        parcel: &mut Option<Parcel>,
        replies: u32,
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
        sending.sent += u64::from(replies);
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

    fn ring(&self) {
        fault!(Published);
        if self.ringer.due() {
            fault!(Ringing);
            self.bell.ring();
        }
    }
}
