//! A session: everything two nodes share, from the handshake to the hang-up.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt::Display,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, OnceCell, oneshot, watch};

use super::{
    budget::Budget,
    counters::Counters,
    frame::{Announcement, Frame},
    handshake::Peer,
    link::{Link, NoSend},
    node::Node,
    opening::LinkOffer,
    port::Port,
    socket::Socket,
    topics::announcing::Unheard,
    users::Rights,
};
use crate::{
    error::Bound,
    shm::{
        bell::Bell,
        cells::Cells,
        checked::Violation,
        faults::fault,
        memory::PeerMemory,
        pool::{DEDICATED, MAX_SEGMENTS, Pool},
        sync::{AtomicU64 as SharedU64, lock},
    },
};

/// Most control frames that wait for room in the socket; a peer that lets more come together does not read.
const OUTBOX: usize = 4096;

/// Most bytes of control frames that wait for room in the socket: all names that a node may have are less.
const OUTBOX_BYTES: usize = 64 << 20;

/// A frame on its way.
#[derive(Debug)]
struct Outgoing {
    bytes: rkyv::util::AlignedVec,
    fds: Vec<OwnedFd>,
}

impl Outgoing {
    fn borrowed(&self) -> Vec<BorrowedFd<'_>> {
        self.fds.iter().map(AsFd::as_fd).collect()
    }
}

/// Both schemas of a kind, as the peer describes them.
pub(crate) type Described = (Option<Vec<u8>>, Option<Vec<u8>>);

#[derive(Debug, Default)]
pub(crate) struct Links {
    /// By our number: the link, its port and the peer's number for it.
    pub(crate) by_id: HashMap<u32, (Arc<Link>, Arc<Port>, u32)>,
    /// Links that this node opens or has opened, by (our port, the peer's port).
    pub(crate) asked: HashMap<(u32, u32), Arc<OnceCell<Arc<Link>>>>,
    /// Offers that wait for the peer's answer.
    pub(crate) offers: HashMap<u32, oneshot::Sender<Result<LinkOffer, String>>>,
    /// Questions about schemas that wait for the peer's answer.
    pub(crate) questions: HashMap<u32, oneshot::Sender<Described>>,
    pub(crate) ended: bool,
}

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
        Arc::new(Self {
            node: Arc::downgrade(node),
            pid: node.pid,
            is_self,
            rights: (!is_self).then(|| node.rights(&peer)).flatten(),
            pool: node.pool_for(&peer),
            budget: Budget::new(if is_self { u64::MAX } else { node.config.peer_bytes }),
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
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset, InvalidData, NotConnected};
        if error.kind() != InvalidData {
            // What is not the peer's fault and not its end is a lack of ours.
            let ends = matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected);
            if !ends && self.reason.get().is_none() {
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

    /// Sends a control frame, in order, now or as soon as the socket has room.
    pub(crate) fn send(&self, frame: &Frame, fds: &[BorrowedFd<'_>]) {
        // What a forked child drops is not for it to announce: the socket is its parent's. One system call, of which
        // control frames make several.
        if self.pid != std::process::id() {
            return;
        }
        let bytes = match frame.encode() {
            Ok(bytes) => bytes,
            Err(error) => return self.close(format!("a frame of ours cannot be sent: {error}")),
        };
        if let Some(what) = frame.announcement()
            && !self.unheard.add(what)
        {
            return self.close("the peer acknowledges nothing");
        }
        let mut outbox = lock(&self.outbox);
        if outbox.is_empty() {
            match self.socket.try_send(&bytes, fds) {
                Ok(()) => return,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                // The reader meets the hang-up, after the frames that came before it.
                Err(_) => return,
            }
        }
        let waiting: usize = outbox.iter().map(|frame| frame.bytes.len()).sum();
        if outbox.len() == OUTBOX || waiting > OUTBOX_BYTES {
            return self.close("the peer does not read its control frames");
        }
        let fds: Result<Vec<_>, _> = fds.iter().map(BorrowedFd::try_clone_to_owned).collect();
        match fds {
            Ok(fds) => outbox.push_back(Arc::new(Outgoing { bytes, fds })),
            Err(error) => return self.close(format!("no descriptor for a frame in waiting: {error}")),
        }
        drop(outbox);
        self.outbox_filled.notify_one();
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

    /// Makes sure that the peer has been told of a pool segment before a descriptor names it.
    pub(crate) fn announce(&self, pool: &Pool, number: u32) -> Result<(), NoSend> {
        let bit = (number & DEDICATED == 0).then(|| (number as usize / 64, 1u64 << (number % 64)));
        if let Some((word, mask)) = bit
            // Relaxed: the bit is set after the frame was sent, and the kernel orders what follows.
            && self.announced[word].load(Ordering::Relaxed) & mask != 0
        {
            return Ok(());
        }
        self.announce_now(pool, number, bit)
    }

    #[cold]
    fn announce_now(&self, pool: &Pool, number: u32, bit: Option<(usize, u64)>) -> Result<(), NoSend> {
        let segment = pool.segment(number).ok_or(NoSend::Lost)?;
        let frame = Frame::Segment {
            id: number,
            bytes: segment.bytes() as u64,
        };
        let bytes = frame.encode().map_err(|_| NoSend::Lost)?;
        let mut outbox = lock(&self.outbox);
        if let Some((word, mask)) = bit
            && self.announced[word].load(Ordering::Relaxed) & mask != 0
        {
            return Ok(());
        }
        fault!(Growing);
        // Not by way of the outbox: the socket must have it before the descriptor is seen.
        let sent = if outbox.is_empty() {
            self.socket.try_send(&bytes, &[segment.fd()])
        } else {
            Err(std::io::ErrorKind::WouldBlock.into())
        };
        match sent {
            Ok(()) => {
                if let Some((word, mask)) = bit {
                    self.announced[word].fetch_or(mask, Ordering::Relaxed);
                }
                fault!(Announced);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(NoSend::Lost),
            Err(_) => {
                // Who waits is woken once the outbox has been emptied. So there must be something in it: a frame that
                // says nothing, and that goes this way even if the socket has room again by now.
                self.socket_full.store(true, Ordering::SeqCst);
                if outbox.is_empty() {
                    let bytes = Frame::Unlink { link: u32::MAX }
                        .encode()
                        .map_err(|_| NoSend::Lost)?;
                    outbox.push_back(Arc::new(Outgoing { bytes, fds: vec![] }));
                    self.outbox_filled.notify_one();
                }
                Err(NoSend::Full(Bound::Socket))
            }
        }
    }

    /// Sends what waits in the outbox, for ever.
    async fn flush(&self) -> std::io::Error {
        loop {
            let next = lock(&self.outbox).front().cloned();
            let Some(next) = next else {
                if self.socket_full.swap(false, Ordering::SeqCst) {
                    self.wake_senders();
                }
                self.outbox_filled.notified().await;
                continue;
            };
            if let Err(error) = self.socket.send(&next.bytes, &next.borrowed()).await {
                return error;
            }
            lock(&self.outbox).pop_front();
        }
    }

    fn wake_senders(&self) {
        let links: Vec<_> = lock(&self.links)
            .by_id
            .values()
            .map(|(link, ..)| link.clone())
            .collect();
        for link in links {
            link.room.wake();
        }
    }

    /// The links on which this node asks something of a port of the peer.
    pub(crate) fn links_to(&self, port: u32) -> Vec<Arc<Link>> {
        let links = lock(&self.links);
        let of_port = links.asked.iter().filter(|((_, theirs), _)| *theirs == port);
        of_port.filter_map(|(_, cell)| cell.get().cloned()).collect()
    }

    /// The peer's loss counters on the link that it calls by this number.
    pub(crate) fn losses_of(&self, theirs: u32) -> Option<Cells<SharedU64>> {
        let links = lock(&self.links);
        let link = links
            .by_id
            .values()
            .find(|(link, _, number)| !link.asking && *number == theirs);
        link.map(|(link, ..)| link.peer_losses.clone())
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
                    // A broken pipe: what the peer said before is still to be read.
                    if error.kind() != std::io::ErrorKind::BrokenPipe {
                        self.close(format!("its socket failed: {error}"));
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

    pub(crate) fn receive(self: &Arc<Self>, bytes: &[u8], fds: Vec<OwnedFd>) {
        let frame = match Frame::decode(bytes, fds.len()) {
            Ok(frame) => frame,
            Err(error) => {
                self.counters.violations.add(1);
                return self.close(format!("protocol violation: {error}"));
            }
        };
        let Some(node) = self.node.upgrade() else {
            return self.close("this node leaves");
        };
        match frame {
            Frame::Names { bound, more } => {
                node.heard(self, bound);
                if !more {
                    self.introduced.send_replace(true);
                }
            }
            Frame::Bound(binding) => node.heard(self, vec![binding]),
            Frame::Unbound { name, port, mailbox } => {
                node.forgot(self, &name, port, mailbox);
                self.stop_routes(port, mailbox);
            }
            Frame::Describe { request, name, kind } => {
                let told = self
                    .rights
                    .as_ref()
                    .is_none_or(|rights| rights.may_ask_about(&name));
                let (schema, reply) = if told {
                    node.describe(&name, &kind)
                } else {
                    (None, None)
                };
                self.send(
                    &Frame::Described {
                        request,
                        schema,
                        reply,
                    },
                    &[],
                );
            }
            Frame::Described {
                request,
                schema,
                reply,
            } => {
                if let Some(asker) = lock(&self.links).questions.remove(&request) {
                    let _ = asker.send((schema, reply));
                }
            }
            Frame::Link {
                link,
                from_port: _,
                to_port,
                ring_slots,
                returns,
                bytes,
            } => {
                let offer = LinkOffer::import(link, ring_slots, returns, bytes, fds, self.is_foreign());
                self.accept_link(&node, to_port, link, offer);
            }
            Frame::Linked {
                link,
                peer_link,
                ring_slots,
                returns,
                bytes,
            } => {
                let offer = LinkOffer::import(link, ring_slots, returns, bytes, fds, self.is_foreign());
                match &offer {
                    // A limit of this process: the peer's half goes, the session and its other links live on.
                    Err(error) if error.kind() != std::io::ErrorKind::InvalidData => {
                        self.unlink(peer_link);
                    }
                    Err(error) => self.refused(format_args!("link {link}"), error),
                    Ok(_) => {}
                }
                if let Some(opener) = lock(&self.links).offers.remove(&peer_link) {
                    let _ = opener.send(offer.map_err(|error| error.to_string()));
                }
            }
            Frame::LinkRefused { link, reason } => {
                fault!(RefusalHeard);
                if let Some(opener) = lock(&self.links).offers.remove(&link) {
                    let _ = opener.send(Err(reason));
                }
            }
            Frame::Unlink { link } => {
                fault!(UnlinkHeard);
                self.drop_link(|(_, _, theirs)| *theirs == link);
                fault!(UnlinkDone);
            }
            Frame::Segment { id, bytes } => {
                for fd in fds {
                    match self.memory.import(&fd, bytes) {
                        Ok(mapping) => match self.memory.add(id, mapping) {
                            Ok(()) => self.poke_ports(),
                            Err(violation) => self.violated(violation),
                        },
                        Err(error) => self.refused(format_args!("segment {id}"), &error),
                    }
                }
            }
            Frame::Topic(topic) => node.heard_topic(self, topic),
            Frame::Subscribe(wanted) => node.heard_subscription(self, wanted),
            Frame::Unsubscribe { port, mailbox } => node.forgot_subscription(self, port, mailbox),
            Frame::Attached {
                port,
                mailbox,
                topic,
                link,
                route,
            } => {
                node.attached(self, port, mailbox, topic, link, route);
            }
            Frame::Untopic { id } => node.forgot_topic(self, id),
            Frame::Heard(what) => match self.unheard.remove(what) {
                Ok(()) => node.touch(),
                Err(violation) => self.violated(violation),
            },
            Frame::Denied { what, names } => node.heard_denial(self, what, names),
            Frame::Bye { reason } => {
                tracing::debug!(peer = %self.peer.name, %reason, "peer leaves");
                self.hung_up(format!("the peer ended it: {reason}"));
            }
        }
    }

    /// A mailbox of the peer's `port` was unbound: who sends there, or waits for room there, is told.
    pub(crate) fn stop_routes(&self, port: u32, mailbox: u32) {
        for link in self.links_to(port) {
            link.stop_route(mailbox);
        }
    }

    /// A descriptor may have waited for what just arrived.
    fn poke_ports(&self) {
        for (_, port, _) in lock(&self.links).by_id.values() {
            port.poke();
        }
    }

    /// Ends the links that match, on this side; the peer has done so on its own.
    pub(crate) fn drop_link(&self, matches: impl Fn(&(Arc<Link>, Arc<Port>, u32)) -> bool) {
        let gone: Vec<_> = {
            let mut links = lock(&self.links);
            let gone: Vec<_> = links
                .by_id
                .extract_if(|_, entry| matches(entry))
                .map(|(_, entry)| entry)
                .collect();
            links.asked.retain(|_, cell| {
                cell.get()
                    .is_none_or(|link| gone.iter().all(|(lost, ..)| lost.id != link.id))
            });
            gone
        };
        for (link, port, _) in gone {
            self.lose(&link, &port);
        }
    }

    fn lose(&self, link: &Arc<Link>, port: &Arc<Port>) {
        let asks = port.lose_link(link.id);
        let undelivered = link.lose();
        self.counters.undelivered.add(u64::from(undelivered));
        let sent = link.counts().0;
        self.counters.sent_on_lost_links.add(sent);
        if !link.asking {
            self.counters.replies_on_lost_links.add(sent);
        }
        if asks > 0 || undelivered > 0 {
            tracing::info!(peer = %self.peer.name, asks, undelivered, "link lost with messages under way");
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
            node.ended(self);
        }
        for (link, port, _) in gone {
            self.lose(&link, &port);
        }
        if let Some(node) = self.node.upgrade() {
            // Now that what its members held is back, groups can give it to others.
            node.topics_lost(self);
        }
        self.introduced.send_replace(true);
        self.over.send_replace(true);
    }
}
