//! The receiving half of a link: turning descriptors into leases, and giving back what is released.

use std::{alloc::Layout, cell::RefCell, sync::Arc};

use super::{
    bell::Bell,
    checked::{self, Violation},
    descriptor::{BufferRef, Descriptor},
    doorbell::Ringer,
    faults::fault,
    layout::LINE,
    lease::{Lease, SharedBytes},
    memory::PeerMemory,
    pool::{Buffer, DEDICATED},
    prefetch,
    returns::{Return, ReturnWriter},
    room::Room,
    sync::{Mutex, lock},
};

/// What a batch of handlers releases is told at the latest when so many messages have come together.
const PENDING_MOST: usize = 64;
/// Handles of one link that a thread keeps while its messages are handled.
const SPARE_MOST: usize = 256;
/// How much of a payload is asked for when its descriptor is seen, in bytes: of longer ones the processor fetches the
/// rest by itself.
const AHEAD_BYTES: usize = 512;
/// Senders that wait for room are told of it after so many messages, or when the actor has nothing to do.
const KICK_EVERY: u64 = 256;
/// A payload from this size on, in bytes, is given back at once: its sender uses the warm buffer again.
const TELL_FROM: usize = 16 << 10;

#[derive(Debug)]
struct Releases {
    writer: ReturnWriter,
    /// Messages released so far.
    released: u64,
    /// What this was when senders that wait for room were last told.
    told: u64,
}

impl Releases {
    fn push(&mut self, what: Return, messages: u64) {
        self.released += messages;
        fault!(Returning);
        self.writer.push(what);
        fault!(Returned);
    }
}

/// What a lease needs of its link; it outlives the session, the bus and the peer.
#[derive(Debug)]
pub(crate) struct Inbound {
    releases: Mutex<Releases>,
    memory: Arc<PeerMemory>,
    /// The word by which the peer's senders say that they wait for room.
    waiting: Ringer,
    bell: Bell,
    /// Largest message, in bytes.
    limit: usize,
    host: Box<dyn Host>,
    /// The reply places and local waiters of this link.
    pub(crate) room: Arc<Room>,
}

/// What messages need of the session that they came by, which may have ended.
pub(crate) trait Host: Send + Sync {
    /// A message turned out to break the protocol only after it was delivered.
    fn violated(&self, violation: Violation);

    /// Memory for the reply to a message: `len` bytes and behind them a root of this layout, with some room for what
    /// else it has. `None`: there is none.
    fn lend(&self, len: usize, root: Layout) -> Option<Buffer>;
}

/// For tests: there is nothing to lend.
#[cfg(any(test, feature = "fuzz-internals"))]
impl<F: Fn(Violation) + Send + Sync> Host for F {
    fn violated(&self, violation: Violation) {
        self(violation);
    }

    fn lend(&self, _: usize, _: Layout) -> Option<Buffer> {
        None
    }
}

impl std::fmt::Debug for dyn Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Host")
    }
}

/// What a thread has released of one link and not yet told.
#[derive(Default)]
struct Pending {
    /// Whose messages were released last; its senders may still have to be told.
    link: Option<Arc<Inbound>>,
    batch: bool,
    tokens: Vec<u32>,
    /// Inline messages, all of one route.
    route: u16,
    credits: u16,
    /// Handles of the same link that released messages had, for the next ones: counting them up and down for each message
    /// costs as much as the rest of its release.
    spare: Vec<Arc<Inbound>>,
}

thread_local! {
    /// While this thread runs a batch of handlers: what they release, told together, without a lock for each.
    static PENDING: RefCell<Pending> = RefCell::default();
}

impl Pending {
    /// Gives back what is pending. `idle`: nothing more follows soon.
    fn tell(&mut self, idle: bool) {
        let Some(link) = self.link.take() else {
            return;
        };
        let mut releases = lock(&link.releases);
        for token in self.tokens.drain(..) {
            releases.push(Return::Token(token), 1);
        }
        let (route, count) = (self.route, std::mem::take(&mut self.credits));
        if count > 0 {
            releases.push(Return::Credit { route, count }, count.into());
        }
        let due = idle || releases.released - releases.told >= KICK_EVERY;
        if due {
            releases.told = releases.released;
        }
        drop(releases);
        if due {
            link.kick();
        }
        if idle {
            self.spare.clear();
        } else {
            self.link = Some(link);
        }
    }

    /// Keeps a handle for [`Inbound::share`], if it is one of the link whose messages are released.
    #[inline]
    fn spare(&mut self, link: Arc<Inbound>) {
        if self.spare.len() < SPARE_MOST && self.link.as_ref().is_some_and(|known| Arc::ptr_eq(known, &link))
        {
            self.spare.push(link);
        }
    }

    /// Takes it in, if a batch is under way.
    #[inline]
    fn add(&mut self, link: &Arc<Inbound>, what: Return) -> bool {
        if !self.batch {
            return false;
        }
        if !self.link.as_ref().is_some_and(|known| Arc::ptr_eq(known, link)) {
            self.tell(true);
            self.link = Some(link.clone());
        }
        match what {
            Return::Token(token) => self.tokens.push(token),
            Return::Nack(_) => return false,
            Return::Credit { route, count } => {
                if self.route != route {
                    self.tell(false);
                    self.route = route;
                }
                self.credits += count;
            }
        }
        if self.tokens.len() + usize::from(self.credits) >= PENDING_MOST {
            self.tell(false);
        }
        true
    }
}

/// As long as this lives, releases on this thread are told to their senders together.
pub(crate) struct ReleaseBatch(());

impl ReleaseBatch {
    /// Begins a batch; inside another one it does nothing.
    pub(crate) fn begin() -> Option<Self> {
        // `then`, not `then_some`: a value that is made and dropped at once would end the other one.
        PENDING.with_borrow_mut(|pending| (!std::mem::replace(&mut pending.batch, true)).then(|| Self(())))
    }
}

impl ReleaseBatch {
    /// Ends the batch; another one follows soon on this thread, or [`ReleaseBatch::settle`] is called. Senders that wait
    /// for room are woken when there is a good deal of it: each wake-up costs as much as many messages.
    pub(crate) fn go_on(self) {
        std::mem::forget(self);
        Self::end(false);
    }

    /// No batch follows one that was to go on.
    pub(crate) fn settle() {
        // `try_with`: an actor may be dropped while its thread's locals are being torn down.
        let _ = PENDING.try_with(|pending| {
            if let Ok(mut pending) = pending.try_borrow_mut() {
                pending.tell(true);
            }
        });
    }

    fn end(idle: bool) {
        PENDING.with_borrow_mut(|pending| {
            pending.batch = false;
            pending.tell(idle);
        });
    }
}

impl Drop for ReleaseBatch {
    fn drop(&mut self) {
        Self::end(true);
    }
}

impl Inbound {
    pub(crate) fn new(
        writer: ReturnWriter,
        memory: Arc<PeerMemory>,
        waiting: Ringer,
        bell: Bell,
        limit: usize,
        room: Arc<Room>,
        host: impl Host + 'static,
    ) -> Arc<Self> {
        let releases = Releases {
            writer,
            released: 0,
            told: 0,
        };
        Arc::new(Self {
            releases: Mutex::new(releases),
            memory,
            waiting,
            bell,
            limit,
            host: Box::new(host),
            room,
        })
    }

    /// Whether the peer is of another user.
    pub(crate) fn is_foreign(&self) -> bool {
        self.memory.is_foreign()
    }

    /// Whether the segment that a descriptor names has been announced; if not, the frame is on its way.
    pub(crate) fn has_memory_of(&self, descriptor: &Descriptor) -> Result<bool, Violation> {
        descriptor
            .buffer()
            .map_or(Ok(true), |buffer| self.memory.knows(buffer.segment))
    }

    /// A message whose segment [is there](Self::has_memory_of) is delivered.
    #[inline]
    pub(crate) fn deliver(&self, descriptor: &Descriptor) {
        if let Some(buffer) = descriptor.buffer()
            && buffer.segment & DEDICATED != 0
        {
            self.memory.deliver(buffer.segment);
        }
    }

    /// Asks for the first lines of a message's buffer, which will be read soon.
    #[inline]
    pub(crate) fn prefetch(&self, descriptor: &Descriptor) -> Result<(), Violation> {
        let Some(buffer) = descriptor
            .buffer()
            .filter(|buffer| buffer.segment & DEDICATED == 0)
        else {
            return Ok(());
        };
        let Some(segment) = self.memory.pooled(buffer.segment)? else {
            return Ok(());
        };
        let place = checked::place(buffer.offset, buffer.len, segment.bytes(), self.limit)?;
        let (first, lines) = (segment.at(place), place.len().min(AHEAD_BYTES).div_ceil(LINE));
        for line in 0..lines {
            prefetch::for_read(first.as_ptr().wrapping_add(line * LINE));
        }
        Ok(())
    }

    /// The bytes that a descriptor names, with the duty to give them back.
    #[inline]
    pub(crate) fn lease(
        self: Arc<Self>,
        descriptor: &Descriptor,
        reply: bool,
    ) -> Result<Lease, (Arc<Self>, Violation)> {
        let found = match descriptor.buffer() {
            Some(buffer) => self.place(buffer).map(Some),
            None => descriptor.inline().map(|_| None),
        };
        fault!(Delivered);
        match found {
            Ok(Some(bytes)) => Ok(Lease::shared(bytes, self, reply)),
            Ok(None) => Ok(Lease::inline(descriptor, (!reply).then_some(self))),
            Err(violation) => Err((self, violation)),
        }
    }

    #[inline]
    fn place(&self, buffer: BufferRef) -> Result<SharedBytes, Violation> {
        let (mapping, own_segment) = if buffer.segment & DEDICATED == 0 {
            (self.memory.pooled(buffer.segment)?, None)
        } else {
            (None, self.memory.take(buffer.segment))
        };
        let segment = mapping
            .or(own_segment.as_ref())
            .ok_or(Violation::Segment(buffer.segment))?;
        let place = checked::place(buffer.offset, buffer.len, segment.bytes(), self.limit)?;
        Ok(SharedBytes {
            first: segment.at(place),
            len: place.len(),
            token: buffer.token,
            _own_segment: own_segment,
        })
    }

    /// Gives a message of a group back unhandled; its publisher is woken to give it to somebody else.
    pub(crate) fn refuse(self: &Arc<Self>, descriptor: &Descriptor) {
        fault!(Refusing);
        match descriptor.buffer() {
            Some(buffer) if buffer.segment & DEDICATED == 0 => {
                self.clone().give_back(Return::Nack(buffer.token), 0);
                self.bell.ring();
            }
            Some(buffer) => {
                drop(self.memory.take(buffer.segment));
                self.clone().give_back(Return::Nack(buffer.token), 0);
                self.bell.ring();
            }
            None => self.discard(descriptor),
        }
    }

    /// Gives a request back without a look at it.
    pub(crate) fn discard(self: &Arc<Self>, descriptor: &Descriptor) {
        match descriptor.buffer() {
            Some(buffer) => {
                if buffer.segment & DEDICATED != 0 {
                    // Unmaps it.
                    drop(self.memory.take(buffer.segment));
                }
                self.clone().give_back(Return::Token(buffer.token), 0);
            }
            None => self.clone().give_back(
                Return::Credit {
                    route: descriptor.route(),
                    count: 1,
                },
                0,
            ),
        }
    }

    /// The peer broke the protocol.
    pub(crate) fn violated(&self, violation: Violation) {
        self.host.violated(violation);
    }

    /// See [`Host::lend`].
    pub(crate) fn lend(&self, len: usize, root: Layout) -> Option<Buffer> {
        self.host.lend(len, root)
    }

    /// Messages released so far.
    pub(crate) fn released(&self) -> u64 {
        lock(&self.releases).released
    }

    /// Another handle of it, for a message.
    #[inline]
    pub(crate) fn share(self: &Arc<Self>) -> Arc<Self> {
        let spare = PENDING.try_with(|pending| {
            let mut pending = pending.try_borrow_mut().ok()?;
            let last = pending.spare.last()?;
            if !Arc::ptr_eq(last, self) {
                return None;
            }
            pending.spare.pop()
        });
        spare.ok().flatten().unwrap_or_else(|| self.clone())
    }

    /// Gives one message back, with the handle that it had. With the others of its batch, unless its memory is worth telling
    /// of at once.
    #[inline]
    pub(crate) fn give_back(self: Arc<Self>, what: Return, bytes: usize) {
        let mut this = Some(self);
        // `try_with`: a lease may be dropped while its thread's locals are being torn down.
        let _ = PENDING.try_with(|pending| {
            // In use: what is being told releases nothing, but this costs no more than to be sure.
            if bytes < TELL_FROM
                && let Ok(mut pending) = pending.try_borrow_mut()
                && this.as_ref().is_some_and(|this| pending.add(this, what))
                && let Some(this) = this.take()
            {
                pending.spare(this);
            }
        });
        if let Some(this) = this {
            this.give_back_now(what);
        }
    }

    /// As [`give_back`](Self::give_back), and the peer finds it when this returns.
    pub(crate) fn give_back_now(&self, what: Return) {
        let messages = match what {
            Return::Credit { count, .. } => count.into(),
            Return::Token(_) | Return::Nack(_) => 1,
        };
        lock(&self.releases).push(what, messages);
        self.kick();
    }

    /// Wakes the peer's senders if they sleep for want of room. After anything was given back.
    pub(crate) fn kick(&self) {
        if self.waiting.due() {
            fault!(Waking);
            self.bell.ring();
        }
    }
}

#[cfg(test)]
mod tests;
