//! A session: everything two nodes share, from the handshake to the hang-up.

mod links;
mod outgoing;
mod receiving;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt::Display,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, oneshot, watch};

pub(crate) use self::links::Links;
use self::outgoing::{Outgoing, is_end};
use super::{
    budget::Budget,
    counters::Counters,
    frame::{Announcement, Frame},
    handshake::Peer,
    node::Node,
    socket::Socket,
    topics::announcing::Unheard,
    users::Rights,
};
use crate::shm::{
    bell::Bell,
    checked::Violation,
    memory::PeerMemory,
    pool::{MAX_SEGMENTS, Pool},
    sync::lock,
};

/// Both schemas of a kind, as the peer describes them.
pub(crate) type Described = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Ends a session with its task, also when a runtime is shut down under it.
struct Ending<'a>(&'a Arc<Session>);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if self.0.pid != std::process::id() {
            // A forked child drops its copy of a runtime: the session is its parent's.
            return;
        }
        // No reason yet: the task was dropped.
        self.0.close("this node's runtime was shut down");
        self.0.shut_links();
        self.0.hang_up();
        self.0.end();
    }
}

/// One peer.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) peer: Peer,
    pub(crate) node: Weak<Node>,
    pid: u32,
    /// Whether the peer is this very node.
    pub(crate) is_self: bool,
    /// What a peer of another user may do here; `None`: it is of our own user, and may do everything.
    pub(crate) rights: Option<Rights>,
    /// For messages to this peer: that of its user.
    pub(crate) pool: Arc<Pool>,
    /// How much of the pool the peer may hold.
    pub(crate) budget: Arc<Budget>,
    /// Subscriptions the peer has announced; under the catalog's lock, like its topics.
    pub(crate) subscriptions: AtomicU32,
    pub(crate) topics: AtomicU32,
    /// What the peer rings, if it is of another user, by port.
    pub(super) ears: Mutex<HashMap<u32, Bell>>,
    /// True once the session is over.
    pub(super) over: watch::Sender<bool>,
    /// How often it was denied something.
    pub(super) denials: AtomicU64,
    /// Topics of the peer that it may not publish. What comes of them is given back unread.
    pub(crate) denied_topics: Mutex<HashSet<u32>>,
    pub(crate) message_limit: usize,
    pub(crate) counters: Arc<Counters>,
    pub(crate) memory: Arc<PeerMemory>,
    pub(crate) links: Mutex<Links>,
    /// Open until nobody here reads a message of the peer any more: then it hangs up there, see [`Left`](super::link::left).
    pub(super) socket: Arc<Socket>,
    /// The peer has ended the session, or said that it does.
    hung_up: AtomicBool,
    /// One bit per pool segment that the peer knows.
    announced: [AtomicU64; MAX_SEGMENTS / 64],
    outbox: Mutex<VecDeque<Arc<Outgoing>>>,
    outbox_filled: Notify,
    /// A sender found no room in the socket.
    socket_full: AtomicBool,
    /// What the peer has not acknowledged yet.
    unheard: Unheard,
    /// One reference for each subscription of the peer that is being attached, and ours.
    attaching: Arc<()>,
    reason: OnceLock<String>,
    /// It ended at a limit of this process: the peer is to be met again.
    short: AtomicBool,
    closing: Notify,
    /// True once the peer has told all the names it had at the handshake.
    pub(crate) introduced: watch::Sender<bool>,
}

impl Session {
    pub(crate) fn new(node: &Arc<Node>, socket: Socket, peer: Peer, is_self: bool) -> Arc<Self> {
        let pool = node.pool_for(&peer);
        let limit = if is_self { u64::MAX } else { node.config.peer_bytes };
        Arc::new(Self {
            node: Arc::downgrade(node),
            pid: node.pid,
            is_self,
            rights: (!is_self).then(|| node.rights(&peer)).flatten(),
            budget: Budget::new(limit, pool.largest()),
            pool,
            subscriptions: AtomicU32::new(0),
            topics: AtomicU32::new(0),
            ears: Mutex::default(),
            denials: AtomicU64::new(0),
            over: watch::Sender::new(false),
            denied_topics: Mutex::default(),
            message_limit: node.config.message_bytes,
            counters: node.counters.clone(),
            memory: PeerMemory::new(node.config.peers, !is_self && node.rights(&peer).is_some()),
            links: Mutex::default(),
            socket: Arc::new(socket),
            hung_up: AtomicBool::new(false),
            announced: Default::default(),
            outbox: Mutex::default(),
            outbox_filled: Notify::new(),
            socket_full: AtomicBool::new(false),
            unheard: Unheard::default(),
            attaching: Arc::default(),
            reason: OnceLock::new(),
            short: AtomicBool::new(false),
            closing: Notify::new(),
            introduced: watch::Sender::new(false),
            peer,
        })
    }

    /// The peer has announced more than it may.
    pub(crate) fn exceeds(&self, what: &str, limit: usize, setting: &str) {
        if self.reason.get().is_none() {
            self.counters.quotas.add(1);
            tracing::warn!(peer = %self.peer.name, what, limit, setting, "a peer announces more than it may");
        }
        self.close(format!("it announces more than {limit} {what} (`{setting}`)"));
    }

    /// Ends the session; the first reason counts.
    pub(crate) fn close(&self, reason: impl Into<String>) {
        let _ = self.reason.set(reason.into());
        self.closing.notify_one();
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// The peer broke the protocol.
    pub(crate) fn violated(&self, violation: Violation) {
        if self.reason.get().is_none() {
            self.counters.violations.add(1);
            tracing::warn!(peer = %self.peer.name, %violation, "a peer broke the protocol");
        }
        self.close(format!("protocol violation: {violation}"));
    }

    /// Something came that is not what it should be, or (by the error) that there is no room for here.
    pub(crate) fn refused(&self, what: impl Display, error: &std::io::Error) {
        if error.kind() != std::io::ErrorKind::InvalidData {
            // What is not the peer's fault and not its end is a lack of ours.
            if !is_end(error) && self.reason.get().is_none() {
                self.short.store(true, Ordering::Relaxed);
                tracing::warn!(peer = %self.peer.name, %error, "session ends at a limit: {what}; dialling again");
            }
            return self.close(format!("{what}: {error}"));
        }
        if self.reason.get().is_none() {
            self.counters.violations.add(1);
            tracing::warn!(peer = %self.peer.name, %what, %error, "a peer broke the protocol");
        }
        self.close(format!("protocol violation: {what}: {error}"));
    }

    /// Whether it ended at a limit of this process, and neither by the peer's fault nor by its end.
    pub(crate) fn ended_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// Subscriptions of the peer that are being attached. It may keep us waiting for each.
    pub(crate) fn attaching(&self) -> usize {
        Arc::strong_count(&self.attaching) - 1
    }

    /// One more is, until this is dropped.
    pub(crate) fn begin_attaching(&self) -> Arc<()> {
        self.attaching.clone()
    }

    /// Whether the peer has been told of something and has not acknowledged it.
    pub(crate) fn has_not_heard(&self, what: Announcement) -> bool {
        self.unheard.contains(what)
    }

    /// Asks the peer what its types look like. `None`: it is lost.
    pub(crate) async fn ask_schemas(&self, name: &str, kind: &str) -> Option<Described> {
        // Relaxed: only uniqueness counts.
        static REQUEST: AtomicU32 = AtomicU32::new(0);
        let request = REQUEST.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        {
            let mut links = lock(&self.links);
            if links.ended {
                return None;
            }
            links.questions.insert(request, answer);
        }
        self.send(
            &Frame::Describe {
                request,
                name: name.to_owned(),
                kind: kind.to_owned(),
            },
            &[],
        );
        answered.await.ok()
    }

    /// Runs the session to its end. `closing` ends it with the node.
    pub(crate) async fn run(self: Arc<Self>, mut closing: watch::Receiver<bool>) {
        let ending = Ending(&self);
        let mut buf = Vec::new();
        while self.reason.get().is_none() {
            tokio::select! {
                biased;
                () = self.closing.notified() => {}
                _ = closing.wait_for(|closing| *closing) => self.close("this node leaves"),
                packet = self.socket.recv(&mut buf) => match packet {
                    Ok(Some(packet)) => self.receive(&buf, packet.fds),
                    Ok(None) => self.hung_up("the peer hung up"),
                    Err(error) => self.refused("its socket failed", &error),
                },
                error = self.flush() => {
                    // At its end, what the peer said before is still to be read.
                    if !is_end(&error) {
                        self.refused("a control frame", &error);
                    }
                    lock(&self.outbox).clear();
                }
            }
        }
        drop(ending);
        // What the peer keeps of us it may keep as long as it likes.
        let keeps = |session: &Self| {
            session
                .node
                .upgrade()
                .is_some_and(|node| node.left.has_of(session))
        };
        if !self.is_self && keeps(&self) {
            tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => {}
                () = self.socket.hung_up() => {
                    if let Some(node) = self.node.upgrade() {
                        node.left.abandon(&self);
                    }
                }
            }
        }
    }

    /// The peer has ended the session.
    fn hung_up(&self, reason: impl Into<String>) {
        self.hung_up.store(true, Ordering::Relaxed);
        self.close(reason);
    }

    /// Whether nobody is at the other end, not even somebody who reads a message that is kept.
    pub(crate) fn is_hung_up(&self) -> bool {
        !self.is_self && self.socket.is_hung_up()
    }

    /// Tells the peer that the session is over. By a frame: the socket stays open as long as somebody here reads a
    /// message of the peer, or has an address, and the peer must know the difference.
    fn hang_up(&self) {
        if self.hung_up.load(Ordering::Relaxed) {
            return;
        }
        let frame = Frame::bye(self.reason().unwrap_or_default());
        let said = frame.encode().map(|bytes| self.socket.try_send(&bytes, &[]));
        // Who has closed its end (a killed process, maybe with frames unread) needs no telling.
        if !self.socket.is_hung_up() && !matches!(said, Ok(Ok(()))) {
            self.socket.shutdown();
        }
    }

    /// The session is over: first its frames were read, now its rings, then the peer is dead.
    pub(crate) fn end(self: &Arc<Self>) {
        let gone: Vec<_> = {
            let mut links = lock(&self.links);
            links.ended = true;
            // Their askers learn that the peer is lost.
            links.offers.clear();
            links.questions.clear();
            links.asked.clear();
            links.by_id.drain().map(|(_, entry)| entry).collect()
        };
        // The names go first, so that who is told of the loss does not find the dead peer again.
        if let Some(node) = self.node.upgrade() {
            node.names_lost(self);
        }
        for (link, port, _) in gone {
            self.lose(&link, &port);
        }
        if let Some(node) = self.node.upgrade() {
            // Now that what its members held is back, groups can give it to others.
            node.topics_lost(self);
            node.ended(self);
        }
        self.introduced.send_replace(true);
        self.over.send_replace(true);
    }
}
