//! The port's task: what it does in one round, and when it goes on looking without being woken.

use std::{
    sync::atomic::Ordering,
    task::Context,
    time::{Duration, Instant},
};

use super::{Port, State, Watcher, wake};
use crate::{config::Spin, session::spin::BURST, shm::sync::lock};

/// After how long at least helpers that do not look are no longer relied on: the runtime's timer is not finer.
const RELIEF: Duration = Duration::from_millis(1);

/// The port's task: see the head of `port.rs`.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// What [`State::helped`] was in the last round.
    seen: u64,
    /// Until when this task looks, because somebody helped or something came lately.
    until: Option<Instant>,
    /// Until when helpers that are bound to look again are waited for.
    relief: Option<Instant>,
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
        let guard = self.guard(watch, &mut state, helped, now);
        if guard.is_none() {
            self.park_for_long(&mut state);
        }
        let deadline = state.asks.next_deadline();
        wake(state);
        Next::Sleep(deadline.into_iter().chain(guard).min())
    }

    /// Until when helpers are left to look after the port. Those that have not done so for a while are relieved of it: who
    /// waits for several things may turn to one of them, and keep the others without polling them.
    fn guard(&self, watch: &mut Watch, state: &mut State, helped: bool, now: Instant) -> Option<Instant> {
        if state.helpers > 0 {
            let relief = watch.relief.filter(|_| !helped).unwrap_or(now + RELIEF);
            if now < relief {
                state.guarded = true;
                watch.relief = Some(relief);
                return watch.relief;
            }
            state.helpers = 0;
            state.reliefs = state.reliefs.wrapping_add(1);
        }
        state.guarded = false;
        watch.relief = None;
        None
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
