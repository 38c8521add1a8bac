//! Many tells at once: small messages share a buffer, and all of a run one lock and one ring of the bell.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use super::{
    link::{NoSend, Request},
    packer::{Packed, Packer},
    route::Route,
    tell::wait_for_room,
};
use crate::{
    error::{Bound, SendError, TellAllError},
    message::ShmRoot,
};

/// Messages archived before any of them is sent.
const RUN: usize = 128;

/// Sends messages in their order, each as soon as there is room. Dropped before it is done, it has sent some of
/// them and not the others.
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub(crate) struct TellAll<'a, 'm, T, I> {
    route: &'a Route,
    packer: Packer<'a, 'm, T, I>,
    /// Archived, not sent.
    packed: VecDeque<Request>,
    /// Why no more are archived: told when those before have been sent.
    failed: Option<SendError>,
    sent: usize,
}

impl<'a, 'm, T: ShmRoot, I: Iterator<Item = &'m T>> TellAll<'a, 'm, T, I> {
    pub(crate) fn new(route: &'a Route, message: usize, messages: I) -> Self {
        Self {
            route,
            packer: Packer::new(route, message, messages, false),
            packed: VecDeque::new(),
            failed: None,
            sent: 0,
        }
    }

    /// Archives the next messages. `Err`: there is no memory for the first of them.
    fn pack(&mut self) -> Result<(), Bound> {
        let packed = self.packed.iter().map(|request| request.messages as usize);
        let mut count = packed.sum::<usize>();
        while count < RUN && !self.packer.has_ended() {
            match self.packer.pack(u32::MAX, || 0) {
                Packed::Request(request) => {
                    count += request.messages as usize;
                    self.packed.push_back(request);
                }
                Packed::Full(bound) if self.packed.is_empty() => return Err(bound),
                Packed::Full(_) => break,
                Packed::Failed(error) => {
                    self.failed = Some(error);
                    self.packer.end();
                }
                Packed::End => {}
            }
        }
        Ok(())
    }

    /// Sends what there is room for. `Err`: there was none for the first. `Ok(true)`: all is done.
    fn attempt(&mut self) -> Result<bool, Bound> {
        self.pack()?;
        let (sent, outcome) = self.route.link.send_requests(&mut self.packed);
        self.sent += sent;
        match outcome {
            Ok(()) => {}
            Err(NoSend::Full(bound)) if sent == 0 => return Err(bound),
            Err(NoSend::Full(_)) => {}
            Err(why) => {
                self.packed.clear();
                self.failed = Some(self.route.refusal(why));
                self.packer.end();
            }
        }
        Ok(self.packer.has_ended() && self.packed.is_empty())
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
