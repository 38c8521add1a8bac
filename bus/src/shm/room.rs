//! Waiting, inside one process, for room on a link.

use std::task::Waker;

use super::{
    sync::{AtomicU32, Ordering},
    waiters::Waiters,
};

/// The asks that are open on a link, and the tasks that wait for any kind of room on it.
#[derive(Debug)]
pub(crate) struct Room {
    /// Asks whose reply has not been consumed or released.
    asks: AtomicU32,
    limit: u32,
    waiters: Waiters,
}

impl Room {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            asks: AtomicU32::new(0),
            limit,
            waiters: Waiters::new(),
        }
    }

    /// Takes a place for a reply; given back by [`Room::close_ask`].
    pub(crate) fn open_ask(&self) -> bool {
        self.open_asks(1)
    }

    /// Takes so many places, or none; at most [`most_together`](Self::most_together).
    pub(crate) fn open_asks(&self, count: u32) -> bool {
        // Never above the limit, not even for a moment: an asker that finds no place must not take away the one that
        // another would have found. Relaxed where it is changed: a count and nothing else; the ring's own ordering carries
        // the messages. SeqCst where it is read, see `close_ask`.
        let more = |asks| Some(asks + count).filter(|asks| *asks <= self.limit);
        self.asks
            .fetch_update(Ordering::Relaxed, Ordering::SeqCst, more)
            .is_ok()
    }

    pub(crate) fn close_ask(&self) {
        self.close_asks(1);
    }

    /// Gives so many places back, at least one, that were taken.
    pub(crate) fn close_asks(&self, count: u32) {
        // SeqCst on both sides of `asks` and `Waiters::waiting`: a waiter sets that, then looks at the count. Whoever found no
        // room did so while fewer places were free than can be taken at once.
        if self.asks.fetch_sub(count, Ordering::SeqCst) + self.most_together() > self.limit {
            self.wake();
        }
    }

    /// Most places that can be taken together: several such find room at the same time.
    pub(crate) fn most_together(&self) -> u32 {
        (self.limit / 4).max(1)
    }

    /// Most asks that may be open.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// Registers a task to be woken by [`Room::wake`]. It must look for room once more afterwards.
    pub(crate) fn wait(&self, waker: &Waker) {
        self.waiters.wait(waker);
    }

    /// Whether somebody waits.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiters.are_there()
    }

    /// Takes out everybody who waits, to be woken; each looks for itself and registers again if need be.
    pub(crate) fn take_wakers(&self, into: &mut Vec<Waker>) {
        self.waiters.take(into);
    }

    /// Wakes everybody who waits.
    pub(crate) fn wake(&self) {
        self.waiters.wake();
    }
}

#[cfg(all(test, not(loom)))]
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
