//! The IO queue: slots in the sender's memory, the reader's position in the reader's.
//!
//! One consumer; producers are the threads of one process and take turns under the lock of their link,
//! so that claiming a slot and publishing it are one critical section: a process that is killed leaves
//! no hole in the ring. A slot carries its own sequence word, which the consumer polls, so that one
//! message moves one cache line; neither side reads the other's position while there is room and work.

use super::{
    cells::Cells,
    checked::{self, Published, Violation},
    descriptor::{Descriptor, Head},
    faults::fault,
    layout::{SLOT_BYTES, Slot},
    prefetch,
    sync::{AtomicU64, Ordering},
};

/// How many slots ahead of the one in hand are asked for.
const AHEAD: u64 = 12;

/// Slots that a ring has at least: a message takes up to two.
pub(crate) const LEAST_SLOTS: usize = 2;

/// Words of the payload in a message's first slot.
const FIRST_WORDS: usize = SLOT_BYTES / 8;

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
        assert!(slots.len().is_power_of_two() && slots.len() >= LEAST_SLOTS && peer_head.len() == 1);
        Self {
            slots,
            peer_head,
            tail: 0,
            head: 0,
        }
    }

    /// Whether so many slots may be written now; looks at the consumer's position only if it must.
    #[inline]
    pub(crate) fn has_room(&mut self, wanted: u64) -> Result<bool, Violation> {
        let slots = self.slots.len() as u64;
        if self.tail + wanted - self.head > slots {
            self.peer_head()?;
        }
        Ok(self.tail + wanted - self.head <= slots)
    }

    /// How far the consumer has read, as of now.
    pub(crate) fn peer_head(&mut self) -> Result<u64, Violation> {
        // Acquire: the consumer's reads of the slots it has passed come before we overwrite them; pairs
        // with the Release in `Consumer::publish`.
        let found = self.peer_head[0].load(Ordering::Acquire);
        self.head = checked::head(self.head, found, self.tail)?;
        Ok(self.head)
    }

    /// Writes one message and publishes it. The caller has seen room for its slots by [`Producer::has_room`].
    pub(crate) fn push(&mut self, descriptor: &Descriptor) {
        let (first, taken) = (self.tail, descriptor.slots());
        debug_assert!(first + taken - self.head <= self.slots.len() as u64);
        prefetch::for_write(line(&self.slots, first + AHEAD));
        if taken == 2 {
            prefetch::for_write(line(&self.slots, first + AHEAD + 1));
            let slot = self.slot(first + 1);
            for (at, to) in slot.words[1..].iter().enumerate() {
                // Relaxed: published by the stores below.
                to.store(descriptor.word(FIRST_WORDS + at), Ordering::Relaxed);
            }
            // Relaxed: nobody looks at this slot before it has seen the first one.
            slot.words[0].store(self.sequence(first + 1), Ordering::Relaxed);
        }
        let slot = self.slot(first);
        for (to, from) in slot.words[1..3].iter().zip(&descriptor.head.0[1..]) {
            // Relaxed: published by the store below.
            to.store(*from, Ordering::Relaxed);
        }
        for (at, to) in slot.words[3..].iter().enumerate() {
            // Relaxed: as above.
            to.store(descriptor.word(at), Ordering::Relaxed);
        }
        fault!(Claimed);
        // Release: the words above, the second slot, and the buffer they name, come before the sequence.
        slot.words[0].store(descriptor.head.0[0] | self.sequence(first), Ordering::Release);
        self.tail += taken;
    }

    fn slot(&self, position: u64) -> &Slot {
        &self.slots[(position & (self.slots.len() as u64 - 1)) as usize]
    }

    fn sequence(&self, position: u64) -> u64 {
        checked::sequence_of(position, self.slots.len()).into()
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
    /// Messages read one after the other. Only behind some of them are lines asked for ahead: where the reader
    /// is as fast as the writer, it would take from it the line that is being written.
    run: u64,
}

impl Consumer {
    pub(crate) fn new(slots: Cells<Slot>, own_head: Cells<AtomicU64>) -> Self {
        assert!(slots.len().is_power_of_two() && slots.len() >= LEAST_SLOTS && own_head.len() == 1);
        Self {
            slots,
            own_head,
            head: 0,
            told: 0,
            run: 0,
        }
    }

    /// The head of the next message, if it is published; it stays the next one until [`Consumer::pass`].
    #[inline]
    pub(crate) fn peek(&mut self) -> Result<Option<Head>, Violation> {
        let slot = self.slot(self.head);
        // Acquire: pairs with the Release in `push`, so the other words, the second slot and the buffer are those
        // published.
        let first = slot.words[0].load(Ordering::Acquire);
        match checked::published(first as u32, self.sequence(self.head))? {
            Published::NotYet => {
                self.run = 0;
                Ok(None)
            }
            Published::Yes => {
                // Relaxed: ordered by the load above.
                let rest = [1, 2].map(|at: usize| slot.words[at].load(Ordering::Relaxed));
                Ok(Some(Head([first, rest[0], rest[1]])))
            }
        }
    }

    /// Copies the message that [`Consumer::peek`] found to `into`, which lies where it will stay: what is written
    /// word by word and then moved as a whole makes the processor wait for its own stores.
    #[inline]
    pub(crate) fn read(&self, head: Head, into: &mut Descriptor) -> Result<(), Violation> {
        if self.run >= AHEAD {
            prefetch::for_read(line(&self.slots, self.head + AHEAD));
        }
        into.head = head;
        for (at, from) in self.slot(self.head).words[3..].iter().enumerate() {
            // Relaxed, here and below: ordered by the Acquire load in `peek`.
            into.set_word(at, from.load(Ordering::Relaxed));
        }
        if head.slots() == 2 {
            if self.run >= AHEAD {
                prefetch::for_read(line(&self.slots, self.head + AHEAD + 1));
            }
            let slot = self.slot(self.head + 1);
            let found = slot.words[0].load(Ordering::Relaxed) as u32;
            let expected = self.sequence(self.head + 1);
            if checked::published(found, expected)? == Published::NotYet {
                return Err(Violation::Sequence { found, expected });
            }
            for (at, from) in slot.words[1..].iter().enumerate() {
                into.set_word(FIRST_WORDS + at, from.load(Ordering::Relaxed));
            }
        }
        Ok(())
    }

    /// Leaves the message that [`Consumer::peek`] gave.
    #[inline]
    pub(crate) fn pass(&mut self, head: Head) {
        self.head += head.slots();
        self.run += 1;
    }

    fn slot(&self, position: u64) -> &Slot {
        &self.slots[(position & (self.slots.len() as u64 - 1)) as usize]
    }

    fn sequence(&self, position: u64) -> u32 {
        checked::sequence_of(position, self.slots.len())
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::shm::{descriptor::SlotKind, layout::INLINE_BYTES};

    fn slots(count: usize) -> Cells<Slot> {
        let empty = || Slot {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        Cells::private((0..count).map(|_| empty()).collect())
    }

    fn head() -> Cells<AtomicU64> {
        Cells::private(vec![AtomicU64::new(0)])
    }

    fn message(len: usize) -> Descriptor {
        let mut message = Descriptor::new(SlotKind::Tell, 1, 2, 3, 4);
        for (at, byte) in message.inline_mut()[..len].iter_mut().enumerate() {
            *byte = at as u8 + 1;
        }
        message.set_inline_len(len);
        message
    }

    #[test]
    fn every_length_of_inline_payload_arrives_whole_round_and_round() {
        let (slots, head) = (slots(4), head());
        let mut producer = Producer::new(slots.clone(), head.clone());
        let mut consumer = Consumer::new(slots, head);
        for len in (0..=INLINE_BYTES).chain((0..=INLINE_BYTES).rev()) {
            let sent = message(len);
            assert!(producer.has_room(sent.slots()).unwrap());
            producer.push(&sent);
            let head = consumer.peek().unwrap().unwrap();
            let mut got = Descriptor::EMPTY;
            consumer.read(head, &mut got).unwrap();
            assert_eq!(got.inline().unwrap(), sent.inline().unwrap());
            assert_eq!(got.head.0[1..], sent.head.0[1..]);
            consumer.pass(head);
            assert!(consumer.publish() && consumer.peek().unwrap().is_none());
        }
    }

    #[test]
    fn a_ring_takes_no_message_that_needs_more_slots_than_are_free() {
        let (slots, head) = (slots(4), head());
        let mut producer = Producer::new(slots.clone(), head.clone());
        let mut consumer = Consumer::new(slots, head);
        for _ in 0..3 {
            producer.push(&message(SLOT_BYTES));
        }
        assert!(producer.has_room(1).unwrap() && !producer.has_room(2).unwrap());
        let first = consumer.peek().unwrap().unwrap();
        consumer.pass(first);
        assert!(!producer.has_room(2).unwrap(), "not told yet");
        consumer.publish();
        assert!(producer.has_room(2).unwrap() && !producer.has_room(3).unwrap());
    }

    #[test]
    fn a_second_slot_that_was_not_written_breaks_the_protocol() {
        for sequence in [0, 2, u64::from(u32::MAX)] {
            let slots = slots(4);
            let mut consumer = Consumer::new(slots.clone(), head());
            slots[0].words[0].store(1 | (SLOT_BYTES as u64 + 1) << 48 | 1 << 32, Ordering::Relaxed);
            slots[1].words[0].store(sequence, Ordering::Relaxed);
            let head = consumer.peek().unwrap().unwrap();
            let found = consumer.read(head, &mut Descriptor::EMPTY.clone());
            let expected = Violation::Sequence {
                found: sequence as u32,
                expected: 1,
            };
            assert_eq!(found, Err(expected));
        }
    }
}
