//! Control frames: what two nodes tell each other after the handshake, one per packet.
//!
//! Frames are archived by rkyv, which both sides agreed on in the handshake, and a received one is
//! checked before a byte of it is used: by rkyv (nothing points outside the packet or overlaps, so what is
//! decoded is at most a few times as large as the packet) and by the limits here. The limits hold on
//! both sides, so a frame that was encoded is always accepted.

use rkyv::{rancor, util::AlignedVec};

use super::{
    denial::DENIED_MAX,
    names,
    socket::MAX_FRAME,
    topics::{outlet::Policy, pattern},
};
use crate::error::NameError;

/// Longest text of any kind, in bytes.
pub(crate) const TEXT_MAX: usize = 256;

/// Most message kinds of one binding. A binding at all limits still fits into one frame.
pub(crate) const KINDS_MAX: usize = 128;

/// Largest depth of a subscription, in messages.
pub(crate) const DEPTH_MAX: usize = 65_535;

/// Most bindings of one frame.
pub(crate) const BINDINGS_MAX: usize = 512;

/// Longest description of one type, in bytes; two of them fit into one frame.
pub(crate) const SCHEMA_MAX: usize = 24 << 10;

/// What a binding handles: a message and the reply to it.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct KindInfo {
    /// The message's stable name.
    pub name: String,
    /// Its schema's fingerprint.
    pub schema: u64,
    /// The fingerprint of its reply's schema; what 0 means is the message layer's business.
    pub reply: u64,
}

/// An actor that is bound at the sending node.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct Binding {
    /// The actor's name.
    pub name: String,
    /// The port that drains its mailbox.
    pub port: u32,
    /// The mailbox.
    pub mailbox: u32,
    /// Most unreleased messages of one sending port in it.
    pub window: u32,
    /// What it handles.
    pub kinds: Vec<KindInfo>,
}

/// A topic that the sending node publishes.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct TopicInfo {
    /// The sender's number for it, never used again.
    pub id: u32,
    /// The topic's name.
    pub name: String,
    /// Its messages.
    pub kind: KindInfo,
}

/// A subscription of the sending node.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct SubscriptionInfo {
    /// The port and mailbox that the messages are for.
    pub port: u32,
    pub mailbox: u32,
    /// The topics it wants.
    pub pattern: String,
    /// The messages it expects.
    pub kind: KindInfo,
    /// Most messages of one publisher and topic that it holds or has waiting.
    pub depth: u32,
    /// Whether the publisher waits for it, where `keep` is 0.
    pub wait: bool,
    /// 0, or how many of the last messages are kept when there is no room.
    pub keep: u32,
    /// Members of one group share the messages.
    pub group: Option<String>,
}

impl TopicInfo {
    /// How its announcement is acknowledged.
    pub(crate) fn announcement(&self) -> Announcement {
        Announcement::Topic { id: self.id }
    }
}

impl SubscriptionInfo {
    /// How its announcement is acknowledged.
    pub(crate) fn announcement(&self) -> Announcement {
        Announcement::Subscription {
            port: self.port,
            mailbox: self.mailbox,
        }
    }

    /// What happens when there is no room.
    pub(crate) fn policy(&self) -> Policy {
        match (self.keep, self.wait) {
            (0, true) => Policy::Wait,
            (0, false) => Policy::DropNewest,
            (keep, _) => Policy::KeepLast(keep as usize),
        }
    }

    /// Most messages under way: what is kept at the publisher counts towards the depth too.
    pub(crate) fn window(&self) -> u32 {
        self.depth.saturating_sub(self.keep).max(1)
    }
}

/// What is told to every peer, and acknowledged by each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) enum Announcement {
    /// A [`Frame::Topic`], by its number.
    Topic { id: u32 },
    /// A [`Frame::Subscribe`], by its port and mailbox.
    Subscription { port: u32, mailbox: u32 },
}

/// What a node of another user is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) enum Denial {
    /// To call actors that are bound at the sender.
    Call,
    /// To bind names that the sender takes note of.
    Bind,
    /// To publish topics to the sender's subscriptions.
    Publish,
    /// To subscribe to topics of the sender.
    Subscribe,
}

/// One control frame. Ids of links are the sender's.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) enum Frame {
    /// All that is bound at the sender: the first frame(s) of a session. More follow while `more` is set.
    Names { bound: Vec<Binding>, more: bool },
    /// An actor was bound.
    Bound(Binding),
    /// An actor is no longer bound.
    Unbound { name: String, port: u32, mailbox: u32 },
    /// Asks for the schemas of a kind, to say what differs.
    Describe {
        request: u32,
        name: String,
        kind: String,
    },
    /// Answers that, with archived schemas; `None` where the kind is unknown or its schema too long.
    Described {
        request: u32,
        schema: Option<Vec<u8>>,
        reply: Option<Vec<u8>>,
    },
    /// Sets up a link between two ports. With it: link segment, bell segment, eventfd (between users a socket).
    Link {
        link: u32,
        from_port: u32,
        to_port: u32,
        ring_slots: u32,
        returns: u32,
        bytes: u64,
    },
    /// The other half of the link `peer_link`. With it: the same of this half.
    Linked {
        link: u32,
        peer_link: u32,
        ring_slots: u32,
        returns: u32,
        bytes: u64,
    },
    /// No link; `link` is the asker's id.
    LinkRefused { link: u32, reason: String },
    /// The sender's link is no longer used.
    Unlink { link: u32 },
    /// A segment of the sender's pool. With it: the segment.
    Segment { id: u32, bytes: u64 },
    /// The sender publishes a topic.
    Topic(TopicInfo),
    /// The sender subscribes.
    Subscribe(SubscriptionInfo),
    /// A subscription of the sender has ended.
    Unsubscribe { port: u32, mailbox: u32 },
    /// From now on the subscription gets the sender's topic, by this route of the link.
    Attached {
        port: u32,
        mailbox: u32,
        topic: u32,
        link: u32,
        route: u32,
    },
    /// The sender no longer publishes a topic.
    Untopic { id: u32 },
    /// Acknowledges what the receiver announced, once: the sender knows the topic, or has sent an `Attached` for each
    /// of its topics that the subscription gets.
    Heard(Announcement),
    /// The receiver may not have these names of actors or topics.
    Denied { what: Denial, names: Vec<String> },
    /// The sender leaves.
    Bye { reason: String },
}

/// Why a frame cannot be sent or was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes; the limit is {MAX_FRAME}")]
    Size(usize),
    #[error("not a valid frame: {0}")]
    Archive(String),
    #[error("a {kind} frame with {got} descriptors; it takes {want}")]
    Descriptors {
        kind: &'static str,
        got: usize,
        want: usize,
    },
    #[error("a {kind} frame whose {what} has a length of {got} (limit {limit})")]
    Limit {
        kind: &'static str,
        what: &'static str,
        got: usize,
        limit: usize,
    },
    #[error("a {kind} frame with a name that is not valid: {problem}")]
    Name {
        kind: &'static str,
        problem: &'static str,
    },
}

impl Frame {
    /// The frame as one packet.
    ///
    /// # Errors
    /// If it is beyond a limit of this module.
    pub(crate) fn encode(&self) -> Result<AlignedVec, FrameError> {
        self.check()?;
        let bytes =
            rkyv::to_bytes::<rancor::Error>(self).map_err(|error| FrameError::Archive(error.to_string()))?;
        if bytes.len() > MAX_FRAME {
            Err(FrameError::Size(bytes.len()))
        } else {
            Ok(bytes)
        }
    }

    /// Reads a packet of a peer, with which `fds` descriptors came.
    ///
    /// # Errors
    /// What is wrong with it; the session should be closed.
    pub(crate) fn decode(bytes: &[u8], fds: usize) -> Result<Self, FrameError> {
        if bytes.len() > MAX_FRAME {
            return Err(FrameError::Size(bytes.len()));
        }
        // The receive buffer is not aligned for an archive.
        let mut aligned = AlignedVec::<16>::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        let frame = rkyv::from_bytes::<Self, rancor::Error>(&aligned)
            .map_err(|error| FrameError::Archive(error.to_string()))?;
        frame.check()?;
        let want = frame.fds();
        if fds == want {
            Ok(frame)
        } else {
            Err(FrameError::Descriptors {
                kind: frame.kind(),
                got: fds,
                want,
            })
        }
    }

    /// All bindings, in as few [`Frame::Names`] as they fit into (one, if there are none).
    pub(crate) fn names(bindings: impl IntoIterator<Item = Binding>) -> Vec<Self> {
        let mut frames = Vec::new();
        let mut bound = Vec::new();
        let mut bytes = 0;
        for binding in bindings {
            let more = archived_at_most(&binding);
            if bytes + more > MAX_FRAME - FRAME_OVERHEAD || bound.len() == BINDINGS_MAX {
                frames.push(Frame::Names {
                    bound: std::mem::take(&mut bound),
                    more: true,
                });
                bytes = 0;
            }
            bytes += more;
            bound.push(binding);
        }
        frames.push(Frame::Names { bound, more: false });
        frames
    }

    /// A refusal of a link; a reason too long for the frame is cut.
    pub(crate) fn link_refused(link: u32, reason: &str) -> Self {
        Frame::LinkRefused {
            link,
            reason: names::cut(reason, TEXT_MAX).to_owned(),
        }
    }

    /// A farewell; a reason too long for the frame is cut.
    pub(crate) fn bye(reason: &str) -> Self {
        Frame::Bye {
            reason: names::cut(reason, TEXT_MAX).to_owned(),
        }
    }

    /// What the receiver is to acknowledge.
    pub(crate) fn announcement(&self) -> Option<Announcement> {
        match self {
            Frame::Topic(topic) => Some(topic.announcement()),
            Frame::Subscribe(wanted) => Some(wanted.announcement()),
            _ => None,
        }
    }

    /// How many descriptors come with it.
    pub(crate) fn fds(&self) -> usize {
        match self {
            Frame::Link { .. } | Frame::Linked { .. } => 3,
            Frame::Segment { .. } => 1,
            _ => 0,
        }
    }

    /// Its kind, for errors and logs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Frame::Names { .. } => "Names",
            Frame::Bound(_) => "Bound",
            Frame::Unbound { .. } => "Unbound",
            Frame::Describe { .. } => "Describe",
            Frame::Described { .. } => "Described",
            Frame::Link { .. } => "Link",
            Frame::Linked { .. } => "Linked",
            Frame::LinkRefused { .. } => "LinkRefused",
            Frame::Unlink { .. } => "Unlink",
            Frame::Segment { .. } => "Segment",
            Frame::Topic(_) => "Topic",
            Frame::Subscribe(_) => "Subscribe",
            Frame::Unsubscribe { .. } => "Unsubscribe",
            Frame::Attached { .. } => "Attached",
            Frame::Untopic { .. } => "Untopic",
            Frame::Heard(_) => "Heard",
            Frame::Denied { .. } => "Denied",
            Frame::Bye { .. } => "Bye",
        }
    }

    /// Whether it is within the limits of this module.
    fn check(&self) -> Result<(), FrameError> {
        let kind = self.kind();
        match self {
            Frame::Names { bound, .. } => {
                within(kind, "list of bindings", bound.len(), BINDINGS_MAX)?;
                bound.iter().try_for_each(|binding| binding.check(kind))
            }
            Frame::Bound(binding) => binding.check(kind),
            Frame::Unbound { name, .. } => actor(kind, name),
            Frame::Describe {
                name, kind: message, ..
            } => {
                // An actor's name, a topic or a pattern.
                within(kind, "name", name.len(), TEXT_MAX)?;
                within(kind, "message name", message.len(), TEXT_MAX)
            }
            Frame::Described { schema, reply, .. } => [schema, reply]
                .into_iter()
                .flatten()
                .try_for_each(|schema| within(kind, "schema", schema.len(), SCHEMA_MAX)),
            Frame::LinkRefused { reason, .. } | Frame::Bye { reason } => {
                within(kind, "reason", reason.len(), TEXT_MAX)
            }
            Frame::Topic(topic) => {
                within(kind, "message name", topic.kind.name.len(), TEXT_MAX)?;
                named(kind, pattern::check_topic(&topic.name))
            }
            Frame::Subscribe(wanted) => {
                within(kind, "message name", wanted.kind.name.len(), TEXT_MAX)?;
                within(
                    kind,
                    "group name",
                    wanted.group.as_ref().map_or(0, String::len),
                    TEXT_MAX,
                )?;
                within(kind, "depth", wanted.depth as usize, DEPTH_MAX)?;
                within(
                    kind,
                    "number of kept messages",
                    wanted.keep as usize,
                    wanted.depth as usize,
                )?;
                named(kind, pattern::check_pattern(&wanted.pattern))
            }
            Frame::Denied { names, .. } => {
                within(kind, "list of names", names.len(), DENIED_MAX)?;
                names
                    .iter()
                    .try_for_each(|name| within(kind, "name", name.len(), TEXT_MAX))
            }
            Frame::Link { .. }
            | Frame::Linked { .. }
            | Frame::Unlink { .. }
            | Frame::Segment { .. }
            | Frame::Unsubscribe { .. }
            | Frame::Attached { .. }
            | Frame::Untopic { .. }
            | Frame::Heard(_) => Ok(()),
        }
    }
}

impl Binding {
    fn check(&self, kind: &'static str) -> Result<(), FrameError> {
        actor(kind, &self.name)?;
        within(kind, "list of messages", self.kinds.len(), KINDS_MAX)?;
        self.kinds
            .iter()
            .try_for_each(|info| within(kind, "message name", info.name.len(), TEXT_MAX))
    }
}

/// What a frame takes besides its bindings, with room to spare.
const FRAME_OVERHEAD: usize = 256;

/// An upper bound of a binding's share of an archived frame: its own record, its kinds' records, the
/// texts, and padding after each.
fn archived_at_most(binding: &Binding) -> usize {
    let kinds = binding
        .kinds
        .iter()
        .map(|kind| size_of::<ArchivedKindInfo>() + kind.name.len() + 8);
    size_of::<ArchivedBinding>() + binding.name.len() + 16 + kinds.sum::<usize>()
}

fn within(kind: &'static str, what: &'static str, got: usize, limit: usize) -> Result<(), FrameError> {
    if got <= limit {
        Ok(())
    } else {
        Err(FrameError::Limit {
            kind,
            what,
            got,
            limit,
        })
    }
}

fn actor(kind: &'static str, name: &str) -> Result<(), FrameError> {
    named(kind, names::check("actor", name))
}

fn named(kind: &'static str, checked: Result<(), NameError>) -> Result<(), FrameError> {
    checked.map_err(|error| FrameError::Name {
        kind,
        problem: error.problem,
    })
}

#[cfg(test)]
mod tests;
