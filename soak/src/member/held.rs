//! Messages that are kept for a while, and looked at once more before they go.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Member, fault};
use crate::dice::Dice;

/// At most so many at a time.
const MOST: usize = 200;

/// Says whether the message still is what it was, and releases it.
type Last = Box<dyn FnOnce() -> bool + Send>;

#[derive(Default)]
pub struct Held {
    kept: Mutex<Vec<(Instant, Last)>>,
    /// There is to be peace.
    is_over: AtomicBool,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").finish_non_exhaustive()
    }
}

impl Held {
    /// Keeps a message for a while, or drops it at once.
    pub fn maybe(&self, dice: &mut Dice, last: impl FnOnce() -> bool + Send + 'static) {
        if self.is_over.load(Ordering::Relaxed) || !dice.one_in(6) {
            return;
        }
        let due = Instant::now() + dice.millis(1, 400);
        let mut held = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() < MOST {
            held.push((due, Box::new(last)));
        }
    }

    fn release(&self, until: Option<Instant>) {
        let due: Vec<_> = {
            let mut held = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let due = |due: &Instant| until.is_none_or(|until| *due <= until);
            held.extract_if(.., |(at, _)| due(at)).collect()
        };
        for (_, last) in due {
            if !last() {
                fault("a message has changed while it was kept");
            }
        }
    }

    /// Releases everything, and keeps nothing from now on.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.release(None);
    }
}

/// Releases what is due, until there is to be peace.
pub async fn run(member: Arc<Member>) {
    while member.is_busy() {
        member.held.release(Some(Instant::now()));
        member.pause(Duration::from_millis(10)).await;
    }
    member.held.end();
}
