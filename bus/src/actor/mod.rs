//! Typed addresses, and the adapter between mailboxes and actix.

pub(crate) mod address;
pub(crate) mod bind;
pub(crate) mod dispatch;
pub(crate) mod forward;
pub(crate) mod in_place;
pub(crate) mod loan;
pub(crate) mod protocol;
pub(crate) mod watch;

pub use address::{Address, Ask, AskAll, OpenAddress, Tell, TellAll};
pub use bind::{Bind, Bound, OnPanic};
pub use forward::{BindAddr, Forwarded};
pub use in_place::{AskInPlace, InPlace, OpenInPlace, SendInPlace};
pub use loan::{AskLoan, Loan, OpenLoan, SendLoan};
pub use protocol::{Accepts, Protocol};
pub use watch::{Presence, Watch};

use crate::{
    message::{Received, ShmMessage},
    session::node::PortKey,
};

/// The handler of a message gets it where it lies, and returns its reply.
impl<M: ShmMessage> actix::Message for Received<M> {
    type Result = M::Reply;
}

/// An arbiter's thread has a port of its own, where its actors and its asks meet; everybody else shares one.
pub(crate) fn port_here() -> PortKey {
    match actix::Arbiter::try_current() {
        // A thread remembers its arbiter also when that has ended.
        Some(arbiter) if arbiter.alive() => PortKey::Thread(std::thread::current().id(), |task| {
            actix::Arbiter::try_current().is_some_and(|here| here.spawn(task))
        }),
        _ => PortKey::Shared,
    }
}
