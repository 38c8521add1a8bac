//! What this process holds of the kernel and of its runtime.

use std::{fmt, time::Duration};

use super::{Member, PATIENCE, fault};
use crate::clock::Span;

/// How often it is looked: nothing tells when a descriptor is closed.
const STEP: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    descriptors: usize,
    mappings: usize,
    tasks: usize,
}

/// What the descriptors are of, for a report.
struct Descriptors;

impl fmt::Display for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
            if let Ok(target) = std::fs::read_link(entry.path()) {
                write!(f, " {}", target.display())?;
            }
        }
        Ok(())
    }
}

impl Resources {
    pub fn now() -> Self {
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Self {
            // One of them is that of the directory being read.
            descriptors: descriptors.saturating_sub(1),
            mappings: maps.matches("memfd:").count(),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        }
    }

    /// Waits until all is as it was, or says what is not.
    pub async fn are_back(&self) {
        let span = Span::new();
        loop {
            let now = Self::now();
            if now.descriptors <= self.descriptors && now.mappings <= self.mappings && now.tasks <= self.tasks
            {
                return;
            }
            if span.exceeds(PATIENCE / 2).await {
                return fault(format_args!(
                    "it has left and holds {now:?}, before it joined {self:?}; descriptors:{Descriptors}"
                ));
            }
            tokio::time::sleep(STEP).await;
        }
    }
}

/// The process is joined and does nothing; then the bus holds nothing for it.
pub async fn settled(member: &Member) {
    let span = Span::new();
    loop {
        let stats = member.bus.stats();
        if stats.pool_buffers == 0 && stats.unreleased == 0 && stats.open_asks == 0 {
            break;
        }
        if span.exceeds(PATIENCE / 2).await {
            return fault(format_args!("all is dropped and something is held: {stats:?}"));
        }
        tokio::time::sleep(STEP).await;
    }
}
