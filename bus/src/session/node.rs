//! A node: what one joined bus keeps.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Waker,
    thread::ThreadId,
    time::Duration,
};

use dashmap::DashMap;
use nix::unistd::geteuid;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{OnceCell, oneshot, watch},
    task::JoinHandle,
};

use super::{
    counters::{Counters, Traffic},
    directory::Claim,
    frame::{Binding, Denial, Frame},
    handshake::{self, HandshakeError, Me},
    hello::{Code, Verdict},
    link::{Link, left::Left},
    mailbox::{Kind, Mailbox},
    peer::Session,
    port::{Port, Watcher},
    port_task,
    registry::{Provider, Registry},
    schemas,
    socket::{Listener, Socket},
    topics::catalog::Catalog,
    users::{Rights, Users},
};
use crate::{
    config::Config,
    error::{BindError, JoinError, ResourceError},
    shm::{pool::Pool, sync::lock},
};

/// Spawns a task beside the actors of a thread. `false`: the thread takes no more.
pub(crate) type SpawnBeside = fn(Pin<Box<dyn Future<Output = ()> + Send>>) -> bool;

/// Which port a caller uses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PortKey {
    /// The port of everybody who has none of his own.
    Shared,
    /// The port of one thread, for the actors on it. Its task runs among those of the actors: from the runtime's own
    /// tasks to an actor's, each wake-up would cost a turn of the runtime, and with it a system call.
    Thread(ThreadId, SpawnBeside),
}

#[derive(Debug, Default)]
struct Ports {
    by_key: HashMap<Option<ThreadId>, Arc<Port>>,
    by_id: HashMap<u32, Arc<Port>>,
    next: u32,
}

/// Whom a handshake is under way with, in either direction, by node name.
type Meeting = HashSet<String>;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: Config,
    me: Me,
    /// Of the process that joined; see [`Node::close`].
    pub(super) pid: u32,
    pub(crate) pool: Arc<Pool>,
    /// Those for other users, by uid, as long as there is something with one of their nodes.
    user_pools: Mutex<HashMap<u32, Weak<Pool>>>,
    pub(crate) counters: Arc<Counters>,
    ports: Mutex<Ports>,
    pub(crate) sessions: DashMap<u64, Arc<Session>>,
    own_session: OnceCell<Arc<Session>>,
    /// Its other end, which answers.
    own_answering: OnceLock<Arc<Session>>,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) catalog: Mutex<Catalog>,
    /// Counts changes of names and sessions, for those who wait for one.
    pub(crate) changed: watch::Sender<u64>,
    dialling: Mutex<Meeting>,
    accepting: Mutex<Meeting>,
    /// Links that are gone, of which peers keep messages.
    pub(crate) left: Left,
    /// Handshakes that other users have begun, by uid.
    pending: Mutex<HashMap<u32, usize>>,
    closing: watch::Sender<bool>,
    closed: AtomicBool,
    links: AtomicU32,
    runtime: Handle,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    claim: Mutex<Option<Claim>>,
    socket: PathBuf,
}

/// How long to wait before a peer is dialled again, at first.
const AGAIN: Duration = Duration::from_millis(500);

/// Runs what blocks in a thread of its own. Not by `spawn_blocking`: that panics where the kernel gives no thread.
async fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("shmbus-join".to_owned())
        // Who has stopped waiting gets nothing: the result is dropped here.
        .spawn(move || drop(done.send(work())))
        .map_err(|source| ResourceError {
            action: "start the thread that takes the node's name".to_owned(),
            limit: "RLIMIT_NPROC (`ulimit -u`), the pids cgroup or RLIMIT_AS",
            source,
        })?;
    result
        .await
        .map_err(|_| JoinError::Runtime("the thread that takes the node's name panicked".to_owned()))
}

impl Node {
    /// Joins: takes the name, listens, and meets every node that is there.
    pub(crate) async fn join(config: Config) -> Result<Arc<Self>, JoinError> {
        config.check()?;
        let runtime = Handle::try_current().map_err(|error| JoinError::Runtime(error.to_string()))?;
        let (dir, bus, node) = (config.dir.clone(), config.bus.clone(), config.node.clone());
        let within = config.handshake_deadline;
        let users = Arc::new(Users {
            // Its own user needs no leave.
            uids: config
                .users
                .uids
                .iter()
                .copied()
                .filter(|uid| *uid != geteuid().as_raw())
                .collect(),
            ..config.users.clone()
        });
        let shared_with = users.clone();
        // Looking at the directory, its lock and its dead sockets blocks.
        let claim =
            in_thread(move || Claim::take(dir.as_deref(), &bus, &node, within, &shared_with)).await??;
        let socket = claim.path().to_owned();
        let action = || format!("listen at {}", socket.display());
        let failed = |source| ResourceError {
            action: action(),
            limit: "RLIMIT_NOFILE (`ulimit -n`)",
            source,
        };
        let listener = Listener::new(claim.listener().map_err(failed)?).map_err(failed)?;
        let others = claim.others().unwrap_or_default();

        let node = Arc::new(Self {
            me: Me {
                users,
                ..Me::new(&config.bus, &config.node)
            },
            pid: std::process::id(),
            pool: Pool::new(config.segment_bytes, config.pool_bytes),
            user_pools: Mutex::default(),
            counters: Arc::default(),
            ports: Mutex::default(),
            sessions: DashMap::new(),
            own_session: OnceCell::new(),
            own_answering: OnceLock::new(),
            registry: Mutex::default(),
            catalog: Mutex::default(),
            changed: watch::Sender::new(0),
            dialling: Mutex::new(others.iter().map(|(name, _)| name.clone()).collect()),
            accepting: Mutex::default(),
            left: Left::default(),
            pending: Mutex::default(),
            closing: watch::Sender::new(false),
            closed: AtomicBool::new(false),
            links: AtomicU32::new(0),
            runtime,
            tasks: Mutex::default(),
            claim: Mutex::new(Some(claim)),
            socket: socket.clone(),
            config,
        });
        node.spawn(listen(Arc::downgrade(&node), listener, node.closing.subscribe()));
        node.meet(others).await;
        tracing::info!(node = %node.config.node, bus = %node.config.bus, peers = node.sessions.len(), "joined");
        Ok(node)
    }

    pub(crate) fn id(&self) -> u64 {
        self.me.id
    }

    pub(crate) fn own_session_now(&self) -> Option<Arc<Session>> {
        self.own_session.get().cloned()
    }

    pub(crate) fn next_link(&self) -> u32 {
        // Relaxed: only uniqueness counts.
        self.links.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        tasks.retain(|task| !task.is_finished());
        tasks.push(self.runtime.spawn(task));
    }

    /// Dials everybody and waits until each has told its names, failed, or taken too long.
    async fn meet(self: &Arc<Self>, others: Vec<(String, PathBuf)>) {
        let dials: Vec<_> = others
            .into_iter()
            .map(|(name, path)| {
                let (done, met) = tokio::sync::oneshot::channel::<()>();
                self.spawn(dial(
                    Arc::downgrade(self),
                    name,
                    path,
                    self.closing.subscribe(),
                    done,
                ));
                met
            })
            .collect();
        let all = async {
            for met in dials {
                let _ = met.await;
            }
        };
        let _ = tokio::time::timeout(self.config.handshake_deadline, all).await;
    }

    /// Begins the session with a peer that has been met. `None`: there is one already.
    fn begin(self: &Arc<Self>, socket: Socket, peer: handshake::Peer) -> Option<Arc<Session>> {
        let session = Session::new(self, socket, self.known_as(peer), false);
        {
            // Under the registry's lock, so that each name is in the snapshot or announced after it.
            let registry = lock(&self.registry);
            match self.sessions.entry(session.peer.id) {
                dashmap::Entry::Occupied(_) => return None,
                dashmap::Entry::Vacant(place) => place.insert(session.clone()),
            };
            for frame in lock(&self.catalog).own_frames() {
                session.announce_topics(&frame);
            }
            session.introduce(registry.own());
        }
        tracing::debug!(peer = %session.peer.name, pid = session.peer.pid, uid = session.peer.uid,
            features = session.peer.features, "session begins");
        self.spawn(session.clone().run(self.closing.subscribe()));
        self.touch();
        Some(session)
    }

    /// The session of this node with itself, by the same code as all others.
    pub(crate) async fn own_session(self: &Arc<Self>) -> Result<Arc<Session>, ResourceError> {
        self.own_session
            .get_or_try_init(|| async {
                let (a, b) = Socket::pair().map_err(|source| ResourceError {
                    action: "make a socket pair".into(),
                    limit: "RLIMIT_NOFILE (`ulimit -n`)",
                    source,
                })?;
                let peer = handshake::Peer {
                    id: self.me.id,
                    name: self.config.node.clone(),
                    pid: std::process::id() as i32,
                    uid: self.me.uid,
                    gid: nix::unistd::getegid().as_raw(),
                    features: self.me.features,
                };
                let (ours, theirs) = (
                    Session::new(self, a, peer.clone(), true),
                    Session::new(self, b, peer, true),
                );
                self.spawn(ours.clone().run(self.closing.subscribe()));
                self.spawn(theirs.clone().run(self.closing.subscribe()));
                let _ = self.own_answering.set(theirs);
                Ok(ours)
            })
            .await
            .cloned()
    }

    /// The port of `key`, made at its first use on the runtime of the caller.
    pub(crate) fn port_of(self: &Arc<Self>, key: PortKey) -> Result<Arc<Port>, ResourceError> {
        let thread = match key {
            PortKey::Shared => None,
            PortKey::Thread(thread, _) => Some(thread),
        };
        let mut ports = lock(&self.ports);
        if let Some(port) = ports.by_key.get(&thread).filter(|port| !port.is_closed()) {
            return Ok(port.clone());
        }
        let (runtime, watcher) = match key {
            PortKey::Shared if self.runtime.runtime_flavor() != RuntimeFlavor::CurrentThread => {
                (self.runtime.clone(), Watcher::Helpers)
            }
            PortKey::Shared => (self.runtime.clone(), Watcher::Task),
            PortKey::Thread(..) => (Handle::current(), Watcher::Task),
        };
        let id = ports.next;
        let port = Port::new(id, self.config.spin, watcher)?;
        let task = {
            let _inside = runtime.enter();
            port_task::run(Arc::downgrade(self), port.clone())?
        };
        ports.next += 1;
        ports.by_id.insert(id, port.clone());
        ports.by_key.insert(thread, port.clone());
        // `close` has looked already, or will see it.
        if self.is_closed() {
            port.close();
        }
        // A task that is refused is dropped, and takes its port from the table.
        drop(ports);
        match key {
            PortKey::Shared => self.spawn(task),
            PortKey::Thread(_, spawn) => {
                let (ended, end) = oneshot::channel::<()>();
                spawn(Box::pin(async move {
                    let _ended = ended;
                    task.await;
                }));
                // Leaving waits for it like for the others.
                self.spawn(async move { drop(end.await) });
            }
        }
        Ok(port)
    }

    pub(crate) fn port(&self, id: u32) -> Option<Arc<Port>> {
        lock(&self.ports).by_id.get(&id).cloned()
    }

    pub(crate) fn ports(&self) -> Vec<Arc<Port>> {
        lock(&self.ports).by_id.values().cloned().collect()
    }

    /// A port's thread has ended.
    pub(crate) fn port_gone(&self, port: &Arc<Port>) {
        {
            let mut ports = lock(&self.ports);
            ports.by_id.remove(&port.id);
            ports.by_key.retain(|_, other| !Arc::ptr_eq(other, port));
        }
        port.close();
        let own = self.own_session.get().cloned();
        for session in self.sessions.iter().map(|entry| entry.clone()).chain(own) {
            let gone: Vec<u32> = {
                let links = lock(&session.links);
                links
                    .by_id
                    .values()
                    .filter(|(_, at, _)| Arc::ptr_eq(at, port))
                    .map(|(link, ..)| link.id)
                    .collect()
            };
            for id in gone {
                session.unlink(id);
                session.drop_link(|(link, ..)| link.id == id);
            }
        }
    }

    // ---- names ----

    /// Something about names or sessions has changed.
    pub(crate) fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn heard(&self, session: &Arc<Session>, bindings: Vec<Binding>) {
        {
            let mut registry = lock(&self.registry);
            let limit = self.config.peer_names;
            for binding in bindings {
                if !session.may_bind(&binding.name) {
                    session.deny(Denial::Bind, &binding.name);
                } else if !registry.add(session, binding, limit) {
                    session.exceeds("names", limit, "Config::peer_names");
                    break;
                }
            }
        }
        self.touch();
    }

    pub(crate) fn forgot(&self, session: &Arc<Session>, name: &str, port: u32, mailbox: u32) {
        {
            let mut registry = lock(&self.registry);
            registry.remove(session.peer.id, name, port, mailbox);
            registry.undeny(session.peer.id, Some(name));
        }
        self.touch();
    }

    /// A session has ended.
    pub(crate) fn ended(self: &Arc<Self>, session: &Arc<Session>) {
        if session.is_self {
            return;
        }
        lock(&self.registry).remove_all(session.peer.id);
        self.sessions
            .remove_if(&session.peer.id, |_, current| Arc::ptr_eq(current, session));
        tracing::debug!(peer = %session.peer.name, reason = session.reason(), "session ended");
        if session.ended_short() && !self.is_closed() {
            self.meet_again(&session.peer.name);
        }
        self.touch();
    }

    /// Dials a live peer whose session has ended at a limit of this process: nobody else would, until one of them joins
    /// again. After a pause, since the limit may still be there when its next message comes.
    fn meet_again(self: &Arc<Self>, peer: &str) {
        // Of another user, it is known here as `name@uid`.
        let name = peer.split_once('@').map_or(peer, |(name, _)| name).to_owned();
        // Not looked up in the folder: that takes a descriptor, which may be what is lacking.
        let path = self.socket.with_file_name(format!("{name}.sock"));
        let (node, mut closing) = (Arc::downgrade(self), self.closing.subscribe());
        self.spawn(async move {
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
            {
                let Some(this) = node.upgrade() else { return };
                if this.knows(&name, &path) {
                    return;
                }
                lock(&this.dialling).insert(name.clone());
            }
            dial(node, name, path, closing, tokio::sync::oneshot::channel().0).await;
        });
    }

    /// Whether somebody has the name now, and who.
    pub(crate) fn provider(&self, name: &str) -> Option<Provider> {
        lock(&self.registry).find(name)
    }

    /// Gives a name to a mailbox of `port` and tells everybody.
    pub(crate) fn bind(
        self: &Arc<Self>,
        port: &Arc<Port>,
        name: &str,
        kinds: Vec<Kind>,
        window: u32,
    ) -> Result<Arc<Mailbox>, BindError> {
        super::names::check("actor", name)?;
        if self.is_closed() {
            return Err(BindError::Closed);
        }
        let limit = self.config.mailboxes;
        let mailbox = port.reserve_mailbox(limit).ok_or(BindError::TooMany { limit })?;
        let binding = Binding {
            name: name.to_owned(),
            port: port.id,
            mailbox,
            window,
            kinds: kinds.iter().map(Kind::info).collect(),
        };
        // Sends nothing that the frame's limits would refuse.
        let announcement = Frame::Bound(binding.clone());
        if announcement.encode().is_err() {
            port.remove_mailbox(mailbox);
            return Err(BindError::TooMany {
                limit: super::frame::KINDS_MAX,
            });
        }
        let made = Mailbox::new(binding, kinds, port.clone(), None, Arc::downgrade(self));
        {
            let mut registry = lock(&self.registry);
            if let Some(taken) = registry.find(name) {
                drop(registry);
                port.remove_mailbox(mailbox);
                let node = taken
                    .session
                    .map_or_else(|| self.config.node.clone(), |s| s.peer.name.clone());
                return Err(BindError::NameTaken {
                    name: name.to_owned(),
                    node,
                });
            }
            registry.add_own(self.me.id, made.clone());
            port.add_mailbox(made.clone());
            for session in &self.sessions {
                session.tell_bound(&announcement, name);
            }
        }
        self.touch();
        Ok(made)
    }

    /// Withdraws a name of ours.
    pub(crate) fn unbind(&self, binding: &Binding) {
        {
            let mut registry = lock(&self.registry);
            registry.remove_own(self.me.id, binding);
            for session in &self.sessions {
                session.tell_unbound(binding);
            }
        }
        if let Some(port) = self.port(binding.port) {
            port.remove_mailbox(binding.mailbox);
        }
        if let Some(own) = self.own_session.get() {
            own.stop_routes(binding.port, binding.mailbox);
        }
        self.touch();
    }

    /// The archived schemas of a message and its reply, for a peer whose own differ.
    pub(crate) fn describe(&self, name: &str, kind: &str) -> super::peer::Described {
        let Some(mailbox) = lock(&self.registry).own_mailbox(name) else {
            return self.describe_topic(name).unwrap_or_default();
        };
        let Some(kind) = mailbox.kinds.iter().find(|own| own.name == kind) else {
            return (None, None);
        };
        (
            schemas::answer(&(kind.schema)()),
            schemas::answer(&(kind.reply)()),
        )
    }

    // ---- memory ----

    fn all_links(&self) -> Vec<Arc<Link>> {
        // What this node answers itself is sent on the other end.
        let own = self.own_session.get().into_iter().chain(self.own_answering.get());
        let sessions = self
            .sessions
            .iter()
            .map(|entry| entry.clone())
            .chain(own.cloned());
        sessions
            .flat_map(|session| {
                lock(&session.links)
                    .by_id
                    .values()
                    .map(|(link, ..)| link.clone())
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// What the links have carried.
    pub(crate) fn traffic(&self) -> Traffic {
        self.left.collect();
        let mut traffic = Traffic {
            sent: self.counters.sent_on_lost_links.get(),
            replies: self.counters.replies_on_lost_links.get(),
            unreleased: 0,
        };
        for link in self.all_links() {
            let (sent, unreleased) = link.counts();
            traffic.sent += sent;
            traffic.unreleased += u64::from(unreleased);
            // The answering end of a link sends nothing else.
            traffic.replies += if link.asking { 0 } else { sent };
        }
        traffic
    }

    /// Takes back what the peers have released, everywhere.
    pub(crate) fn collect_all(&self) {
        self.left.collect();
        let mut wakers = Vec::new();
        for link in self.all_links() {
            link.collect(&mut wakers);
        }
        for waker in wakers {
            waker.wake();
        }
    }

    /// Registers a task that waits for pool memory; it must try once more afterwards.
    pub(crate) fn wait_for_memory(&self, waker: &Waker) {
        for pool in self.pools() {
            pool.wait(waker);
        }
        for link in self.all_links() {
            link.wait(waker);
        }
    }

    /// The pool for messages to this peer.
    pub(crate) fn pool_for(&self, peer: &handshake::Peer) -> Arc<Pool> {
        if peer.uid == self.me.uid {
            return self.pool.clone();
        }
        let mut pools = lock(&self.user_pools);
        pools.retain(|_, pool| pool.strong_count() > 0);
        if let Some(pool) = pools.get(&peer.uid).and_then(Weak::upgrade) {
            return pool;
        }
        let limit = self.config.user_pool_bytes;
        let pool = Pool::new(self.config.segment_bytes.min(limit), limit);
        pools.insert(peer.uid, Arc::downgrade(&pool));
        pool
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        let others = lock(&self.user_pools)
            .values()
            .filter_map(Weak::upgrade)
            .collect::<Vec<_>>();
        std::iter::once(self.pool.clone()).chain(others).collect()
    }

    /// Buffers in use, bytes in use, bytes reserved, of all pools.
    pub(crate) fn pool_usage(&self) -> (usize, u64, u64) {
        self.pools()
            .iter()
            .map(|pool| pool.usage())
            .fold((0, 0, 0), |all, one| {
                (all.0 + one.0, all.1 + one.1, all.2 + one.2)
            })
    }

    /// What a peer of another user may do here; `None` for our own user.
    pub(crate) fn rights(&self, peer: &handshake::Peer) -> Option<Rights> {
        (peer.uid != self.me.uid).then(|| self.me.users.rights(peer.uid, peer.gid))
    }

    /// The id a peer has here. The one it gives itself may be that of a node of our own user, which it would keep out.
    fn id_of(&self, peer: &handshake::Peer) -> u64 {
        if peer.uid == self.me.uid {
            return peer.id;
        }
        let mut hasher = DefaultHasher::new();
        (peer.id, peer.uid, self.me.id).hash(&mut hasher);
        hasher.finish()
    }

    /// A peer as this node calls it: of another user, its name says so.
    fn known_as(&self, peer: handshake::Peer) -> handshake::Peer {
        if peer.uid == self.me.uid {
            return peer;
        }
        handshake::Peer {
            id: self.id_of(&peer),
            name: self.name_of(&peer),
            ..peer
        }
    }

    fn name_of(&self, peer: &handshake::Peer) -> String {
        if peer.uid == self.me.uid {
            peer.name.clone()
        } else {
            format!("{}@{}", peer.name, peer.uid)
        }
    }

    // ---- the end ----

    /// Leaves the bus: every name is withdrawn, every task ends, the socket goes.
    pub(crate) async fn leave(&self) {
        self.close();
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for task in tasks {
            // A port's task ends with its port; its runtime may be gone already.
            let _ = tokio::time::timeout(Duration::from_secs(1), task).await;
        }
    }

    /// What leaving does at once.
    pub(crate) fn close(&self) {
        // In a forked child nothing here is its own to end.
        if self.pid != std::process::id() || self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        // Peers may keep messages of this node for as long as they like, and it no longer hears of their release.
        self.pool.retire();
        let own = lock(&self.registry).take_own();
        for mailbox in own {
            mailbox.close();
        }
        self.close_topics();
        self.closing.send_replace(true);
        for port in self.ports() {
            port.close();
        }
        // Unlinks the socket: a few system calls on a local file system.
        drop(lock(&self.claim).take());
        self.touch();
        tracing::info!(node = %self.config.node, socket = %self.socket.display(), "left");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whose a node's socket is, if it is there.
fn owner_of(socket: &Path) -> Option<u32> {
    std::fs::symlink_metadata(socket).ok().map(|found| found.uid())
}

/// Accepts, until the node closes. Handshakes run beside each other, at most so many.
async fn listen(node: Weak<Node>, listener: Listener, mut closing: watch::Receiver<bool>) {
    let Some(limit) = node.upgrade().map(|node| node.config.handshakes) else {
        return;
    };
    let running = Arc::new(tokio::sync::Semaphore::new(limit));
    loop {
        let next = async {
            let place = running.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            next = next => next,
        };
        let Some(this) = node.upgrade() else { return };
        match accepted {
            Ok(socket) => {
                let task = welcome(node.clone(), socket, this.closing.subscribe());
                this.spawn(async move {
                    task.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::error!(%error, "this node accepts no more peers");
                return;
            }
        }
    }
}

async fn welcome(node: Weak<Node>, socket: Socket, mut closing: watch::Receiver<bool>) {
    let Some((me, within)) = node
        .upgrade()
        .map(|n| (n.me.clone(), n.config.handshake_deadline))
    else {
        return;
    };
    let Some(pending) = Pending::begin(&node, &socket) else {
        return;
    };
    let mut welcomed = None;
    let met = {
        let decide = |peer: &handshake::Peer| {
            let Some(node) = node.upgrade() else {
                return Verdict::refuse(Code::Shutdown, "leaving");
            };
            let verdict = node.decide(peer);
            if verdict == Verdict::Welcome {
                welcomed = Some(node.name_of(peer));
            }
            verdict
        };
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            met = handshake::accept(&socket, &me, within, decide) => met,
        }
    };
    drop(pending);
    let Some(node) = node.upgrade() else { return };
    match met {
        Ok(Some(peer)) => {
            node.begin(socket, peer);
        }
        // A probe.
        Ok(None) => {}
        Err(error) => {
            if !matches!(
                error,
                HandshakeError::Declined {
                    code: Code::Duplicate,
                    ..
                }
            ) {
                node.counters.handshakes_refused.add(1);
                tracing::warn!(%error, "no session with a peer that connected");
            }
        }
    }
    if let Some(name) = welcomed {
        lock(&node.accepting).remove(&name);
    }
}

/// A handshake that a peer has begun; of another user's so many at a time.
struct Pending {
    node: Weak<Node>,
    /// `None`: our own.
    uid: Option<u32>,
}

impl Pending {
    fn begin(node: &Weak<Node>, socket: &Socket) -> Option<Self> {
        let this = node.upgrade()?;
        let uid = socket.credentials().ok()?.uid;
        let node = node.clone();
        if uid == this.me.uid {
            return Some(Self { node, uid: None });
        }
        let limit = (this.config.handshakes / 4).max(1);
        let mut pending = lock(&this.pending);
        let count = pending.entry(uid).or_default();
        if *count < limit {
            *count += 1;
            return Some(Self { node, uid: Some(uid) });
        }
        drop(pending);
        this.counters.handshakes_refused.add(1);
        let why = format!("uid {uid} has {limit} handshakes under way (a quarter of `Config::handshakes`)");
        let _ = socket.try_send(&Verdict::refuse(Code::Full, &why).encode(), &[]);
        None
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let (Some(node), Some(uid)) = (self.node.upgrade(), self.uid) else {
            return;
        };
        let mut pending = lock(&node.pending);
        if let Some(count) = pending.get_mut(&uid) {
            *count -= 1;
            if *count == 0 {
                pending.remove(&uid);
            }
        }
    }
}

impl Node {
    /// Whether a peer that fits gets a session. Of two nodes that dial each other, the lower id's dial wins.
    fn decide(&self, peer: &handshake::Peer) -> Verdict {
        let dialling = lock(&self.dialling);
        let mut accepting = lock(&self.accepting);
        if self.is_closed() {
            Verdict::refuse(Code::Shutdown, "the node is leaving")
        } else if self.sessions.contains_key(&self.id_of(peer)) {
            Verdict::refuse(Code::Duplicate, "there is a session already")
        } else if self.me.id < peer.id && dialling.contains(&peer.name) {
            Verdict::refuse(Code::Duplicate, "this node dials itself, and has the lower id")
        } else if self.sessions.len() + accepting.len() >= self.config.peers {
            Verdict::refuse(
                Code::Full,
                "the node has as many peers as it may (`Config::peers`)",
            )
        } else if peer.uid != self.me.uid
            && self
                .sessions
                .iter()
                .filter(|known| known.peer.uid == peer.uid)
                .count()
                >= self.config.user_peers
        {
            Verdict::refuse(
                Code::Full,
                "the node has as many peers of this user as it may (`Config::user_peers`)",
            )
        } else {
            accepting.insert(self.name_of(peer));
            Verdict::Welcome
        }
    }
}

/// Meets one node; retries while that node is there but does not answer. `done` is dropped at the first
/// outcome.
async fn dial(
    node: Weak<Node>,
    name: String,
    path: PathBuf,
    mut closing: watch::Receiver<bool>,
    done: tokio::sync::oneshot::Sender<()>,
) {
    let mut done = Some(done);
    let mut pause = AGAIN;
    loop {
        let attempt = attempt(&node, &name, &path);
        let again = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            again = attempt => again,
        };
        drop(done.take());
        if let Some(node) = node.upgrade() {
            lock(&node.dialling).remove(&name);
        }
        if !again {
            return;
        }
        // The node is stopped or overloaded: nothing tells when it is back, so it is asked now and then.
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(Duration::from_secs(30));
        let Some(node) = node.upgrade() else { return };
        if node.knows(&name, &path) {
            return;
        }
        lock(&node.dialling).insert(name.clone());
    }
}

impl Node {
    fn knows(&self, node: &str, path: &Path) -> bool {
        let owner = owner_of(path);
        if self.sessions.iter().any(|session| session.is_node(node, owner)) {
            return true;
        }
        match owner.filter(|owner| *owner != self.me.uid) {
            Some(owner) => lock(&self.accepting).contains(&format!("{node}@{owner}")),
            None => lock(&self.accepting).contains(node),
        }
    }
}

/// One dial. Returns whether another one later may succeed where this did not.
async fn attempt(node: &Weak<Node>, name: &str, path: &Path) -> bool {
    let Some((me, within)) = node
        .upgrade()
        .map(|n| (n.me.clone(), n.config.handshake_deadline))
    else {
        return false;
    };
    let outcome = match Socket::connect(path, within).await {
        Ok(socket) => handshake::dial(&socket, &me, within)
            .await
            .map(|peer| (socket, peer)),
        // Nobody listens there any more; the next join sweeps it.
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionRefused
                    | std::io::ErrorKind::NotFound
                    // Of another user, for its own only.
                    | std::io::ErrorKind::PermissionDenied
            ) =>
        {
            return false;
        }
        Err(error) => Err(HandshakeError::Socket(error)),
    };
    let Some(this) = node.upgrade() else { return false };
    match outcome {
        Ok((socket, peer)) => {
            let id = this.id_of(&peer);
            // If there is one already, which it began, that one is as good.
            let session = this
                .begin(socket, peer)
                .or_else(|| Some(this.sessions.get(&id)?.clone()));
            drop(this);
            if let Some(session) = session {
                let mut introduced = session.introduced.subscribe();
                let _ = tokio::time::timeout(within, introduced.wait_for(|done| *done)).await;
            }
            false
        }
        // It dials us: that session is as good.
        Err(HandshakeError::Refused {
            code: Code::Duplicate,
            ..
        }) => {
            let mut changed = this.changed.subscribe();
            drop(this);
            let owner = owner_of(path);
            let met = async {
                loop {
                    let Some(this) = node.upgrade() else { return };
                    let session = this
                        .sessions
                        .iter()
                        .find(|s| s.is_node(name, owner))
                        .map(|s| s.clone());
                    drop(this);
                    if let Some(session) = session {
                        let _ = session.introduced.subscribe().wait_for(|done| *done).await;
                        return;
                    }
                    if changed.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::time::timeout(within, met).await.is_err()
        }
        Err(error) => {
            this.counters.handshakes_refused.add(1);
            tracing::warn!(peer = %name, %error, "no session with a node of this bus");
            matches!(
                error,
                HandshakeError::Timeout { .. }
                    | HandshakeError::Socket(_)
                    | HandshakeError::HungUp
                    // By a bound of its, which it may have room in later.
                    | HandshakeError::Refused { code: Code::Full, .. }
            )
        }
    }
}
