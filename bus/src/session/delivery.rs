//! A message that has arrived, and the duty to answer it.

use std::sync::Arc;

use super::{
    asks::Failure,
    link::{Link, NoSend, Parcel},
    parcel::{self, Packing},
    topics::subscription::Attachment,
};
use crate::{
    message::{Received, Refused, ShmMessage, ShmRoot, Trust},
    shm::{
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

    /// Index of its type among those the mailbox handles.
    #[inline]
    pub(crate) fn message(&self) -> u16 {
        self.descriptor.message()
    }

    /// What answers an ask; without an answer it tells the asker that the actor has stopped.
    #[inline]
    pub(crate) fn responder(&mut self) -> Option<Responder> {
        match std::mem::replace(&mut self.sender, Sender::Any) {
            Sender::Asker(link) => Some(Responder {
                link,
                correlation: self.descriptor.correlation(),
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
    #[inline(always)]
    pub(crate) fn open<M: ShmMessage>(&mut self, trust: Trust) -> Option<Received<M>> {
        let inbound = self.inbound.take()?;
        match Received::open(inbound, &self.descriptor, trust) {
            Ok(message) => Some(message),
            Err(refused) => {
                refuse(M::NAME, refused);
                None
            }
        }
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
        drop(self.responder());
        inbound.discard(&self.descriptor);
    }
}

#[cold]
fn refuse(message: &str, refused: Refused) {
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
}

impl Deliveries {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
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

    #[inline]
    pub(crate) fn front_mut(&mut self) -> Option<&mut Delivery> {
        if self.is_empty() {
            return None;
        }
        let at = self.at(0);
        Some(&mut self.places[at])
    }

    /// Leaves the first one, which is released if it was not opened.
    #[inline]
    pub(crate) fn pass(&mut self) {
        if let Some(front) = self.front_mut() {
            front.clear();
            self.first = self.at(1);
            self.len -= 1;
        }
    }

    /// Takes the first one out.
    pub(crate) fn pop(&mut self) -> Option<Delivery> {
        let front = std::mem::replace(self.front_mut()?, Delivery::NONE);
        self.pass();
        Some(front)
    }
}

/// Answers one ask. Dropped without an answer, it tells the asker that the actor has stopped.
#[derive(Debug)]
pub(crate) struct Responder {
    link: Arc<Link>,
    correlation: u64,
    answered: bool,
}

impl Responder {
    /// Archives the reply and sends it. Its place was reserved by the ask.
    pub(crate) fn reply<R: ShmRoot>(mut self, reply: &R) {
        let link = self.link.clone();
        let session = &link.session;
        let mut descriptor = Descriptor::new(SlotKind::Reply, 0, 0, 0, self.correlation);
        if parcel::pack_inline(reply, &mut descriptor) {
            return self.send(descriptor, None);
        }
        let fail = |failure| Self::failed(failure, self.correlation);
        let warm = |bytes| link.warm(bytes);
        match parcel::pack(reply, &session.pool, session.message_limit, warm) {
            Ok(parcel) => self.send(descriptor, Some(parcel)),
            Err(Packing::TooLarge { .. }) => self.send(fail(Failure::TooLarge), None),
            Err(Packing::Full | Packing::Beyond { .. } | Packing::Kernel(_)) => {
                self.send(fail(Failure::Memory), None)
            }
            Err(Packing::Archive(_)) => self.send(fail(Failure::Archive), None),
        }
    }

    pub(crate) fn fail(mut self, failure: Failure) {
        self.send(Self::failed(failure, self.correlation), None);
    }

    fn failed(failure: Failure, correlation: u64) -> Descriptor {
        Descriptor::new(SlotKind::Fail, failure as u32, 0, 0, correlation)
    }

    fn send(&mut self, mut descriptor: Descriptor, mut parcel: Option<Parcel>) {
        self.answered = true;
        match self.link.send_reply(&mut descriptor, &mut parcel) {
            Ok(()) => self.link.session.counters.replies.add(1),
            // A reply whose segment could not be announced: the asker learns that there was no memory.
            Err(NoSend::Full(_)) => {
                let mut failed = Self::failed(Failure::Memory, self.correlation);
                let _ = self.link.send_reply(&mut failed, &mut None);
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
