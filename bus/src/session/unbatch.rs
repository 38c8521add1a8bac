//! Taking a batch apart, at its reader's pace.

use std::{ops::Range, sync::Arc};

use super::{
    delivery::{Responder, refuse},
    link::Link,
};
use crate::{
    message::{Received, ShmMessage, Trust},
    shm::{
        batch,
        checked::Violation,
        descriptor::{Descriptor, Head},
        faults::fault,
        inbound::Inbound,
        lease::Whole,
        returns::Return,
    },
};

/// A batch whose messages are read one by one, where they lie. Dropped before the last, it releases the others unread, and
/// tells those who asked that the actor has stopped.
#[derive(Debug)]
pub(crate) struct Unbatch {
    /// Its memory, which goes back when the last message that lies there is released.
    whole: Whole,
    inbound: Arc<Inbound>,
    /// Where the replies go, if they are asks.
    asker: Option<Arc<Link>>,
    /// The correlation of the ask whose turn it is, until somebody is there to answer it.
    asked: Option<u64>,
    /// What the slot said, of all messages.
    head: Head,
    /// Where the message is whose turn it is, until it is opened.
    current: Option<Range<usize>>,
    /// Where it ends.
    end: usize,
    /// Messages behind it.
    left: u32,
}

impl Unbatch {
    /// Opens a batch.
    pub(crate) fn new(
        descriptor: &Descriptor,
        inbound: Arc<Inbound>,
        asker: Option<Arc<Link>>,
    ) -> Result<Self, (Arc<Inbound>, Violation)> {
        let left = match batch::count(descriptor.correlation()) {
            Ok(count) => count,
            Err(violation) => return Err((inbound, violation)),
        };
        let mut whole = inbound.clone().lease(descriptor, false)?;
        whole.make_private();
        Ok(Self {
            whole: Whole::new(whole),
            inbound,
            asker,
            asked: None,
            head: descriptor.head,
            current: None,
            end: 0,
            left,
        })
    }

    /// Goes on to the next message. `false`: there is none.
    #[inline]
    pub(crate) fn advance(&mut self) -> bool {
        if self.current.take().is_some() {
            release(&self.inbound, self.head, 1);
        }
        drop(self.responder());
        if self.left == 0 {
            return false;
        }
        fault!(Unbatching);
        match batch::message(self.whole.bytes(), self.end) {
            Ok(message) => {
                self.end = message.end;
                self.left -= 1;
                if self.asker.is_some() {
                    self.asked = Some(batch::correlation(self.whole.bytes(), &message));
                }
                self.current = Some(message);
                true
            }
            Err(violation) => {
                self.inbound.violated(violation);
                false
            }
        }
    }

    /// Index of the messages' type among those the mailbox handles.
    #[inline]
    pub(crate) fn message(&self) -> u16 {
        self.head.message()
    }

    /// What answers the ask whose turn it is; without an answer it tells the asker that the actor has stopped.
    #[inline]
    pub(crate) fn responder(&mut self) -> Option<Responder> {
        let asker = self.asker.as_ref()?;
        let correlation = self.asked.take()?;
        Some(Responder::of_batch(asker.clone(), correlation))
    }

    /// Calls `f` with the message whose turn it is. `None`: it was opened before, or it is no valid one, and its session is
    /// closed.
    #[inline(always)]
    pub(crate) fn open<M: ShmMessage, R>(
        &mut self,
        trust: Trust,
        f: impl FnOnce(Received<M>) -> R,
    ) -> Option<R> {
        let at = self.current.take()?;
        let (inbound, route) = (self.inbound.share(), self.head.route());
        Received::open_part(&self.whole, at, inbound, route, trust, f)
            .map_err(|refused| refuse(M::NAME, refused))
            .ok()
    }

    /// Messages not opened yet.
    pub(crate) fn left(&self) -> u32 {
        self.left + u32::from(self.current.is_some())
    }
}

impl Drop for Unbatch {
    fn drop(&mut self) {
        while self.asker.is_some() && self.advance() {}
        release(&self.inbound, self.head, self.left());
    }
}

/// Gives back the places in the window of so many messages that nobody reads.
pub(crate) fn release(inbound: &Arc<Inbound>, head: Head, messages: u32) {
    if let Ok(count @ 1..) = u16::try_from(messages) {
        let route = head.route();
        inbound.clone().give_back(Return::Credit { route, count }, 0);
    }
}
