//! Models of the doorbell. A lost wake-up is a deadlock here, which loom reports.

use std::sync::Arc;

use loom::{sync::Condvar, thread};

use super::{explore, words};
use crate::shm::{
    cells::Cells,
    doorbell::{Parker, Ringer},
    sync::{AtomicU64, Mutex, Ordering, lock},
};

/// The eventfd under an edge-triggered poller: a ring after the last wake-up wakes once more.
struct Eventfd {
    rings: Mutex<u64>,
    edge: Condvar,
}

impl Eventfd {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            rings: Mutex::new(0),
            edge: Condvar::new(),
        })
    }

    fn ring(&self) {
        *lock(&self.rings) += 1;
        self.edge.notify_one();
    }

    /// Sleeps until the counter has moved on from `seen`.
    fn sleep(&self, seen: &mut u64) {
        let mut rings = lock(&self.rings);
        while *rings == *seen {
            rings = self.edge.wait(rings).unwrap();
        }
        *seen = *rings;
    }
}

/// Publishes one message per word of `work`, which stand for slots; Relaxed, so that only the doorbell orders.
fn produce(work: &Cells<AtomicU64>, which: impl IntoIterator<Item = usize>, ringer: &Ringer, bell: &Eventfd) {
    for at in which {
        work[at].store(1, Ordering::Relaxed);
        if ringer.due() {
            bell.ring();
        }
    }
}

/// How many messages have come, and were not there before.
fn drain(work: &Cells<AtomicU64>, seen: &mut [bool]) -> usize {
    let mut found = 0;
    for (word, seen) in work.iter().zip(seen) {
        if !*seen && word.load(Ordering::Relaxed) == 1 {
            *seen = true;
            found += 1;
        }
    }
    found
}

/// The port's task, which parks and looks again until it may sleep. `watch`: after a wake-up it says that it
/// looks, as a helper does. Returns how many epochs there were.
fn consume(work: &Cells<AtomicU64>, mut parker: Parker, bell: &Eventfd, watch: bool) -> u64 {
    let mut seen = vec![false; work.len()];
    let (mut left, mut rings, mut epochs) = (work.len(), 0, 0);
    loop {
        left -= drain(work, &mut seen);
        if left == 0 {
            return epochs;
        }
        parker.park();
        epochs += 1;
        match drain(work, &mut seen) {
            0 => bell.sleep(&mut rings),
            found => left -= found,
        }
        if watch {
            parker.unpark();
            assert!(!parker.is_parked());
        }
    }
}

#[test]
fn no_wakeup_is_lost_with_one_producer() {
    explore(6, || {
        let (word, work, bell) = (words(1), words(1), Eventfd::new());
        let ringer = Ringer::new(word.clone());
        let producer = thread::spawn({
            let (work, bell) = (work.clone(), bell.clone());
            move || produce(&work, [0], &ringer, &bell)
        });
        consume(&work, Parker::new(word), &bell, false);
        producer.join().unwrap();
    });
}

fn several_epochs(watch: bool) {
    let (word, work, bell) = (words(1), words(2), Eventfd::new());
    let ringer = Ringer::new(word.clone());
    let producer = thread::spawn({
        let (work, bell) = (work.clone(), bell.clone());
        move || produce(&work, [0, 1], &ringer, &bell)
    });
    let epochs = consume(&work, Parker::new(word), &bell, watch);
    producer.join().unwrap();
    assert!(*lock(&bell.rings) <= epochs, "rung twice in one epoch");
}

#[test]
fn no_wakeup_is_lost_across_epochs_and_one_thread_rings_once_in_each() {
    explore(5, || several_epochs(false));
}

#[test]
fn no_wakeup_is_lost_by_a_sleeper_that_watches_in_between() {
    explore(5, || several_epochs(true));
}

#[test]
fn no_wakeup_is_lost_with_two_producer_threads_of_one_process() {
    explore(4, || {
        let (word, work, bell) = (words(1), words(2), Eventfd::new());
        let ringer = Arc::new(Ringer::new(word.clone()));
        let producers = [0, 1].map(|at| {
            let (work, ringer, bell) = (work.clone(), ringer.clone(), bell.clone());
            thread::spawn(move || produce(&work, [at], &ringer, &bell))
        });
        consume(&work, Parker::new(word), &bell, false);
        for producer in producers {
            producer.join().unwrap();
        }
    });
}

#[test]
fn two_producer_threads_lose_no_wakeup_across_epochs() {
    explore(3, || {
        let (word, work, bell) = (words(1), words(3), Eventfd::new());
        let ringer = Arc::new(Ringer::new(word.clone()));
        let producers = [vec![0, 1], vec![2]].map(|which| {
            let (work, ringer, bell) = (work.clone(), ringer.clone(), bell.clone());
            thread::spawn(move || produce(&work, which, &ringer, &bell))
        });
        consume(&work, Parker::new(word), &bell, true);
        for producer in producers {
            producer.join().unwrap();
        }
    });
}

#[test]
fn two_producer_threads_ring_once_for_one_sleep() {
    explore(6, || {
        let (word, bell) = (words(1), Eventfd::new());
        let ringer = Arc::new(Ringer::new(word.clone()));
        let mut parker = Parker::new(word);
        parker.park();
        let work = words(2);
        let producers = [0, 1].map(|at| {
            let (work, ringer, bell) = (work.clone(), ringer.clone(), bell.clone());
            thread::spawn(move || produce(&work, [at], &ringer, &bell))
        });
        bell.sleep(&mut 0);
        for producer in producers {
            producer.join().unwrap();
        }
        assert_eq!(*lock(&bell.rings), 1);
    });
}

#[test]
fn nobody_rings_for_a_sleeper_that_is_awake() {
    explore(3, || {
        let word = words(1);
        let ringer = Ringer::new(word.clone());
        let mut parker = Parker::new(word);
        assert!(!ringer.due(), "it never slept");
        parker.park();
        parker.unpark();
        let rings = thread::spawn(move || u32::from(ringer.due()) + u32::from(ringer.due()));
        assert_eq!(rings.join().unwrap(), 0);
    });
}
