//! A private copy of one message's slots: what is sent, and what was received.

use super::{
    checked::Violation,
    layout::{INLINE_BYTES, SLOT_BYTES, TOPIC_BYTES, TOPIC_INLINE_BYTES},
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
    /// Many tells in one buffer; how many stands in the correlation's place.
    Batch = 6,
    /// The same of asks, each with its correlation.
    AskBatch = 7,
    /// The same of replies to asks of a batch.
    ReplyBatch = 8,
}

/// The payload stands in a buffer of the pool instead of the slot.
const FLAG_BUFFER: u8 = 1;
/// Words of the payload that a topic message has for itself.
const TOPIC: usize = 0;
const TIME: usize = 1;
/// The words that name a buffer.
const BUFFER: usize = 2;

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

/// The words 0 to 2 of a message's slot: what it is and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Head(pub(crate) [u64; 3]);

impl Head {
    /// The kind, where the byte names one.
    #[inline]
    pub(crate) fn kind(self) -> Result<SlotKind, Violation> {
        match (self.0[0] >> 32) as u8 {
            1 => Ok(SlotKind::Tell),
            2 => Ok(SlotKind::Ask),
            3 => Ok(SlotKind::Reply),
            4 => Ok(SlotKind::Fail),
            5 => Ok(SlotKind::Publish),
            6 => Ok(SlotKind::Batch),
            7 => Ok(SlotKind::AskBatch),
            8 => Ok(SlotKind::ReplyBatch),
            other => Err(Violation::Kind(other)),
        }
    }

    #[inline]
    pub(crate) fn mailbox(self) -> u32 {
        self.0[1] as u32
    }

    /// Index of the message's type among those the mailbox handles.
    #[inline]
    pub(crate) fn message(self) -> u16 {
        (self.0[1] >> 32) as u16
    }

    /// The sender's own number for the window this message takes a place of.
    #[inline]
    pub(crate) fn route(self) -> u16 {
        (self.0[1] >> 48) as u16
    }

    #[inline]
    pub(crate) fn correlation(self) -> u64 {
        self.0[2]
    }

    #[inline]
    pub(crate) fn has_buffer(self) -> bool {
        (self.0[0] >> 40) as u8 & FLAG_BUFFER != 0
    }

    /// How many slots the message takes.
    #[inline]
    pub(crate) fn slots(self) -> u64 {
        1 + u64::from(usize::from(self.inline_len()) > SLOT_BYTES)
    }

    /// Whether it is a batch of requests.
    #[inline]
    pub(crate) fn is_batch(self) -> bool {
        matches!((self.0[0] >> 32) as u8, 6 | 7)
    }

    /// Whether it is an ask, or a batch of them.
    #[inline]
    pub(crate) fn wants_reply(self) -> bool {
        matches!((self.0[0] >> 32) as u8, 2 | 7)
    }

    #[inline]
    pub(crate) fn inline_len(self) -> u8 {
        (self.0[0] >> 48) as u8
    }
}

/// One message's slot or two, copied out of (or not yet into) shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(16))]
pub(crate) struct Descriptor {
    pub(crate) head: Head,
    /// So that the payload starts at a multiple of 16.
    pad: u64,
    /// The words 3 to 8, and those that a second slot adds.
    payload: [u8; INLINE_BYTES],
}

impl std::ops::Deref for Descriptor {
    type Target = Head;
    fn deref(&self) -> &Head {
        &self.head
    }
}

impl Descriptor {
    pub(crate) const EMPTY: Descriptor = Descriptor {
        head: Head([0; 3]),
        pad: 0,
        payload: [0; INLINE_BYTES],
    };

    #[inline]
    pub(crate) fn new(kind: SlotKind, mailbox: u32, message: u16, route: u16, correlation: u64) -> Self {
        Self {
            head: Head([
                u64::from(kind as u8) << 32,
                u64::from(mailbox) | u64::from(message) << 32 | u64::from(route) << 48,
                correlation,
            ]),
            ..Self::EMPTY
        }
    }

    /// Word `at` of the payload.
    #[inline(always)]
    pub(crate) fn word(&self, at: usize) -> u64 {
        let bytes = self.payload[8 * at..].first_chunk();
        u64::from_ne_bytes(*bytes.expect("a payload has 12 words"))
    }

    #[inline(always)]
    pub(crate) fn set_word(&mut self, at: usize, word: u64) {
        self.payload[8 * at..8 * at + 8].copy_from_slice(&word.to_ne_bytes());
    }

    /// Where an inline payload is written before [`set_inline_len`](Self::set_inline_len).
    #[inline]
    pub(crate) fn inline_mut(&mut self) -> &mut [u8; INLINE_BYTES] {
        &mut self.payload
    }

    /// The payload has been written by [`inline_mut`](Self::inline_mut), at most [`INLINE_BYTES`] of it.
    #[inline]
    pub(crate) fn set_inline_len(&mut self, len: usize) {
        debug_assert!(len <= INLINE_BYTES);
        self.head.0[0] |= (len as u64 & 0xff) << 48;
    }

    #[inline]
    pub(crate) fn set_correlation(&mut self, correlation: u64) {
        self.head.0[2] = correlation;
    }

    /// Puts a payload of at most [`INLINE_BYTES`] into the descriptor itself.
    pub(crate) fn set_inline(&mut self, payload: &Inline) {
        self.payload = payload.bytes;
        self.set_inline_len(payload.len.into());
    }

    /// Makes it the reply to an ask that came in a batch, of at most [`INLINE_BYTES`]; `from` may go on behind it.
    #[inline]
    pub(crate) fn set_reply(&mut self, from: &[u8], len: usize, correlation: u64) -> Result<(), Violation> {
        if len > INLINE_BYTES {
            let most = INLINE_BYTES;
            return Err(Violation::BatchReply { len, most });
        }
        self.head = Self::new(SlotKind::Reply, 0, 0, 0, correlation).head;
        // As many as fit, where there are: a copy of a known length is a few instructions. Nobody sees what is behind `len`.
        match from.first_chunk() {
            Some(bytes) => self.payload = *bytes,
            None => self.payload[..from.len()].copy_from_slice(from),
        }
        self.set_inline_len(len);
        Ok(())
    }

    pub(crate) fn set_buffer(&mut self, buffer: BufferRef) {
        self.head.0[0] |= u64::from(FLAG_BUFFER) << 40;
        self.set_word(BUFFER, u64::from(buffer.segment) | u64::from(buffer.token) << 32);
        self.set_word(BUFFER + 1, buffer.offset);
        self.set_word(BUFFER + 2, buffer.len);
    }

    /// The buffer, or `None` for an inline payload.
    pub(crate) fn buffer(&self) -> Option<BufferRef> {
        self.has_buffer().then(|| BufferRef {
            segment: self.word(BUFFER) as u32,
            token: (self.word(BUFFER) >> 32) as u32,
            offset: self.word(BUFFER + 1),
            len: self.word(BUFFER + 2),
        })
    }

    /// Puts a payload of at most [`TOPIC_INLINE_BYTES`] into a topic message, behind what
    /// [`set_topic`](Self::set_topic) writes.
    pub(crate) fn set_topic_inline(&mut self, payload: &Inline) {
        self.payload[TOPIC_BYTES..].copy_from_slice(&payload.bytes[..TOPIC_INLINE_BYTES]);
        self.set_inline_len(TOPIC_BYTES + usize::from(payload.len));
    }

    /// Says which topic it is of, and when it was published.
    pub(crate) fn set_topic(&mut self, topic: u32, time_ns: u64) {
        self.set_word(TOPIC, topic.into());
        self.set_word(TIME, time_ns);
    }

    /// Marks a topic message that another member of its group had and did not handle.
    pub(crate) fn set_redelivered(&mut self) {
        self.set_word(TOPIC, self.word(TOPIC) | 1 << 32);
    }

    /// The same message for another subscription.
    pub(crate) fn readdress(&mut self, mailbox: u32, route: u16) {
        self.head.0[1] = u64::from(mailbox) | u64::from(route) << 48;
    }

    /// The publisher's number of the topic.
    pub(crate) fn topic(&self) -> u32 {
        self.word(TOPIC) as u32
    }

    pub(crate) fn is_redelivered(&self) -> bool {
        self.word(TOPIC) >> 32 != 0
    }

    /// When a topic message was published, in ns since 1970.
    pub(crate) fn time_ns(&self) -> u64 {
        self.word(TIME)
    }

    /// The inline payload; its length is checked.
    #[inline]
    pub(crate) fn inline(&self) -> Result<&[u8], Violation> {
        let len = self.inline_len();
        self.payload
            .get(self.before_inline()..usize::from(len))
            .ok_or(Violation::InlineLength(len))
    }

    /// How many bytes are before the inline payload.
    #[inline]
    fn before_inline(&self) -> usize {
        match self.kind() {
            Ok(SlotKind::Publish) => TOPIC_BYTES,
            _ => 0,
        }
    }

    /// All room for an inline payload, if that is at its start, and how long it says that it is.
    #[inline(always)]
    pub(crate) fn plain_inline(&self) -> Option<(&[u8; INLINE_BYTES], u8)> {
        (self.before_inline() == 0).then_some((&self.payload, self.inline_len()))
    }

    /// The inline payload at the start of what it is returned in, whatever is behind it.
    pub(crate) fn private_copy(&self) -> ([u8; INLINE_BYTES], u8) {
        let before = self.before_inline();
        let mut bytes = [0; INLINE_BYTES];
        bytes[..INLINE_BYTES - before].copy_from_slice(&self.payload[before..]);
        (bytes, self.inline_len().saturating_sub(before as u8))
    }
}

/// A payload small enough for the IO queue, aligned as archives want it.
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
}
