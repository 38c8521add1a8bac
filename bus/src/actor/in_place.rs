//! Messages of a fixed size, written in the memory they are sent in.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    address::Address,
    loan::poll_memory,
    protocol::{Accepts, Protocol},
};
use crate::{
    error::{AskError, SendError, Unsent},
    message::{self, FixedSize, Received, ShmMessage},
    session::{self, loan::Written},
};

impl<P: Protocol> Address<P> {
    /// A message of a [fixed size](FixedSize) in the memory it is then sent in, to be written there. Never waits. See
    /// [`InPlace`].
    ///
    /// # Errors
    /// [`SendError::Full`] if the pool is at its limit; [`SendError::TooLarge`] if the message is longer than allowed.
    pub fn try_in_place<M: FixedSize>(&self, initial: &M) -> Result<InPlace<'_, M, P>, SendError> {
        Ok(InPlace {
            address: self,
            written: self.route.place(initial)?,
        })
    }

    /// As [`try_in_place`](Address::try_in_place), as soon as the pool has memory.
    ///
    /// # Errors
    /// Those of [`SendError`], without `Full`.
    pub fn in_place<'a, 'm, M: FixedSize>(&'a self, initial: &'m M) -> OpenInPlace<'a, 'm, M, P> {
        OpenInPlace {
            address: self,
            initial,
        }
    }
}

/// A message of a fixed size in the buffer that its receiver will read, not sent yet.
///
/// It derefs to the archived form of the message, mutably: numbers are assigned as `field = 7.into()`, arrays element
/// by element. It holds the initial value until something else is written, so it is a whole message at any time. Sent,
/// it is not copied; dropped unsent, its memory goes back to the pool.
///
/// It pays where a message is large and produced piece by piece: the initial value is copied once, from a `static`
/// perhaps, and nothing is afterwards. Small values are sent as fast by [`tell`](Address::tell), which needs no buffer
/// for up to 96 bytes; for a payload whose length is not known by its type there is [`loan`](Address::loan).
///
/// Where a whole struct or enum is assigned, the bytes between its fields are what they happen to be in this process,
/// and are sent like that. Assigning its fields one by one leaves them zero.
///
/// ```no_run
/// use shmbus::prelude::*;
///
/// #[derive(ShmMessage)]
/// pub struct Scan {
///     pub seq: u64,
///     pub ranges: [f32; 4096],
/// }
/// static EMPTY: Scan = Scan { seq: 0, ranges: [0.0; 4096] };
///
/// # fn measure(_: usize) -> f32 { 0.0 }
/// # async fn f(bus: Bus) -> Result<(), Box<dyn std::error::Error>> {
/// let mapper = bus.address::<Scan>("mapper").await?;
/// for seq in 0_u64.. {
///     let mut scan = mapper.in_place(&EMPTY).await?;
///     scan.seq = seq.into();
///     for (angle, range) in scan.ranges.iter_mut().enumerate() {
///         *range = measure(angle).into();
///     }
///     scan.send().await?;
/// }
/// # Ok(()) }
/// ```
#[must_use = "a message that is dropped is not sent"]
pub struct InPlace<'a, M, P = M> {
    address: &'a Address<P>,
    written: message::InPlace<M>,
}

impl<'a, M: ShmMessage, P: Protocol> InPlace<'a, M, P> {
    /// Sends the message now, or says why not and gives it back. Never waits.
    ///
    /// # Errors
    /// [`Unsent`] has the reason, [`SendError::Full`] for example, and the message as it was written.
    // A box for it would allocate just when a sender is short of memory.
    #[allow(clippy::result_large_err)]
    pub fn try_send<At>(self) -> Result<(), Unsent<Self>>
    where
        P: Accepts<M, At>,
    {
        let Self { address, written } = self;
        let sent = address.route.try_send_in_place(P::INDEX, written);
        sent.map_err(|(written, error)| Unsent {
            error,
            loan: InPlace { address, written },
        })
    }

    /// Sends the message as soon as there is room. Once this has returned `Ok` the message survives the death of this
    /// process. Dropped before, nothing was sent, and the memory goes back to the pool.
    ///
    /// # Errors
    /// Those of [`SendError`], without `Full`; what was written is gone then.
    pub fn send<At>(self) -> SendInPlace<'a>
    where
        P: Accepts<M, At>,
    {
        let written = Written::new(self.written);
        SendInPlace(session::tell::Tell::new(&self.address.route, P::INDEX, written))
    }

    /// Sends the message as soon as there is room, and waits for the reply, both within `Config::ask_deadline` or
    /// the [deadline](AskInPlace::deadline) given.
    ///
    /// # Errors
    /// Those of [`AskError`].
    pub fn ask<At>(self) -> AskInPlace<'a, M>
    where
        P: Accepts<M, At>,
    {
        let (route, written) = (&self.address.route, Written::new(self.written));
        let deadline = route.node.config.ask_deadline;
        AskInPlace(session::ask::Ask::new(route, P::INDEX, written, deadline))
    }
}

impl<M: ShmMessage, P> Deref for InPlace<'_, M, P> {
    type Target = M::Archived;

    fn deref(&self) -> &M::Archived {
        self.written.get()
    }
}

impl<M: ShmMessage, P> DerefMut for InPlace<'_, M, P> {
    fn deref_mut(&mut self) -> &mut M::Archived {
        self.written.get_mut()
    }
}

impl<M, P> fmt::Debug for InPlace<'_, M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InPlace")
            .field("to", &self.address.name())
            .field("written", &self.written)
            .finish()
    }
}

/// The future of [`Address::in_place`].
#[must_use = "futures do nothing unless awaited"]
pub struct OpenInPlace<'a, 'm, M, P = M> {
    address: &'a Address<P>,
    initial: &'m M,
}

impl<M, P> fmt::Debug for OpenInPlace<'_, '_, M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenInPlace")
            .field("to", &self.address.name())
            .finish_non_exhaustive()
    }
}

impl<'a, M: FixedSize, P: Protocol> Future for OpenInPlace<'a, '_, M, P> {
    type Output = Result<InPlace<'a, M, P>, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (address, initial) = (self.address, self.initial);
        poll_memory(&address.route, cx, || address.try_in_place(initial))
    }
}

/// The future of [`InPlace::send`].
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct SendInPlace<'a>(session::tell::Tell<'a, Written>);

impl Future for SendInPlace<'_> {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// The future of [`InPlace::ask`]. The message is sent at the first poll.
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct AskInPlace<'a, M: ShmMessage>(session::ask::Ask<'a, Written, M::Reply>);

impl<M: ShmMessage> AskInPlace<'_, M> {
    /// Waits at most this long for the reply, from the first poll.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.0.set_deadline(deadline);
        self
    }
}

impl<M: ShmMessage> Future for AskInPlace<'_, M> {
    type Output = Result<Received<M::Reply>, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}
