//! Everything that can go wrong, by the call that says so.
//!
//! Each error names what happened, the thing concerned and, where there is one, the setting of
//! [`Config`](crate::Config) that decides it.

use std::{io, path::PathBuf, time::Duration};

/// Why [`Bus::join`](crate::Bus::join) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// A node or bus name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A live node already has this name.
    #[error("node name `{name}` is taken by process {pid} ({socket}); join under another name")]
    NameTaken {
        /// The name asked for.
        name: String,
        /// The process that holds it (0 where the kernel does not say).
        pid: i32,
        /// Its socket.
        socket: PathBuf,
    },
    /// The socket's path does not fit into a socket address.
    #[error(
        "the socket path {path} is {len} bytes long and a socket address holds {limit}; \
         use a shorter runtime directory (`Config::dir`, SHMBUS_DIR), bus or node name"
    )]
    PathTooLong {
        /// The path that would be needed.
        path: PathBuf,
        /// Its length in bytes.
        len: usize,
        /// The most a socket address holds, in bytes.
        limit: usize,
    },
    /// The runtime directory is unsafe to use: it belongs to somebody else or others may write there.
    #[error("runtime directory {dir} {problem}; fix it, or choose another by `Config::dir` or SHMBUS_DIR")]
    DirUnsafe {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The runtime directory could not be made or used.
    #[error(
        "runtime directory {dir}: cannot {action}: {source}; choose another by `Config::dir` or SHMBUS_DIR"
    )]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A setting is out of range.
    #[error("config: `{setting}` is {value}, but must be {must}")]
    Config {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        must: String,
    },
    /// Shared memory, an eventfd or another kernel object could not be made.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// Called outside a tokio runtime, or in one without I/O or time enabled.
    #[error("no tokio runtime with I/O and time enabled here: {0}")]
    Runtime(String),
}

/// A name that is not valid: of a bus, a node, an actor or a topic, or a pattern of such names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a valid {}: {problem} (at byte {at})", thing(what))]
pub struct NameError {
    /// What the name was for: `bus`, `node`, `actor`, `topic`, `topic pattern` or `actor name pattern`.
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// What is wrong.
    pub problem: &'static str,
    /// Where, in bytes from the start.
    pub at: usize,
}

/// What somebody wanted to name.
fn thing(what: &str) -> String {
    if what.ends_with("pattern") {
        what.to_owned()
    } else {
        format!("{what} name")
    }
}

/// A limit of the kernel or of the configuration on memory or descriptors was reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}; limit: {limit}")]
pub struct ResourceError {
    /// What was tried.
    pub action: String,
    /// The limit or setting that decides it.
    pub limit: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

/// Why an actor could not be bound to a name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The name is bound already, here or at another node.
    #[error("actor name `{name}` is already bound at node `{node}`")]
    NameTaken {
        /// The name.
        name: String,
        /// The node that has it.
        node: String,
    },
    /// The calling thread runs no actix arbiter, so an actor cannot be started on it.
    #[error(
        "no actix arbiter on this thread: run inside `actix::System` (`#[actix::main]`), \
         or start the actor with `start_on(&arbiter)`"
    )]
    NoArbiter,
    /// No message type was named with `handles`.
    #[error("actor `{name}` is bound for no message: call `.handles::<M>()` before `.start()`")]
    NoMessages {
        /// The name.
        name: String,
    },
    /// Two different types with one stable name: two instances of one generic type, or equal `#[shm(name)]`s.
    #[error(
        "actor `{name}` is bound for two types that are both named `{message}`; give one another `#[shm(name)]`"
    )]
    SameName {
        /// The actor's name.
        name: String,
        /// The stable name of both types.
        message: &'static str,
    },
    /// A port can hold no more mailboxes and subscriptions.
    #[error("this port holds {limit} mailboxes and subscriptions; raise `Config::mailboxes`")]
    TooMany {
        /// The limit in force.
        limit: usize,
    },
    /// What peers would be told of the binding is longer than they take: too many message types, or a stable name that is
    /// too long.
    #[error("actor `{name}` cannot be announced to peers: {problem}")]
    NotAnnounced {
        /// The name.
        name: String,
        /// What is too long, and the limit.
        problem: String,
    },
    /// A kernel object could not be made.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// The bus was left.
    #[error("the bus was left")]
    Closed,
}

/// Why an address could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Nobody bound the name before the deadline.
    #[error("nobody bound the actor name `{name}` within {waited:?} (`Config::lookup_deadline`)")]
    Unknown {
        /// The name.
        name: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The actor does not take this message.
    #[error("actor `{name}` does not handle `{message}`; it handles: {handled}")]
    NotHandled {
        /// The actor's name.
        name: String,
        /// The message's stable name.
        message: String,
        /// What it does handle.
        handled: String,
    },
    /// Both sides know the message by name but have different types.
    #[error("`{message}` differs between this process and actor `{name}` at node `{node}`: {difference}")]
    Schema {
        /// The actor's name.
        name: String,
        /// The node that bound it.
        node: String,
        /// The message's stable name.
        message: String,
        /// Which field differs, with both sides' types.
        difference: String,
    },
    /// The peer died or left while the address was opened, and nobody else bound the name in time.
    #[error("the node that bound `{name}` was lost while the address was opened")]
    PeerLost {
        /// The actor's name.
        name: String,
    },
    /// The peer refused, with its reason.
    #[error("node `{node}` refused to open `{name}`: {reason}")]
    Refused {
        /// The actor's name.
        name: String,
        /// The node that bound it.
        node: String,
        /// Its reason.
        reason: String,
    },
    /// The name is bound at a node of another user, which does not permit this process's user to call it.
    #[error(
        "denied by node `{node}`: it does not permit uid {uid} to call `{name}` (there: `Config::permit` with \
         `Permit::uid({uid}).call(\"{name}\")`)"
    )]
    Denied {
        /// The actor's name.
        name: String,
        /// The node that bound it, as `name@uid`.
        node: String,
        /// This process's user.
        uid: u32,
    },
    /// Shared memory, an eventfd or another kernel object could not be made.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// The bus was left.
    #[error("the bus was left")]
    Closed,
}

/// Which bound a full send ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bound {
    /// The mailbox holds as many unreleased messages of this thread's port as it may (`Config::window`; of a subscription,
    /// its depth).
    Window,
    /// The IO queue to the receiving port is full (`Config::ring_slots`): the peer is not draining.
    Ring,
    /// As many messages are unreleased on the link as it can account for (`Config::returns`).
    Returns,
    /// As many asks are unanswered on the link as replies have room for (`Config::ring_slots`).
    Asks,
    /// The pool is at its limit (`Config::pool_bytes`; `Config::user_pool_bytes` for a node of another user).
    Pool,
    /// The peer holds as many bytes of our pool as one peer may (`Config::peer_bytes`).
    Peer,
    /// The session's socket has no room for the frame that announces a new segment.
    Socket,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Bound::Window => "its window of unreleased messages is full (`Config::window`)",
            Bound::Ring => "the IO queue is full (`Config::ring_slots`)",
            Bound::Returns => "too many messages of this link are unreleased (`Config::returns`)",
            Bound::Asks => "too many asks are unanswered (`Config::ring_slots`)",
            Bound::Pool => {
                "the pool is at its limit (`Config::pool_bytes`; for a node of another user `Config::user_pool_bytes`)"
            }
            Bound::Peer => "its node holds as much memory as one peer may (`Config::peer_bytes`)",
            Bound::Socket => "the session's socket is full",
        })
    }
}

/// Why a message could not be sent. The message was only borrowed, so it is still the caller's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No room now; `tell` waits for room where `try_tell` says this.
    #[error("no room for a message to `{name}`: {bound}")]
    Full {
        /// The mailbox's name.
        name: String,
        /// The bound that was met.
        bound: Bound,
    },
    /// The message is larger than allowed.
    #[error("the message to `{name}` takes {bytes} bytes; the limit is {limit} (`Config::message_bytes`)")]
    TooLarge {
        /// The mailbox's name.
        name: String,
        /// Its archived size, in bytes.
        bytes: usize,
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// The receiving process died or left the bus.
    #[error("the node of `{name}` is gone")]
    PeerLost {
        /// The mailbox's name.
        name: String,
    },
    /// The actor stopped; its process lives.
    #[error("the actor `{name}` has stopped")]
    Stopped {
        /// The mailbox's name.
        name: String,
    },
    /// The message could not be archived (a map or a custom serializer failed).
    #[error("the message to `{name}` could not be archived: {problem}")]
    Archive {
        /// The mailbox's name.
        name: String,
        /// What rkyv said.
        problem: String,
    },
    /// Memory for the message could not be had from the kernel.
    #[error("no memory for a message to `{name}`: {problem}")]
    Memory {
        /// The mailbox's name.
        name: String,
        /// What the kernel said, and the limit that decides it.
        problem: String,
    },
    /// The bus was left, or the thread whose port this address uses has ended.
    #[error("the bus (or the thread) of the address `{name}` is gone")]
    Closed {
        /// The mailbox's name.
        name: String,
    },
}

/// Why [`Address::tell_all`](crate::Address::tell_all) did not send all messages.
#[derive(Debug, thiserror::Error)]
#[error("after {sent} messages: {error}")]
#[non_exhaustive]
pub struct TellAllError {
    /// How many of them were sent: the first ones, in messages.
    pub sent: usize,
    /// Why the next one was not.
    #[source]
    pub error: SendError,
}

/// A loan that was not sent, for [`Loan::try_send`](crate::Loan::try_send),
/// [`InPlace::try_send`](crate::InPlace::try_send) and those of topics.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unsent<L> {
    /// Why not.
    pub error: SendError,
    /// The loan, with its payload, or the message as it was written in place.
    pub loan: L,
}

/// Why an ask brought no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The message was not sent; with [`SendError::Closed`] that is not known, if this bus was left under the ask.
    #[error(transparent)]
    Send(#[from] SendError),
    /// No reply came within the deadline. The handler may still run.
    #[error("no reply from `{name}` within {after:?}")]
    Deadline {
        /// The mailbox's name.
        name: String,
        /// The deadline.
        after: Duration,
    },
    /// The receiving process died or left the bus; whether the handler ran is not known.
    #[error("the node of `{name}` was lost before it replied")]
    PeerLost {
        /// The mailbox's name.
        name: String,
    },
    /// The handler panicked on this message.
    #[error("the handler of `{name}` panicked on this message")]
    HandlerPanicked {
        /// The mailbox's name.
        name: String,
    },
    /// The actor stopped before it replied.
    #[error("the actor `{name}` stopped before it replied")]
    Stopped {
        /// The mailbox's name.
        name: String,
    },
    /// The reply could not be sent: too large, no memory, or not archivable.
    #[error("`{name}` could not send its reply: {problem}")]
    Reply {
        /// The mailbox's name.
        name: String,
        /// Why.
        problem: &'static str,
    },
    /// The reply's bytes were not a valid archive; the session was closed.
    #[error("`{name}` sent a reply that is not a valid archive; its session is closed")]
    Malformed {
        /// The mailbox's name.
        name: String,
    },
}

/// Why a topic could not be published or subscribed to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The topic's name or the pattern is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Somebody publishes or subscribes to this topic with another type.
    #[error("topic `{topic}` has other messages than `{message}` at node `{node}`: {difference}")]
    Schema {
        /// The topic or pattern of the other party.
        topic: String,
        /// The node of the other party.
        node: String,
        /// The message's stable name here.
        message: String,
        /// Which field differs, with both sides' types.
        difference: String,
    },
    /// A publisher of a wanted topic did not answer in time.
    #[error("not every publisher of `{pattern}` answered within {waited:?} (`Config::lookup_deadline`)")]
    NotAttached {
        /// The pattern.
        pattern: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The topic is published at a node of another user, which does not permit this process's user to subscribe to it, and
    /// nobody else publishes it. Only for a pattern without wildcards: one with wildcards gets what it may.
    #[error(
        "denied by node `{node}`: it does not permit uid {uid} to subscribe to `{topic}` (there: `Config::permit` with \
         `Permit::uid({uid}).subscribe(\"{topic}\")`)"
    )]
    Denied {
        /// The topic.
        topic: String,
        /// The node that publishes it, as `name@uid`.
        node: String,
        /// This process's user.
        uid: u32,
    },
    /// What peers would be told is longer than they take: the name of a group, or a message's stable name.
    #[error("`{topic}` cannot be announced to peers: {problem}")]
    NotAnnounced {
        /// The topic or pattern.
        topic: String,
        /// What is too long, and the limit.
        problem: String,
    },
    /// A setting of the subscription is out of range.
    #[error("subscription to `{pattern}`: {problem}")]
    Setting {
        /// The pattern.
        pattern: String,
        /// What is wrong, and what it must be.
        problem: &'static str,
    },
    /// A port can hold no more mailboxes and subscriptions.
    #[error("this port holds {limit} mailboxes and subscriptions; raise `Config::mailboxes`")]
    TooMany {
        /// The limit in force.
        limit: usize,
    },
    /// A kernel object could not be made.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// The bus was left.
    #[error("the bus was left")]
    Closed,
}
