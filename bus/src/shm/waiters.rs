//! Tasks of one process that wait until something comes back.

use std::task::Waker;

use super::sync::{AtomicBool, Mutex, Ordering, in_one_order, lock};

/// Most tasks on the list before the oldest is woken to make place: a bound on the list, not on the tasks, each of
/// which registers again when it finds nothing.
const MOST: usize = 4096;

/// Who waits. What they wait for is kept elsewhere: whoever gives something back does so first and
/// [wakes](Self::wake) then, and a task [registers](Self::wait) first and looks then, so one of the two sees the other.
#[derive(Debug)]
pub(crate) struct Waiters {
    /// Whether there is anybody on the list. Set under its lock, so that who finds it set finds the task too.
    waiting: AtomicBool,
    list: Mutex<Vec<Waker>>,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self {
            waiting: AtomicBool::new(false),
            list: Mutex::new(Vec::new()),
        }
    }

    /// Registers a task to be woken. It must look once more afterwards.
    pub(crate) fn wait(&self, waker: &Waker) {
        let mut list = lock(&self.list);
        let mut oldest = None;
        if !list.iter().any(|known| known.will_wake(waker)) {
            if list.len() == MOST {
                oldest = Some(list.remove(0));
            }
            list.push(waker.clone());
        }
        // SeqCst, with the load in `are_there`: this comes before the look that follows, and there the giving back comes
        // before the look at this.
        self.waiting.store(true, Ordering::SeqCst);
        in_one_order();
        drop(list);
        if let Some(oldest) = oldest {
            oldest.wake();
        }
    }

    /// Whether somebody waits.
    #[inline]
    pub(crate) fn are_there(&self) -> bool {
        in_one_order();
        self.waiting.load(Ordering::SeqCst)
    }

    /// Takes out everybody, to be woken; each looks for itself and registers again if need be.
    pub(crate) fn take(&self, into: &mut Vec<Waker>) {
        if self.are_there() {
            let mut list = lock(&self.list);
            // Relaxed: changed under the lock only, and whoever finds it false by this has been taken from the list.
            self.waiting.store(false, Ordering::Relaxed);
            into.append(&mut list);
        }
    }

    /// Wakes everybody, under no lock of ours.
    #[inline]
    pub(crate) fn wake(&self) {
        if self.are_there() {
            self.wake_all();
        }
    }

    #[cold]
    fn wake_all(&self) {
        let mut wakers = Vec::new();
        self.take(&mut wakers);
        for waker in wakers {
            waker.wake();
        }
    }
}
