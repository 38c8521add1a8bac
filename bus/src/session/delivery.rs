//! A message that has arrived, and the duty to answer it.

use std::sync::Arc;

use super::{
    asks::Failure,
    link::{Link, NoSend, Parcel},
    parcel::{self, Packing},
    topics::subscription::Attachment,
};
use crate::{
    message::{Received, ShmMessage, ShmRoot, Trust},
    shm::{
        checked::Violation,
        descriptor::{Descriptor, SlotKind},
        inbound::Inbound,
    },
};

/// One message in a mailbox: its slot, and whom to give it back to. Dropped unopened, it is released, and
/// its asker told that the actor has stopped.
#[derive(Debug)]
pub(crate) struct Delivery(Option<Undelivered>);

#[derive(Debug)]
struct Undelivered {
    descriptor: Descriptor,
    inbound: Arc<Inbound>,
    sender: Sender,
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

impl Undelivered {
    fn responder(&mut self) -> Option<Responder> {
        let Sender::Asker(link) = std::mem::replace(&mut self.sender, Sender::Any) else {
            return None;
        };
        Some(Responder {
            link,
            correlation: self.descriptor.correlation(),
            answered: false,
        })
    }
}

impl Delivery {
    pub(crate) fn new(descriptor: Descriptor, inbound: Arc<Inbound>, sender: Sender) -> Self {
        Self(Some(Undelivered {
            descriptor,
            inbound,
            sender,
        }))
    }

    /// Index of its type among those the mailbox handles.
    pub(crate) fn message(&self) -> u16 {
        self.0
            .as_ref()
            .map_or(u16::MAX, |delivery| delivery.descriptor.message())
    }

    /// The publisher of a topic's message.
    pub(crate) fn publisher(&self) -> Option<&Arc<Attachment>> {
        match &self.0.as_ref()?.sender {
            Sender::Publisher(attachment) => Some(attachment),
            Sender::Any | Sender::Asker(_) => None,
        }
    }

    /// Sequence number, time in ns since 1970, and whether a topic's message is redelivered.
    pub(crate) fn published(&self) -> (u64, u64, bool) {
        let descriptor = self.0.as_ref().map(|delivery| delivery.descriptor);
        descriptor.map_or((0, 0, false), |d| {
            (d.correlation(), d.time_ns(), d.is_redelivered())
        })
    }

    /// Gives a group's message back for another member.
    pub(crate) fn refuse(mut self) {
        if let Some(delivery) = self.0.take() {
            delivery.inbound.refuse(&delivery.descriptor);
        }
    }

    /// The message, and what answers it. `None`: it was no valid message, and its session is closed.
    pub(crate) fn open<M: ShmMessage>(mut self, trust: Trust) -> Option<(Received<M>, Option<Responder>)> {
        let mut delivery = self.0.take()?;
        let responder = delivery.responder();
        let lease = match delivery.inbound.lease(&delivery.descriptor, false) {
            Ok(lease) => lease,
            Err((inbound, violation)) => {
                inbound.violated(violation);
                return None;
            }
        };
        match Received::new(lease, trust) {
            Ok(message) => Some((message, responder)),
            Err((lease, error)) => {
                tracing::warn!(message = M::NAME, %error, "malformed message");
                lease.violated(Violation::Archive);
                None
            }
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(mut delivery) = self.0.take() {
            drop(delivery.responder());
            delivery.inbound.discard(&delivery.descriptor);
        }
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
        let session = self.link.session.clone();
        match parcel::pack(reply, &session.pool, session.message_limit, |bytes| {
            self.link.warm(bytes)
        }) {
            Ok(parcel) => self.send(SlotKind::Reply, 0, Some(parcel)),
            Err(Packing::TooLarge { .. }) => self.send(SlotKind::Fail, Failure::TooLarge as u32, None),
            Err(Packing::Full | Packing::Beyond { .. } | Packing::Kernel(_)) => {
                self.send(SlotKind::Fail, Failure::Memory as u32, None)
            }
            Err(Packing::Archive(_)) => self.send(SlotKind::Fail, Failure::Archive as u32, None),
        }
    }

    pub(crate) fn fail(mut self, failure: Failure) {
        self.send(SlotKind::Fail, failure as u32, None);
    }

    fn send(&mut self, kind: SlotKind, code: u32, parcel: Option<Parcel>) {
        self.answered = true;
        let descriptor = Descriptor::new(kind, code, 0, 0, self.correlation);
        match self.link.send_reply(descriptor, parcel) {
            Ok(()) => self.link.session.counters.replies.add(1),
            // A reply whose segment could not be announced: the asker learns that there was no memory.
            Err(NoSend::Full(_)) => {
                let descriptor =
                    Descriptor::new(SlotKind::Fail, Failure::Memory as u32, 0, 0, self.correlation);
                let _ = self.link.send_reply(descriptor, None);
            }
            // The asker is gone, and learned so by its own means.
            Err(NoSend::Lost | NoSend::Stopped) => {}
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.answered {
            self.send(SlotKind::Fail, Failure::Stopped as u32, None);
        }
    }
}
