//! What a process has cost so far, by the kernel's count.

use nix::sys::resource::{UsageWho, getrusage};

/// CPU time and sleeps of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usage {
    /// User and system time, in nanoseconds.
    pub cpu_ns: u64,
    /// How often it gave its core back by waiting in the kernel.
    pub sleeps: u64,
    /// Pages it touched for the first time.
    pub faults: u64,
}

impl Usage {
    /// This process up to now.
    ///
    /// # Panics
    /// Never: the kernel knows every process that can ask.
    #[must_use]
    pub fn now() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask about itself");
        let ns = |time: nix::sys::time::TimeVal| {
            time.tv_sec() as u64 * 1_000_000_000 + time.tv_usec() as u64 * 1000
        };
        Self {
            cpu_ns: ns(usage.user_time()) + ns(usage.system_time()),
            sleeps: usage.voluntary_context_switches() as u64,
            faults: usage.minor_page_faults() as u64,
        }
    }

    /// What was used since then.
    #[must_use]
    pub fn since(self, then: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns - then.cpu_ns,
            sleeps: self.sleeps - then.sleeps,
            faults: self.faults - then.faults,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns + other.cpu_ns,
            sleeps: self.sleeps + other.sleeps,
            faults: self.faults + other.faults,
        }
    }
}
