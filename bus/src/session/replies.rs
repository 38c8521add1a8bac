//! Small replies to asks that came together go back together, in one buffer and one slot.

use std::{cell::RefCell, mem, sync::Arc, time::Duration};

use nix::time::{ClockId, clock_gettime};

use super::{
    link::{Link, NoSend, Parcel},
    parcel,
};
use crate::{
    message::{ShmRoot, archive_into},
    shm::{
        batch::{self, Layout},
        descriptor::{Descriptor, SlotKind},
        layout::INLINE_BYTES,
        pool::Buffer,
    },
};

/// Most replies in a batch: the asker reads them while the next ones are made.
const MOST: u32 = 32;

/// Fewer travel one by one: a batch costs a buffer, and its way back.
const FEW: u32 = 3;

/// The replies to one link that were not sent yet.
#[derive(Debug)]
struct Gathered {
    link: Arc<Link>,
    buffer: Buffer,
    bytes: usize,
    layout: Layout,
}

#[derive(Debug, Default)]
struct Gathering {
    /// A batch of handlers runs, whose end sends what was gathered.
    open: bool,
    /// When the last reply of that batch was made, by [`tick`].
    last: Option<Duration>,
    gathered: Option<Gathered>,
}

thread_local! {
    static GATHERING: RefCell<Gathering> = const { RefCell::new(Gathering { open: false, last: None, gathered: None }) };
}

/// As long as this lives, replies that are made on this thread may wait for each other.
#[derive(Debug)]
pub(crate) struct Replies(());

impl Replies {
    /// Begins; inside another one it does nothing.
    pub(crate) fn begin() -> Option<Self> {
        GATHERING.with_borrow_mut(|gathering| (!mem::replace(&mut gathering.open, true)).then(|| Self(())))
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        let rest = GATHERING.with_borrow_mut(|gathering| {
            gathering.open = false;
            gathering.last = None;
            gathering.gathered.take()
        });
        if let Some(rest) = rest {
            rest.send();
        }
    }
}

/// Archives a small reply behind others to the same link. `false`: it must travel alone.
pub(crate) fn gather<R: ShmRoot>(link: &Arc<Link>, correlation: u64, reply: &R) -> bool {
    if reply.size_bound().is_none_or(|bound| bound > INLINE_BYTES) {
        return false;
    }
    // In use: a reply that answers asks while it is archived.
    let gathered = GATHERING.try_with(|gathering| {
        let mut gathering = gathering.try_borrow_mut().ok()?;
        if !gathering.open {
            return None;
        }
        // Sent below, when nothing is borrowed.
        let other = gathering
            .gathered
            .take_if(|gathered| !Arc::ptr_eq(&gathered.link, link));
        if gathering.gathered.is_none() {
            gathering.gathered = Gathered::new(link);
        }
        // A handler that takes so long may be followed by another such: what is there goes at once.
        let now = Some(tick());
        let is_slow = mem::replace(&mut gathering.last, now).is_some_and(|last| Some(last) != now);
        let Some(gathered) = &mut gathering.gathered else {
            return Some((false, [other, None]));
        };
        let added = gathered.add(correlation, reply);
        let is_due = is_slow || gathered.layout.count() >= MOST;
        let due = is_due.then(|| gathering.gathered.take()).flatten();
        Some((added, [other, due]))
    });
    // `try_with`: an actor may be dropped while its thread's locals are being torn down.
    let Ok(Some((added, due))) = gathered else {
        return false;
    };
    for gathered in due.into_iter().flatten() {
        gathered.send();
    }
    added
}

/// The kernel's last tick: coarse, and read for a few nanoseconds.
fn tick() -> Duration {
    // Without such a clock no handler is slow.
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
}

impl Gathered {
    fn new(link: &Arc<Link>) -> Option<Self> {
        let session = &link.session;
        let bytes = batch::bytes(INLINE_BYTES, MOST as usize).min(session.message_limit);
        let buffer = parcel::buffer(&session.pool, bytes).ok()?;
        Some(Self {
            layout: Layout::begin(buffer.bytes()),
            link: link.clone(),
            buffer,
            bytes,
        })
    }

    /// `false`: there is no room for it, or it cannot be archived.
    fn add<R: ShmRoot>(&mut self, correlation: u64, reply: &R) -> bool {
        let bytes = self.bytes;
        let batch = &mut self.buffer.bytes_mut()[..bytes];
        let Some(room) = self.layout.room(bytes) else {
            return false;
        };
        match archive_into(reply, &mut batch[room]) {
            Ok(len) if len <= INLINE_BYTES => {
                self.layout.add(batch, len, correlation);
                true
            }
            _ => false,
        }
    }

    fn send(self) {
        let (count, len) = (self.layout.count(), self.layout.len());
        if count < FEW {
            return self.send_each();
        }
        let mut descriptor = Descriptor::new(SlotKind::ReplyBatch, 0, 0, 0, count.into());
        let mut parcel = Some(Parcel::Buffer(self.buffer, len));
        let sent = self.link.send_reply(&mut descriptor, &mut parcel, count);
        // Its segment could not be announced now: the slots need none.
        if let (Err(NoSend::Full(_)), Some(Parcel::Buffer(buffer, _))) = (sent, parcel) {
            Self { buffer, ..self }.send_each();
        }
    }

    fn send_each(&self) {
        let (batch, mut end) = (&self.buffer.bytes()[..self.layout.len()], 0);
        for _ in 0..self.layout.count() {
            let Ok(at) = batch::message(batch, end) else {
                break;
            };
            end = at.end;
            let mut descriptor = Descriptor::EMPTY;
            let correlation = batch::correlation(batch, &at);
            if descriptor.set_reply(&batch[at.start..], at.len(), correlation).is_err()
                // The asker is gone, and learned so by its own means.
                || self.link.send_reply(&mut descriptor, &mut None, 1).is_err()
            {
                break;
            }
        }
    }
}
