//! A message that has arrived, and the duty to answer it.

use std::sync::Arc;

use super::{
    asks::Failure,
    link::{Link, NoSend, Parcel},
    loan::{Lent, Sealed, Source},
    parcel::{self, Packing},
    replies,
    topics::subscription::Attachment,
    unbatch::{self, Unbatch},
};
use crate::{
    message::{Received, Refused, ShmMessage, ShmRoot, Trust},
    shm::{
        batch,
        checked::Violation,
        descriptor::{Descriptor, SlotKind},
        inbound::Inbound,
    },
};

/// One message in a mailbox: its slot, and whom to give it back to. Dropped unopened, it is released, and
/// its asker told that the actor has stopped.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) descriptor: Descriptor,
    /// `None`: there is no message (any more).
    pub(crate) inbound: Option<Arc<Inbound>>,
    pub(crate) sender: Sender,
}

/// What is needed of a message's sender beyond giving it back.
#[derive(Debug)]
pub(crate) enum Sender {
    /// Nothing.
    Any,
    /// Where the reply goes.
    Asker(Arc<Link>),
    /// Whose message it is; known also when the publisher is gone.
    Publisher(Arc<Attachment>),
}

impl Delivery {
    pub(crate) const NONE: Delivery = Delivery {
        descriptor: Descriptor::EMPTY,
        inbound: None,
        sender: Sender::Any,
    };

    pub(crate) fn new(descriptor: &Descriptor, inbound: Arc<Inbound>, sender: Sender) -> Self {
        Self {
            descriptor: *descriptor,
            inbound: Some(inbound),
            sender,
        }
    }

    /// What answers an ask; without an answer it tells the asker that the actor has stopped.
    #[inline]
    pub(crate) fn responder(&mut self) -> Option<Responder> {
        if !matches!(self.sender, Sender::Asker(_)) {
            return None;
        }
        match std::mem::replace(&mut self.sender, Sender::Any) {
            Sender::Asker(link) => Some(Responder {
                link,
                correlation: self.descriptor.correlation(),
                of_batch: false,
                answered: false,
            }),
            Sender::Any | Sender::Publisher(_) => None,
        }
    }

    /// The publisher of a topic's message.
    pub(crate) fn publisher(&self) -> Option<&Arc<Attachment>> {
        match &self.sender {
            Sender::Publisher(attachment) => Some(attachment),
            Sender::Any | Sender::Asker(_) => None,
        }
    }

    /// How many messages this is: a batch that nobody has opened is all of its.
    pub(crate) fn messages(&self) -> u64 {
        if !self.descriptor.is_batch() {
            return 1;
        }
        // Counted when it was delivered.
        batch::count(self.descriptor.correlation()).map_or(1, u64::from)
    }

    /// Sequence number, time in ns since 1970, and whether a topic's message is redelivered.
    pub(crate) fn published(&self) -> (u64, u64, bool) {
        let d = &self.descriptor;
        (d.correlation(), d.time_ns(), d.is_redelivered())
    }

    /// Gives a group's message back for another member.
    pub(crate) fn refuse(mut self) {
        if let Some(inbound) = self.inbound.take() {
            inbound.refuse(&self.descriptor);
        }
    }

    /// The message. `None`: it was no valid one, and its session is closed.
    #[inline]
    pub(crate) fn open<M: ShmMessage>(&mut self, trust: Trust) -> Option<Received<M>> {
        self.open_for(trust, |message| message)
    }

    /// Calls `f` with the message. `None`: it was no valid one, and its session is closed.
    #[inline(always)]
    pub(crate) fn open_for<M: ShmMessage, R>(
        &mut self,
        trust: Trust,
        f: impl FnOnce(Received<M>) -> R,
    ) -> Option<R> {
        let inbound = self.inbound.take()?;
        Received::open(inbound, &self.descriptor, trust, f)
            .map_err(|refused| refuse(M::NAME, refused))
            .ok()
    }

    /// Opens a batch.
    fn unbatch(&mut self, inbound: Arc<Inbound>) -> Result<Unbatch, (Arc<Inbound>, Violation)> {
        let asker = match std::mem::replace(&mut self.sender, Sender::Any) {
            Sender::Asker(link) => Some(link),
            Sender::Any | Sender::Publisher(_) => None,
        };
        Unbatch::new(&self.descriptor, inbound, asker)
    }

    /// Releases it unopened, and leaves its place empty.
    #[inline]
    fn clear(&mut self) {
        if let Some(inbound) = self.inbound.take() {
            self.discard(inbound);
        }
        self.sender = Sender::Any;
    }

    #[cold]
    fn discard(&mut self, inbound: Arc<Inbound>) {
        if self.descriptor.is_batch() && matches!(self.sender, Sender::Asker(_)) {
            if let Err((inbound, violation)) = self.unbatch(inbound) {
                inbound.violated(violation);
            }
            return;
        }
        drop(self.responder());
        if self.descriptor.is_batch() {
            let messages = self.messages() as u32;
            unbatch::release(&inbound, self.descriptor.head, messages);
        }
        inbound.discard(&self.descriptor);
    }
}

#[cold]
pub(super) fn refuse(message: &str, refused: Refused) {
    match refused {
        Refused::Violation(inbound, violation) => inbound.violated(violation),
        Refused::Archive(refused) => {
            let (lease, error) = *refused;
            tracing::warn!(message, %error, "malformed message");
            lease.violated(Violation::Archive);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A queue whose places are filled and emptied where they lie: a delivery is two cache lines and more, which
/// are not moved about.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    /// A power of two of them, or none yet.
    places: Vec<Delivery>,
    first: usize,
    len: usize,
    /// The rest of the batch that the first one is of.
    unbatch: Option<Unbatch>,
}

impl Deliveries {
    /// How many there are, a batch counting as one, and one that is being read not at all.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn messages(&self) -> u64 {
        let rest = self.unbatch.as_ref().map_or(0, Unbatch::left);
        let places = (0..self.len).map(|index| self.places[self.at(index)].messages());
        places.sum::<u64>() + u64::from(rest)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0 && self.unbatch.is_none()
    }

    fn at(&self, index: usize) -> usize {
        (self.first + index) & (self.places.len() - 1)
    }

    /// The place behind the last one, to be filled.
    #[inline]
    pub(crate) fn push(&mut self) -> &mut Delivery {
        if self.len == self.places.len() {
            self.grow();
        }
        let at = self.at(self.len);
        self.len += 1;
        &mut self.places[at]
    }

    #[cold]
    fn grow(&mut self) {
        self.places.rotate_left(self.first);
        self.first = 0;
        let places = (2 * self.places.len()).max(16);
        self.places.resize_with(places, || Delivery::NONE);
    }

    /// Takes back the last [`push`](Self::push), whose place was not filled.
    pub(crate) fn unpush(&mut self) {
        self.len -= 1;
    }

    /// The first message, one of a batch or one that came alone.
    #[inline]
    pub(crate) fn front(&mut self) -> Option<Front<'_>> {
        while self.len > 0 && self.unbatch.is_none() {
            let at = self.at(0);
            if !self.places[at].descriptor.is_batch() {
                // Looked up anew: the compiler cannot follow a borrow that is returned out of a loop.
                return Some(Front::Alone(&mut self.places[at]));
            }
            self.unbatch();
        }
        self.unbatch.as_mut().map(Front::OfBatch)
    }

    /// The first one is a batch: it is opened, and leaves its place. If it was no valid one, its session is closed.
    fn unbatch(&mut self) {
        let at = self.at(0);
        let front = &mut self.places[at];
        let opened = front.inbound.take().map(|inbound| front.unbatch(inbound));
        self.leave();
        match opened {
            Some(Ok(mut batch)) => self.unbatch = batch.advance().then_some(batch),
            Some(Err((inbound, violation))) => inbound.violated(violation),
            None => {}
        }
    }

    /// The first place is empty.
    fn leave(&mut self) {
        self.first = self.at(1);
        self.len -= 1;
    }

    /// Leaves the first message, which is released if it was not opened.
    #[inline]
    pub(crate) fn pass(&mut self) {
        if let Some(batch) = &mut self.unbatch {
            if !batch.advance() {
                self.unbatch = None;
            }
        } else if self.len > 0 {
            let at = self.at(0);
            self.places[at].clear();
            self.leave();
        }
    }

    /// Takes the first one out, a batch as a whole.
    pub(crate) fn pop(&mut self) -> Option<Delivery> {
        if self.len == 0 {
            return None;
        }
        let at = self.at(0);
        let front = std::mem::replace(&mut self.places[at], Delivery::NONE);
        self.leave();
        Some(front)
    }
}

/// A message whose turn it is, where it lies.
pub(crate) enum Front<'a> {
    /// It came alone.
    Alone(&'a mut Delivery),
    /// One of many in one buffer.
    OfBatch(&'a mut Unbatch),
}

impl Front<'_> {
    /// Index of its type among those the mailbox handles.
    #[inline]
    pub(crate) fn message(&self) -> u16 {
        match self {
            Front::Alone(delivery) => delivery.descriptor.message(),
            Front::OfBatch(batch) => batch.message(),
        }
    }

    /// See [`Delivery::responder`].
    #[inline]
    pub(crate) fn responder(&mut self) -> Option<Responder> {
        match self {
            Front::Alone(delivery) => delivery.responder(),
            Front::OfBatch(batch) => batch.responder(),
        }
    }

    /// See [`Delivery::open_for`].
    #[inline(always)]
    pub(crate) fn open<M: ShmMessage, R>(self, trust: Trust, f: impl FnOnce(Received<M>) -> R) -> Option<R> {
        match self {
            Front::Alone(delivery) => delivery.open_for(trust, f),
            Front::OfBatch(batch) => batch.open(trust, f),
        }
    }
}

/// Answers one ask. Dropped without an answer, it tells the asker that the actor has stopped.
#[derive(Debug)]
pub(crate) struct Responder {
    link: Arc<Link>,
    correlation: u64,
    /// Its ask came with others, whose replies may go with this one.
    of_batch: bool,
    answered: bool,
}

impl Responder {
    /// Answers an ask that came in a batch.
    #[inline]
    pub(super) fn of_batch(link: Arc<Link>, correlation: u64) -> Self {
        Self {
            link,
            correlation,
            of_batch: true,
            answered: false,
        }
    }

    /// Archives the reply and sends it. Its place was reserved by the ask.
    pub(crate) fn reply<R: ShmRoot>(mut self, reply: &mut R) {
        if self.of_batch && replies::gather(&self.link, self.correlation, reply) {
            self.answered = true;
            return;
        }
        let mut descriptor = Descriptor::new(SlotKind::Reply, 0, 0, 0, self.correlation);
        if parcel::pack_inline(reply, &mut descriptor) {
            return self.send(descriptor, None);
        }
        let correlation = self.correlation;
        let fail = |failure| Self::failed(failure, correlation);
        match self.pack(reply) {
            Ok(parcel) => self.send(descriptor, Some(parcel)),
            Err(Packing::TooLarge { .. }) => self.send(fail(Failure::TooLarge), None),
            Err(Packing::Full | Packing::Beyond { .. } | Packing::Kernel(_)) => {
                self.send(fail(Failure::Memory), None)
            }
            Err(Packing::Archive(_)) => self.send(fail(Failure::Archive), None),
        }
    }

    /// Archives a reply behind the payload that was written in place, or copies it.
    fn pack<R: ShmRoot>(&self, reply: &mut R) -> Result<Parcel, Packing> {
        let session = &self.link.session;
        let (pool, limit) = (&session.pool, session.message_limit);
        let copied = || session.counters.loans_copied.add(1);
        if let Some(lent) = Lent::of_reply(reply, pool) {
            let sealed = lent.pack(reply, Source { pool, limit }, copied);
            return sealed.map(Sealed::into_parcel).map_err(|(_, why)| why);
        }
        // Written in memory that is not for this asker: of another user, who may read that of others as little.
        if reply.bulk_mut().is_some_and(|bulk| bulk.is_shared()) {
            copied();
        }
        parcel::pack(reply, pool, limit, |bytes| self.link.warm(bytes))
    }

    pub(crate) fn fail(mut self, failure: Failure) {
        self.send(Self::failed(failure, self.correlation), None);
    }

    fn failed(failure: Failure, correlation: u64) -> Descriptor {
        Descriptor::new(SlotKind::Fail, failure as u32, 0, 0, correlation)
    }

    fn send(&mut self, mut descriptor: Descriptor, mut parcel: Option<Parcel>) {
        self.answered = true;
        match self.link.send_reply(&mut descriptor, &mut parcel, 1) {
            Ok(()) => {}
            // A reply whose segment could not be announced: the asker learns that there was no memory.
            Err(NoSend::Full(_)) => {
                let mut failed = Self::failed(Failure::Memory, self.correlation);
                let _ = self.link.send_reply(&mut failed, &mut None, 1);
            }
            // The asker is gone, and learned so by its own means.
            Err(NoSend::Lost | NoSend::Stopped) => {}
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.answered {
            self.send(Self::failed(Failure::Stopped, self.correlation), None);
        }
    }
}
