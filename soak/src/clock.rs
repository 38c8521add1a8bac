//! Time that this process did not have: it was stopped, or the machine had no core for it. A deadline that passes
//! meanwhile is kept as soon as the process runs again.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

const STEP: Duration = Duration::from_millis(20);

static MISSED_MS: AtomicU64 = AtomicU64::new(0);
static STEPS: AtomicU64 = AtomicU64::new(0);

/// Begins to look how time passes.
pub fn start() {
    std::thread::spawn(|| {
        loop {
            let began = Instant::now();
            std::thread::sleep(STEP);
            let missed = began.elapsed().saturating_sub(STEP);
            if missed > STEP {
                MISSED_MS.fetch_add(missed.as_millis() as u64, Ordering::Relaxed);
            }
            STEPS.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// A span of this process's own time.
#[derive(Debug)]
pub struct Span {
    began: Instant,
    missed: u64,
}

impl Span {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            missed: MISSED_MS.load(Ordering::Relaxed),
        }
    }

    /// Whether it took longer than this, without what was missed.
    pub async fn exceeds(&self, limit: Duration) -> bool {
        self.excess(limit).await.is_some()
    }

    /// By how much it took longer than this, without what was missed.
    pub async fn excess(&self, limit: Duration) -> Option<Duration> {
        let took = self.began.elapsed();
        if took <= limit {
            return None;
        }
        // What was missed is known after the step in which it was.
        let step = STEPS.load(Ordering::Relaxed);
        while STEPS.load(Ordering::Relaxed) < step + 2 {
            tokio::time::sleep(STEP).await;
        }
        let missed = MISSED_MS.load(Ordering::Relaxed) - self.missed;
        took.checked_sub(limit + Duration::from_millis(missed))
    }
}
