//! Waking a sleeper once per sleep, and not at all while it is awake.
//!
//! The sleeper's word, in the sleeper's memory, says `epoch << 1 | parked`. A producer publishes, then
//! looks at the word; the sleeper announces itself, then looks for what was published. Each side has a
//! full fence between its two steps, so at least one of them sees the other (Dekker's argument). A
//! producing process rings at most once per epoch.
//!
//! When a process rings, one of its threads has claimed the epoch; another thread that finds the epoch
//! claimed may rely on the ring, because the sleeper always looks again after it has announced the next
//! epoch, and the second thread's message was published before it saw the old one.
//!
//! A ring may come late: for something that the sleeper found by itself, after it has announced the next
//! sleep. So whoever was woken announces a new epoch ([`Parker::park`]) each time before it sleeps again, also
//! when it found nothing; under the old one nobody would ring any more.

use super::{
    cells::Cells,
    sync::{AtomicU64, Ordering, fence},
};

const PARKED: u64 = 1;

/// The sleeper's end.
#[derive(Debug)]
pub(crate) struct Parker {
    /// Own memory: one word.
    word: Cells<AtomicU64>,
    epoch: u64,
    parked: bool,
}

impl Parker {
    pub(crate) fn new(word: Cells<AtomicU64>) -> Self {
        assert!(word.len() == 1);
        Self {
            word,
            epoch: 0,
            parked: false,
        }
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.parked
    }

    /// Announces a sleep. The caller must look for work once more before it sleeps.
    pub(crate) fn park(&mut self) {
        self.epoch += 1;
        self.parked = true;
        // Relaxed: ordered by the fence.
        self.word[0].store(self.epoch << 1 | PARKED, Ordering::Relaxed);
        // SeqCst fence: the store above comes before the look for work that follows; pairs with `due`.
        fence(Ordering::SeqCst);
    }

    /// Says that work is looked for, so that nobody need ring.
    pub(crate) fn unpark(&mut self) {
        if self.parked {
            self.parked = false;
            // Relaxed: a producer that still sees us parked rings once too often, which harms nobody.
            self.word[0].store(self.epoch << 1, Ordering::Relaxed);
        }
    }
}

/// Comes between what was published, to however many sleepers, and [`Ringer::is_due`].
#[inline]
pub(crate) fn published() {
    // SeqCst fence: what was published comes before the look at the word; pairs with `Parker::park`.
    fence(Ordering::SeqCst);
}

/// A producer's view of a sleeper; all threads of the process share it.
#[derive(Debug)]
pub(crate) struct Ringer {
    /// Foreign memory: one word.
    word: Cells<AtomicU64>,
    /// The last word for which this process rang.
    rung: AtomicU64,
}

impl Ringer {
    pub(crate) fn new(word: Cells<AtomicU64>) -> Self {
        assert!(word.len() == 1);
        Self {
            word,
            rung: AtomicU64::new(0),
        }
    }

    /// Whether the caller, who has just published something, must ring.
    #[inline]
    pub(crate) fn due(&self) -> bool {
        published();
        self.is_due()
    }

    /// The same for a caller who has called [`published`] since.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        // Relaxed: ordered by the fence.
        let word = self.word[0].load(Ordering::Relaxed);
        // Relaxed: `rung` only picks one thread; see the head of this file.
        word & PARKED != 0
            && self.rung.load(Ordering::Relaxed) != word
            && self.rung.swap(word, Ordering::Relaxed) != word
    }
}
