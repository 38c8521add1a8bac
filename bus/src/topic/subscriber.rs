//! The receiving end of topics.

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

use crate::{
    actor::port_here,
    error::TopicError,
    message::{Origin, Received, ShmMessage, Trust},
    session::{
        delivery::Delivery,
        frame::{KindInfo, SubscriptionInfo},
        mailbox::{Kind, Mailbox},
        node::{Node, PortKey},
        port::{Helper, Step, Turn},
        topics::subscription::Subscription,
    },
};

/// What happens to a message for which a subscription has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// The publisher waits ([`publish_wait`](crate::Publisher::publish_wait)) or is told
    /// ([`publish`](crate::Publisher::publish) fails).
    Wait,
    /// The new message is dropped for this subscription. The default: a slow subscriber harms nobody else.
    #[default]
    DropNewest,
    /// The last so many messages are kept, and the oldest of them goes. They count towards the depth.
    KeepLast(u32),
}

/// How a subscription is made; shared by streams and actors.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) pattern: String,
    pub(crate) depth: Option<u32>,
    pub(crate) when_full: WhenFull,
    pub(crate) group: Option<String>,
    pub(crate) within: Duration,
}

impl Wish {
    pub(crate) fn new(node: &Node, pattern: String) -> Self {
        let within = node.config.lookup_deadline;
        Self {
            pattern,
            depth: None,
            when_full: WhenFull::default(),
            group: None,
            within,
        }
    }

    pub(crate) async fn subscribe<M: ShmMessage>(
        self,
        node: &Arc<Node>,
        port: PortKey,
    ) -> Result<Arc<Mailbox>, TopicError> {
        let fail = |problem| {
            Err(TopicError::Setting {
                pattern: self.pattern.clone(),
                problem,
            })
        };
        let keep = match self.when_full {
            WhenFull::KeepLast(0) => return fail("`KeepLast(0)` would keep nothing; use 1 or more"),
            WhenFull::KeepLast(_) if self.group.is_some() => {
                return fail("a group loses nothing, so `KeepLast` does not go with it");
            }
            WhenFull::KeepLast(keep) => keep,
            _ => 0,
        };
        let depth = self
            .depth
            .unwrap_or(if keep > 0 { keep.saturating_mul(2) } else { 1024 });
        if depth == 0 || depth > 65_535 {
            return fail("the depth must be 1 to 65,535 messages");
        }
        if keep > 0 && depth <= keep {
            return fail("the depth must be more than what `KeepLast` keeps");
        }
        let wanted = SubscriptionInfo {
            port: 0,
            mailbox: 0,
            pattern: self.pattern,
            kind: KindInfo {
                name: String::new(),
                schema: 0,
                reply: 0,
            },
            depth,
            wait: self.when_full == WhenFull::Wait,
            keep,
            group: self.group,
        };
        let port = node.port_of(port)?;
        node.subscribe(&port, Kind::of::<M>(), wanted, self.within).await
    }
}

/// Opens a message that came by a topic. `None`: it was not valid, and its session is closed.
pub(crate) fn open<M: ShmMessage>(mut delivery: Delivery, trust: Trust) -> Option<Received<M>> {
    let source = delivery.publisher()?.source.clone();
    let (sequence, time_ns, redelivered) = delivery.published();
    let message = delivery.open::<M>(trust)?;
    Some(message.with_origin(Origin {
        source,
        sequence,
        time_ns,
        redelivered,
    }))
}

/// Subscribes; see [`Bus::subscriber`](crate::Bus::subscriber).
#[must_use = "a subscriber is made by awaiting this"]
#[derive(Debug)]
pub struct OpenSubscriber<M> {
    node: Arc<Node>,
    wish: Wish,
    message: PhantomData<fn() -> M>,
}

macro_rules! wishes {
    () => {
        /// Most messages of one publisher and topic that this subscription holds or has waiting, in
        /// messages (1 to 65,535). Default 1,024, with [`WhenFull::KeepLast`] twice what is kept.
        pub fn depth(mut self, messages: u32) -> Self {
            self.wish.depth = Some(messages);
            self
        }

        /// What happens when there is no room. Default: [`WhenFull::DropNewest`].
        pub fn when_full(mut self, policy: WhenFull) -> Self {
            self.wish.when_full = policy;
            self
        }

        /// Joins a group: its members share the messages, each is handled by one of them, and what a member
        /// had not released when it died goes to another (marked as redelivered). While no member has
        /// room, publishers wait or drop, by `when_full`.
        pub fn group(mut self, name: impl Into<String>) -> Self {
            self.wish.group = Some(name.into());
            self
        }

        /// Waits at most this long for the publishers that are known, instead of
        /// `Config::lookup_deadline`.
        pub fn deadline(mut self, within: Duration) -> Self {
            self.wish.within = within;
            self
        }
    };
}
pub(super) use wishes;

impl<M: ShmMessage> OpenSubscriber<M> {
    pub(crate) fn new(node: Arc<Node>, pattern: String) -> Self {
        let wish = Wish::new(&node, pattern);
        Self {
            node,
            wish,
            message: PhantomData,
        }
    }

    wishes!();

    async fn open(self) -> Result<Subscriber<M>, TopicError> {
        let mailbox = self.wish.subscribe::<M>(&self.node, port_here()).await?;
        Ok(Subscriber {
            node: self.node,
            mailbox,
            helper: Helper::default(),
            message: PhantomData,
        })
    }
}

impl<M: ShmMessage> IntoFuture for OpenSubscriber<M> {
    type Output = Result<Subscriber<M>, TopicError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// The messages of the topics that a pattern selects, as a [`Stream`] of [`Received`], each of which knows
/// its [origin](Received::origin). The stream ends when the bus is left. Dropped, it unsubscribes.
///
/// ```no_run
/// use shmbus::prelude::*;
/// #[derive(ShmMessage)] pub struct Tick { pub price: u64 }
/// # async fn f(bus: Bus) -> Result<(), Box<dyn std::error::Error>> {
/// let mut ticks = bus.subscriber::<Tick>("md.ticks.*").depth(64).await?;
/// while let Some(tick) = ticks.recv().await {
///     println!("{:?}: {} ({} lost)", tick.origin(), tick.price, ticks.lost());
/// }
/// # Ok(()) }
/// ```
pub struct Subscriber<M> {
    node: Arc<Node>,
    mailbox: Arc<Mailbox>,
    helper: Helper,
    message: PhantomData<fn() -> M>,
}

impl<M> fmt::Debug for Subscriber<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("pattern", &self.pattern())
            .finish_non_exhaustive()
    }
}

/// What a subscription has lost of one publisher's topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// The topic.
    pub topic: String,
    /// The name of the publishing node.
    pub publisher: String,
    /// Messages that were published and will never be received here.
    pub messages: u64,
}

pub(super) fn losses(subscription: Option<&Subscription>) -> Vec<Lost> {
    let losses = subscription.map(Subscription::losses).unwrap_or_default();
    let lost = |of: crate::session::topics::subscription::LostOf| Lost {
        topic: of.source.topic().to_owned(),
        publisher: of.source.node().to_owned(),
        messages: of.lost,
    };
    losses.into_iter().map(lost).collect()
}

impl<M> Subscriber<M> {
    /// The pattern.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.mailbox.binding.name
    }

    /// Messages that were published since this subscription began and will never be received here, of all
    /// publishers together, those that are gone included.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.mailbox.subscription.as_ref().map_or(0, Subscription::lost)
    }

    /// The same per topic and publisher, for those that are there.
    #[must_use]
    pub fn losses(&self) -> Vec<Lost> {
        losses(self.mailbox.subscription.as_ref())
    }
}

impl<M: ShmMessage> Subscriber<M> {
    /// The next message; `None` once the bus was left. Cancel safe.
    pub async fn recv(&mut self) -> Option<Received<M>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next message if it is there already.
    pub fn try_recv(&mut self) -> Option<Received<M>> {
        let mailbox = &self.mailbox;
        loop {
            let delivery = mailbox.port.help_once(|| mailbox.pop())?;
            if let Some(message) = open(delivery, self.node.config.trust) {
                return Some(message);
            }
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received<M>>> {
        let turn = std::task::ready!(tokio::task::coop::poll_proceed(cx));
        loop {
            let mailbox = &self.mailbox;
            let delivery = match mailbox.pop() {
                Some(delivery) => delivery,
                // It keeps no messages then.
                None if mailbox.is_closed() => return Poll::Ready(None),
                None => {
                    let pick = |_: &mut _, register: bool| {
                        let task = register.then_some(&*cx);
                        mailbox.is_ready(task).then_some(())
                    };
                    match mailbox.port.help(&mut self.helper, Turn::AfterActors, pick) {
                        // A message, or the end.
                        Step::Found(()) => continue,
                        Step::Again => {
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                        Step::Sleep => return Poll::Pending,
                    }
                }
            };
            if let Some(message) = open(delivery, self.node.config.trust) {
                turn.made_progress();
                return Poll::Ready(Some(message));
            }
        }
    }
}

impl<M: ShmMessage> Stream for Subscriber<M> {
    type Item = Received<M>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(cx)
    }
}

impl<M> Drop for Subscriber<M> {
    fn drop(&mut self) {
        self.mailbox.port.abandon(&mut self.helper);
        self.mailbox.close();
    }
}
