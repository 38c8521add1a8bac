//! A tell that waits for room.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use super::{
    link::{NoSend, Parcel},
    route::{Content, Route},
    spin::look,
};
use crate::{
    config::Spin,
    error::{Bound, SendError},
    shm::descriptor::SlotKind,
};

/// Sends a message as soon as there is room. Dropped before, it has sent nothing.
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub(crate) struct Tell<'a, C> {
    route: &'a Route,
    message: usize,
    content: C,
    parcel: Option<Parcel>,
}

impl<'a, C: Content> Tell<'a, C> {
    pub(crate) fn new(route: &'a Route, message: usize, content: C) -> Self {
        Self {
            route,
            message,
            content,
            parcel: None,
        }
    }

    /// `Err`: there is no room. It costs no allocation, because it may happen many times per message.
    #[inline]
    fn attempt(&mut self) -> Result<Result<(), SendError>, Bound> {
        let mut descriptor = self.route.descriptor(SlotKind::Tell, self.message, 0);
        if self.parcel.is_none() && !self.content.pack_inline(&mut descriptor) {
            match self.content.pack(self.route) {
                Ok(parcel) => self.parcel = Some(parcel),
                Err(SendError::Full { bound, .. }) => return Err(bound),
                Err(error) => return Ok(Err(error)),
            }
        }
        match self.route.link.send_request(&mut descriptor, &mut self.parcel) {
            Ok(()) => Ok(Ok(())),
            Err(NoSend::Full(bound)) => Err(bound),
            Err(why) => Ok(Err(self.route.refusal(why))),
        }
    }
}

/// Nothing in it is pinned.
impl<C> Unpin for Tell<'_, C> {}

impl<C: Content> Future for Tell<'_, C> {
    type Output = Result<(), SendError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.route.link.is_lost() {
            return Poll::Ready(Err(this.route.refusal(NoSend::Lost)));
        }
        // A sender without pause gives other tasks of its thread their turn.
        let turn = std::task::ready!(tokio::task::coop::poll_proceed(cx));
        match this.attempt() {
            // Said anew instead of passed on: an error is large, and moved as a whole even if there is none.
            Ok(Ok(())) => {
                turn.made_progress();
                return Poll::Ready(Ok(()));
            }
            Ok(failed) => {
                turn.made_progress();
                return Poll::Ready(failed);
            }
            Err(_) => {}
        }
        let waited = wait_for_room(this.route, cx, || this.attempt());
        if waited.is_ready() {
            turn.made_progress();
        }
        waited
    }
}

/// Looks for room for a moment, then registers and looks once more.
pub(crate) fn wait_for_room<R>(
    route: &Route,
    cx: &Context<'_>,
    mut attempt: impl FnMut() -> Result<R, Bound>,
) -> Poll<R> {
    let spin = route.node.config.spin;
    // An actor of this process runs on this very thread, maybe.
    if !route.link.session.is_self
        && let Some(done) = look(spin, || attempt().ok())
    {
        return Poll::Ready(done);
    }
    if spin == Spin::Always {
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    route.link.wait(cx.waker());
    match attempt() {
        Ok(done) => Poll::Ready(done),
        // Memory may come back from any peer, and from senders that give up.
        Err(Bound::Pool | Bound::Peer) => {
            route.node.wait_for_memory(cx.waker());
            match attempt() {
                Ok(done) => Poll::Ready(done),
                Err(_) => Poll::Pending,
            }
        }
        Err(_) => Poll::Pending,
    }
}
