//! The port's task: what it does in one round, and when it goes on looking without being woken.

use std::{
    sync::atomic::Ordering,
    task::Context,
    time::{Duration, Instant},
};

use super::{Port, State, Watcher, wake};
use crate::{config::Spin, session::spin::BURST, shm::sync::lock};

/// How long helpers are relied on. Not shorter: another thread wakes for their relief.
const RELIEF: Duration = Duration::from_millis(10);

/// The port's task: see the head of `port.rs`.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// What [`State::helped`] was in the last round.
    seen: u64,
    /// Until when this task looks, because somebody helped or something came lately.
    until: Option<Instant>,
    /// When the helpers are relieved.
    relief: Option<Instant>,
}

impl Watch {
    /// Relieves the helpers of looking after the port, now and then: who waits for several things may turn to one of them,
    /// and keep the others without polling them. Those that look take it on again. Returns when that is to be.
    fn relieve(&mut self, state: &mut State, now: Instant) -> Option<Instant> {
        match self.relief {
            // Not put off: each time costs a change of the timer.
            Some(due) if now < due => return Some(due),
            Some(_) => {
                state.helpers = 0;
                state.reliefs = state.reliefs.wrapping_add(1);
            }
            None => {}
        }
        self.relief = (state.helpers > 0).then(|| now + RELIEF);
        state.guarded = self.relief.is_some();
        self.relief
    }
}

/// What the port's task does next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Be polled again soon.
    Again,
    /// Sleep until the bell rings, or until this deadline of an ask.
    Sleep(Option<Instant>),
    Closed,
}

impl Port {
    /// One round of the port's task.
    pub(crate) fn round(&self, watch: &mut Watch, cx: &Context<'_>) -> Next {
        if self.is_closed() {
            return Next::Closed;
        }
        let mut state = lock(&self.state);
        match &mut state.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        let now = Instant::now();
        let delivered = self.drain(&mut state);
        {
            // A group's member may have given something back, which it rings for.
            let State { links, wakers, .. } = &mut *state;
            for receiving in links.iter().filter(|receiving| receiving.link.has_groups()) {
                receiving.link.collect(wakers);
            }
        }
        {
            let State { asks, wakers, .. } = &mut *state;
            asks.date(now);
            asks.expire(now, wakers);
        }
        let helped = std::mem::replace(&mut watch.seen, state.helped) != state.helped;
        if self.goes_on_watching(watch, &state, helped || delivered > 0, now) {
            wake(state);
            // Nobody else looks: do it here for a moment.
            if delivered == 0 && !helped {
                self.burst(now);
            }
            return Next::Again;
        }
        if watch.until.take().is_some() && self.asking() > 0 {
            // An ask that left the looking to this task has had nothing of it.
            state.policy.miss();
        }
        let relief = watch.relieve(&mut state, now);
        // Who helps looks after the port.
        if state.helpers == 0 {
            self.park_for_long(&mut state);
        }
        let deadline = state.asks.next_deadline();
        wake(state);
        Next::Sleep(deadline.into_iter().chain(relief).min())
    }

    /// Whether the task looks again instead of parking the port. It never begins to watch by itself: a
    /// parked port stays parked until a helper has said that looking pays.
    fn goes_on_watching(&self, watch: &mut Watch, state: &State, active: bool, now: Instant) -> bool {
        let window = match self.spin {
            Spin::Never => return false,
            Spin::Adaptive(window) | Spin::For(window) => window,
            Spin::Always => return self.watcher == Watcher::Task && self.is_wanted(state),
        };
        if self.watcher == Watcher::Helpers || state.parker.is_parked() {
            return false;
        }
        if active || watch.until.is_none() {
            watch.until = now.checked_add(window);
        }
        watch.until.is_none_or(|until| now < until)
    }

    fn burst(&self, from: Instant) {
        let until = from + BURST;
        while self.runnable.load(Ordering::Relaxed) == 0
            && self.with(|state| self.drain(state) == 0 && !state.asks.has_completed())
            && Instant::now() < until
        {
            std::hint::spin_loop();
        }
    }

    /// Whether looking can find anything that somebody waits for.
    fn is_wanted(&self, state: &State) -> bool {
        self.asking.load(Ordering::Relaxed) > 0 || !state.mailboxes.is_empty()
    }
}
