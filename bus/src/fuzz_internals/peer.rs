//! What the test peer of `tests/hostile` needs to speak like a node: packets, and memory of which it writes every word.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use crate::{
    session::{
        frame::{Announcement, Binding, Frame, KindInfo, SubscriptionInfo, TopicInfo},
        hello::{ABI, FEATURES, Hello, PROTOCOL, Role, Verdict},
    },
    shm::{
        bell::Bell,
        cells::Cells,
        layout::{self, MAGIC},
        segment::{Segment, words},
        sync::{AtomicU64, Ordering},
    },
};

/// A dialler's hello.
#[must_use]
pub fn hello(node: &str, id: u64) -> Vec<u8> {
    let hello = Hello {
        protocol: PROTOCOL,
        features: FEATURES,
        abi: ABI,
        id,
        pid: std::process::id(),
        role: Role::Dial,
        bus: "default".to_owned(),
        node: node.to_owned(),
    };
    hello.encode()
}

/// The node's id, by its hello.
#[must_use]
pub fn id_of(hello: &[u8]) -> Option<u64> {
    Hello::decode(hello).ok().map(|hello| hello.id)
}

/// A verdict: welcome.
#[must_use]
pub fn welcome() -> Vec<u8> {
    Verdict::Welcome.encode()
}

/// Why a verdict is a refusal.
#[must_use]
pub fn refusal(verdict: &[u8]) -> Option<String> {
    match Verdict::decode(verdict) {
        Ok(Verdict::Refused(_, why)) => Some(why),
        _ => None,
    }
}

/// A message's type as nodes announce it.
#[derive(Debug, Clone)]
pub struct Kind(KindInfo);

/// What a node said, as far as the test peer wants to know.
#[derive(Debug, Clone)]
pub enum Heard {
    /// An actor's name, port, mailbox and first message type.
    Bound(String, u32, u32, Kind),
    /// No further names follow from before the handshake.
    Introduced,
    /// A subscription: port, mailbox, pattern, message type.
    Subscribed(u32, u32, String, Kind),
    /// A topic: its number, name and message type.
    Topic(u32, String, Kind),
    /// The node's number of the link, and how many slots and returns its half has.
    Link(u32, u32, u32),
    /// The answer to our offer: the same.
    Linked(u32, u32, u32),
    /// The session ends, for this reason.
    Bye(String),
    /// The kind of any other frame.
    Other(&'static str),
}

/// What a packet says; `None` if it is no frame.
#[must_use]
pub fn heard(packet: &[u8], fds: usize) -> Option<Vec<Heard>> {
    let binding = |binding: Binding| {
        let kind = binding.kinds.into_iter().next().map(Kind);
        kind.map(|kind| Heard::Bound(binding.name, binding.port, binding.mailbox, kind))
    };
    Some(match Frame::decode(packet, fds).ok()? {
        Frame::Names { bound, more } => {
            let mut heard: Vec<_> = bound.into_iter().filter_map(binding).collect();
            heard.extend((!more).then_some(Heard::Introduced));
            heard
        }
        Frame::Bound(bound) => binding(bound).into_iter().collect(),
        Frame::Subscribe(wanted) => vec![Heard::Subscribed(
            wanted.port,
            wanted.mailbox,
            wanted.pattern,
            Kind(wanted.kind),
        )],
        Frame::Topic(topic) => vec![Heard::Topic(topic.id, topic.name, Kind(topic.kind))],
        Frame::Link {
            link,
            ring_slots,
            returns,
            ..
        } => vec![Heard::Link(link, ring_slots, returns)],
        Frame::Linked {
            link,
            ring_slots,
            returns,
            ..
        } => vec![Heard::Linked(link, ring_slots, returns)],
        Frame::Bye { reason } => vec![Heard::Bye(reason)],
        other => vec![Heard::Other(other.kind())],
    })
}

fn packet(frame: &Frame) -> Vec<u8> {
    frame.encode().expect("within the limits").to_vec()
}

/// `Names`.
#[must_use]
pub fn names(more: bool) -> Vec<u8> {
    packet(&Frame::Names { bound: vec![], more })
}

/// `Bound`.
#[must_use]
pub fn bound(name: &str, port: u32, mailbox: u32, kind: &Kind) -> Vec<u8> {
    packet(&Frame::Bound(Binding {
        name: name.to_owned(),
        port,
        mailbox,
        window: 64,
        kinds: vec![kind.0.clone()],
    }))
}

/// `Unbound`.
#[must_use]
pub fn unbound(name: &str, port: u32, mailbox: u32) -> Vec<u8> {
    let name = name.to_owned();
    packet(&Frame::Unbound { name, port, mailbox })
}

/// `Describe`.
#[must_use]
pub fn describe(request: u32, name: &str) -> Vec<u8> {
    packet(&Frame::Describe {
        request,
        name: name.to_owned(),
        kind: String::new(),
    })
}

/// `Described`.
#[must_use]
pub fn described(request: u32, schema: Option<Vec<u8>>) -> Vec<u8> {
    packet(&Frame::Described {
        request,
        reply: schema.clone(),
        schema,
    })
}

/// `Link`.
#[must_use]
pub fn link(link: u32, to_port: u32, ring_slots: u32, returns: u32, bytes: u64) -> Vec<u8> {
    packet(&Frame::Link {
        link,
        from_port: 1,
        to_port,
        ring_slots,
        returns,
        bytes,
    })
}

/// `Linked`.
#[must_use]
pub fn linked(link: u32, peer_link: u32, ring_slots: u32, returns: u32, bytes: u64) -> Vec<u8> {
    packet(&Frame::Linked {
        link,
        peer_link,
        ring_slots,
        returns,
        bytes,
    })
}

/// `LinkRefused`.
#[must_use]
pub fn link_refused(link: u32) -> Vec<u8> {
    packet(&Frame::link_refused(link, "because"))
}

/// `Unlink`.
#[must_use]
pub fn unlink(link: u32) -> Vec<u8> {
    packet(&Frame::Unlink { link })
}

/// `Segment`.
#[must_use]
pub fn segment(id: u32, bytes: u64) -> Vec<u8> {
    packet(&Frame::Segment { id, bytes })
}

/// `Topic`.
#[must_use]
pub fn topic(id: u32, name: &str, kind: &Kind) -> Vec<u8> {
    packet(&Frame::Topic(TopicInfo {
        id,
        name: name.to_owned(),
        kind: kind.0.clone(),
    }))
}

/// `Untopic`.
#[must_use]
pub fn untopic(id: u32) -> Vec<u8> {
    packet(&Frame::Untopic { id })
}

/// `Subscribe`.
#[must_use]
pub fn subscribe(port: u32, mailbox: u32, pattern: &str, kind: &Kind, keep: u32) -> Vec<u8> {
    packet(&Frame::Subscribe(SubscriptionInfo {
        port,
        mailbox,
        pattern: pattern.to_owned(),
        kind: kind.0.clone(),
        depth: 65_535,
        wait: false,
        keep,
        group: None,
    }))
}

/// `Unsubscribe`.
#[must_use]
pub fn unsubscribe(port: u32, mailbox: u32) -> Vec<u8> {
    packet(&Frame::Unsubscribe { port, mailbox })
}

/// `Attached`.
#[must_use]
pub fn attached(port: u32, mailbox: u32, topic: u32, link: u32, route: u32) -> Vec<u8> {
    packet(&Frame::Attached {
        port,
        mailbox,
        topic,
        link,
        route,
    })
}

/// `Heard`, of a topic or of a subscription.
#[must_use]
pub fn heard_topic(id: u32) -> Vec<u8> {
    packet(&Frame::Heard(Announcement::Topic { id }))
}

/// The same of a subscription.
#[must_use]
pub fn heard_subscription(port: u32, mailbox: u32) -> Vec<u8> {
    packet(&Frame::Heard(Announcement::Subscription { port, mailbox }))
}

/// `Bye`.
#[must_use]
pub fn bye() -> Vec<u8> {
    packet(&Frame::bye("so long"))
}

/// Bytes of a link segment.
#[must_use]
pub fn link_bytes(ring_slots: u32, returns: u32) -> u64 {
    layout::link_bytes(ring_slots, returns) as u64
}

/// Where the slots of a link segment begin, in words.
#[must_use]
pub fn slots_at(returns: u32) -> usize {
    layout::slots_at(returns) / 8
}

/// Where the return ring of a link segment begins, in words.
pub const RETURNS_AT: usize = layout::RETURNS_AT / 8;
/// Where the loss counters begin, in words.
pub const LOSSES_AT: usize = layout::LOSSES_AT / 8;
/// Where the reader's position stands, in words.
pub const HEAD_AT: usize = 8;
/// Where the word of waiting senders stands, in words.
pub const WAITING_AT: usize = 16;

/// A sealed segment whose every word can be written.
#[derive(Debug)]
pub struct Memory {
    segment: Arc<Segment>,
    words: Cells<AtomicU64>,
}

impl Memory {
    /// So many bytes of zeros.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let segment = Segment::create("hostile", bytes).expect("memory");
        let words = words(&segment);
        Self { segment, words }
    }

    /// A link segment of these sizes, with its header.
    #[must_use]
    pub fn link(ring_slots: u32, returns: u32) -> Self {
        let memory = Self::new(layout::link_bytes(ring_slots, returns));
        memory.store(0, MAGIC);
        memory.store(1, u64::from(ring_slots) | u64::from(returns) << 32);
        memory
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segment.bytes() as u64
    }

    /// Writes a word, after all that was written before.
    pub fn store(&self, at: usize, word: u64) {
        // Release: what came before is seen before.
        self.words[at].store(word, Ordering::Release);
    }

    /// A descriptor of it.
    #[must_use]
    pub fn fd(&self) -> OwnedFd {
        self.segment.fd().try_clone_to_owned().expect("a descriptor")
    }
}

/// An eventfd as ports have it.
///
/// # Errors
/// At the limit of descriptors.
pub fn eventfd() -> io::Result<OwnedFd> {
    let bell = Bell::new().map_err(|error| error.source)?;
    bell.as_fd().try_clone_to_owned()
}
