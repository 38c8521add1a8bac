//! A node of this process that targets speak to as its peer.

use std::sync::{Arc, LazyLock, Mutex};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::runtime::Runtime;

use super::types::{Fixed, Nested, Texts};
use crate::{
    Config, Spin,
    session::{
        frame::SubscriptionInfo,
        handshake::Peer,
        mailbox::{Kind, Mailbox},
        node::{Node, PortKey},
        peer::Session,
        port::Port,
        socket::Socket,
        topics::publishing::Topic,
    },
    shm::sync::lock,
};

/// What the world's actor is called.
pub(super) const ACTOR: &str = "actor";
/// The topic that it publishes.
pub(super) const TOPIC: &str = "fuzz.out";
/// The topics that it subscribes to.
pub(super) const PATTERN: &str = "fuzz.in.*";
/// Who the peer is.
pub(super) const PEER: u64 = 0xfeed;

/// Not dropped: threads that end in whatever order would take parts of it from under others.
static WORLD: LazyLock<Mutex<World>> = LazyLock::new(|| Mutex::new(World::new()));

pub(super) struct World {
    runtime: Runtime,
    pub(super) node: Arc<Node>,
    pub(super) port: Arc<Port>,
    /// Takes [`Fixed`] and [`Texts`].
    pub(super) actor: Arc<Mailbox>,
    /// Of [`Nested`], each message in a queue that keeps the last four.
    pub(super) subscription: Arc<Mailbox>,
    _topic: Arc<Topic>,
}

/// Runs a target in the one world of this process.
pub(super) fn with<R>(run: impl FnOnce(&World) -> R) -> R {
    let world = lock(&WORLD);
    let _inside = world.runtime.enter();
    run(&world)
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let dir = std::env::temp_dir().join(format!("shmbus-fuzz-{}", std::process::id()));
        let config = Config::new("fuzzed")
            .dir(&dir)
            .spin(Spin::Never)
            .ring_slots(16)
            .returns(32)
            .segment_bytes(4 << 20)
            .pool_bytes(8 << 20)
            .message_bytes(1 << 20);
        let world = runtime.block_on(async {
            let node = Node::join(config).await.expect("a node");
            let port = node.port_of(PortKey::Shared).expect("a port");
            let kinds = vec![Kind::of::<Fixed>(), Kind::of::<Texts>()];
            let actor = node.bind(&port, ACTOR, kinds, 8).expect("a binding");
            let wanted = SubscriptionInfo {
                port: 0,
                mailbox: 0,
                pattern: PATTERN.to_owned(),
                kind: Kind::of::<Nested>().info(),
                depth: 8,
                wait: false,
                keep: 4,
                group: None,
            };
            let patience = node.config.lookup_deadline;
            let subscription = node.subscribe(&port, Kind::of::<Nested>(), wanted, patience);
            let subscription = subscription.await.expect("a subscription");
            let topic = node.publish_topic(port.clone(), TOPIC, Kind::of::<Fixed>(), 1);
            let topic = topic.await.expect("a topic");
            (node, port, actor, subscription, topic)
        });
        // Nobody connects; nothing is left behind whenever this process ends.
        let _ = std::fs::remove_dir_all(&dir);
        let (node, port, actor, subscription, topic) = world;
        Self {
            runtime,
            node,
            port,
            actor,
            subscription,
            _topic: topic,
        }
    }

    /// A session with a peer, and the peer's end of its socket.
    pub(super) fn session(&self) -> (Arc<Session>, Socket) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket pair");
        let peer = Peer {
            id: PEER,
            name: "peer".to_owned(),
            pid: 1,
            uid: 0,
            gid: 0,
            features: 0,
        };
        let socket = Socket::new(ours).expect("a socket");
        let session = Session::new(&self.node, socket, peer, false);
        (session, Socket::new(theirs).expect("a socket"))
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Lets tasks run that have something to do.
    pub(super) fn turn(&self) {
        self.block_on(async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// The session is over: nothing of it may be left.
    pub(super) fn finish(&self, session: &Arc<Session>) {
        session.close("over");
        session.end();
        self.turn();
        while let Some(delivery) = self.actor.pop() {
            drop(delivery);
        }
        while let Some(delivery) = self.subscription.pop() {
            drop(delivery);
        }
        assert!(lock(&session.links).by_id.is_empty(), "a link is left");
    }
}
