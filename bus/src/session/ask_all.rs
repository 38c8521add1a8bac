//! Many asks at once: small ones share a buffer, and their replies are taken in the order of the asks.

use std::{
    collections::VecDeque,
    marker::PhantomData,
    mem,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    ask::finish,
    asks::{self, Outcome, Ticket},
    link::{NoSend, Request},
    packer::{Packed, Packer},
    port::{Helper, State, Step},
    route::Route,
    tell::wait_for_room,
};
use crate::{
    error::{AskError, Bound},
    message::{Received, ShmRoot},
};

/// Asks in flight at a time, unless it is said how many.
const IN_FLIGHT: usize = 128;

/// Asks archived before any of them is sent.
const RUN: usize = 128;

/// An ask whose outcome nobody has been told yet.
#[derive(Debug)]
enum Entry {
    /// It is on its way, or archived to be sent; as of then its time counts.
    Open(Ticket, Instant),
    /// It was never sent.
    Failed(Box<AskError>),
}

/// Sends asks, each as soon as there is room and few enough are in flight, and gives their outcomes in order. Dropped before
/// it is done it gives back everything it holds; replies that come later are released unread.
#[must_use = "streams do nothing unless polled"]
#[derive(Debug)]
pub(crate) struct AskAll<'a, 'm, T, I, R> {
    route: &'a Route,
    packer: Packer<'a, 'm, T, I>,
    deadline: Duration,
    in_flight: usize,
    /// In the order of the asks. Those before `first_unsent` have been sent, or have failed.
    entries: VecDeque<Entry>,
    first_unsent: usize,
    /// Archived, not sent: the open entries from `first_unsent` on.
    packed: VecDeque<Request>,
    /// The outcomes of asks before all `entries`.
    ready: VecDeque<Outcome>,
    /// Of asks about to be archived; empty in between.
    tickets: Vec<Ticket>,
    /// The next message waits for room to be archived: the time it has.
    waiting: Option<(Ticket, Instant)>,
    /// The ask whose deadline the port knows.
    limited: Option<Ticket>,
    /// The first poll gives way to other asks of this port; see [`Port::help`](super::port::Port::help).
    polled: bool,
    helper: Helper,
    reply: PhantomData<fn() -> R>,
}

impl<'a, 'm, T: ShmRoot, I: Iterator<Item = &'m T>, R: ShmRoot> AskAll<'a, 'm, T, I, R> {
    pub(crate) fn new(route: &'a Route, message: usize, messages: I, deadline: Duration) -> Self {
        route.port.asking_add();
        Self {
            route,
            packer: Packer::new(route, message, messages, true),
            deadline,
            in_flight: IN_FLIGHT,
            entries: VecDeque::new(),
            first_unsent: 0,
            packed: VecDeque::new(),
            ready: VecDeque::new(),
            tickets: Vec::new(),
            waiting: None,
            limited: None,
            polled: false,
            helper: Helper::default(),
            reply: PhantomData,
        }
    }

    pub(crate) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    pub(crate) fn set_in_flight(&mut self, asks: usize) {
        self.in_flight = asks.max(1);
    }

    /// Archives as many asks as may be in flight besides those that are, a run at most. `Err`: there is no room for the first of
    /// them.
    fn pack(&mut self) -> Result<(), Bound> {
        let route = self.route;
        let mut now = None;
        while self.has_more() && self.entries.len() - self.first_unsent < RUN {
            if route.link.is_lost() {
                if self.packer.take().is_some() {
                    let lost = route.refusal(NoSend::Lost).into();
                    self.entries.push_back(Entry::Failed(Box::new(lost)));
                }
                continue;
            }
            let most = self.in_flight - self.entries.len();
            let count = match self.packer.follow() {
                (_, Some(0)) => {
                    self.packer.end();
                    break;
                }
                (0, _) => most,
                (known, _) => known.min(most),
            };
            let count = count.min(RUN - (self.entries.len() - self.first_unsent));
            self.entries.reserve(count);
            self.ready.reserve(count);
            self.tickets.reserve(count);
            let now = *now.get_or_insert_with(Instant::now);
            let Self {
                packer,
                entries,
                tickets,
                ..
            } = self;
            // Before one of them can be answered.
            route.port.with(|state| {
                for _ in 0..count {
                    let ticket = state.asks.open(route.link.id);
                    state.asks.sent(ticket, true);
                    tickets.push(ticket);
                }
            });
            let packed = packer.pack(count as u32, || {
                // As many are packed at most.
                tickets.pop().map_or(0, |ticket| {
                    entries.push_back(Entry::Open(ticket, now));
                    ticket.correlation()
                })
            });
            self.give_tickets_back();
            match packed {
                Packed::Request(request) => self.packed.push_back(request),
                Packed::Full(bound) => return self.nothing_packed(bound),
                Packed::Failed(error) => self.entries.push_back(Entry::Failed(Box::new(error.into()))),
                Packed::End => {}
            }
        }
        Ok(())
    }

    /// Whether there are asks that may be in flight besides those that are.
    fn has_more(&self) -> bool {
        self.entries.len() < self.in_flight && !self.packer.has_ended()
    }

    /// No more can be archived now: that is an error if there is nothing to send.
    fn nothing_packed(&self, bound: Bound) -> Result<(), Bound> {
        if self.packed.is_empty() {
            Err(bound)
        } else {
            Ok(())
        }
    }

    /// Those that were not needed.
    fn give_tickets_back(&mut self) {
        if self.tickets.is_empty() {
            return;
        }
        self.route.port.with(|state| {
            for ticket in self.tickets.drain(..) {
                state.asks.sent(ticket, false);
                state.asks.abandon(ticket);
            }
        });
    }

    /// Archives and sends what there is room for. `Err`: there was none for the first.
    fn attempt(&mut self) -> Result<(), Bound> {
        self.attempt_run()?;
        while self.has_more() && self.attempt_run().is_ok() {}
        Ok(())
    }

    /// The same, a run at most.
    fn attempt_run(&mut self) -> Result<(), Bound> {
        let held_back = self.first_unsent < self.entries.len();
        self.pack()?;
        if let Some((ticket, _)) = self.waiting.take() {
            drop(self.route.port.with(|state| state.asks.abandon(ticket)));
        }
        if self.packed.is_empty() {
            self.first_unsent = self.entries.len();
            return Ok(());
        }
        if held_back {
            self.mark_unsent(true);
        }
        let (sent, outcome) = self.route.link.send_requests(&mut self.packed);
        self.pass(sent);
        match outcome {
            Ok(()) => Ok(()),
            Err(NoSend::Full(bound)) => {
                self.mark_unsent(false);
                if sent == 0 { Err(bound) } else { Ok(()) }
            }
            Err(why) => {
                let route = self.route;
                self.fail_unsent(|| route.refusal(why).into());
                Ok(())
            }
        }
    }

    /// So many of those archived were sent.
    fn pass(&mut self, sent: usize) {
        let mut left = sent;
        while let Some(entry) = self.entries.get(self.first_unsent) {
            match entry {
                Entry::Open(..) if left == 0 => return,
                Entry::Open(..) => left -= 1,
                Entry::Failed(_) => {}
            }
            self.first_unsent += 1;
        }
    }

    /// Says of those that are not sent yet whether a reply may come.
    fn mark_unsent(&mut self, sent: bool) {
        let unsent = self.entries.range(self.first_unsent..);
        self.route.port.with(|state| {
            for entry in unsent {
                if let Entry::Open(ticket, _) = entry {
                    state.asks.sent(*ticket, sent);
                }
            }
        });
    }

    /// What is archived is not sent.
    fn fail_unsent(&mut self, why: impl Fn() -> AskError) {
        self.packed.clear();
        let unsent = self.entries.range_mut(self.first_unsent..);
        let outcomes: Vec<Outcome> = self.route.port.with(|state| {
            unsent
                .filter_map(|entry| {
                    let Entry::Open(ticket, _) = *entry else {
                        return None;
                    };
                    *entry = Entry::Failed(Box::new(why()));
                    state.asks.sent(ticket, false);
                    state.asks.abandon(ticket)
                })
                .collect()
        });
        drop(outcomes);
        self.first_unsent = self.entries.len();
    }

    /// The time of an ask is put on the clock, once.
    fn limit(&mut self, ticket: Ticket, at: Instant) {
        if self.limited != Some(ticket) {
            self.limited = Some(ticket);
            let at = asks::deadline(at, self.deadline);
            self.route.port.with(|state| state.limit_ask(ticket, at));
        }
    }

    /// Waits for room for the first that is not sent, as long as it has time.
    fn poll_room(&mut self, cx: &Context<'_>) -> Poll<()> {
        let route = self.route;
        if wait_for_room(route, cx, || self.attempt()).is_ready() {
            return Poll::Ready(());
        }
        let (ticket, at) = match self.entries.front() {
            Some(Entry::Open(ticket, at)) => (*ticket, *at),
            // It can be told already.
            Some(Entry::Failed(_)) => return Poll::Ready(()),
            None => *self.waiting.get_or_insert_with(|| {
                let ticket = route.port.with(|state| state.asks.open(route.link.id));
                (ticket, Instant::now())
            }),
        };
        self.limit(ticket, at);
        let poll = |state: &mut State| state.asks.poll(ticket, Some(cx.waker()));
        let Some(outcome) = route.port.with(poll) else {
            return Poll::Pending;
        };
        if self.entries.is_empty() {
            self.waiting = None;
            let outcome = finish::<R>(route, self.deadline, outcome);
            if let (Some(_), Err(error)) = (self.packer.take(), outcome) {
                self.entries.push_back(Entry::Failed(Box::new(error)));
            }
        } else {
            // What was archived with it is as old.
            let is_over = matches!(outcome, Outcome::Deadline);
            let (deadline, name) = (self.deadline, &route.name);
            self.fail_unsent(|| match is_over {
                true => AskError::Deadline {
                    name: name.to_string(),
                    after: deadline,
                },
                false => route.refusal(NoSend::Lost).into(),
            });
        }
        Poll::Ready(())
    }

    /// Waits for the outcome of the first, which was sent.
    fn poll_first(&mut self, first: Ticket, at: Instant, cx: &Context<'_>) -> Poll<()> {
        let port = &self.route.port;
        let turn = port.ask_turn(!mem::replace(&mut self.polled, true));
        let Self {
            entries,
            ready,
            first_unsent,
            helper,
            ..
        } = self;
        let pick = |state: &mut State, register: bool| {
            let before = ready.len();
            while *first_unsent > 0
                && let Some(Entry::Open(ticket, _)) = entries.front()
                && state.asks.take_into(*ticket, ready)
            {
                entries.pop_front();
                *first_unsent -= 1;
            }
            if ready.len() > before {
                return Some(());
            }
            if register {
                state.asks.poll(first, Some(cx.waker())).map(|outcome| {
                    ready.push_back(outcome);
                    entries.pop_front();
                    *first_unsent -= 1;
                })
            } else {
                None
            }
        };
        match port.help(helper, turn, pick) {
            Step::Found(()) => return Poll::Ready(()),
            Step::Again => cx.waker().wake_by_ref(),
            Step::Sleep => {}
        }
        self.limit(first, at);
        Poll::Pending
    }

    /// The outcome of the next ask; `None` after the last.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Received<R>, AskError>>> {
        if let Some(outcome) = self.ready.pop_front() {
            return Poll::Ready(Some(finish(self.route, self.deadline, outcome)));
        }
        let turn = std::task::ready!(tokio::task::coop::poll_proceed(cx));
        loop {
            if let Some(outcome) = self.ready.pop_front() {
                turn.made_progress();
                return Poll::Ready(Some(finish(self.route, self.deadline, outcome)));
            }
            let held_back = self.first_unsent < self.entries.len();
            // By halves, so that batches are long, and the peer has one while this side makes the next.
            let has_room = (held_back || self.entries.len() <= self.in_flight / 2) && self.attempt().is_ok();
            match self.entries.front() {
                Some(Entry::Failed(_)) => {
                    let failed = self.entries.pop_front();
                    self.first_unsent = self.first_unsent.saturating_sub(1);
                    if let Some(Entry::Failed(error)) = failed {
                        turn.made_progress();
                        return Poll::Ready(Some(Err(*error)));
                    }
                }
                Some(Entry::Open(ticket, at)) if self.first_unsent > 0 => {
                    let (ticket, at) = (*ticket, *at);
                    std::task::ready!(self.poll_first(ticket, at, cx));
                }
                None if has_room => {
                    turn.made_progress();
                    return Poll::Ready(None);
                }
                _ => std::task::ready!(self.poll_room(cx)),
            }
        }
    }
}

/// Nothing in it is pinned.
impl<T, I, R> Unpin for AskAll<'_, '_, T, I, R> {}

impl<T, I, R> Drop for AskAll<'_, '_, T, I, R> {
    fn drop(&mut self) {
        let port = &self.route.port;
        port.asking_sub();
        port.abandon(&mut self.helper);
        let first_unsent = self.first_unsent;
        let outcomes: Vec<Outcome> = port.with(|state| {
            let mut outcomes = Vec::new();
            for (at, entry) in self.entries.drain(..).enumerate() {
                if let Entry::Open(ticket, _) = entry {
                    if at >= first_unsent {
                        state.asks.sent(ticket, false);
                    }
                    outcomes.extend(state.asks.abandon(ticket));
                }
            }
            if let Some((ticket, _)) = self.waiting.take() {
                outcomes.extend(state.asks.abandon(ticket));
            }
            outcomes
        });
        drop(outcomes);
    }
}
