//! A message that has arrived, and the duty to answer it.

use std::sync::Arc;

use super::{
    asks::Failure,
    link::{Link, NoSend, Parcel},
    parcel::{self, Packing},
};
use crate::{
    message::ShmType,
    shm::{
        Lease,
        descriptor::{Descriptor, SlotKind},
    },
};

/// One message in a mailbox.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// Index of its type among those the mailbox handles.
    pub(crate) message: u16,
    pub(crate) lease: Lease,
    /// Present for an ask.
    pub(crate) responder: Option<Responder>,
    /// The link it came by, to be closed if the bytes turn out to be no valid archive.
    pub(crate) link: Arc<Link>,
}

/// Answers one ask. Dropped without an answer, it tells the asker that the actor has stopped.
#[derive(Debug)]
pub(crate) struct Responder {
    link: Arc<Link>,
    correlation: u64,
    answered: bool,
}

impl Responder {
    pub(crate) fn new(link: Arc<Link>, correlation: u64) -> Self {
        Self { link, correlation, answered: false }
    }

    /// Archives the reply and sends it. Its place was reserved by the ask.
    pub(crate) fn reply<R: ShmType>(mut self, reply: &R) {
        let session = self.link.session.clone();
        match parcel::pack(reply, &session.pool, session.message_limit, |bytes| self.link.warm(bytes)) {
            Ok(parcel) => self.send(SlotKind::Reply, 0, Some(parcel)),
            Err(Packing::TooLarge { .. }) => self.send(SlotKind::Fail, Failure::TooLarge as u32, None),
            Err(Packing::Full | Packing::Kernel(_)) => self.send(SlotKind::Fail, Failure::Memory as u32, None),
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
                let descriptor = Descriptor::new(SlotKind::Fail, Failure::Memory as u32, 0, 0, self.correlation);
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
