//! Payloads produced in the memory they are published in.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{Context, Poll},
};

use super::publisher::{Inner, Publisher};
use crate::{
    error::{Bound, SendError, Unsent},
    message::{Bulk, ShmMessage},
    session::{
        link::Parcel,
        loan::{Filled, Lender, Lent, Source},
        topics::publishing::Unpublished,
    },
};

impl<M> Publisher<M> {
    pub(super) fn lender(&self) -> Lender<'_> {
        let Inner { topic, node } = &*self.inner;
        Lender {
            node,
            name: &topic.info.name,
            from: Source {
                pool: &node.pool,
                limit: node.config.message_bytes,
            },
        }
    }

    /// Publishes a buffer now; if there is no room, it stays where it is.
    pub(super) fn publish_filled(&self, parcel: &mut Option<Parcel>) -> Result<(), SendError> {
        let topic = &self.inner.topic;
        match topic.publish(parcel) {
            Err(Unpublished::NoRoom) => Err(SendError::Full {
                name: topic.info.name.clone(),
                bound: Bound::Window,
            }),
            // A buffer is never inline.
            Ok(()) | Err(Unpublished::NotInline) => Ok(()),
        }
    }

    /// One poll of a future that takes memory as soon as there is some.
    pub(super) fn poll_memory<T>(
        &self,
        cx: &Context<'_>,
        take: impl Fn() -> Result<T, SendError>,
    ) -> Poll<Result<T, SendError>> {
        let Inner { topic, node } = &*self.inner;
        for registered in [false, true] {
            match take() {
                Err(SendError::Full { name, .. }) if node.is_closed() || topic.is_closed() => {
                    return Poll::Ready(Err(SendError::Closed { name }));
                }
                Err(SendError::Full { .. }) if registered => {}
                Err(SendError::Full { .. }) => {
                    node.wait_for_memory(cx.waker());
                    topic.wait(cx.waker());
                }
                done => return Poll::Ready(done),
            }
        }
        Poll::Pending
    }
}

impl<M: ShmMessage> Publisher<M> {
    /// Memory for a payload of `len` bytes, to be produced there instead of copied: the buffer that all subscribers
    /// then read. Never waits. What is said of [`Loan`](crate::Loan) holds here too.
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
    /// # async fn f(bus: Bus) -> Result<(), Box<dyn std::error::Error>> {
    /// let frames = bus.publisher::<Frame>("camera.front").await?;
    /// let mut loan = frames.try_loan(1920 * 1080)?;
    /// loan.fill(0x80);
    /// loan.try_send(|data| Frame { seq: 1, data }).map_err(|unsent| unsent.error)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`SendError::Full`] if the pool is at its limit; [`SendError::TooLarge`] if no message can have such a payload.
    pub fn try_loan(&self, len: usize) -> Result<TopicLoan<'_, M>, SendError> {
        let lent = self
            .lender()
            .lend::<M>(len, |bytes| self.inner.topic.warm(bytes))?;
        Ok(TopicLoan {
            publisher: self,
            lent,
        })
    }

    /// As [`try_loan`](Publisher::try_loan), as soon as the pool has memory.
    ///
    /// # Errors
    /// Those of [`SendError`], without `Full`.
    pub fn loan(&self, len: usize) -> OpenTopicLoan<'_, M> {
        OpenTopicLoan { publisher: self, len }
    }
}

/// Memory for the payload of one message of a topic, on loan from the pool: a [`Loan`](crate::Loan) whose message is
/// published.
#[must_use = "a loan that is dropped publishes nothing"]
pub struct TopicLoan<'a, M> {
    publisher: &'a Publisher<M>,
    lent: Lent,
}

impl<'a, M: ShmMessage> TopicLoan<'a, M> {
    /// Publishes the message that `make` makes, now, like [`Publisher::publish`].
    ///
    /// # Errors
    /// [`Unsent`] has the reason, and the loan with its payload.
    // A box for it would allocate just when a sender is short of memory.
    #[allow(clippy::result_large_err)]
    pub fn try_send(self, make: impl FnOnce(Bulk) -> M) -> Result<(), Unsent<Self>> {
        let Self { publisher, lent } = self;
        let unsent = |(lent, error)| Unsent {
            error,
            loan: TopicLoan { publisher, lent },
        };
        match publisher.is_wanted() {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(unsent((lent, error))),
        }
        let value = make(lent.bulk());
        let sealed = publisher.lender().seal(lent, &value).map_err(unsent)?;
        sealed
            .send(|parcel| publisher.publish_filled(parcel))
            .map_err(unsent)
    }

    /// Publishes the message that `make` makes as soon as every subscriber that is to be waited for has room, like
    /// [`Publisher::publish_wait`]. Dropped before, nothing was published, and the memory goes back to the pool.
    ///
    /// # Errors
    /// Those of [`SendError`], without `Full`; the payload is gone then.
    pub fn send(self, make: impl FnOnce(Bulk) -> M) -> PublishLoan<'a, M> {
        let message = make(self.lent.bulk());
        PublishLoan {
            publisher: self.publisher,
            filled: Filled::new(message, self.lent),
            parcel: None,
        }
    }
}

impl<M> Deref for TopicLoan<'_, M> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.lent.bytes()
    }
}

impl<M> DerefMut for TopicLoan<'_, M> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.lent.bytes_mut()
    }
}

impl<M> fmt::Debug for TopicLoan<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicLoan")
            .field("topic", &self.publisher.topic())
            .field("bytes", &self.len())
            .finish_non_exhaustive()
    }
}

/// The future of [`Publisher::loan`].
#[must_use = "futures do nothing unless awaited"]
pub struct OpenTopicLoan<'a, M> {
    publisher: &'a Publisher<M>,
    len: usize,
}

impl<M> fmt::Debug for OpenTopicLoan<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTopicLoan")
            .field("topic", &self.publisher.topic())
            .field("bytes", &self.len)
            .finish_non_exhaustive()
    }
}

impl<'a, M: ShmMessage> Future for OpenTopicLoan<'a, M> {
    type Output = Result<TopicLoan<'a, M>, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (publisher, len) = (self.publisher, self.len);
        publisher.poll_memory(cx, || publisher.try_loan(len))
    }
}

/// The future of [`TopicLoan::send`].
#[must_use = "futures do nothing unless awaited"]
pub struct PublishLoan<'a, M> {
    publisher: &'a Publisher<M>,
    filled: Filled<M>,
    parcel: Option<Parcel>,
}

/// Nothing in it is pinned.
impl<M> Unpin for PublishLoan<'_, M> {}

impl<M> fmt::Debug for PublishLoan<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishLoan")
            .field("topic", &self.publisher.topic())
            .finish_non_exhaustive()
    }
}

impl<M: ShmMessage> Future for PublishLoan<'_, M> {
    type Output = Result<(), SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            publisher,
            filled,
            parcel,
        } = self.get_mut();
        publisher.poll_attempt(cx, parcel, || filled.pack(publisher.lender()))
    }
}
