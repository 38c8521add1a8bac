//! What the three processes say to each other.
//!
//! What the sampler reads it publishes, one topic per kind, for whoever wants it. Its messages carry the number of the
//! *run* they belong to. Their place in it, counted from 0, they need not carry: every message of a topic knows its
//! [sequence number](shmbus::Origin::sequence). So a subscriber can tell a lost message (a gap) from a new beginning
//! (another run).

use shmbus::prelude::*;

/// The topics of the sampler.
pub mod topic {
    pub const CPU: &str = "telemetry.cpu";
    pub const MEMORY: &str = "telemetry.memory";
    pub const PROCESSES: &str = "telemetry.processes";
    pub const FINISHED: &str = "telemetry.finished";
}

/// On [`topic::CPU`]: time spent, and how many wanted to.
#[derive(Debug, ShmMessage)]
pub struct Cpu {
    pub run: u64,
    /// When it was sampled, in microseconds since the sampler began.
    pub at_us: u64,
    pub cpus: Vec<CpuTimes>,
    pub load: Load,
}

/// On [`topic::MEMORY`]: memory in use.
#[derive(Debug, ShmMessage)]
pub struct MemoryUse {
    pub run: u64,
    pub memory: Memory,
}

/// On [`topic::PROCESSES`]: every process.
#[derive(Debug, ShmMessage)]
pub struct Processes {
    pub run: u64,
    /// When they were sampled, in microseconds since the sampler began.
    pub at_us: u64,
    pub processes: Vec<Process>,
}

/// On [`topic::FINISHED`]: a run is over, and had this many messages on each topic. Messages of one topic keep their
/// order; between topics there is none, so this may arrive before the last of the others.
#[derive(Debug, ShmMessage)]
pub struct Finished {
    pub run: u64,
    pub cpu: u64,
    pub memory: u64,
    pub processes: u64,
}

/// Viewer to analyst: what do you know?
#[derive(Debug, ShmMessage)]
#[shm(reply = View)]
pub struct Snapshot {
    /// At most this many processes, the busiest first.
    pub top: u32,
}

/// The analyst's answer.
#[derive(Debug, Default, ShmMessage)]
pub struct View {
    pub cpus: Vec<CpuShare>,
    pub memory: Memory,
    pub load: Load,
    pub busiest: Vec<Busy>,
    /// How many processes there are in all.
    pub processes: u32,
    /// Milliseconds since the sampler's last message; none while there was none.
    pub silent_ms: Option<u64>,
    pub totals: Totals,
}

/// Time a CPU has spent since boot, in milliseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ShmType)]
pub struct CpuTimes {
    pub user: u64,
    pub system: u64,
    /// Taken by the hypervisor for others.
    pub steal: u64,
    pub idle: u64,
}

impl From<&ArchivedCpuTimes> for CpuTimes {
    fn from(times: &ArchivedCpuTimes) -> Self {
        Self {
            user: times.user.to_native(),
            system: times.system.to_native(),
            steal: times.steal.to_native(),
            idle: times.idle.to_native(),
        }
    }
}

/// In bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ShmType)]
pub struct Memory {
    pub total: u64,
    pub available: u64,
    pub swap_total: u64,
    pub swap_free: u64,
}

/// Averages over one, five and fifteen minutes.
#[derive(Debug, Default, Clone, Copy, PartialEq, ShmType)]
pub struct Load {
    pub one: f32,
    pub five: f32,
    pub fifteen: f32,
}

/// One process as sampled.
#[derive(Debug, ShmType)]
pub struct Process {
    pub pid: i32,
    /// When it started, in clock ticks since boot: with the pid, it names a process for good.
    pub started: u64,
    pub name: String,
    /// The letter /proc uses, in ASCII: `R` running, `S` sleeping, ...
    pub state: u8,
    /// CPU time used so far, in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory in bytes.
    pub rss: u64,
}

/// How busy a CPU is, in percent.
#[derive(Debug, Default, Clone, Copy, PartialEq, ShmType)]
pub struct CpuShare {
    pub user: f32,
    pub system: f32,
    pub steal: f32,
}

/// One of the busiest processes.
#[derive(Debug, Clone, PartialEq, ShmType)]
pub struct Busy {
    pub pid: i32,
    pub name: String,
    pub state: u8,
    /// In percent of one CPU.
    pub cpu: f32,
    /// Resident memory in bytes.
    pub rss: u64,
}

/// What came of the sampler's messages, on all three topics and over all runs, since the analyst began.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ShmType)]
pub struct Totals {
    pub runs: u32,
    /// By their sequence numbers.
    pub sent: u64,
    /// By counting.
    pub received: u64,
    /// By what the subscriptions say that they lost.
    pub lost: u64,
    /// The sampler's last run is over, and the three numbers add up: no more messages are on their way.
    pub finished: bool,
}
