//! What is measured.

use std::{fmt, path::PathBuf, time::Duration};

use clap::ValueEnum;

/// How many asks [`Case::Ask64`] keeps in flight.
pub const IN_FLIGHT: usize = 64;

/// A pattern of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// Round trips, one in flight; the reply is as long as the message.
    Ask,
    /// Round trips, 64 in flight.
    Ask64,
    /// One way, as fast as the receiver takes them, none lost.
    Tell,
}

impl Case {
    /// Whether messages are answered.
    #[must_use]
    pub fn is_round_trip(self) -> bool {
        self != Case::Tell
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Case::Ask => "ask",
            Case::Ask64 => "ask64",
            Case::Tell => "tell",
        })
    }
}

/// One measurement, as both of its processes know it.
#[derive(Debug, Clone)]
pub struct Run {
    /// What is measured.
    pub case: Case,
    /// Bytes per message.
    pub payload: usize,
    /// How long.
    pub duration: Duration,
    /// Where sockets are made.
    pub dir: PathBuf,
    /// A window other than shmbus's default.
    pub window: Option<u32>,
}
