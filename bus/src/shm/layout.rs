//! Every structure that lies in memory between two processes, and nothing else.
//!
//! # One page
//! Each end of a link owns one *link segment*; only its owner writes it, the other end maps it read-only:
//!
//! ```text
//! offset 0     LinkHeader   line 0  written once: magic, sizes
//!                           line 1  head     how far the owner has read the other end's slots
//!                           line 2  waiting  set while a sender of the owner waits for room
//! 256          losses       [u64; 1024]   per route: topic messages the owner dropped for want of room
//! 8,448        returns      [u64; R]      what the owner has finished with, for the other end to take back
//! 8,448 + 8 R  slots        [Slot; C]     the owner's outgoing IO queue
//! ```
//!
//! Each port owns one *bell segment* of a single line: the word that says whether the port sleeps.
//! Pool segments hold nothing but message buffers, each at a multiple of 64 bytes.
//!
//! Every word that is read while another process may write it is an `AtomicU64`, so that even a peer that
//! breaks the protocol causes a wrong value (which `checked` refuses) and never a data race.

use super::sync::AtomicU64;

/// Bytes of a cache line; slots and buffers start at multiples of it.
pub(crate) const LINE: usize = 64;
/// Words of a slot.
pub(crate) const SLOT_WORDS: usize = 8;
/// Bytes of payload that fit into one slot.
pub(crate) const SLOT_BYTES: usize = 40;
/// Bytes of payload that a message's second slot holds.
pub(crate) const SECOND_BYTES: usize = 56;
/// Bytes of payload that travel in the IO queue itself, in one slot or two.
pub(crate) const INLINE_BYTES: usize = SLOT_BYTES + SECOND_BYTES;
/// Most slots of one message.
pub(crate) const MOST_SLOTS: u64 = 2;
/// Names this layout; the last byte is its version.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"shmbusL\x04");
/// Bytes of payload that a topic message may carry in the IO queue.
pub(crate) const TOPIC_INLINE_BYTES: usize = INLINE_BYTES - TOPIC_BYTES;
/// Bytes of its payload that say which topic it is of, and when it was published.
pub(crate) const TOPIC_BYTES: usize = 16;
/// Routes per link that have a loss counter, and so may lead to subscriptions.
pub(crate) const LOSSES: usize = 1024;

/// One place of an IO queue.
///
/// ```text
/// word 0   sequence u32 | kind u8 | flags u8 | inline length u8 | 0
/// word 1   mailbox u32 | message kind u16 | route u16
/// word 2   correlation of an ask and its reply
/// 3..8     40 bytes of payload, or: two words, then segment u32 | token u32, offset in bytes, length in bytes
/// ```
/// A payload of 41 to 96 bytes goes on in the next slot: its word 0 is the sequence u32 | 0, its words 1..8 hold the
/// rest. It is published before the first one, whose sequence word stands for both.
///
/// In a topic message word 2 is the publisher's sequence number; word 3, the first of the payload, is the topic's number
/// u32 | redelivered u32, word 4 the time of publishing in ns since 1970. They count as payload.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) words: [AtomicU64; SLOT_WORDS],
}

/// The head of a link segment.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct LinkHeader {
    /// [`MAGIC`].
    pub(crate) magic: AtomicU64,
    /// Slots (low half) and entries of the return ring (high half).
    pub(crate) sizes: AtomicU64,
    pad0: [u64; 6],
    /// Slots of the other end that the owner has read and may be overwritten.
    pub(crate) head: AtomicU64,
    pad1: [u64; 7],
    /// Doorbell word of the owner's senders that wait for room.
    pub(crate) waiting: AtomicU64,
    pad2: [u64; 7],
    pad3: [u64; 8],
}

/// Offset of the loss counters in a link segment, in bytes.
pub(crate) const LOSSES_AT: usize = 256;

/// Offset of the return ring in a link segment, in bytes.
pub(crate) const RETURNS_AT: usize = LOSSES_AT + 8 * LOSSES;

/// Offset of the slots in a link segment with `returns` entries, in bytes.
pub(crate) const fn slots_at(returns: u32) -> usize {
    RETURNS_AT + 8 * returns as usize
}

/// Size of a link segment, in bytes.
pub(crate) const fn link_bytes(ring_slots: u32, returns: u32) -> usize {
    slots_at(returns) + LINE * ring_slots as usize
}

/// The whole of a bell segment.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct BellLine {
    /// Doorbell word of the port: see `doorbell`.
    pub(crate) parked: AtomicU64,
    pad: [u64; 7],
}

/// Size of a bell segment, in bytes: one page, the least the kernel maps.
pub(crate) const BELL_BYTES: usize = 4096;

// loom's atomics are larger than a word; the layout is that of the real ones.
#[cfg(not(loom))]
const _: () = {
    use std::mem::{align_of, offset_of, size_of};
    assert!(size_of::<Slot>() == LINE && align_of::<Slot>() == LINE);
    assert!(size_of::<LinkHeader>() == LOSSES_AT && align_of::<LinkHeader>() == LINE);
    assert!(offset_of!(LinkHeader, magic) == 0);
    assert!(offset_of!(LinkHeader, sizes) == 8);
    assert!(offset_of!(LinkHeader, head) == 64);
    assert!(offset_of!(LinkHeader, waiting) == 128);
    assert!(size_of::<BellLine>() == LINE && offset_of!(BellLine, parked) == 0);
    assert!(SLOT_BYTES == LINE - 3 * 8 && SECOND_BYTES == LINE - 8);
    // A buffer is named behind them, in one slot.
    assert!(TOPIC_BYTES + 3 * 8 == SLOT_BYTES && TOPIC_BYTES.is_multiple_of(16));
    assert!(RETURNS_AT.is_multiple_of(LINE) && slots_at(8).is_multiple_of(LINE));
};

#[cfg(any(test, loom))]
impl Slot {
    pub(crate) fn new() -> Self {
        Slot {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}
