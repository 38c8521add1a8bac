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
        // Relaxed: a count and nothing else; the ring's own ordering carries the messages.
        let before = self.asks.fetch_add(1, Ordering::Relaxed);
        if before >= self.limit {
            self.asks.fetch_sub(1, Ordering::Relaxed);
        }
        before < self.limit
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
