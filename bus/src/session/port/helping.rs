//! Whoever waits helps: it drains the port itself, as long as that is worth its time.

use std::{sync::atomic::Ordering, time::Instant};

use super::{Port, State, Watcher, wake};
use crate::{config::Spin, session::spin::Wait, shm::sync::lock};

/// How often a waiting task looks before it looks at the clock and lets others have the lock.
const LOOKS: u32 = 16;

/// How often it looks before it looks at the clock for the first time: about a microsecond, a round trip's length.
const FIRST_LOOKS: u32 = 64;

/// A waiting task's part in looking after its port.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    pub(crate) wait: Wait,
    /// It is one of [`State::helpers`], if that is still [`State::reliefs`].
    counted: Option<u32>,
}

/// Whom a waiting task lets go first, before it looks by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Mine,
    /// Other asks that are about to be sent.
    AfterAsks,
    /// Actors of its thread that have messages: who comes last finds more, and each is woken for more.
    AfterActors,
}

/// What [`Port::help`] tells its caller to do.
#[derive(Debug)]
pub(crate) enum Step<T> {
    Found(T),
    Again,
    Sleep,
}

impl Port {
    /// The turn of an ask; its first poll lets others be sent.
    pub(crate) fn ask_turn(&self, first: bool) -> Turn {
        if first && self.asking() > 1 {
            Turn::AfterAsks
        } else {
            Turn::Mine
        }
    }

    /// The next step of a task that waits on this port; see the head of `port.rs`.
    ///
    /// `pick` looks whether what it waits for is there; if it is not, and only if the flag says so, it
    /// registers the task. A task that looks itself is not registered: its own finds would wake it.
    /// [`Step::Again`]: the task must be polled again (it has been woken); [`Step::Sleep`]: `pick`'s
    /// registration will wake it.
    pub(crate) fn help<T>(
        &self,
        helper: &mut Helper,
        turn: Turn,
        mut pick: impl FnMut(&mut State, bool) -> Option<T>,
    ) -> Step<T> {
        let mut state = lock(&self.state);
        state.helped += 1;
        let mut burst_until: Option<Instant> = None;
        loop {
            let others_first = turn == Turn::AfterActors
                && self.watcher == Watcher::Task
                && self.runnable.load(Ordering::Relaxed) > 0;
            if let Some(found) = pick(&mut state, others_first) {
                helper.wait.end(&mut state.policy);
                self.leave(&mut state, helper);
                wake(state);
                return Step::Found(found);
            }
            if others_first {
                if state.policy.pays() {
                    // Should they not come to look, as who waits for something else, the port's task does.
                    self.watch(&mut state);
                }
                wake(state);
                return Step::Sleep;
            }
            if self.drain(&mut state) > 0
                && let Some(found) = pick(&mut state, false)
            {
                helper.wait.end(&mut state.policy);
                self.leave(&mut state, helper);
                wake(state);
                return Step::Found(found);
            }
            if self.spin == Spin::Never {
                let found = pick(&mut state, true);
                wake(state);
                return found.map_or(Step::Sleep, Step::Found);
            }
            // An answer that comes at once needs no clock.
            if turn != Turn::AfterAsks
                && helper.wait.is_new()
                && state.policy.pays()
                && self.look(&mut state, FIRST_LOOKS)
            {
                state.policy.hit();
                continue;
            }
            let now = Instant::now();
            let look = helper.wait.may_look(&mut state.policy, now);
            if look {
                self.watch(&mut state);
                if self.watcher == Watcher::Helpers && helper.counted != Some(state.reliefs) {
                    helper.counted = Some(state.reliefs);
                    state.helpers += 1;
                }
            }
            let busy = self.runnable.load(Ordering::Relaxed) > 0 || state.asks.has_completed();
            let until = *burst_until.get_or_insert_with(|| helper.wait.burst(now));
            let step = match (look, busy) {
                // Others have something to do; the watcher looks after them.
                (true, true) if self.watcher == Watcher::Task => Some(Step::Sleep),
                (true, true) => Some(Step::Again),
                (true, false) if turn == Turn::AfterAsks || now >= until => Some(Step::Again),
                (true, false) => None,
                (false, _) => Some(Step::Sleep),
            };
            match step {
                Some(step) => {
                    if matches!(step, Step::Sleep) {
                        self.leave(&mut state, helper);
                        // Leaving may have parked the port and found what came at that moment.
                        if let Some(found) = pick(&mut state, true) {
                            wake(state);
                            return Step::Found(found);
                        }
                    } else if helper.counted.is_some() {
                        state.guard();
                    }
                    wake(state);
                    return step;
                }
                None => {
                    // A look costs less than the clock and the lock: some looks for one of each.
                    if !self.look(&mut state, LOOKS) {
                        wake(state);
                        state = lock(&self.state);
                    }
                }
            }
        }
    }

    /// Looks so many times for what comes. Returns whether something did.
    fn look(&self, state: &mut State, times: u32) -> bool {
        (0..times).any(|_| {
            std::hint::spin_loop();
            self.drain(state) > 0
        })
    }

    /// Looks once: what is there, or what a drain brings.
    pub(crate) fn help_once<T>(&self, mut pick: impl FnMut() -> Option<T>) -> Option<T> {
        pick().or_else(|| {
            self.with(|state| self.drain(state));
            pick()
        })
    }

    /// A helper goes: the last one of a port without a watching task parks it.
    fn leave(&self, state: &mut State, helper: &mut Helper) {
        if helper.counted.take() == Some(state.reliefs) {
            state.helpers -= 1;
            if state.helpers == 0 {
                self.park_for_long(state);
            }
        }
    }

    /// A helper was dropped while it waited.
    pub(crate) fn abandon(&self, helper: &mut Helper) {
        if helper.counted.is_some() {
            self.with(|state| self.leave(state, helper));
        }
    }
}
