//! Against a peer that says what the test lets it say.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::FutureExt;

use super::*;
use crate::{
    config::Config,
    error::TopicError,
    session::{
        frame::{Frame, KindInfo, SubscriptionInfo},
        handshake::{self, Me},
        mailbox::{Kind, Mailbox},
        node::PortKey,
        socket::Socket,
        topics::publishing::Topic,
    },
};

#[derive(crate::ShmMessage, Debug)]
struct Number {
    n: u64,
}

const PATIENCE: Duration = Duration::from_secs(30);

struct Puppet {
    socket: Socket,
    buf: Vec<u8>,
    /// What it was told at the handshake.
    snapshot: VecDeque<Announcement>,
}

impl Puppet {
    /// Joins the bus of the node, as a node that has nothing.
    async fn join(node: &Node, dir: &std::path::Path) -> Self {
        let path = dir
            .join(&node.config.bus)
            .join(format!("{}.sock", node.config.node));
        let socket = Socket::connect(&path, PATIENCE).await.unwrap();
        let me = Me::new(&node.config.bus, "puppet");
        handshake::dial(&socket, &me, PATIENCE).await.unwrap();
        let mut puppet = Self {
            socket,
            buf: Vec::new(),
            snapshot: VecDeque::new(),
        };
        puppet.say(&Frame::names([])[0]);
        // Names come last: the node has begun the session.
        loop {
            match puppet.hear().await.expect("a snapshot") {
                Frame::Names { .. } => return puppet,
                frame => puppet.snapshot.extend(frame.announcement()),
            }
        }
    }

    fn say(&self, frame: &Frame) {
        self.socket.try_send(&frame.encode().unwrap(), &[]).unwrap();
    }

    /// The next frame; `None` at the end.
    async fn hear(&mut self) -> Option<Frame> {
        let packet = tokio::time::timeout(PATIENCE, self.socket.recv(&mut self.buf));
        let packet = packet.await.expect("the node says something").unwrap()?;
        Some(Frame::decode(&self.buf, packet.fds.len()).unwrap())
    }

    /// The next announcement.
    async fn announced(&mut self) -> Announcement {
        if let Some(what) = self.snapshot.pop_front() {
            return what;
        }
        loop {
            let frame = self.hear().await.expect("an announcement");
            if let Some(what) = frame.announcement() {
                return what;
            }
        }
    }

    async fn expect_the_end(&mut self, why: &str) {
        loop {
            match self.hear().await {
                Some(Frame::Bye { reason }) => return assert!(reason.contains(why), "{reason}"),
                Some(_) => {}
                None => panic!("no farewell"),
            }
        }
    }
}

async fn node(within: Duration) -> (Arc<Node>, Puppet, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new("node").dir(dir.path()).announce_deadline(within);
    let node = Node::join(config).await.unwrap();
    let puppet = Puppet::join(&node, dir.path()).await;
    (node, puppet, dir)
}

async fn publish(node: Arc<Node>) -> Result<Arc<Topic>, TopicError> {
    let port = node.port_of(PortKey::Shared)?;
    node.publish_topic(port, "feed", Kind::of::<Number>(), 0).await
}

async fn subscribe(node: Arc<Node>) -> Result<Arc<Mailbox>, TopicError> {
    let port = node.port_of(PortKey::Shared)?;
    let wanted = SubscriptionInfo {
        port: 0,
        mailbox: 0,
        pattern: "feed".into(),
        kind: KindInfo {
            name: String::new(),
            schema: 0,
            reply: 0,
        },
        depth: 8,
        wait: false,
        keep: 0,
        group: None,
    };
    node.subscribe(&port, Kind::of::<Number>(), wanted, PATIENCE)
        .await
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it ends")
}

#[tokio::test]
async fn both_kinds_wait_until_each_peer_has_heard() {
    let (node, mut puppet, _dir) = node(PATIENCE * 10).await;
    let mut publishing = Box::pin(publish(node.clone()));
    assert!(publishing.as_mut().now_or_never().is_none());
    let topic = puppet.announced().await;
    assert!(
        publishing.as_mut().now_or_never().is_none(),
        "nobody has heard it"
    );
    puppet.say(&Frame::Heard(topic));
    let topic = soon(publishing).await.unwrap();

    let mut subscribing = Box::pin(subscribe(node.clone()));
    let announced = async {
        tokio::select! {
            _ = &mut subscribing => panic!("nobody has heard it"),
            what = puppet.announced() => what,
        }
    };
    let wanted = announced.await;
    assert!(subscribing.as_mut().now_or_never().is_none());
    puppet.say(&Frame::Heard(wanted));
    let mailbox = soon(subscribing).await.unwrap();
    assert_eq!(wanted, mailbox.subscription.as_ref().unwrap().info.announcement());
    assert_eq!(node.counters.violations.get(), 0);
    mailbox.close();
    node.unpublish(&topic);
    node.leave().await;
}

/// A peer that joins meanwhile is told at the handshake, and has to acknowledge as well.
#[tokio::test]
async fn a_peer_that_joins_meanwhile_is_waited_for_too() {
    let (node, mut first, dir) = node(PATIENCE * 10).await;
    let mut publishing = Box::pin(publish(node.clone()));
    assert!(publishing.as_mut().now_or_never().is_none());
    let mut second = Puppet::join(&node, dir.path()).await;
    assert_eq!(second.announced().await, first.announced().await);
    first.say(&Frame::Heard(Announcement::Topic { id: 0 }));
    while node
        .sessions
        .iter()
        .filter(|s| s.has_not_heard(Announcement::Topic { id: 0 }))
        .count()
        == 2
    {
        tokio::task::yield_now().await;
    }
    assert!(
        publishing.as_mut().now_or_never().is_none(),
        "the second has not heard it"
    );
    second.say(&Frame::Heard(Announcement::Topic { id: 0 }));
    soon(publishing).await.unwrap();
    node.leave().await;
}

#[tokio::test]
async fn a_silent_peer_is_waited_for_within_the_bound_and_a_lost_one_no_more() {
    let (quick, puppet, _dir) = node(Duration::from_millis(20)).await;
    soon(publish(quick.clone())).await.unwrap();
    soon(subscribe(quick.clone())).await.unwrap();
    drop(puppet);
    quick.leave().await;

    let (patient, mut puppet, _dir) = node(PATIENCE * 10).await;
    let publishing = tokio::spawn(publish(patient.clone()));
    puppet.announced().await;
    drop(puppet);
    soon(publishing).await.unwrap().unwrap();
    patient.leave().await;
}

#[tokio::test]
async fn acknowledging_what_was_not_announced_ends_the_session() {
    for what in [
        Announcement::Topic { id: 7 },
        Announcement::Subscription { port: 0, mailbox: 0 },
    ] {
        let (node, mut puppet, _dir) = node(PATIENCE).await;
        puppet.say(&Frame::Heard(what));
        puppet.expect_the_end("acknowledgement").await;
        assert_eq!(node.counters.violations.get(), 1);
        node.leave().await;
    }
    // Nor may anything be acknowledged twice.
    let (node, mut puppet, _dir) = node(PATIENCE).await;
    let publishing = tokio::spawn(publish(node.clone()));
    let what = puppet.announced().await;
    puppet.say(&Frame::Heard(what));
    soon(publishing).await.unwrap().unwrap();
    puppet.say(&Frame::Heard(what));
    puppet.expect_the_end("acknowledgement").await;
    node.leave().await;
}

#[test]
fn what_a_peer_leaves_unacknowledged_is_bounded() {
    let unheard = Unheard::default();
    let topic = |id| Announcement::Topic { id };
    assert!((0..UNHEARD as u32).all(|id| unheard.add(topic(id))));
    assert!(!unheard.add(topic(u32::MAX)));
    assert_eq!(unheard.remove(topic(1)), Ok(()));
    assert!(unheard.add(topic(u32::MAX)));
    assert!(!unheard.contains(topic(1)) && unheard.contains(topic(u32::MAX)));
}
