//! Archiving many messages for one mailbox: small ones together, others each in a slot or a buffer of its own.

use super::{
    link::{Parcel, Request},
    parcel,
    route::{Content, Route},
};
use crate::{
    error::{Bound, SendError},
    message::{ShmRoot, archive_into},
    shm::{
        batch::{self, Layout},
        descriptor::SlotKind,
        pool::Buffer,
    },
};

/// Fewer messages travel one by one: a batch costs a buffer, and its way back.
const FEW: usize = 8;

/// What there is to send next.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "mostly a request, which goes to its queue at once"
)]
pub(crate) enum Packed {
    Request(Request),
    /// There is no memory for the next message now.
    Full(Bound),
    /// The next message can never be sent; it is passed over.
    Failed(SendError),
    /// There are no more messages.
    End,
}

/// The messages that are to be sent, and how.
#[derive(Debug)]
pub(crate) struct Packer<'a, 'm, T, I> {
    route: &'a Route,
    message: usize,
    messages: I,
    /// Whether they are asks.
    asks: bool,
    /// The next one, if it was taken and not archived.
    next: Option<&'m T>,
    ended: bool,
    /// Messages taken from `messages`.
    taken: usize,
    /// Most messages in a batch.
    batch_limit: u32,
}

impl<'a, 'm, T: ShmRoot, I: Iterator<Item = &'m T>> Packer<'a, 'm, T, I> {
    pub(crate) fn new(route: &'a Route, message: usize, messages: I, asks: bool) -> Self {
        Self {
            route,
            message,
            messages,
            asks,
            next: None,
            ended: false,
            taken: 0,
            batch_limit: route.batch_limit(asks),
        }
    }

    /// Whether nothing is left.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// No more is sent.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// How many messages follow, at least and at most.
    pub(crate) fn follow(&self) -> (usize, Option<usize>) {
        let (least, most) = self.messages.size_hint();
        let next = usize::from(self.next.is_some());
        (
            least.saturating_add(next),
            most.map(|most| most.saturating_add(next)),
        )
    }

    /// The next message; the one that there was no memory for comes first.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<&'m T> {
        let next = self.next.take().or_else(|| {
            self.taken += 1;
            self.messages.next()
        });
        self.ended = next.is_none();
        next
    }

    /// Whether so many messages are on their way that it pays to put them into one buffer.
    fn are_many(&self, most: u32) -> bool {
        most as usize >= FEW && (self.taken >= FEW || self.messages.size_hint().0 >= FEW)
    }

    /// Archives the next message, or as many as share a buffer, at most so many. `correlate` numbers each that is archived.
    pub(crate) fn pack(&mut self, most: u32, mut correlate: impl FnMut() -> u64) -> Packed {
        let most = most.min(self.batch_limit);
        if self.are_many(most)
            && let Some(batch) = self.pack_batch(most, &mut correlate)
        {
            return Packed::Request(batch);
        }
        if self.ended {
            return Packed::End;
        }
        self.pack_one(correlate)
    }

    /// Archives one message that travels alone.
    fn pack_one(&mut self, mut correlate: impl FnMut() -> u64) -> Packed {
        let Some(mut message) = self.take() else {
            return Packed::End;
        };
        let kind = if self.asks { SlotKind::Ask } else { SlotKind::Tell };
        let mut descriptor = self.route.descriptor(kind, self.message, 0);
        let mut parcel = None;
        if !message.pack_inline(&mut descriptor) {
            match message.pack(self.route) {
                Ok(packed) => parcel = Some(packed),
                Err(SendError::Full { bound, .. }) => {
                    self.next = Some(message);
                    return Packed::Full(bound);
                }
                Err(error) => return Packed::Failed(error),
            }
        }
        descriptor.set_correlation(correlate());
        Packed::Request(Request {
            descriptor,
            parcel,
            messages: 1,
        })
    }

    /// Archives as many small messages as one buffer takes; none if there is no memory, or the next one is not small.
    fn pack_batch(&mut self, most: u32, mut correlate: impl FnMut() -> u64) -> Option<Request> {
        let first = self.take()?;
        self.next = Some(first);
        let session = &self.route.link.session;
        if is_long(first) {
            return None;
        }
        // As much as the messages take that are known to follow, if they are like the first one.
        let each = first.size_bound().unwrap_or(batch::LONGEST);
        let follow = match self.messages.size_hint().0 {
            0 => most as usize,
            count => (count + 1).min(most as usize),
        };
        let bytes = batch::bytes(each, follow).min(session.message_limit);
        let mut buffer = parcel::buffer(&session.pool, bytes).ok()?;
        let mut layout = Layout::begin(buffer.bytes());
        while layout.count() < most
            && let Some(message) = self.take()
        {
            if is_long(message) || !put(message, &mut buffer, bytes, &mut layout, &mut correlate) {
                // In the next batch, or alone, where what is wrong with it is found out again and told.
                self.next = Some(message);
                break;
            }
        }
        let count = layout.count();
        let kind = if self.asks {
            SlotKind::AskBatch
        } else {
            SlotKind::Batch
        };
        (count > 0).then(|| Request {
            descriptor: self.route.descriptor(kind, self.message, count.into()),
            parcel: Some(Parcel::Buffer(buffer, layout.len())),
            messages: count,
        })
    }
}

/// Archives a message behind the others of its batch. `false`: there is no room for it, or it is not small.
#[inline]
fn put<T: ShmRoot>(
    message: &T,
    buffer: &mut Buffer,
    bytes: usize,
    layout: &mut Layout,
    correlate: &mut impl FnMut() -> u64,
) -> bool {
    let batch = &mut buffer.bytes_mut()[..bytes];
    let Some(room) = layout.room(bytes) else {
        return false;
    };
    let archived = archive_into(message, &mut batch[room]);
    if let Ok(len) = archived
        && len <= batch::LONGEST
    {
        layout.add(batch, len, correlate());
        return true;
    }
    false
}

/// Whether it is known to be too long for a batch.
#[inline]
fn is_long<T: ShmRoot>(message: &T) -> bool {
    message.size_bound().is_some_and(|bound| bound > batch::LONGEST)
}
