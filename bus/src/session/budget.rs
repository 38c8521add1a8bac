//! How much of our pool one peer holds.
//!
//! The budget is the session's, and its links take shares of it, a chunk at a time. So a message costs a comparison
//! in memory that its link has at hand anyway, and the word that all links share is touched once per chunk.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::shm::layout::LINE;

/// How much a link takes at a time, in bytes.
const CHUNK: u64 = 1 << 20;

/// A session's.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    /// The largest buffer of the pool that has no segment of its own.
    largest: u64,
    taken: AtomicU64,
}

/// One link's part of it.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    /// As in the budget.
    largest: u64,
    used: u64,
    granted: u64,
}

/// What a message of so many bytes is counted as: a whole buffer.
fn weight(len: u64, largest: u64) -> u64 {
    if len > largest {
        len.next_multiple_of(4096)
    } else {
        len.next_power_of_two().max(LINE as u64)
    }
}

impl Budget {
    pub(crate) fn new(limit: u64, largest: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            largest: largest as u64,
            taken: AtomicU64::new(0),
        })
    }

    /// A new link's share. Without a limit it is never looked at again.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share {
            budget: self.clone(),
            largest: self.largest,
            used: 0,
            granted: if self.limit == u64::MAX { u64::MAX } else { 0 },
        }
    }

    fn take(&self, bytes: u64) -> bool {
        // Relaxed: a count; what it bounds is under the links' locks.
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                taken.checked_add(bytes).filter(|taken| *taken <= self.limit)
            })
            .is_ok()
    }

    fn give(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Share {
    /// Counts a message of `len` bytes that is about to be sent. `false`: the peer would hold more than it may.
    #[inline]
    pub(crate) fn take(&mut self, len: u64) -> bool {
        let used = self.used + weight(len, self.largest);
        if used > self.granted && !self.grow(used - self.granted) {
            return false;
        }
        self.used = used;
        true
    }

    #[cold]
    fn grow(&mut self, missing: u64) -> bool {
        let chunk = missing.max(CHUNK);
        let got = [chunk, missing]
            .into_iter()
            .find(|bytes| self.budget.take(*bytes));
        self.granted += got.unwrap_or(0);
        got.is_some()
    }

    /// A message of `len` bytes has come back.
    #[inline]
    pub(crate) fn give(&mut self, len: u64) {
        self.used -= weight(len, self.largest);
        // An idle link keeps nothing that another one may need.
        if self.granted != u64::MAX && (self.granted - self.used > 2 * CHUNK || self.used == 0) {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        self.budget.give(self.granted - self.used);
        self.granted = self.used;
    }

    /// Everything has come back: the link is lost.
    pub(crate) fn give_all(&mut self) {
        self.used = 0;
        if self.granted != u64::MAX {
            self.shrink();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_link_can_use_the_whole_budget_and_no_more() {
        let budget = Budget::new(3 * CHUNK + 64, 4 << 20);
        let mut share = budget.share();
        for _ in 0..3 {
            assert!(share.take(CHUNK));
        }
        assert!(!share.take(65));
        assert!(share.take(64));
        assert!(!share.take(1));
        share.give(64);
        assert!(share.take(1));
    }

    #[test]
    fn what_a_link_no_longer_uses_is_there_for_others() {
        let budget = Budget::new(4 * CHUNK, 4 << 20);
        let (mut first, mut second) = (budget.share(), budget.share());
        // All of one that is idle.
        assert!(first.take(1));
        first.give(1);
        assert!(second.take(4 * CHUNK));
        second.give(4 * CHUNK);
        // Much of one that is not.
        assert!((0..4).all(|_| first.take(CHUNK)));
        (0..3).for_each(|_| first.give(CHUNK));
        assert!(second.take(2 * CHUNK));
    }

    #[test]
    fn a_message_above_the_largest_buffer_counts_in_whole_pages() {
        let largest = 4 << 20;
        let budget = Budget::new(largest + 4096 + 64, largest as usize);
        let mut share = budget.share();
        assert!(share.take(largest + 1));
        assert!(!share.take(65) && share.take(64));
    }

    #[test]
    fn without_a_limit_nothing_is_refused() {
        let budget = Budget::new(u64::MAX, 4 << 20);
        let mut share = budget.share();
        assert!(share.take(1 << 60));
        share.give(1 << 60);
        share.give_all();
        assert!(share.take(1));
    }

    proptest! {
        /// Whatever links take and give back: never more than the limit, and in the end nothing.
        #[test]
        fn links_never_take_more_than_the_budget(
            steps in proptest::collection::vec((0usize..3, any::<bool>(), 1u64..3 << 20), 1..200),
        ) {
            let budget = Budget::new(8 << 20, 4 << 20);
            let mut shares: Vec<_> = (0..3).map(|_| budget.share()).collect();
            let mut held = vec![Vec::new(); 3];
            for (at, take, len) in steps {
                if take {
                    if shares[at].take(len) {
                        held[at].push(len);
                    }
                } else if let Some(len) = held[at].pop() {
                    shares[at].give(len);
                }
                let all: u64 = held.iter().flatten().map(|len| weight(*len, 4 << 20)).sum();
                let taken = budget.taken.load(Ordering::Relaxed);
                prop_assert!(all <= taken && taken <= budget.limit, "{all} {taken}");
            }
            for share in &mut shares {
                share.give_all();
            }
            prop_assert_eq!(budget.taken.load(Ordering::Relaxed), 0);
        }
    }
}
