//! A node: what one joined bus keeps.

mod dialling;
mod listening;
mod meeting;
mod memory;
mod naming;
mod own;
mod ports;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::ThreadId,
    time::Duration,
};

use dashmap::DashMap;
use nix::unistd::geteuid;
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use self::{listening::listen, own::Own};
use super::{
    counters::Counters,
    directory::Claim,
    handshake::{self, Me},
    link::left::Left,
    peer::Session,
    port::Port,
    registry::Registry,
    socket::Listener,
    topics::catalog::Catalog,
    users::{Rights, Users},
};
use crate::{
    config::Config,
    error::{JoinError, ResourceError},
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

/// Whom a handshake of ours is under way with, by node name.
type Dialling = HashSet<String>;

/// Who has been welcomed and has no session yet: names as they are known here, and uids. A name may be there twice.
type Accepting = Vec<(String, u32)>;

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
    own: Mutex<Option<Own>>,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) catalog: Mutex<Catalog>,
    /// Counts changes of names and sessions, for those who wait for one.
    pub(crate) changed: watch::Sender<u64>,
    dialling: Mutex<Dialling>,
    accepting: Mutex<Accepting>,
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
            own: Mutex::default(),
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

    /// Something about names or sessions has changed.
    pub(crate) fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// What a peer of another user may do here; `None` for our own user.
    pub(crate) fn rights(&self, peer: &handshake::Peer) -> Option<Rights> {
        (peer.uid != self.me.uid).then(|| self.me.users.rights(peer.uid, peer.gid))
    }

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
        for pool in self.pools() {
            pool.retire();
        }
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

#[cfg(test)]
mod tests;
