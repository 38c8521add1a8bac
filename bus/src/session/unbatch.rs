//! Taking a batch apart, at its reader's pace.

use std::{ops::Range, sync::Arc};

use super::delivery::refuse;
use crate::{
    message::{Received, ShmMessage, Trust},
    shm::{
        Lease, batch,
        checked::Violation,
        descriptor::{Descriptor, Head},
        faults::fault,
        inbound::Inbound,
        returns::Return,
    },
};

/// A batch whose messages are read one by one, where they lie. Dropped before the last, it releases the others unread.
#[derive(Debug)]
pub(crate) struct Unbatch {
    /// Its memory, which goes back when the last message that lies there is released.
    whole: Arc<Lease>,
    inbound: Arc<Inbound>,
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
    ) -> Result<Self, (Arc<Inbound>, Violation)> {
        let left = match batch::count(descriptor.correlation()) {
            Ok(count) => count,
            Err(violation) => return Err((inbound, violation)),
        };
        let mut whole = inbound.clone().lease(descriptor, false)?;
        whole.make_private();
        Ok(Self {
            whole: Arc::new(whole),
            inbound,
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
        if self.left == 0 {
            return false;
        }
        fault!(Unbatching);
        match batch::message(self.whole.bytes(), self.end) {
            Ok(message) => {
                self.end = message.end;
                self.left -= 1;
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
