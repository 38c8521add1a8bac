//! Who is who, in numbers that messages and ledgers carry.

use std::fmt;

/// A process: its place among those that run at a time, and how many were there before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Who(pub u64);

impl Who {
    pub fn new(slot: u16, incarnation: u32) -> Self {
        Self(u64::from(slot) << 32 | u64::from(incarnation))
    }

    pub fn slot(self) -> u16 {
        (self.0 >> 32) as u16
    }

    pub fn incarnation(self) -> u32 {
        self.0 as u32
    }
}

/// Also the node's name.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}-{}", self.slot(), self.incarnation())
    }
}

/// Names of one place: another incarnation binds them again.
pub fn mailbox(slot: u16, index: u64) -> String {
    format!("box-{slot}-{index}")
}

/// Single asks that a caller has under way at a time.
pub const LANES: u64 = 8;
/// Together with its streams of asks, which have the lanes behind those.
pub const ALL_LANES: u64 = LANES + 2;

/// The flow that the asks of a caller's lane are: numbered by themselves.
pub fn lane_of(caller: u64, lane: u64) -> u64 {
    caller * ALL_LANES + lane
}

/// Whether a flow of asks is that of a stream, by `ask_all`.
pub fn is_stream(flow: u64) -> bool {
    flow % ALL_LANES >= LANES
}

/// What kind of topic: who publishes it and who subscribes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Realm {
    /// One publisher, any subscribers.
    Own,
    /// Any publishers, any subscribers.
    Shared,
    /// One publisher, one group.
    Jobs,
}

/// A topic of one publisher: its realm and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(pub u64);

impl TopicId {
    pub fn new(realm: Realm, number: u64) -> Self {
        Self((realm as u64) << 56 | number)
    }

    pub fn realm(self) -> Option<Realm> {
        match self.0 >> 56 {
            0 => Some(Realm::Own),
            1 => Some(Realm::Shared),
            2 => Some(Realm::Jobs),
            _ => None,
        }
    }

    pub fn name(self, publisher: Who) -> String {
        let number = self.0 & 0x00ff_ffff_ffff_ffff;
        match self.realm() {
            Some(Realm::Own) => format!("own.{publisher}.{number}"),
            Some(Realm::Shared) => format!("shared.{number}"),
            Some(Realm::Jobs) => format!("jobs.{publisher}.{number}"),
            None => format!("none.{number}"),
        }
    }
}
