//! The one place where numbers from foreign memory become numbers we use.
//!
//! Nothing here knows what the numbers are for beyond their bounds; each function takes what the peer
//! wrote and what *we* know, and gives back a value that is safe to use, or the [`Violation`].

/// How a peer broke the protocol. Its session is closed with this as the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("a slot's sequence word is {found}, expected {expected} or the one before")]
    Sequence { found: u32, expected: u32 },
    #[error("a slot's kind byte is {0}")]
    Kind(u8),
    #[error("a slot's inline length is {0}, more than two slots hold")]
    InlineLength(u8),
    #[error("a reader's position went from {from} to {to}, but only {written} slots were written")]
    Head { from: u64, to: u64, written: u64 },
    #[error("a buffer of {len} bytes at {offset} does not lie in its segment of {bytes} bytes")]
    Buffer { offset: u64, len: u64, bytes: u64 },
    #[error("a buffer's length is {len}, the limit for messages {limit}")]
    Length { len: u64, limit: u64 },
    #[error("a segment number of {0}, beyond the last allowed")]
    Segment(u32),
    #[error("an entry of the return ring is of lap {found}, expected {expected} or the one before")]
    Lap { found: u16, expected: u16 },
    #[error("a return of kind {0}")]
    ReturnKind(u8),
    #[error("a return of token {0}, which the peer does not hold")]
    Token(u32),
    #[error("a credit of {count} messages for route {route}, of which the peer holds {held}")]
    Credit { route: u16, count: u16, held: u32 },
    #[error("a message for mailbox {0:#x}, which was never bound here")]
    Mailbox(u32),
    #[error("a message of kind {kind} for a mailbox that handles {kinds}")]
    MessageKind { kind: u16, kinds: usize },
    #[error("a reply with correlation {0:#x}, which was not asked of this peer")]
    Correlation(u64),
    #[error("a batch of {said} messages, where 1 to {most} are allowed")]
    Count { said: u64, most: u32 },
    #[error("a message of {len:?} bytes at {from} does not lie in its batch of {bytes} bytes")]
    Part {
        from: usize,
        len: Option<u32>,
        bytes: usize,
    },
    #[error("a batch that is not in a buffer")]
    Batch,
    #[error("a reply of {len} bytes in a batch, where {most} are allowed")]
    BatchReply { len: usize, most: usize },
    #[error("more than {limit} messages are unreleased on one link")]
    Unreleased { limit: u64 },
    #[error("no room for a reply: the peer asked more than its {0} asks")]
    Asks(u32),
    #[error("a request on the answering end of a link, or a reply on the asking end")]
    Direction,
    #[error("a message for mailbox {0:#x}, which its user is not permitted to call")]
    Denied(u32),
    #[error("a message or reply that is not a valid archive")]
    Archive,
    #[error("a second subscription with mailbox {mailbox:#x} of port {port}")]
    Subscribed { port: u32, mailbox: u32 },
    #[error("an acknowledgement of what was never announced, or was acknowledged before")]
    Acknowledgement,
}

/// What the sequence word of a slot says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    Yes,
    NotYet,
}

/// The sequence word of position `position` in a ring of `slots`: which time round it is, from 1.
///
/// `slots` is a power of two: a shift, where a division costs as much as the rest of a look.
#[inline(always)]
pub(crate) fn sequence_of(position: u64, slots: usize) -> u32 {
    // Wraps after 2^32 laps, where 0 cannot be taken for "never written": the slot then holds u32::MAX.
    ((position >> slots.trailing_zeros()) as u32).wrapping_add(1)
}

#[inline(always)]
pub(crate) fn published(found: u32, expected: u32) -> Result<Published, Violation> {
    if found == expected {
        Ok(Published::Yes)
    } else if found == expected.wrapping_sub(1) {
        Ok(Published::NotYet)
    } else {
        Err(Violation::Sequence { found, expected })
    }
}

/// A reader's position may only grow, and never past what was written.
pub(crate) fn head(from: u64, to: u64, written: u64) -> Result<u64, Violation> {
    if to >= from && to <= written {
        Ok(to)
    } else {
        Err(Violation::Head { from, to, written })
    }
}

/// An entry of the return ring: its lap tells whether it was written.
pub(crate) fn lap(found: u16, expected: u16) -> Result<Published, Violation> {
    if found == expected {
        Ok(Published::Yes)
    } else if found == expected.wrapping_sub(1) {
        Ok(Published::NotYet)
    } else {
        Err(Violation::Lap { found, expected })
    }
}

/// The place of a buffer in its segment: `offset` a multiple of 64, and all of it inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    offset: usize,
    len: usize,
}

impl Place {
    pub(crate) fn offset(self) -> usize {
        self.offset
    }
    pub(crate) fn len(self) -> usize {
        self.len
    }
}

pub(crate) fn place(offset: u64, len: u64, segment_bytes: usize, limit: usize) -> Result<Place, Violation> {
    if len > limit as u64 {
        return Err(Violation::Length {
            len,
            limit: limit as u64,
        });
    }
    let bytes = segment_bytes as u64;
    let inside = offset.checked_add(len).is_some_and(|end| end <= bytes);
    if inside && offset.is_multiple_of(super::layout::LINE as u64) {
        // Both are at most `segment_bytes`, a usize.
        Ok(Place {
            offset: offset as usize,
            len: len as usize,
        })
    } else {
        Err(Violation::Buffer { offset, len, bytes })
    }
}

/// How many there are of something, from 1.
pub(crate) fn count(said: u64, most: u32) -> Result<u32, Violation> {
    u32::try_from(said)
        .ok()
        .filter(|count| (1..=most).contains(count))
        .ok_or(Violation::Count { said, most })
}

/// A part of so many bytes; `None` if there was not even a length.
#[inline]
pub(crate) fn part(from: usize, len: Option<u32>, bytes: usize) -> Result<std::ops::Range<usize>, Violation> {
    len.and_then(|len| from.checked_add(len as usize))
        .filter(|end| *end <= bytes)
        .map(|end| from..end)
        .ok_or(Violation::Part { from, len, bytes })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_place_lies_in_its_segment(offset: u64, len: u64, bytes in 0usize..1 << 40, limit in 0usize..1 << 40) {
            if let Ok(place) = place(offset, len, bytes, limit) {
                prop_assert!(place.offset() + place.len() <= bytes);
                prop_assert!(place.len() <= limit);
                prop_assert_eq!(place.offset() % 64, 0);
            }
        }

        #[test]
        fn places_inside_are_accepted(line in 0u64..1000, len in 0u64..64_000) {
            let bytes = (line * 64 + len) as usize;
            prop_assert!(place(line * 64, len, bytes, 64_000).is_ok());
            prop_assert!(len == 0 || place(line * 64, len, bytes - 1, 64_000).is_err());
            prop_assert!(len == 0 || place(line * 64 + 1, len, bytes + 64, 64_000).is_err());
        }

        #[test]
        fn a_head_never_leaves_what_was_written(from: u64, to: u64, written: u64) {
            if let Ok(head) = head(from, to, written) {
                prop_assert!(head >= from && head <= written);
            }
        }
    }

    #[test]
    fn a_slot_is_of_this_lap_or_the_one_before() {
        assert_eq!(published(2, 2), Ok(Published::Yes));
        assert_eq!(published(1, 2), Ok(Published::NotYet));
        assert!(published(3, 2).is_err() && published(0, 2).is_err());
        // The wrap: lap 2^32 - 1 is followed by 0.
        assert_eq!(published(u32::MAX, 0), Ok(Published::NotYet));
        assert_eq!(sequence_of(0, 8), 1);
        assert_eq!(sequence_of(8, 8), 2);
        assert_eq!(sequence_of(8 * u64::from(u32::MAX), 8), 0);
    }
}
