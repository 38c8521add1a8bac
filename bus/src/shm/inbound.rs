//! The receiving half of a link: turning descriptors into leases, and giving back what is released.

use std::{cell::RefCell, sync::Arc};

use super::{
    bell::Bell,
    checked::{self, Violation},
    descriptor::Descriptor,
    doorbell::Ringer,
    lease::Lease,
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
            self.writer.push(Return::Credit { route: self.route, count: self.credits });
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
    /// The reply places and local waiters of this link.
    pub(crate) room: Arc<Room>,
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
    ) -> Arc<Self> {
        let releases = Releases { writer, route: 0, credits: 0, released: 0, listed: false };
        Arc::new(Self { releases: Mutex::new(releases), memory, waiting, bell, limit, room })
    }

    /// The bytes that a descriptor names, with the duty to give them back. `None`: the segment's
    /// announcement is still on its way.
    pub(crate) fn lease(
        self: &Arc<Self>,
        descriptor: &Descriptor,
        reply: bool,
    ) -> Result<Option<Lease>, Violation> {
        let Some(buffer) = descriptor.buffer() else {
            let inline = descriptor.inline()?;
            let credit = (!reply).then(|| (self.clone(), descriptor.route()));
            return Ok(Some(Lease::inline(inline, credit)));
        };
        let Some(mapping) = self.memory.find(buffer.segment)? else { return Ok(None) };
        let place = checked::place(buffer.offset, buffer.len, mapping.bytes(), self.limit)?;
        let own_segment = (buffer.segment & DEDICATED != 0).then(|| mapping.clone());
        Ok(Some(Lease::shared(mapping.at(place), place.len(), self.clone(), buffer.token, own_segment, reply)))
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
            Return::Token(_) => releases.writer.push(what),
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
        let batched = BATCH.try_with(|batch| match (batch.try_borrow_mut().as_deref_mut(), releases.listed) {
            (_, true) => true,
            (Ok(Some(links)), false) => {
                links.push(self.clone());
                true
            }
            _ => false,
        });
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
