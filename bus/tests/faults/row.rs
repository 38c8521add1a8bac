//! The table's rows and columns: where a process is struck, with what messages under way, how, and in which role.

use shmbus::faults::Point;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Sender,
    Receiver,
    Publisher,
    Subscriber,
    Member,
    Asker,
    Answerer,
}

impl Role {
    pub const ALL: [Role; 7] = [
        Role::Sender,
        Role::Receiver,
        Role::Publisher,
        Role::Subscriber,
        Role::Member,
        Role::Asker,
        Role::Answerer,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Role::Sender => "sender",
            Role::Receiver => "receiver",
            Role::Publisher => "publisher",
            Role::Subscriber => "subscriber",
            Role::Member => "member",
            Role::Asker => "asker",
            Role::Answerer => "answerer",
        }
    }

    pub fn sends(self) -> bool {
        matches!(
            self,
            Role::Sender | Role::Publisher | Role::Asker | Role::Answerer
        )
    }

    pub fn gets(self) -> bool {
        !matches!(self, Role::Sender | Role::Publisher)
    }

    /// Whether it opens the link that its messages take.
    pub fn opens(self) -> bool {
        matches!(self, Role::Sender | Role::Publisher | Role::Asker)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    Kill,
    StopContinue,
    StopKill,
}

impl Strike {
    pub const ALL: [Strike; 3] = [Strike::Kill, Strike::StopContinue, Strike::StopKill];

    pub fn name(self) -> &'static str {
        match self {
            Strike::Kill => "KILL",
            Strike::StopContinue => "STOP, CONT",
            Strike::StopKill => "STOP, KILL",
        }
    }
}

/// What messages a cell sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// In their slots, and in buffers of several classes.
    Usual,
    /// Each with a segment of its own.
    Large,
    /// Small ones, of which several share a buffer.
    Batch,
}

impl Load {
    pub const ALL: [Load; 3] = [Load::Usual, Load::Large, Load::Batch];

    /// Its name in commands, and before that of a point.
    pub fn name(self) -> &'static str {
        match self {
            Load::Usual => "usual",
            Load::Large => "large",
            Load::Batch => "batch",
        }
    }

    pub fn named(name: &str) -> Self {
        let known = Load::ALL.into_iter().find(|load| load.name() == name);
        known.expect("a load")
    }

    /// How many messages a cell sends: more than receivers have room for.
    pub fn messages(self) -> u64 {
        match self {
            Load::Usual => 40,
            Load::Large => 16,
            Load::Batch => 160,
        }
    }

    /// How many of them are sent by one call.
    pub fn run(self) -> u64 {
        if self == Load::Batch { 40 } else { 1 }
    }

    /// Unreleased messages that a receiver allows: senders wait for room. A quarter of it may be in one batch.
    pub fn window(self) -> u32 {
        if self == Load::Batch { 32 } else { 8 }
    }

    /// Payloads of the messages, in bytes, in turn.
    pub fn sizes(self) -> &'static [usize] {
        match self {
            Load::Usual => &[0, 3000, 200, 100_000, 8, 10_000],
            // Above 4 MiB, the largest buffer of so small segments.
            Load::Large => &[(4 << 20) + 4096, (4 << 20) + 100],
            Load::Batch => &[0, 200, 8, 700],
        }
    }
}

/// A point, and what is under way there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub point: Point,
    pub load: Load,
}

/// Where it makes a difference that a message has a segment of its own.
const LARGE: [Point; 11] = [
    Point::Taken,
    Point::Claimed,
    Point::Published,
    Point::Growing,
    Point::Announced,
    Point::Delivered,
    Point::Returning,
    Point::Returned,
    Point::Waking,
    Point::HandOver,
    Point::Refusing,
];

/// Where it makes a difference that messages share a buffer.
const BATCH: [Point; 9] = [
    Point::Taken,
    Point::Archiving,
    Point::Claimed,
    Point::Published,
    Point::Delivered,
    Point::Unbatching,
    Point::Returning,
    Point::Returned,
    Point::Waking,
];

impl Row {
    pub fn all() -> impl Iterator<Item = Row> {
        let usual = Point::ALL.iter().filter(|&&point| point != Point::Unbatching);
        let usual = usual.map(|&point| (point, Load::Usual));
        let large = LARGE.map(|point| (point, Load::Large));
        let batch = BATCH.map(|point| (point, Load::Batch));
        let all = usual.chain(large).chain(batch);
        all.map(|(point, load)| Row { point, load })
    }

    pub fn name(self) -> String {
        match self.load {
            Load::Usual => self.point.name().to_owned(),
            load => format!("{}: {}", load.name(), self.point.name()),
        }
    }

    /// At which passage: somewhere in the midst of the traffic.
    pub fn nth(self) -> u32 {
        match (self.point, self.load) {
            (Point::Unbatching, _) => 4,
            (Point::Delivered, Load::Large) => 3,
            (Point::Claimed | Point::Published, Load::Large) => 3,
            (Point::Taken | Point::Claimed | Point::Published | Point::Delivered, Load::Batch) => 2,
            (Point::Archiving, Load::Batch) => 12,
            (Point::Claimed | Point::Published, _) => 5,
            (Point::Archiving | Point::Delivered, _) => 4,
            (Point::Taken | Point::History, _) => 3,
            (Point::Ringing | Point::Growing | Point::Announced | Point::Returning | Point::Returned, _) => 2,
            (Point::Parked | Point::HandOver | Point::Refusing, _) => 2,
            _ => 1,
        }
    }
}

/// Why a role never comes to a point: a letter, and what it stands for.
pub const REASONS: [(char, &str); 12] = [
    ('a', "sends no messages"),
    ('b', "gets no messages"),
    ('c', "whoever answers it has room kept, and never waits"),
    ('d', "its links are opened by the other side"),
    ('e', "opens its links itself"),
    (
        'f',
        "keeps no history, and no messages that wait for a subscription",
    ),
    ('g', "has no group to share messages among"),
    ('h', "gives nothing back unhandled: it is in no group"),
    (
        'i',
        "its publisher waits only while all members are full, which is not certain here",
    ),
    (
        'j',
        "its messages do not travel in batches: only those of `tell_all` and `ask_all` do",
    ),
    (
        'k',
        "not tried: its links are refused and ended by the same code as those of tells and asks",
    ),
    (
        'l',
        "who asks many by one call waits for replies, of which each makes room, and wakes nobody else",
    ),
];

/// `None`: the cell is tried.
pub fn not_applicable(Row { point, load }: Row, role: Role) -> Option<char> {
    if load == Load::Batch && matches!(role, Role::Publisher | Role::Subscriber | Role::Member) {
        return Some('j');
    }
    if load == Load::Batch && point == Point::Waking && role == Role::Answerer {
        return Some('l');
    }
    let (reason, applies) = match point {
        Point::Taken
        | Point::Archiving
        | Point::Claimed
        | Point::Published
        | Point::Ringing
        | Point::Growing
        | Point::Announced => ('a', role.sends()),
        // The release of a large message is always told at once.
        Point::Waking if role == Role::Asker && load != Load::Large => ('c', false),
        Point::Waking if role == Role::Member && load != Load::Large => ('i', false),
        Point::Delivered | Point::Returning | Point::Returned | Point::Waking | Point::Unbatching => {
            ('b', role.gets())
        }
        Point::LinkOffer | Point::LinkOffered | Point::LinkJoining | Point::LinkJoined => ('d', role.opens()),
        Point::LinkHeard | Point::LinkAnswer | Point::LinkAnswered => ('e', !role.opens()),
        Point::LinkRefusing
        | Point::LinkRefused
        | Point::RefusalHeard
        | Point::RefusalTold
        | Point::Unlinking
        | Point::Unlinked
        | Point::UnlinkHeard
        | Point::UnlinkDone
            if matches!(role, Role::Publisher | Role::Subscriber | Role::Member) =>
        {
            ('k', false)
        }
        Point::LinkRefusing | Point::LinkRefused => ('e', !role.opens()),
        Point::RefusalHeard | Point::RefusalTold => ('d', role.opens()),
        Point::Unlinking | Point::Unlinked | Point::UnlinkHeard | Point::UnlinkDone => (' ', true),
        Point::History => ('f', role == Role::Publisher),
        Point::HandOver => ('g', role == Role::Publisher),
        Point::Refusing => ('h', role == Role::Member),
        Point::Parked
        | Point::DialHello
        | Point::DialVerdict
        | Point::DialEnd
        | Point::AcceptHello
        | Point::AcceptVerdict
        | Point::AcceptEnd => (' ', true),
    };
    (!applies).then_some(reason)
}
