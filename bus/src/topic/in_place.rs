//! Messages of a fixed size, written in the memory they are published in.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{Context, Poll},
};

use super::publisher::Publisher;
use crate::{
    error::{SendError, Unsent},
    message::{FixedSize, InPlace, ShmMessage},
    session::{
        link::Parcel,
        loan::{Written, send_in_place},
    },
};

impl<M: ShmMessage> Publisher<M> {
    /// A message of a [fixed size](FixedSize) in the buffer that all subscribers then read, to be written there. Never
    /// waits. What is said of [`InPlace`](crate::InPlace) holds here too.
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
    /// # async fn f(bus: Bus) -> Result<(), Box<dyn std::error::Error>> {
    /// let scans = bus.publisher::<Scan>("lidar.front").await?;
    /// let mut scan = scans.try_in_place(&EMPTY)?;
    /// scan.seq = 1.into();
    /// scan.ranges[17] = 0.25.into();
    /// scan.try_send().map_err(|unsent| unsent.error)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`SendError::Full`] if the pool is at its limit; [`SendError::TooLarge`] if the message is longer than allowed.
    pub fn try_in_place(&self, initial: &M) -> Result<TopicInPlace<'_, M>, SendError>
    where
        M: FixedSize,
    {
        let written = self
            .lender()
            .place(initial, |bytes| self.inner.topic.warm(bytes))?;
        Ok(TopicInPlace {
            publisher: self,
            written,
        })
    }

    /// As [`try_in_place`](Publisher::try_in_place), as soon as the pool has memory.
    ///
    /// # Errors
    /// Those of [`SendError`], without `Full`.
    pub fn in_place<'a, 'm>(&'a self, initial: &'m M) -> OpenTopicInPlace<'a, 'm, M>
    where
        M: FixedSize,
    {
        OpenTopicInPlace {
            publisher: self,
            initial,
        }
    }
}

/// A message of a fixed size in the buffer that its subscribers will read: an [`InPlace`](crate::InPlace) that is
/// published.
#[must_use = "a message that is dropped is not published"]
pub struct TopicInPlace<'a, M> {
    publisher: &'a Publisher<M>,
    written: InPlace<M>,
}

impl<'a, M: ShmMessage> TopicInPlace<'a, M> {
    /// Publishes the message now, like [`Publisher::publish`].
    ///
    /// # Errors
    /// [`Unsent`] has the reason, and the message as it was written.
    // A box for it would allocate just when a sender is short of memory.
    #[allow(clippy::result_large_err)]
    pub fn try_send(self) -> Result<(), Unsent<Self>> {
        let Self { publisher, written } = self;
        let unsent = |(written, error)| Unsent {
            error,
            loan: TopicInPlace { publisher, written },
        };
        match publisher.is_wanted() {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(unsent((written, error))),
        }
        send_in_place(written, |parcel| publisher.publish_filled(parcel)).map_err(unsent)
    }

    /// Publishes the message as soon as every subscriber that is to be waited for has room, like
    /// [`Publisher::publish_wait`]. Dropped before, nothing was published, and the memory goes back to the pool.
    ///
    /// # Errors
    /// Those of [`SendError`], without `Full`; what was written is gone then.
    pub fn send(self) -> PublishInPlace<'a, M> {
        PublishInPlace {
            publisher: self.publisher,
            written: Written::new(self.written),
            parcel: None,
        }
    }
}

impl<M: ShmMessage> Deref for TopicInPlace<'_, M> {
    type Target = M::Archived;

    fn deref(&self) -> &M::Archived {
        self.written.get()
    }
}

impl<M: ShmMessage> DerefMut for TopicInPlace<'_, M> {
    fn deref_mut(&mut self) -> &mut M::Archived {
        self.written.get_mut()
    }
}

impl<M> fmt::Debug for TopicInPlace<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicInPlace")
            .field("topic", &self.publisher.topic())
            .field("written", &self.written)
            .finish()
    }
}

/// The future of [`Publisher::in_place`].
#[must_use = "futures do nothing unless awaited"]
pub struct OpenTopicInPlace<'a, 'm, M> {
    publisher: &'a Publisher<M>,
    initial: &'m M,
}

impl<M> fmt::Debug for OpenTopicInPlace<'_, '_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTopicInPlace")
            .field("topic", &self.publisher.topic())
            .finish_non_exhaustive()
    }
}

impl<'a, M: FixedSize> Future for OpenTopicInPlace<'a, '_, M> {
    type Output = Result<TopicInPlace<'a, M>, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (publisher, initial) = (self.publisher, self.initial);
        publisher.poll_memory(cx, || publisher.try_in_place(initial))
    }
}

/// The future of [`TopicInPlace::send`].
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct PublishInPlace<'a, M> {
    publisher: &'a Publisher<M>,
    written: Written,
    parcel: Option<Parcel>,
}

impl<M: ShmMessage> Future for PublishInPlace<'_, M> {
    type Output = Result<(), SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            publisher,
            written,
            parcel,
        } = self.get_mut();
        publisher.poll_attempt(cx, parcel, || Ok(written.take()))
    }
}
