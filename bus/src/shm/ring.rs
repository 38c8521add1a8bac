//! The IO queue: slots in the sender's memory, the reader's position in the reader's.
//!
//! One consumer; producers are the threads of one process and take turns under the lock of their link,
//! so that claiming a slot and publishing it are one critical section: a process that is killed leaves
//! no hole in the ring. A slot carries its own sequence word, which the consumer polls, so that one
//! message moves one cache line; neither side reads the other's position while there is room and work.

use super::{
    cells::Cells,
    checked::{self, Published, Violation},
    descriptor::Descriptor,
    layout::Slot,
    prefetch,
    sync::{AtomicU64, Ordering},
};

/// How many slots ahead of the one in hand are asked for.
const AHEAD: u64 = 4;

/// The line of the slot at a position.
fn line(slots: &[Slot], position: u64) -> *const u8 {
    let slot: *const Slot = &slots[(position & (slots.len() as u64 - 1)) as usize];
    slot.cast()
}

/// The writing end, in the process that owns the slots.
#[derive(Debug)]
pub(crate) struct Producer {
    /// Own memory.
    slots: Cells<Slot>,
    /// Foreign memory: one word, the consumer's position.
    peer_head: Cells<AtomicU64>,
    /// Slots written so far.
    tail: u64,
    /// The last checked value of `peer_head`; at most `tail`, at least `tail - slots.len()`.
    head: u64,
}

impl Producer {
    pub(crate) fn new(slots: Cells<Slot>, peer_head: Cells<AtomicU64>) -> Self {
        assert!(slots.len().is_power_of_two() && peer_head.len() == 1);
        Self {
            slots,
            peer_head,
            tail: 0,
            head: 0,
        }
    }

    /// Slots that may be written now; looks at the consumer's position only if it must.
    pub(crate) fn room(&mut self) -> Result<u64, Violation> {
        let slots = self.slots.len() as u64;
        if self.tail - self.head == slots {
            self.peer_head()?;
        }
        Ok(slots - (self.tail - self.head))
    }

    /// How far the consumer has read, as of now.
    pub(crate) fn peer_head(&mut self) -> Result<u64, Violation> {
        // Acquire: the consumer's reads of the slots it has passed come before we overwrite them; pairs
        // with the Release in `Consumer::publish`.
        let found = self.peer_head[0].load(Ordering::Acquire);
        self.head = checked::head(self.head, found, self.tail)?;
        Ok(self.head)
    }

    /// Writes one slot and publishes it. The caller has seen room for it by [`Producer::room`].
    pub(crate) fn push(&mut self, descriptor: &Descriptor) {
        let slots = self.slots.len() as u64;
        debug_assert!(self.tail - self.head < slots);
        prefetch::for_write(line(&self.slots, self.tail + AHEAD));
        let slot = &self.slots[(self.tail & (slots - 1)) as usize];
        for (to, from) in slot.words[1..].iter().zip(&descriptor.words[1..]) {
            // Relaxed: published by the store below.
            to.store(*from, Ordering::Relaxed);
        }
        let sequence = u64::from(checked::sequence_of(self.tail, slots));
        // Release: the words above, and the buffer they name, come before the sequence.
        slot.words[0].store(descriptor.words[0] | sequence, Ordering::Release);
        self.tail += 1;
    }
}

/// The reading end, in the process that the slots are for.
#[derive(Debug)]
pub(crate) struct Consumer {
    /// Foreign memory.
    slots: Cells<Slot>,
    /// Own memory: one word.
    own_head: Cells<AtomicU64>,
    /// Slots read so far.
    head: u64,
    /// What `own_head` says.
    told: u64,
}

impl Consumer {
    pub(crate) fn new(slots: Cells<Slot>, own_head: Cells<AtomicU64>) -> Self {
        assert!(slots.len().is_power_of_two() && own_head.len() == 1);
        Self {
            slots,
            own_head,
            head: 0,
            told: 0,
        }
    }

    /// A copy of the next slot, if it is published; it stays the next one until [`Consumer::pass`].
    pub(crate) fn peek(&self) -> Result<Option<Descriptor>, Violation> {
        let slots = self.slots.len() as u64;
        let slot = &self.slots[(self.head & (slots - 1)) as usize];
        // Acquire: pairs with the Release in `push`, so the other words and the buffer are those published.
        let first = slot.words[0].load(Ordering::Acquire);
        match checked::published(first as u32, checked::sequence_of(self.head, slots))? {
            Published::NotYet => Ok(None),
            Published::Yes => {
                prefetch::for_read(line(&self.slots, self.head + AHEAD));
                let mut words = [first; 8];
                for (to, from) in words[1..].iter_mut().zip(&slot.words[1..]) {
                    // Relaxed: ordered by the load above.
                    *to = from.load(Ordering::Relaxed);
                }
                Ok(Some(Descriptor { words }))
            }
        }
    }

    /// Leaves the slot that [`Consumer::peek`] gave.
    pub(crate) fn pass(&mut self) {
        self.head += 1;
    }

    /// Tells the producer which slots may be overwritten. Returns whether there was anything to tell.
    pub(crate) fn publish(&mut self) -> bool {
        if self.told == self.head {
            return false;
        }
        // Release: our reads of the passed slots come before the producer overwrites them.
        self.own_head[0].store(self.head, Ordering::Release);
        self.told = self.head;
        true
    }
}
