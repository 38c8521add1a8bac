//! What a peer may still read after its link has ended.
//!
//! A link ends when its session or one of its ports does, and not only with a process: who has left a bus may keep
//! messages for as long as it likes. What lies in their buffers must not change meanwhile. So a buffer comes back when
//! its message was released, which the return ring tells as before, or when the kernel says that nobody is there any
//! more: each message keeps its session's socket open, and a closed one hangs up here. After a process has died that is at
//! once.

use std::{
    mem,
    sync::{Arc, Mutex},
};

use super::{Link, Sending, Unhandled};
use crate::{
    session::peer::Session,
    shm::{pool::Held, sync::lock},
};

/// The links of a node that have ended, and whose peers hold messages.
#[derive(Debug, Default)]
pub(crate) struct Left(Mutex<Vec<Arc<Link>>>);

impl Left {
    pub(super) fn keep(&self, link: Arc<Link>) {
        lock(&self.0).push(link);
    }

    /// Whether the peer of a session that has ended holds messages of it.
    pub(crate) fn has_of(&self, session: &Session) -> bool {
        lock(&self.0)
            .iter()
            .any(|link| std::ptr::eq(&*link.session, session))
    }

    /// Takes back what was released.
    pub(crate) fn collect(&self) {
        let mut left = lock(&self.0);
        let done: Vec<_> = left.extract_if(.., |link| !link.holds_after_return()).collect();
        drop(left);
        drop(done);
    }

    /// Nobody is at the other end of a session any more.
    pub(crate) fn abandon(&self, session: &Session) {
        let of_it: Vec<_> = lock(&self.0)
            .extract_if(.., |link| std::ptr::eq(&*link.session, session))
            .collect();
        for link in of_it {
            link.abandon();
        }
    }
}

impl Link {
    /// Takes back what was released. Whether anything is still held.
    fn holds_after_return(&self) -> bool {
        let mut sending = lock(&self.sending);
        // A return that makes no sense is that of a peer that breaks the protocol, and the last one.
        let _ = self.take_returns(&mut sending);
        sending.tokens.are_out()
    }

    fn abandon(&self) {
        let mut sending = lock(&self.sending);
        sending.abandon_tokens();
        self.pool.release(mem::take(&mut sending.redeemed));
    }
}

impl Sending {
    /// The peer has left and may still read what it holds. What is for another member of its group gets one more
    /// holder; those are returned.
    pub(super) fn share_tokens(&mut self) -> Vec<Held> {
        let mut shared = Vec::new();
        let held = (0..).zip(&self.tokens.held);
        for (token, (held, route, _)) in held.filter_map(|(token, entry)| Some((token, (*entry)?))) {
            let window = self.windows.get_mut(usize::from(route));
            let sent = window.and_then(|window| window.group.as_mut()?.remove(&token));
            if let Some(unhandled) = sent.and_then(|sent| Unhandled::new(route, sent, held)) {
                shared.push(held);
                self.unhandled.push(unhandled);
            }
        }
        shared
    }
}
