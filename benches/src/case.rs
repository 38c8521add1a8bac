//! What is measured.

use std::{fmt, path::PathBuf, time::Duration};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How many asks [`Case::Ask64`] keeps in flight.
pub const IN_FLIGHT: usize = 64;

/// How long [`Case::IdleWake`] keeps still before each message.
pub const SILENCE: Duration = Duration::from_millis(10);

/// The time between two messages of [`Case::Cpu`].
pub const PERIOD: Duration = Duration::from_micros(100);

/// How many processes subscribe in [`Case::Fanout`], one measurement each.
pub const FANOUTS: [usize; 3] = [1, 2, 4];

/// A pattern of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Case {
    /// Round trips, one in flight; the reply is as long as the message.
    Ask,
    /// Round trips, 64 in flight.
    Ask64,
    /// One way, as fast as the receiver takes them, none lost.
    Tell,
    /// From one process to 1, 2 and 4 others, each of which gets every message, none lost.
    Fanout,
    /// A message after 10 ms of silence, one way: half of its round trip.
    IdleWake,
    /// What both processes cost at 10,000 messages per second, one way.
    Cpu,
}

impl Case {
    /// Whether messages are answered.
    #[must_use]
    pub fn is_round_trip(self) -> bool {
        matches!(self, Case::Ask | Case::Ask64 | Case::IdleWake)
    }

    /// Whether the time of single messages is measured.
    #[must_use]
    pub fn is_timed(self) -> bool {
        self.is_round_trip()
    }

    /// Whether the sender waits before each message, instead of sending as fast as it can.
    #[must_use]
    pub fn is_paced(self) -> bool {
        matches!(self, Case::IdleWake | Case::Cpu)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Case::Ask => "ask",
            Case::Ask64 => "ask64",
            Case::Tell => "tell",
            Case::Fanout => "fanout",
            Case::IdleWake => "idle-wake",
            Case::Cpu => "cpu",
        })
    }
}

/// What the messages are made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Kind {
    /// Plain bytes; 32 and 64 of them as a fixed array, more as a `Vec<u8>`.
    #[default]
    Bytes,
    /// A `String` and a `Vec<u64>`, one fifth of the payload being text (shmbus, tell).
    Mixed,
}

/// How many take part, on a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// What the messages are made of.
    pub kind: Kind,
    /// Sending threads in each client process.
    pub senders: u32,
    /// Actors in the server, which each sender takes in turn.
    pub mailboxes: u32,
    /// Client processes.
    pub clients: u32,
    /// Messages that each actor keeps before it lets the oldest go.
    pub held: u32,
    /// A window other than the default.
    pub window: Option<u32>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            kind: Kind::Bytes,
            senders: 1,
            mailboxes: 1,
            clients: 1,
            held: 0,
            window: None,
        }
    }
}

impl Shape {
    /// Whether every system can do it, not only one with actors.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let window = self.window;
        *self
            == Shape {
                window,
                ..Shape::default()
            }
    }
}

/// One point of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The pattern.
    pub case: Case,
    /// Bytes per message.
    pub payload: usize,
    /// Receiving processes: 1 but for [`Case::Fanout`].
    pub receivers: usize,
}

impl Point {
    /// The case's name, with the number of receivers where there may be several.
    #[must_use]
    pub fn label(&self) -> String {
        match self.case {
            Case::Fanout => format!("{}-{}", self.case, self.receivers),
            case => case.to_string(),
        }
    }
}

/// Which of the processes of a measurement one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Answers and counts; the receiver of this number.
    Server(usize),
    /// Sends, and has the clock; the client of this number.
    Client(usize),
}

/// One measurement, as each of its processes knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Whose view this is.
    pub role: Role,
    /// The system's name.
    pub system: String,
    /// What is measured.
    pub point: Point,
    /// How many take part.
    pub shape: Shape,
    /// How long.
    pub seconds: f64,
    /// Whether each process has a core of its own.
    pub pin: bool,
    /// Where sockets are made.
    pub dir: PathBuf,
}

impl Run {
    /// The pattern.
    #[must_use]
    pub fn case(&self) -> Case {
        self.point.case
    }

    /// Bytes per message.
    #[must_use]
    pub fn payload(&self) -> usize {
        self.point.payload
    }

    /// How long.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// This process's number among those of its role.
    #[must_use]
    pub fn index(&self) -> usize {
        match self.role {
            Role::Server(index) | Role::Client(index) => index,
        }
    }
}
