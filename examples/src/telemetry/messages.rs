//! What the three processes say to each other.
//!
//! The sampler's messages carry the number of the *run* they belong to and their place in it, counted from 0, so
//! that the analyst can tell a lost message (a gap) from a new beginning (another run).

use shmbus::prelude::*;

/// Sampler to analyst: the machine as a whole.
#[derive(Debug, ShmMessage)]
pub struct System {
    pub run: u64,
    pub number: u64,
    /// When it was sampled, in microseconds since the sampler began.
    pub at_us: u64,
    pub cpus: Vec<CpuTimes>,
    pub memory: Memory,
    pub load: Load,
}

/// Sampler to analyst: every process.
#[derive(Debug, ShmMessage)]
pub struct Processes {
    pub run: u64,
    pub number: u64,
    /// When they were sampled, in microseconds since the sampler began.
    pub at_us: u64,
    pub processes: Vec<Process>,
}

/// Sampler to analyst: a run is over, and had this many messages.
#[derive(Debug, ShmMessage)]
pub struct Finished {
    pub run: u64,
    pub sent: u64,
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

/// What came of the sampler's messages, over all runs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ShmType)]
pub struct Totals {
    pub runs: u32,
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    /// The sampler said that its last run is over: no more messages are on their way.
    pub finished: bool,
}
