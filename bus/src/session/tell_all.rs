//! Many tells at once: one lock and one ring of the bell for a batch of them.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use super::{
    link::{NoSend, Parcel},
    route::{Content, Route},
    tell::wait_for_room,
};
use crate::{
    error::{Bound, SendError, TellAllError},
    message::ShmRoot,
    shm::descriptor::{Descriptor, SlotKind},
};

/// Messages archived before any of them is sent: few enough to stay in the first cache.
const BATCH: usize = 32;

/// Sends messages in their order, each as soon as there is room. Dropped before it is done, it has sent some of
/// them and not the others.
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub(crate) struct TellAll<'a, 'm, T, I> {
    route: &'a Route,
    message: usize,
    messages: I,
    /// The next one, if there was no memory for it.
    next: Option<&'m T>,
    /// Archived, not sent.
    packed: VecDeque<(Descriptor, Option<Parcel>)>,
    /// Why no more are archived: told when those before have been sent.
    failed: Option<SendError>,
    ended: bool,
    sent: usize,
}

impl<'a, 'm, T: ShmRoot, I: Iterator<Item = &'m T>> TellAll<'a, 'm, T, I> {
    pub(crate) fn new(route: &'a Route, message: usize, messages: I) -> Self {
        Self {
            route,
            message,
            messages,
            next: None,
            packed: VecDeque::with_capacity(BATCH),
            failed: None,
            ended: false,
            sent: 0,
        }
    }

    /// Archives the next messages. `Err`: there is no memory for the first of them.
    fn pack(&mut self) -> Result<(), Bound> {
        while self.packed.len() < BATCH && !self.ended {
            let Some(mut message) = self.next.take().or_else(|| self.messages.next()) else {
                self.ended = true;
                break;
            };
            let mut descriptor = self.route.descriptor(SlotKind::Tell, self.message, 0);
            let mut parcel = None;
            if !message.pack_inline(&mut descriptor) {
                match message.pack(self.route) {
                    Ok(packed) => parcel = Some(packed),
                    Err(SendError::Full { bound, .. }) => {
                        self.next = Some(message);
                        return if self.packed.is_empty() {
                            Err(bound)
                        } else {
                            Ok(())
                        };
                    }
                    Err(error) => {
                        self.failed = Some(error);
                        self.ended = true;
                        break;
                    }
                }
            }
            self.packed.push_back((descriptor, parcel));
        }
        Ok(())
    }

    /// Sends what there is room for. `Err`: there was none for the first. `Ok(true)`: all is done.
    fn attempt(&mut self) -> Result<bool, Bound> {
        self.pack()?;
        let before = self.packed.len();
        let outcome = self.route.link.send_requests(&mut self.packed);
        let sent = before - self.packed.len();
        self.sent += sent;
        match outcome {
            Ok(()) => {}
            Err(NoSend::Full(bound)) if sent == 0 => return Err(bound),
            Err(NoSend::Full(_)) => {}
            Err(why) => {
                self.packed.clear();
                self.failed = Some(self.route.refusal(why));
                self.ended = true;
            }
        }
        Ok(self.ended && self.packed.is_empty())
    }
}

/// Nothing in it is pinned.
impl<T, I> Unpin for TellAll<'_, '_, T, I> {}

impl<'m, T: ShmRoot, I: Iterator<Item = &'m T>> Future for TellAll<'_, 'm, T, I> {
    type Output = Result<(), TellAllError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            if this.route.link.is_lost() {
                this.packed.clear();
                this.failed = Some(this.route.refusal(NoSend::Lost));
                return Poll::Ready(this.done());
            }
            // Other tasks of this thread have their turn, by batches.
            let turn = std::task::ready!(tokio::task::coop::poll_proceed(cx));
            let route = this.route;
            let attempted = match this.attempt() {
                Ok(done) => Poll::Ready(done),
                Err(_) => wait_for_room(route, cx, || this.attempt()),
            };
            let done = std::task::ready!(attempted);
            turn.made_progress();
            if done {
                return Poll::Ready(this.done());
            }
        }
    }
}

impl<T, I> TellAll<'_, '_, T, I> {
    fn done(&mut self) -> Result<(), TellAllError> {
        match self.failed.take() {
            None => Ok(()),
            Some(error) => Err(TellAllError {
                sent: self.sent,
                error,
            }),
        }
    }
}
