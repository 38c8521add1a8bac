//! What messages that are kept need of their session.

use std::{
    alloc::Layout,
    sync::{Arc, Weak},
};

use super::{
    loan::{self, Source},
    peer::Session,
    socket::Socket,
};
use crate::shm::{checked::Violation, inbound::Host, pool::Buffer, sync::lock};

/// A session as the messages of one of its links see it: they may outlive it.
pub(crate) struct SessionHost {
    session: Weak<Session>,
    /// This node's number for the link.
    link: u32,
    /// Each message that is kept keeps the socket open: the peer sees by it when none is.
    _socket: Arc<Socket>,
}

impl SessionHost {
    pub(crate) fn new(session: &Arc<Session>, link: u32) -> Self {
        Self {
            session: Arc::downgrade(session),
            link,
            _socket: session.socket.clone(),
        }
    }
}

impl Host for SessionHost {
    fn violated(&self, violation: Violation) {
        if let Some(session) = self.session.upgrade() {
            session.violated(violation);
        }
    }

    fn lend(&self, len: usize, root: Layout) -> Option<Buffer> {
        let session = self.session.upgrade()?;
        let link = lock(&session.links).by_id.get(&self.link)?.0.clone();
        let from = Source {
            pool: &session.pool,
            limit: session.message_limit,
        };
        // Whatever keeps it from being lent is told when the reply is sent.
        loan::room(len, root, from, |bytes| link.warm(bytes)).ok()
    }
}
