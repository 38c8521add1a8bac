//! Time that this process did not have: it was stopped, or the machine had no core for one of its threads. A deadline that
//! passes meanwhile is kept as soon as the process runs again.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

const STEP: Duration = Duration::from_millis(50);

static MISSED_MS: AtomicU64 = AtomicU64::new(0);
static STEPS: AtomicU64 = AtomicU64::new(0);

/// How long threads could have run and did not, by the kernel's account. Who sleeps most of the time is let in at once, and
/// does not notice that those who work are not.
#[derive(Default)]
struct Threads(HashMap<OsString, Duration>);

impl Threads {
    /// The longest that one of them was kept waiting since the last look; zero where the kernel keeps no such account.
    fn waited(&mut self) -> Duration {
        let mut longest = Duration::ZERO;
        for thread in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let said = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            let waited = said.split(' ').nth(1).and_then(|nanos| nanos.parse().ok());
            let waited = Duration::from_nanos(waited.unwrap_or(0));
            let before = self.0.insert(thread.file_name(), waited).unwrap_or(waited);
            longest = longest.max(waited.saturating_sub(before));
        }
        longest
    }
}

/// Begins to look how time passes.
pub fn start() {
    std::thread::spawn(|| {
        let mut threads = Threads::default();
        let mut began = Instant::now();
        loop {
            std::thread::sleep(STEP);
            let ended = Instant::now();
            let step = ended - began;
            began = ended;
            let late = step.saturating_sub(STEP);
            let late = if late > STEP { late } else { Duration::ZERO };
            let missed = late.max(threads.waited());
            MISSED_MS.fetch_add(missed.as_millis() as u64, Ordering::Relaxed);
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
