//! An ask: a message, and the wait for its reply.

use std::{
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    asks::{self, Failure, Outcome, Ticket},
    link::{NoSend, Parcel},
    port::{Helper, State, Step},
    route::{Content, Route},
    tell::wait_for_room,
};
use crate::{
    error::{AskError, Bound, SendError},
    message::{Received, ShmRoot},
    shm::{checked::Violation, descriptor::SlotKind},
};

/// Sends a message, waiting for room if need be, and waits for the reply. Dropped before, it gives back
/// everything it holds; a reply that comes later is released unread.
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub(crate) struct Ask<'a, C, R> {
    route: &'a Route,
    message: usize,
    content: C,
    deadline: Duration,
    parcel: Option<Parcel>,
    ticket: Option<Ticket>,
    sent: bool,
    /// Whether the port knows the deadline.
    limited: bool,
    /// The port was given the waker in the poll that sends, and looks after itself: that poll need not.
    registered: bool,
    /// The first poll gives way to other asks of this port; see [`Port::help`](super::port::Port::help).
    polled: bool,
    helper: Helper,
    reply: PhantomData<fn() -> R>,
}

impl<'a, C: Content, R: ShmRoot> Ask<'a, C, R> {
    pub(crate) fn new(route: &'a Route, message: usize, content: C, deadline: Duration) -> Self {
        route.port.asking_add();
        Self {
            route,
            message,
            content,
            deadline,
            parcel: None,
            ticket: None,
            sent: false,
            limited: false,
            registered: false,
            polled: false,
            helper: Helper::default(),
            reply: PhantomData,
        }
    }

    pub(crate) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// The first poll ends without an answer: from now on the deadline counts.
    fn limit(&mut self, ticket: Ticket) {
        if !std::mem::replace(&mut self.limited, true) {
            let at = asks::deadline(Instant::now(), self.deadline);
            self.route.port.with(|state| state.limit_ask(ticket, at));
        }
    }

    fn send(&mut self, cx: &Context<'_>) -> Result<(), SendError> {
        let route = self.route;
        let mut descriptor = route.descriptor(SlotKind::Ask, self.message, 0);
        if self.parcel.is_none() && !self.content.pack_inline(&mut descriptor) {
            self.parcel = Some(self.content.pack(route)?);
        }
        if !route.link.room.open_ask() {
            return Err(route.refusal(NoSend::Full(Bound::Asks)));
        }
        // Before the message can be answered.
        let ticket = match self.ticket {
            Some(ticket) => {
                route.port.with(|state| state.asks.sent(ticket, true));
                ticket
            }
            None => {
                let flows = (route.port.asking() > 1).then_some((cx.waker(), self.deadline));
                let (ticket, registered) = route.port.open_ask(route.link.id, flows);
                self.registered = registered;
                self.limited = registered;
                *self.ticket.insert(ticket)
            }
        };
        descriptor.set_correlation(ticket.correlation());
        let sent = route.link.send_request(&mut descriptor, &mut self.parcel);
        sent.map_err(|why| {
            // A link lost in between has settled the ask already.
            route.port.with(|state| state.asks.sent(ticket, false));
            route.link.room.close_ask();
            route.refusal(why)
        })
    }

    fn finish(&mut self, outcome: Outcome) -> Result<Received<R>, AskError> {
        self.ticket = None;
        finish(self.route, self.deadline, outcome)
    }

    fn poll_sending(&mut self, cx: &Context<'_>) -> Poll<Result<(), AskError>> {
        let route = self.route;
        if route.link.is_lost() {
            return Poll::Ready(Err(route.refusal(NoSend::Lost).into()));
        }
        let mut attempt = || match self.send(cx) {
            Err(SendError::Full { bound, .. }) => Err(bound),
            done => Ok(done),
        };
        let done = match attempt() {
            Ok(done) => Poll::Ready(done),
            Err(_) => wait_for_room(route, cx, attempt),
        };
        match done {
            Poll::Ready(Ok(())) => {
                self.sent = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            // The deadline counts from the beginning: its end is registered like a reply's.
            Poll::Pending => {
                // It may have ended, and been woken for that, by the time it is sent.
                self.registered = false;
                let ticket = *self
                    .ticket
                    .get_or_insert_with(|| route.port.with(|state| state.asks.open(route.link.id)));
                self.limit(ticket);
                let poll = |state: &mut State| state.asks.poll(ticket, Some(cx.waker()));
                match route.port.with(poll) {
                    Some(outcome) => Poll::Ready(self.finish(outcome).map(drop)),
                    None => Poll::Pending,
                }
            }
        }
    }
}

/// What the asker is told.
pub(super) fn finish<R: ShmRoot>(
    route: &Route,
    deadline: Duration,
    outcome: Outcome,
) -> Result<Received<R>, AskError> {
    // Copied for errors only: an answered ask allocates nothing.
    let name = || route.name.to_string();
    match outcome {
        Outcome::Reply(lease) => match Received::new(lease, route.node.config.trust) {
            // Said anew instead of passed on, which would move it once more.
            Ok(reply) => Ok(reply),
            Err(refused) => {
                let (lease, error) = *refused;
                drop(lease);
                tracing::warn!(name = &*route.name, %error, "malformed reply");
                route.link.session.violated(Violation::Archive);
                Err(AskError::Malformed { name: name() })
            }
        },
        Outcome::Malformed => Err(AskError::Malformed { name: name() }),
        Outcome::Deadline => Err(AskError::Deadline {
            name: name(),
            after: deadline,
        }),
        Outcome::PeerLost if route.port.is_closed() || route.node.is_closed() => {
            Err(AskError::Send(SendError::Closed { name: name() }))
        }
        Outcome::PeerLost => Err(AskError::PeerLost { name: name() }),
        Outcome::Failed(Failure::Panicked) => Err(AskError::HandlerPanicked { name: name() }),
        Outcome::Failed(Failure::Stopped) => Err(AskError::Stopped { name: name() }),
        Outcome::Failed(Failure::TooLarge) => Err(AskError::Reply {
            name: name(),
            problem: "it is larger than the replier's `Config::message_bytes`",
        }),
        Outcome::Failed(Failure::Memory) => Err(AskError::Reply {
            name: name(),
            problem: "the replier has no memory (its `Config::pool_bytes`)",
        }),
        Outcome::Failed(Failure::Archive) => Err(AskError::Reply {
            name: name(),
            problem: "it could not be archived",
        }),
    }
}

/// Nothing in it is pinned.
impl<C, R> Unpin for Ask<'_, C, R> {}

impl<C: Content, R: ShmRoot> Future for Ask<'_, C, R> {
    type Output = Result<Received<R>, AskError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let turn = std::task::ready!(tokio::task::coop::poll_proceed(cx));
        if !this.sent
            && let Err(error) = std::task::ready!(this.poll_sending(cx))
        {
            turn.made_progress();
            return Poll::Ready(Err(error));
        }
        // An ask that ended before it was sent has no ticket any more, and returned above.
        let Some(ticket) = this.ticket else {
            return Poll::Pending;
        };
        let first = !std::mem::replace(&mut this.polled, true);
        let port = &this.route.port;
        if this.registered {
            if first {
                return Poll::Pending;
            }
            // Woken by its reply, mostly.
            if let Some(outcome) = port.with(|state| state.asks.poll(ticket, None)) {
                turn.made_progress();
                return Poll::Ready(this.finish(outcome));
            }
        }
        let pick = |state: &mut State, register: bool| state.asks.poll(ticket, register.then(|| cx.waker()));
        match port.help(&mut this.helper, port.ask_turn(first), pick) {
            Step::Found(outcome) => {
                turn.made_progress();
                Poll::Ready(this.finish(outcome))
            }
            Step::Again => {
                this.limit(ticket);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Step::Sleep => {
                this.limit(ticket);
                Poll::Pending
            }
        }
    }
}

impl<C, R> Drop for Ask<'_, C, R> {
    fn drop(&mut self) {
        let port = &self.route.port;
        port.asking_sub();
        port.abandon(&mut self.helper);
        if let Some(ticket) = self.ticket.take() {
            drop(port.with(|state| state.asks.abandon(ticket)));
        }
    }
}
