//! The receiving half of a link: turning descriptors into leases, and giving back what is released.

use std::{cell::RefCell, sync::Arc};

use super::{
    bell::Bell,
    checked::{self, Violation},
    descriptor::{BufferRef, Descriptor},
    doorbell::Ringer,
    lease::{Lease, SharedBytes},
    memory::PeerMemory,
    pool::DEDICATED,
    returns::{Return, ReturnWriter},
    room::Room,
    sync::{Mutex, lock},
};

/// Credits are told at the latest when so many have come together.
const CREDIT_BATCH: u16 = 64;

#[derive(Debug)]
struct Releases {
    writer: ReturnWriter,
    /// Inline messages released and not yet told, all of one route.
    route: u16,
    credits: u16,
    /// Messages released so far.
    released: u64,
    /// Whether this link stands on the list of the thread's batch.
    listed: bool,
}

impl Releases {
    fn flush(&mut self) {
        if self.credits > 0 {
            self.writer.push(Return::Credit {
                route: self.route,
                count: self.credits,
            });
            self.credits = 0;
        }
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
    report: Report,
    /// The reply places and local waiters of this link.
    pub(crate) room: Arc<Room>,
}

/// What is called when a message turns out to break the protocol only after it was delivered.
struct Report(Box<dyn Fn(Violation) + Send + Sync>);

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Report")
    }
}

thread_local! {
    /// While this thread runs a batch of handlers: the links whose senders are to be told at its end.
    static BATCH: RefCell<Option<Vec<Arc<Inbound>>>> = const { RefCell::new(None) };
}

/// As long as this lives, releases on this thread are told to their senders together.
pub(crate) struct ReleaseBatch(());

impl ReleaseBatch {
    /// Begins a batch; inside another one it does nothing.
    pub(crate) fn begin(scratch: &mut Vec<Arc<Inbound>>) -> Option<Self> {
        BATCH.with_borrow_mut(|batch| {
            if batch.is_some() {
                return None;
            }
            *batch = Some(std::mem::take(scratch));
            Some(Self(()))
        })
    }

    /// Ends the batch and gives the list's memory back for the next one.
    pub(crate) fn end(self, scratch: &mut Vec<Arc<Inbound>>) {
        std::mem::forget(self);
        *scratch = Self::tell();
    }

    fn tell() -> Vec<Arc<Inbound>> {
        let mut links = BATCH.with_borrow_mut(Option::take).unwrap_or_default();
        for link in links.drain(..) {
            let mut releases = lock(&link.releases);
            releases.listed = false;
            releases.flush();
            drop(releases);
            link.kick();
        }
        links
    }
}

impl Drop for ReleaseBatch {
    fn drop(&mut self) {
        Self::tell();
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
        report: impl Fn(Violation) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let report = Report(Box::new(report));
        let releases = Releases {
            writer,
            route: 0,
            credits: 0,
            released: 0,
            listed: false,
        };
        Arc::new(Self {
            releases: Mutex::new(releases),
            memory,
            waiting,
            bell,
            limit,
            report,
            room,
        })
    }

    /// Whether the segment that a descriptor names has been announced; if not, the frame is on its way.
    pub(crate) fn has_memory_of(&self, descriptor: &Descriptor) -> Result<bool, Violation> {
        descriptor
            .buffer()
            .map_or(Ok(true), |buffer| self.memory.knows(buffer.segment))
    }

    /// The bytes that a descriptor names, with the duty to give them back.
    pub(crate) fn lease(
        self: Arc<Self>,
        descriptor: &Descriptor,
        reply: bool,
    ) -> Result<Lease, (Arc<Self>, Violation)> {
        let found = descriptor.buffer().map(|buffer| self.place(buffer)).transpose();
        match (found, descriptor.inline()) {
            (Ok(Some(bytes)), _) => Ok(Lease::shared(bytes, self, reply)),
            (Ok(None), Ok(inline)) => Ok(Lease::inline(
                inline,
                (!reply).then(|| (self, descriptor.route())),
            )),
            (Err(violation), _) | (_, Err(violation)) => Err((self, violation)),
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
        match descriptor.buffer() {
            Some(buffer) if buffer.segment & DEDICATED == 0 => {
                self.give_back(Return::Nack(buffer.token));
                self.bell.ring();
            }
            Some(buffer) => {
                drop(self.memory.take(buffer.segment));
                self.give_back(Return::Nack(buffer.token));
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
                self.give_back(Return::Token(buffer.token));
            }
            None => self.give_back(Return::Credit {
                route: descriptor.route(),
                count: 1,
            }),
        }
    }

    /// The peer broke the protocol.
    pub(crate) fn violated(&self, violation: Violation) {
        (self.report.0)(violation);
    }

    /// Messages released so far.
    pub(crate) fn released(&self) -> u64 {
        lock(&self.releases).released
    }

    /// Gives one message back.
    pub(crate) fn give_back(self: &Arc<Self>, what: Return) {
        let mut releases = lock(&self.releases);
        releases.released += 1;
        match what {
            Return::Token(_) | Return::Nack(_) => releases.writer.push(what),
            Return::Credit { route, count } => {
                if releases.route != route {
                    releases.flush();
                    releases.route = route;
                }
                releases.credits += count;
                if releases.credits >= CREDIT_BATCH {
                    releases.flush();
                }
            }
        }
        // `try_with`: a lease may be dropped while its thread's locals are being torn down.
        let batched =
            BATCH.try_with(
                |batch| match (batch.try_borrow_mut().as_deref_mut(), releases.listed) {
                    (_, true) => true,
                    (Ok(Some(links)), false) => {
                        links.push(self.clone());
                        true
                    }
                    _ => false,
                },
            );
        if batched == Ok(true) {
            releases.listed = true;
            return;
        }
        releases.flush();
        drop(releases);
        self.kick();
    }

    /// Wakes the peer's senders if they sleep for want of room. After anything was given back.
    pub(crate) fn kick(&self) {
        if self.waiting.due() {
            self.bell.ring();
        }
    }
}
