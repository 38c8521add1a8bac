//! Models of who waits for memory: the list of waiting tasks, beside the pool's books under their lock.

use std::sync::Arc;

use loom::thread;

use super::{Task, explore};
use crate::shm::{
    ledger::{BufferId, LEAST_BLOCK, Ledger},
    sync::{Mutex, lock},
    waiters::Waiters,
};

/// What `Pool` is made of; it takes, releases and waits in the same order.
struct Pool {
    books: Mutex<Ledger>,
    waiters: Waiters,
}

impl Pool {
    /// With so many buffers.
    fn of(buffers: usize) -> Arc<Self> {
        let mut ledger = Ledger::new(LEAST_BLOCK);
        assert_eq!(ledger.add_segment(0, buffers * LEAST_BLOCK), buffers);
        Arc::new(Self {
            books: Mutex::new(ledger),
            waiters: Waiters::new(),
        })
    }

    fn take(&self) -> Option<BufferId> {
        lock(&self.books).take_block()
    }

    fn take_when_there_is_one(&self) -> BufferId {
        Task::new().until(|waker| self.waiters.wait(waker), || self.take())
    }

    fn release(&self, id: BufferId) {
        let mut books = lock(&self.books);
        assert!(books.release(id));
        drop(books);
        self.waiters.wake();
    }
}

#[test]
fn who_waits_for_a_buffer_is_woken_when_one_comes_back() {
    explore(6, || {
        let pool = Pool::of(1);
        let held = pool.take().unwrap();
        let other = thread::spawn({
            let pool = pool.clone();
            move || pool.release(held)
        });
        pool.take_when_there_is_one();
        other.join().unwrap();
        assert_eq!(lock(&pool.books).used(), 1);
    });
}

#[test]
fn of_two_that_wait_for_one_buffer_each_has_it_in_turn() {
    explore(3, || {
        let pool = Pool::of(1);
        let held = pool.take().unwrap();
        let waiting = [0, 1].map(|_| {
            let pool = pool.clone();
            thread::spawn(move || {
                let id = pool.take_when_there_is_one();
                pool.release(id);
            })
        });
        pool.release(held);
        for thread in waiting {
            thread.join().unwrap();
        }
        assert_eq!(lock(&pool.books).used(), 0);
    });
}

#[test]
fn two_that_release_at_once_wake_whoever_waits_for_both() {
    explore(3, || {
        let pool = Pool::of(2);
        let releasing = [0, 1].map(|_| {
            let (pool, held) = (pool.clone(), pool.take().unwrap());
            thread::spawn(move || pool.release(held))
        });
        for _ in 0..2 {
            pool.take_when_there_is_one();
        }
        for thread in releasing {
            thread.join().unwrap();
        }
        assert_eq!(lock(&pool.books).used(), 2);
    });
}

/// Nothing but the list and one word, without a lock around what is waited for: it is the list that must not miss it.
#[test]
fn no_wakeup_is_lost_where_no_lock_orders_what_is_waited_for() {
    use crate::shm::sync::Ordering;

    explore(6, || {
        let (word, waiters) = (super::words(1), Arc::new(Waiters::new()));
        let giving = thread::spawn({
            let (word, waiters) = (word.clone(), waiters.clone());
            move || {
                word[0].store(1, Ordering::SeqCst);
                waiters.wake();
            }
        });
        let look = || (word[0].load(Ordering::SeqCst) == 1).then_some(());
        Task::new().until(|waker| waiters.wait(waker), look);
        giving.join().unwrap();
    });
}
