//! A typed address: what a caller holds of an actor in any process.

use std::{
    fmt,
    future::{IntoFuture, poll_fn},
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;

use super::{
    loan::{Loan, OpenLoan},
    port_here,
    protocol::{Accepts, Protocol},
};
use crate::{
    error::{AskError, LookupError, SendError, TellAllError},
    message::{Received, ShmMessage},
    session::{self, node::Node, route::Route},
};

/// Opens an address; see [`Bus::address`](crate::Bus::address). Awaiting it waits for the name.
#[must_use = "an address is opened by awaiting this"]
#[derive(Debug)]
pub struct OpenAddress<P> {
    node: Arc<Node>,
    name: String,
    within: Duration,
    protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol> OpenAddress<P> {
    pub(crate) fn new(node: Arc<Node>, name: String) -> Self {
        let within = node.config.lookup_deadline;
        Self {
            node,
            name,
            within,
            protocol: PhantomData,
        }
    }

    /// Waits at most this long for the name to be bound, instead of `Config::lookup_deadline`.
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Waits for the name as long as it takes.
    pub fn forever(self) -> Self {
        self.deadline(Duration::MAX)
    }

    async fn open(self) -> Result<Address<P>, LookupError> {
        let port = self.node.port_of(port_here())?;
        let route = self
            .node
            .route(&port, &self.name, &P::kinds().0, self.within)
            .await?;
        Ok(Address {
            route: Arc::new(route),
            protocol: PhantomData,
        })
    }
}

impl<P: Protocol> IntoFuture for OpenAddress<P> {
    type Output = Result<Address<P>, LookupError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// Where messages of the protocol `P` are sent: one message type, or a tuple of them.
///
/// Cheap to clone, can be sent to other threads and used from any of them. It stays with the actor it was
/// opened for: when that actor has stopped or its process is gone, every call says so, and the name is to
/// be looked up again. The messages of all addresses of one port to one mailbox arrive in the order they
/// were sent, and share its window.
///
/// ```no_run
/// use shmbus::prelude::*;
/// #[derive(ShmMessage)] #[shm(reply = u32)] pub struct Double { pub of: u32 }
/// # async fn f(bus: Bus) -> Result<(), Box<dyn std::error::Error>> {
/// let doubler = bus.address::<Double>("doubler").await?;
/// let reply = doubler.ask(&Double { of: 21 }).await?;
/// println!("{}", *reply);
/// # Ok(()) }
/// ```
pub struct Address<P> {
    pub(super) route: Arc<Route>,
    protocol: PhantomData<fn() -> P>,
}

impl<P> Clone for Address<P> {
    fn clone(&self) -> Self {
        Self {
            route: self.route.clone(),
            protocol: PhantomData,
        }
    }
}

impl<P> fmt::Debug for Address<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("name", &self.name())
            .field("node", &self.node())
            .finish()
    }
}

impl<P> Address<P> {
    /// The actor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.route.name
    }

    /// The name of the node that bound it.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.route.link.session.peer.name
    }

    /// The id of the process that bound it, by the kernel's word when the session began.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.route.link.session.peer.pid
    }

    /// Sends a message now, or says why not. Never waits.
    ///
    /// # Errors
    /// [`SendError::Full`] names the bound that was met; the message was only borrowed.
    pub fn try_tell<M: ShmMessage, At>(&self, message: &M) -> Result<(), SendError>
    where
        P: Accepts<M, At>,
    {
        self.route.try_tell(P::INDEX, message)
    }

    /// Sends a message as soon as there is room. Once this has returned `Ok` the message survives the death
    /// of this process. Dropped before, nothing was sent.
    ///
    /// # Errors
    /// Those of [`SendError`], without `Full`.
    pub fn tell<'a, M: ShmMessage, At>(&'a self, message: &'a M) -> Tell<'a, M>
    where
        P: Accepts<M, At>,
    {
        Tell(session::tell::Tell::new(&self.route, P::INDEX, message))
    }

    /// Sends messages in their order, each as soon as there is room. Those of up to 1 KiB share a buffer, up to 128 of
    /// them, which spares both ends what each message costs beside its bytes: several times as many arrive per second as by
    /// single tells. Each counts by itself in the window; a received message of more than 96 bytes that is kept keeps the memory of
    /// its batch, at most 16 KiB. Dropped before it is done, it has sent the first of them, and not the others.
    ///
    /// ```no_run
    /// # use shmbus::prelude::*;
    /// #[derive(ShmMessage)] pub struct Tick { pub price: u64 }
    /// # async fn f(bus: Bus) -> Result<(), Box<dyn std::error::Error>> {
    /// let ticker = bus.address::<Tick>("ticker").await?;
    /// let ticks: Vec<Tick> = (0..1000).map(|price| Tick { price }).collect();
    /// ticker.tell_all(&ticks).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`TellAllError`] says how many were sent, and why the next one was not: one of [`SendError`], without `Full`.
    pub fn tell_all<'a, 'm, M: ShmMessage, At, I>(&'a self, messages: I) -> TellAll<'a, 'm, M, I::IntoIter>
    where
        P: Accepts<M, At>,
        I: IntoIterator<Item = &'m M>,
    {
        TellAll(session::tell_all::TellAll::new(
            &self.route,
            P::INDEX,
            messages.into_iter(),
        ))
    }

    /// Sends a message as soon as there is room, and waits for the reply, both within
    /// `Config::ask_deadline` or the [deadline](Ask::deadline) given.
    ///
    /// # Errors
    /// Those of [`AskError`].
    pub fn ask<'a, M: ShmMessage, At>(&'a self, message: &'a M) -> Ask<'a, M>
    where
        P: Accepts<M, At>,
    {
        let deadline = self.route.node.config.ask_deadline;
        Ask(session::ask::Ask::new(&self.route, P::INDEX, message, deadline))
    }

    /// Asks for each of these messages, and gives the replies in their order, as a [`Stream`] or by [`AskAll::next`]. Up to 128
    /// asks, or [as many as are said](AskAll::in_flight), are in flight at a time; more are sent as replies are taken. Asks of up to
    /// 1 KiB share buffers, as with [`tell_all`](Address::tell_all), and so do replies of up to 96 bytes that their handler returns at
    /// once; such a reply waits for the next handler, and for 31 others at most. A longer one that is kept keeps its place among the link's
    /// replies. Each ask has its own outcome, its own place in the window,
    /// and its own time: `Config::ask_deadline` or the [deadline](AskAll::deadline) given.
    ///
    /// ```no_run
    /// # use shmbus::prelude::*;
    /// #[derive(ShmMessage)] #[shm(reply = u32)] pub struct Double { pub of: u32 }
    /// # async fn f(bus: Bus) -> Result<(), Box<dyn std::error::Error>> {
    /// let doubler = bus.address::<Double>("doubler").await?;
    /// let numbers: Vec<Double> = (0..1000).map(|of| Double { of }).collect();
    /// let mut doubled = doubler.ask_all(&numbers);
    /// while let Some(reply) = doubled.next().await {
    ///     println!("{}", *reply?);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Each item is `Ok`, or one of [`AskError`]; after an error the others still come.
    pub fn ask_all<'a, 'm, M: ShmMessage, At, I>(&'a self, messages: I) -> AskAll<'a, 'm, M, I::IntoIter>
    where
        P: Accepts<M, At>,
        I: IntoIterator<Item = &'m M>,
    {
        let deadline = self.route.node.config.ask_deadline;
        AskAll(session::ask_all::AskAll::new(
            &self.route,
            P::INDEX,
            messages.into_iter(),
            deadline,
        ))
    }
}

impl<P: Protocol> Address<P> {
    /// Memory for a payload of `len` bytes, to be produced there instead of copied: the buffer that the message
    /// is then sent in. Never waits. See [`Loan`].
    ///
    /// # Errors
    /// [`SendError::Full`] if the pool is at its limit; [`SendError::TooLarge`] if no message can have such a payload.
    pub fn try_loan<M: ShmMessage>(&self, len: usize) -> Result<Loan<'_, M, P>, SendError> {
        Ok(Loan::new(self, self.route.lend::<M>(len)?))
    }

    /// As [`try_loan`](Address::try_loan), as soon as the pool has memory.
    ///
    /// # Errors
    /// Those of [`SendError`], without `Full`.
    pub fn loan<M: ShmMessage>(&self, len: usize) -> OpenLoan<'_, M, P> {
        OpenLoan::new(self, len)
    }
}

/// The future of [`Address::tell`].
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct Tell<'a, M>(session::tell::Tell<'a, &'a M>);

impl<M: ShmMessage> Future for Tell<'_, M> {
    type Output = Result<(), SendError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// The future of [`Address::tell_all`].
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct TellAll<'a, 'm, M, I>(session::tell_all::TellAll<'a, 'm, M, I>);

impl<'m, M: ShmMessage, I: Iterator<Item = &'m M>> Future for TellAll<'_, 'm, M, I> {
    type Output = Result<(), TellAllError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// The future of [`Address::ask`]. The message is sent at the first poll.
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct Ask<'a, M: ShmMessage>(session::ask::Ask<'a, &'a M, M::Reply>);

impl<M: ShmMessage> Ask<'_, M> {
    /// Waits at most this long for the reply, from the first poll.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.0.set_deadline(deadline);
        self
    }
}

impl<M: ShmMessage> Future for Ask<'_, M> {
    type Output = Result<Received<M::Reply>, AskError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// The replies to [`Address::ask_all`], in the order of the asks. Nothing is sent before it is polled. Dropped, it gives
/// back everything it holds.
#[must_use = "streams do nothing unless polled"]
#[derive(Debug)]
pub struct AskAll<'a, 'm, M: ShmMessage, I>(session::ask_all::AskAll<'a, 'm, M, I, M::Reply>);

impl<'m, M: ShmMessage, I: Iterator<Item = &'m M>> AskAll<'_, 'm, M, I> {
    /// Gives each ask at most this long for its reply, from when it is archived to be sent.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.0.set_deadline(deadline);
        self
    }

    /// Has at most so many asks in flight (at least one), those counted whose reply was not taken yet. The receiver's window and
    /// the link's places for replies bound them as well.
    pub fn in_flight(mut self, asks: usize) -> Self {
        self.0.set_in_flight(asks);
        self
    }

    /// The reply to the next message, or why there is none; `None` after the last. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Received<M::Reply>, AskError>> {
        poll_fn(|cx| self.0.poll_next(cx)).await
    }
}

impl<'m, M: ShmMessage, I: Iterator<Item = &'m M>> Stream for AskAll<'_, 'm, M, I> {
    type Item = Result<Received<M::Reply>, AskError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().0.poll_next(cx)
    }
}
