//! Many small messages in one buffer: a batch, which one slot names.
//!
//! ```text
//! 0     length of the first message, u32, and 4 bytes of nothing
//! 8     its correlation, u64: of an ask or a reply
//! 16    the first message
//!       ... up to a multiple of 16
//!       length of the second message, and so on
//! ```
//!
//! A message of 64 bytes takes 80 of them, where two slots take 128 and an entry in every queue on the way. The slot says
//! how many messages there are, the buffer's length where they end. Tells travel in batches, asks, and small replies.

use std::ops::Range;

use super::{
    checked::{self, Violation},
    layout::LINE,
    prefetch,
};

/// A message's length and correlation stand in so many bytes before it; messages start at multiples of it.
const STEP: usize = 16;

/// How far before a message its correlation stands.
const CORRELATION: usize = 8;

/// Most messages in a batch.
pub(crate) const MOST: u32 = 128;

/// Bytes of a batch at most: a buffer of the pool that fits into the first cache beside what its reader works with.
pub(crate) const BYTES: usize = 16 << 10;

/// Longer messages, in bytes, have a buffer each: a batch's memory is held until its last message is released.
pub(crate) const LONGEST: usize = 1 << 10;

/// What so many messages of `each` bytes take together, as far as one batch may have them.
pub(crate) fn bytes(each: usize, count: usize) -> usize {
    count
        .saturating_mul(STEP + each.next_multiple_of(STEP))
        .min(BYTES)
}

/// How far ahead of what is written memory is asked for, in bytes. Its reader had it last, mostly.
const AHEAD: usize = 1 << 10;

/// Where the messages are in the memory of a batch, while it is written.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// Where the next message's length goes: a multiple of 16.
    next: usize,
    /// Where the last message ends.
    end: usize,
    count: u32,
}

impl Layout {
    /// Begins a batch in this memory.
    pub(crate) fn begin(batch: &[u8]) -> Self {
        for ahead in (0..AHEAD.min(batch.len())).step_by(LINE) {
            prefetch::for_write(batch.as_ptr().wrapping_add(ahead));
        }
        Self::default()
    }

    /// Where the next message may be written, in a batch of `bytes`. `None`: there is no more room.
    #[inline]
    pub(crate) fn room(&self, bytes: usize) -> Option<Range<usize>> {
        let from = self.next + STEP;
        (self.count < MOST && from < bytes).then_some(from..bytes)
    }

    /// A message of `len` bytes stands at the beginning of the [room](Self::room) in `batch`.
    #[inline]
    pub(crate) fn add(&mut self, batch: &mut [u8], len: usize, correlation: u64) {
        let from = self.next + STEP;
        batch[self.next..self.next + 4].copy_from_slice(&(len as u32).to_ne_bytes());
        batch[from - CORRELATION..from].copy_from_slice(&correlation.to_ne_bytes());
        self.end = from + len;
        let next = self.end.next_multiple_of(STEP);
        for ahead in (self.next..next).step_by(LINE) {
            prefetch::for_write(batch.as_ptr().wrapping_add(ahead + AHEAD));
        }
        self.next = next;
        self.count += 1;
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the batch as a whole.
    pub(crate) fn len(&self) -> usize {
        self.end
    }
}

/// How many messages a slot says that its batch has, if it can have so many.
pub(crate) fn count(said: u64) -> Result<u32, Violation> {
    checked::count(said, MOST)
}

/// The next message of a foreign batch, behind the one that ended at `at`, or the first one at 0.
#[inline]
pub(crate) fn message(batch: &[u8], at: usize) -> Result<Range<usize>, Violation> {
    let from = at.next_multiple_of(STEP);
    let said = batch.get(from..).and_then(|rest| rest.first_chunk());
    let len = said.map(|len| u32::from_ne_bytes(*len));
    let found = checked::part(from + STEP, len, batch.len())?;
    for ahead in (from..found.end).step_by(LINE) {
        prefetch::for_read(batch.as_ptr().wrapping_add(ahead + AHEAD));
    }
    Ok(found)
}

/// The correlation of a message that [`message`] found.
#[inline]
pub(crate) fn correlation(batch: &[u8], message: &Range<usize>) -> u64 {
    let said = batch
        .get(message.start.wrapping_sub(CORRELATION)..)
        .and_then(|rest| rest.first_chunk());
    said.map_or(0, |said| u64::from_ne_bytes(*said))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_found(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..150)) {
            let (mut batch, mut layout) = (vec![0xAA; 4096], Layout::default());
            let mut packed = 0;
            for message in &messages {
                let Some(room) = layout.room(batch.len()).filter(|room| room.len() >= message.len()) else {
                    break;
                };
                prop_assert!(room.start.is_multiple_of(STEP));
                batch[room.start..room.start + message.len()].copy_from_slice(message);
                layout.add(&mut batch, message.len(), u64::MAX - packed);
                packed += 1;
            }
            prop_assert!(packed > 0);
            prop_assert_eq!(u64::from(layout.count()), packed);
            let (batch, mut at) = (&batch[..layout.len()], 0);
            for (number, message) in (0..packed).zip(&messages) {
                let found = super::message(batch, at).unwrap();
                prop_assert_eq!(&batch[found.clone()], &message[..]);
                prop_assert_eq!(correlation(batch, &found), u64::MAX - number);
                at = found.end;
            }
            prop_assert!(super::message(batch, at).is_err(), "one more than there are");
        }

        #[test]
        fn whatever_a_peer_writes_nothing_is_read_outside(batch in prop::collection::vec(any::<u8>(), 0..300), at: usize) {
            let mut at = at % 400;
            while let Ok(found) = message(&batch, at) {
                prop_assert!(found.start > at && found.end <= batch.len());
                at = found.end;
            }
        }
    }

    #[test]
    fn a_batch_has_from_one_to_so_many_messages() {
        assert!(count(0).is_err() && count(u64::from(MOST) + 1).is_err() && count(u64::MAX).is_err());
        assert_eq!(count(1), Ok(1));
        assert_eq!(count(MOST.into()), Ok(MOST));
    }
}
