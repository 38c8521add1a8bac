//! Payloads produced in the memory they are sent in.

use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    address::Address,
    protocol::{Accepts, Protocol},
};
use crate::{
    error::{AskError, SendError, Unsent},
    message::{Bulk, Received, ShmMessage},
    session::{
        self,
        loan::{Filled, Lent},
        route::Route,
        tell::wait_for_room,
    },
};

/// Memory for the payload of one message of type `M`, on loan from the pool.
///
/// It derefs to `&mut [u8]`: exactly the bytes asked for, which start at a multiple of 64. Fill it, then send it: the
/// closure gets the [`Bulk`] that stands for the payload, and makes the message with it. Nothing is copied. Dropped
/// unsent, it goes back to the pool.
///
/// What the memory holds at first is **unspecified**: zeros, or what earlier messages of this process left there. All
/// of it is sent, so what is not written may show those to the receiver. To a node of another user, only what was sent to
/// nodes of that user: each user has a pool of its own.
///
/// Behind the payload there is room for the rest of the message: all of its fixed part, and 256 bytes of text and
/// lists. Should it need more than the buffer has, the payload is copied once, into a larger one, and
/// [`Stats::loans_copied`](crate::Stats::loans_copied) counts it.
///
/// A message of more than 8 MiB (4 MiB where [`Config::segment_bytes`](crate::Config::segment_bytes) is below 64 MiB) has
/// a segment of its own, freed when its last reader lets go; segments of up to `Config::segment_bytes` in all are kept for
/// the next such messages. No message is longer than [`Config::message_bytes`](crate::Config::message_bytes), at most
/// 2 GiB - 1: its inner pointers have 32 bits.
///
/// ```no_run
/// use shmbus::prelude::*;
///
/// #[derive(ShmMessage)]
/// pub struct Frame {
///     pub seq: u64,
///     pub data: Bulk,
/// }
///
/// # fn read_from_camera(into: &mut [u8]) {}
/// # async fn f(bus: Bus) -> Result<(), Box<dyn std::error::Error>> {
/// let viewer = bus.address::<Frame>("viewer").await?;
/// for seq in 0.. {
///     let mut loan = viewer.loan::<Frame>(1920 * 1080).await?;
///     read_from_camera(&mut loan);
///     loan.send(|data| Frame { seq, data }).await?;
/// }
/// # Ok(()) }
/// ```
#[must_use = "a loan that is dropped sends nothing"]
pub struct Loan<'a, M, P = M> {
    address: &'a Address<P>,
    lent: Lent,
    message: PhantomData<fn() -> M>,
}

impl<'a, M: ShmMessage, P: Protocol> Loan<'a, M, P> {
    pub(super) fn new(address: &'a Address<P>, lent: Lent) -> Self {
        Self {
            address,
            lent,
            message: PhantomData,
        }
    }

    /// Sends the message that `make` makes, now, or says why not and gives the loan back. Never waits.
    ///
    /// # Errors
    /// [`Unsent`] has the reason, [`SendError::Full`] for example, and the loan with its payload.
    // A box for it would allocate just when a sender is short of memory.
    #[allow(clippy::result_large_err)]
    pub fn try_send<At>(self, make: impl FnOnce(Bulk) -> M) -> Result<(), Unsent<Self>>
    where
        P: Accepts<M, At>,
    {
        let Self { address, lent, .. } = self;
        let value = make(lent.bulk());
        address
            .route
            .try_send_loan(P::INDEX, lent, &value)
            .map_err(|(lent, error)| Unsent {
                error,
                loan: Loan::new(address, lent),
            })
    }

    /// Sends the message that `make` makes as soon as there is room. Once this has returned `Ok` the message survives
    /// the death of this process. Dropped before, nothing was sent, and the memory goes back to the pool.
    ///
    /// # Errors
    /// Those of [`SendError`], without `Full`; the payload is gone then.
    pub fn send<At>(self, make: impl FnOnce(Bulk) -> M) -> SendLoan<'a, M>
    where
        P: Accepts<M, At>,
    {
        let (route, filled) = self.fill(make);
        SendLoan(session::tell::Tell::new(route, P::INDEX, filled))
    }

    /// Sends the message that `make` makes as soon as there is room, and waits for the reply, both within
    /// `Config::ask_deadline` or the [deadline](AskLoan::deadline) given.
    ///
    /// # Errors
    /// Those of [`AskError`].
    pub fn ask<At>(self, make: impl FnOnce(Bulk) -> M) -> AskLoan<'a, M>
    where
        P: Accepts<M, At>,
    {
        let (route, filled) = self.fill(make);
        let deadline = route.node.config.ask_deadline;
        AskLoan(session::ask::Ask::new(route, P::INDEX, filled, deadline))
    }

    fn fill(self, make: impl FnOnce(Bulk) -> M) -> (&'a Route, Filled<M>) {
        let value = make(self.lent.bulk());
        (&self.address.route, Filled::new(value, self.lent))
    }
}

impl<M, P> Deref for Loan<'_, M, P> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.lent.bytes()
    }
}

impl<M, P> DerefMut for Loan<'_, M, P> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.lent.bytes_mut()
    }
}

impl<M, P> fmt::Debug for Loan<'_, M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan")
            .field("to", &self.address.name())
            .field("bytes", &self.len())
            .finish_non_exhaustive()
    }
}

/// The future of [`Address::loan`].
#[must_use = "futures do nothing unless awaited"]
pub struct OpenLoan<'a, M, P = M> {
    address: &'a Address<P>,
    len: usize,
    message: PhantomData<fn() -> M>,
}

impl<'a, M, P> OpenLoan<'a, M, P> {
    pub(super) fn new(address: &'a Address<P>, len: usize) -> Self {
        Self {
            address,
            len,
            message: PhantomData,
        }
    }
}

impl<M, P> fmt::Debug for OpenLoan<'_, M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenLoan")
            .field("to", &self.address.name())
            .field("bytes", &self.len)
            .finish_non_exhaustive()
    }
}

impl<'a, M: ShmMessage, P: Protocol> Future for OpenLoan<'a, M, P> {
    type Output = Result<Loan<'a, M, P>, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (address, len) = (self.address, self.len);
        poll_memory(&address.route, cx, || address.try_loan(len))
    }
}

/// One poll of a future that takes memory as soon as there is some.
pub(super) fn poll_memory<T>(
    route: &Route,
    cx: &Context<'_>,
    take: impl Fn() -> Result<T, SendError>,
) -> Poll<Result<T, SendError>> {
    let attempt = || match take() {
        Err(SendError::Full { bound, .. }) => Err(bound),
        done => Ok(done),
    };
    match attempt() {
        Ok(done) => Poll::Ready(done),
        Err(_) => wait_for_room(route, cx, attempt),
    }
}

/// The future of [`Loan::send`].
#[must_use = "futures do nothing unless awaited"]
pub struct SendLoan<'a, M>(session::tell::Tell<'a, Filled<M>>);

impl<M> fmt::Debug for SendLoan<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendLoan")
    }
}

impl<M: ShmMessage> Future for SendLoan<'_, M> {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// The future of [`Loan::ask`]. The message is sent at the first poll.
#[must_use = "futures do nothing unless awaited"]
pub struct AskLoan<'a, M: ShmMessage>(session::ask::Ask<'a, Filled<M>, M::Reply>);

impl<M: ShmMessage> AskLoan<'_, M> {
    /// Waits at most this long for the reply, from the first poll.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.0.set_deadline(deadline);
        self
    }
}

impl<M: ShmMessage> fmt::Debug for AskLoan<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AskLoan")
    }
}

impl<M: ShmMessage> Future for AskLoan<'_, M> {
    type Output = Result<Received<M::Reply>, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

#[cfg(test)]
mod tests;
