//! A private copy of one slot: what is sent, and what was received.

use super::{
    checked::Violation,
    layout::{INLINE_BYTES, SLOT_WORDS, TOPIC_INLINE_BYTES},
};

/// What a slot carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SlotKind {
    /// A message that wants no reply.
    Tell = 1,
    /// A message that wants a reply.
    Ask = 2,
    /// The reply to an ask.
    Reply = 3,
    /// An ask's failure; the code stands in the mailbox's place.
    Fail = 4,
    /// A message of a topic.
    Publish = 5,
}

/// The payload stands in a buffer of the pool instead of the slot.
const FLAG_BUFFER: u8 = 1;
const PAYLOAD: usize = 3;
const TOPIC: usize = 6;
const TIME: usize = 7;

/// A buffer as a descriptor names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BufferRef {
    /// Number of the segment among those of the sender's pool.
    pub(crate) segment: u32,
    /// What the receiver gives back when it has finished.
    pub(crate) token: u32,
    /// Where it starts, in bytes.
    pub(crate) offset: u64,
    /// How long the message is, in bytes.
    pub(crate) len: u64,
}

/// One slot, copied out of (or not yet into) shared memory.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct Descriptor {
    pub(crate) words: [u64; SLOT_WORDS],
}

impl Descriptor {
    pub(crate) fn new(kind: SlotKind, mailbox: u32, message: u16, route: u16, correlation: u64) -> Self {
        let mut words = [0; SLOT_WORDS];
        words[0] = u64::from(kind as u8) << 32;
        words[1] = u64::from(mailbox) | u64::from(message) << 32 | u64::from(route) << 48;
        words[2] = correlation;
        Self { words }
    }

    /// Puts a payload of at most [`INLINE_BYTES`] into the descriptor itself.
    pub(crate) fn set_inline(&mut self, payload: &Inline) {
        self.words[0] |= u64::from(payload.len) << 48;
        for (word, bytes) in self.words[PAYLOAD..]
            .iter_mut()
            .zip(payload.bytes.chunks_exact(8))
        {
            *word = u64::from_ne_bytes(bytes.try_into().expect("chunks of 8"));
        }
    }

    pub(crate) fn set_buffer(&mut self, buffer: BufferRef) {
        self.words[0] |= u64::from(FLAG_BUFFER) << 40;
        self.words[PAYLOAD] = u64::from(buffer.segment) | u64::from(buffer.token) << 32;
        self.words[PAYLOAD + 1] = buffer.offset;
        self.words[PAYLOAD + 2] = buffer.len;
    }

    /// The kind, where the byte names one.
    pub(crate) fn kind(&self) -> Result<SlotKind, Violation> {
        match (self.words[0] >> 32) as u8 {
            1 => Ok(SlotKind::Tell),
            2 => Ok(SlotKind::Ask),
            3 => Ok(SlotKind::Reply),
            4 => Ok(SlotKind::Fail),
            5 => Ok(SlotKind::Publish),
            other => Err(Violation::Kind(other)),
        }
    }

    pub(crate) fn mailbox(&self) -> u32 {
        self.words[1] as u32
    }

    /// Index of the message's type among those the mailbox handles.
    pub(crate) fn message(&self) -> u16 {
        (self.words[1] >> 32) as u16
    }

    /// The sender's own number for the window this message takes a place of.
    pub(crate) fn route(&self) -> u16 {
        (self.words[1] >> 48) as u16
    }

    pub(crate) fn correlation(&self) -> u64 {
        self.words[2]
    }

    /// The buffer, or `None` for an inline payload.
    pub(crate) fn buffer(&self) -> Option<BufferRef> {
        ((self.words[0] >> 40) as u8 & FLAG_BUFFER != 0).then(|| BufferRef {
            segment: self.words[PAYLOAD] as u32,
            token: (self.words[PAYLOAD] >> 32) as u32,
            offset: self.words[PAYLOAD + 1],
            len: self.words[PAYLOAD + 2],
        })
    }

    /// Makes it a message of a topic; the payload must be set before and have at most
    /// [`TOPIC_INLINE_BYTES`] inline.
    pub(crate) fn set_topic(&mut self, topic: u32, time_ns: u64) {
        self.words[TOPIC] = u64::from(topic);
        self.words[TIME] = time_ns;
    }

    /// Marks a topic message that another member of its group had and did not handle.
    pub(crate) fn set_redelivered(&mut self) {
        self.words[TOPIC] |= 1 << 32;
    }

    /// The same message for another subscription.
    pub(crate) fn readdress(&mut self, mailbox: u32, route: u16) {
        self.words[1] = u64::from(mailbox) | u64::from(route) << 48;
    }

    /// The publisher's number of the topic.
    pub(crate) fn topic(&self) -> u32 {
        self.words[TOPIC] as u32
    }

    pub(crate) fn is_redelivered(&self) -> bool {
        self.words[TOPIC] >> 32 != 0
    }

    /// When a topic message was published, in ns since 1970.
    pub(crate) fn time_ns(&self) -> u64 {
        self.words[TIME]
    }

    /// A copy of the inline payload; its length is checked.
    pub(crate) fn inline(&self) -> Result<Inline, Violation> {
        let len = (self.words[0] >> 48) as u8;
        let topic = self.kind()? == SlotKind::Publish;
        if usize::from(len) > if topic { TOPIC_INLINE_BYTES } else { INLINE_BYTES } {
            return Err(Violation::InlineLength(len));
        }
        let mut inline = Inline {
            bytes: [0; INLINE_BYTES],
            len,
        };
        for (bytes, word) in inline.bytes.chunks_exact_mut(8).zip(&self.words[PAYLOAD..]) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        Ok(inline)
    }
}

/// A payload small enough for a slot, aligned as archives want it.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct Inline {
    pub(crate) bytes: [u8; INLINE_BYTES],
    pub(crate) len: u8,
}

impl Inline {
    pub(crate) const EMPTY: Inline = Inline {
        bytes: [0; INLINE_BYTES],
        len: 0,
    };

    pub(crate) fn as_slice(&self) -> &[u8] {
        // `len` is at most INLINE_BYTES by construction; `get` keeps that no panic depends on it.
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}
