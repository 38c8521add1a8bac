//! The sending end of a topic.

use std::{
    cell::Cell,
    fmt,
    future::IntoFuture,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    actor::port_here,
    config::Spin,
    error::{Bound, SendError, TopicError},
    message::ShmMessage,
    session::{
        link::Parcel,
        mailbox::Kind,
        node::Node,
        parcel,
        spin::look,
        topics::publishing::{Topic, Unpublished},
    },
    shm::layout::TOPIC_INLINE_BYTES,
};

/// Begins to publish; see [`Bus::publisher`](crate::Bus::publisher).
#[must_use = "a publisher is made by awaiting this"]
#[derive(Debug)]
pub struct OpenPublisher<M> {
    node: Arc<Node>,
    topic: String,
    history: usize,
    message: PhantomData<fn() -> M>,
}

impl<M: ShmMessage> OpenPublisher<M> {
    pub(crate) fn new(node: Arc<Node>, topic: String) -> Self {
        Self {
            node,
            topic,
            history: 0,
            message: PhantomData,
        }
    }

    /// Keeps the last `messages` for subscribers that come later; they get them first, in order. Default 0.
    pub fn history(mut self, messages: usize) -> Self {
        self.history = messages;
        self
    }

    async fn open(self) -> Result<Publisher<M>, TopicError> {
        let port = self.node.port_of(port_here())?;
        let topic = self
            .node
            .publish_topic(port, &self.topic, Kind::of::<M>(), self.history)
            .await?;
        Ok(Publisher {
            inner: Arc::new(Inner {
                topic,
                node: self.node,
            }),
            message: PhantomData,
        })
    }
}

impl<M: ShmMessage> IntoFuture for OpenPublisher<M> {
    type Output = Result<Publisher<M>, TopicError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// Publishes messages of one type to one topic. Cheap to clone; the topic ends with its last clone.
///
/// A message is archived once, however many subscribers get it; each gets a descriptor. Without
/// subscribers and history it is only counted.
///
/// ```no_run
/// use shmbus::prelude::*;
/// #[derive(ShmMessage)] pub struct Tick { pub price: u64 }
/// # async fn f(bus: Bus) -> Result<(), Box<dyn std::error::Error>> {
/// let ticks = bus.publisher::<Tick>("md.ticks.nasdaq").history(1).await?;
/// ticks.publish(&Tick { price: 101 })?;
/// # Ok(()) }
/// ```
pub struct Publisher<M> {
    pub(super) inner: Arc<Inner>,
    message: PhantomData<fn() -> M>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) topic: Arc<Topic>,
    /// The bus stays joined as long as somebody publishes.
    pub(super) node: Arc<Node>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.node.unpublish(&self.topic);
    }
}

impl<M> Clone for Publisher<M> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            message: PhantomData,
        }
    }
}

impl<M> fmt::Debug for Publisher<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("topic", &self.topic())
            .finish_non_exhaustive()
    }
}

/// What a publisher has counted on its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TopicStats {
    /// Messages published.
    pub published: u64,
    /// Their archived size, in bytes, of those that somebody wanted.
    pub bytes: u64,
    /// Descriptors sent to subscribers, the history's included.
    pub delivered: u64,
    /// Messages that a subscriber did not get for want of room, counted once per subscriber.
    pub dropped: u64,
    /// Subscribers now.
    pub subscribers: u64,
}

impl<M> Publisher<M> {
    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.inner.topic.info.name
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> TopicStats {
        let counts = self.inner.topic.counts();
        TopicStats {
            published: counts.published,
            bytes: counts.bytes,
            delivered: counts.flow.delivered,
            dropped: counts.flow.dropped,
            subscribers: counts.subscribers,
        }
    }

    /// The number that the next message will have.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.inner.topic.next_sequence()
    }
}

impl<M: ShmMessage> Publisher<M> {
    /// Publishes now. A subscriber without room is treated by its own policy; only one that is to be waited
    /// for makes this fail, and then nobody gets the message.
    ///
    /// # Errors
    /// [`SendError::Full`] as said, or with [`Bound::Pool`]; the others name what is wrong with the message.
    pub fn publish(&self, message: &M) -> Result<(), SendError> {
        if !self.is_wanted()? {
            return Ok(());
        }
        self.attempt(&mut None, || self.pack(message))
    }

    /// Publishes as soon as every subscriber that is to be waited for has room.
    ///
    /// # Errors
    /// Those of [`publish`](Publisher::publish) without `Full`.
    pub fn publish_wait<'a>(&'a self, message: &'a M) -> Publish<'a, M> {
        Publish {
            publisher: self,
            message,
            parcel: None,
        }
    }

    pub(super) fn is_wanted(&self) -> Result<bool, SendError> {
        let Inner { topic, node } = &*self.inner;
        if node.is_closed() || topic.is_closed() {
            return Err(SendError::Closed {
                name: topic.info.name.clone(),
            });
        }
        Ok(topic.is_wanted_or_count())
    }

    fn pack(&self, message: &M) -> Result<Parcel, SendError> {
        let Inner { topic, node } = &*self.inner;
        let inline = if topic.has_groups() { 0 } else { TOPIC_INLINE_BYTES };
        let limit = node.config.message_bytes;
        let pack = |()| {
            parcel::pack_with(message, &node.pool, limit, inline, |bytes| topic.warm(bytes))
                .map_err(|why| ((), why))
        };
        parcel::with_memory(node, &topic.info.name, (), pack).map_err(|((), error)| error)
    }

    /// Publishes what is kept or, if nothing is, what `pack` makes; that is kept if there is no room.
    fn attempt(
        &self,
        kept: &mut Option<Parcel>,
        mut pack: impl FnMut() -> Result<Parcel, SendError>,
    ) -> Result<(), SendError> {
        let Inner { topic, .. } = &*self.inner;
        loop {
            if kept.is_none() {
                *kept = Some(pack()?);
            }
            match topic.publish(kept) {
                Ok(()) => return Ok(()),
                Err(Unpublished::NoRoom) => {
                    return Err(SendError::Full {
                        name: topic.info.name.clone(),
                        bound: Bound::Window,
                    });
                }
                // A group came in between.
                Err(Unpublished::NotInline) => *kept = None,
            }
        }
    }

    /// One poll of a future that publishes as soon as there is room.
    pub(super) fn poll_attempt(
        &self,
        cx: &mut Context<'_>,
        kept: &mut Option<Parcel>,
        mut pack: impl FnMut() -> Result<Parcel, SendError>,
    ) -> Poll<Result<(), SendError>> {
        let turn = std::task::ready!(tokio::task::coop::poll_proceed(cx));
        if kept.is_none() && !self.is_wanted()? {
            turn.made_progress();
            return Poll::Ready(Ok(()));
        }
        let Inner { topic, node } = &*self.inner;
        let bound = match self.attempt(kept, &mut pack) {
            Err(SendError::Full { bound, .. }) => bound,
            done => {
                turn.made_progress();
                return Poll::Ready(done);
            }
        };
        let bound = Cell::new(bound);
        let mut again = || match self.attempt(kept, &mut pack) {
            Err(SendError::Full { bound: met, .. }) => {
                bound.set(met);
                None
            }
            done => Some(done),
        };
        let mut done = look(node.config.spin, &mut again);
        if done.is_none() && (node.is_closed() || topic.is_closed()) {
            done = Some(Err(SendError::Closed {
                name: topic.info.name.clone(),
            }));
        }
        if done.is_none() && node.config.spin == Spin::Always {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if done.is_none() {
            topic.wait(cx.waker());
            done = again();
        }
        // Memory may come back from any peer.
        if done.is_none() && matches!(bound.get(), Bound::Pool | Bound::Peer) {
            node.wait_for_memory(cx.waker());
            done = again();
        }
        match done {
            Some(done) => {
                turn.made_progress();
                Poll::Ready(done)
            }
            None => Poll::Pending,
        }
    }
}

/// The future of [`Publisher::publish_wait`]. Dropped before it is done, nothing was published.
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct Publish<'a, M> {
    publisher: &'a Publisher<M>,
    message: &'a M,
    parcel: Option<Parcel>,
}

impl<M: ShmMessage> Future for Publish<'_, M> {
    type Output = Result<(), SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            publisher,
            message,
            parcel,
        } = self.get_mut();
        publisher.poll_attempt(cx, parcel, || publisher.pack(message))
    }
}
