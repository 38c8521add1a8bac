//! Waiting, inside one process, for room on a link.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Waker,
};

use super::sync::lock;

/// Most tasks that wait on one link before the oldest is woken to make place: a bound on the list, not
/// on the tasks, each of which registers again when it finds no room.
const MAX_WAKERS: usize = 4096;

/// The asks that are open on a link, and the tasks that wait for any kind of room on it.
#[derive(Debug)]
pub(crate) struct Room {
    /// Asks whose reply has not been consumed or released.
    asks: AtomicU32,
    limit: u32,
    waiting: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Room {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            asks: AtomicU32::new(0),
            limit,
            waiting: AtomicBool::new(false),
            wakers: Mutex::default(),
        }
    }

    /// Takes a place for a reply; given back by [`Room::close_ask`].
    pub(crate) fn open_ask(&self) -> bool {
        // Never above the limit, not even for a moment: an asker that finds no place must not take away the one that
        // another would have found. Relaxed where it is changed: a count and nothing else; the ring's own ordering carries
        // the messages. SeqCst where it is read, see `close_ask`.
        let one_more = |asks| (asks < self.limit).then_some(asks + 1);
        self.asks
            .fetch_update(Ordering::Relaxed, Ordering::SeqCst, one_more)
            .is_ok()
    }

    pub(crate) fn close_ask(&self) {
        // SeqCst on both sides of `asks` and `waiting`: a waiter sets `waiting`, then looks at the count.
        if self.asks.fetch_sub(1, Ordering::SeqCst) >= self.limit {
            self.wake();
        }
    }

    /// Most asks that may be open.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// Registers a task to be woken by [`Room::wake`]. It must look for room once more afterwards.
    pub(crate) fn wait(&self, waker: &Waker) {
        let mut wakers = lock(&self.wakers);
        if !wakers.iter().any(|w| w.will_wake(waker)) {
            if wakers.len() == MAX_WAKERS {
                wakers.remove(0).wake();
            }
            wakers.push(waker.clone());
        }
        self.waiting.store(true, Ordering::SeqCst);
    }

    /// Whether somebody waits.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Takes out everybody who waits, to be woken; each looks for itself and registers again if need be.
    pub(crate) fn take_wakers(&self, into: &mut Vec<Waker>) {
        if self.is_awaited() {
            let mut wakers = lock(&self.wakers);
            self.waiting.store(false, Ordering::SeqCst);
            into.append(&mut wakers);
        }
    }

    /// Wakes everybody who waits.
    pub(crate) fn wake(&self) {
        let mut wakers = Vec::new();
        self.take_wakers(&mut wakers);
        for waker in wakers {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    /// One gives its place up and tries for it again, while another tries again and again: one of them gets it, and
    /// nobody finds it taken by an attempt that fails.
    #[test]
    fn of_two_that_race_for_one_place_one_gets_it() {
        const ROUNDS: u32 = 20_000;
        let (room, turn, tried) = (Room::new(1), Barrier::new(2), AtomicU32::new(0));
        let both_or_neither = thread::scope(|scope| {
            let other = scope.spawn(|| {
                (1..=ROUNDS)
                    .map(|round| {
                        turn.wait();
                        let mut got = room.open_ask();
                        while !got && tried.load(Ordering::SeqCst) != round {
                            got = room.open_ask();
                        }
                        turn.wait();
                        got
                    })
                    .collect::<Vec<_>>()
            });
            let mine: Vec<bool> = (1..=ROUNDS)
                .map(|round| {
                    // Of the round before, in which somebody got it.
                    room.asks.store(1, Ordering::SeqCst);
                    turn.wait();
                    // Until the other is at it, mostly.
                    for _ in 0..round % 64 {
                        std::hint::spin_loop();
                    }
                    room.close_ask();
                    let got = room.open_ask();
                    tried.store(round, Ordering::SeqCst);
                    turn.wait();
                    got
                })
                .collect();
            let theirs = other.join().expect("no panic");
            mine.iter().zip(&theirs).filter(|(a, b)| a == b).count()
        });
        assert_eq!(both_or_neither, 0, "of {ROUNDS} rounds");
    }
}
