//! A node and a peer of another user, whose end of the session is the test's.

use std::{
    fs::OpenOptions,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    time::Duration,
};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use super::*;
use crate::{
    Permit,
    session::{
        frame::{Announcement, Binding, Denial, Frame, SubscriptionInfo, TopicInfo},
        handshake::Peer,
        hello::{Code, Verdict},
        mailbox::{Kind, Mailbox},
        socket::Socket,
    },
    shm::{
        bell::Bell,
        segment::{LinkParts, create_bell},
    },
};

mod counted;
mod denied;
mod ending;
mod links;
mod names;
mod routes;
mod schemas;

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(crate::ShmMessage, Debug)]
struct Number {
    n: u64,
}

/// Not ours.
fn another() -> u32 {
    if geteuid().as_raw() == 1001 { 1002 } else { 1001 }
}

fn permit() -> Permit {
    Permit::uid(another())
}

/// A node that lets another user in for this.
async fn node(permit: Permit, set: fn(Config) -> Config) -> (Arc<Node>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let config = Config::new("node").dir(dir.path()).allow_uids([another()]);
    let config = config.permit(permit).announce_deadline(Duration::from_millis(1));
    (Node::join(set(config)).await.unwrap(), dir)
}

fn bind(node: &Arc<Node>, name: &str) -> Arc<Mailbox> {
    let port = node.port_of(PortKey::Shared).unwrap();
    node.bind(&port, name, vec![Kind::of::<Number>()], 8).unwrap()
}

async fn publish(node: &Arc<Node>, name: &str) {
    let port = node.port_of(PortKey::Shared).unwrap();
    let topic = node.publish_topic(port, name, Kind::of::<Number>(), 0).await;
    drop(topic.unwrap());
}

async fn subscribe(node: &Arc<Node>, pattern: &str) -> Arc<Mailbox> {
    let port = node.port_of(PortKey::Shared).unwrap();
    let wanted = wanted(0, pattern);
    let subscribed = node.subscribe(&port, Kind::of::<Number>(), wanted, PATIENCE);
    subscribed.await.unwrap()
}

fn wanted(mailbox: u32, pattern: &str) -> SubscriptionInfo {
    SubscriptionInfo {
        port: 0,
        mailbox,
        pattern: pattern.to_owned(),
        kind: Kind::of::<Number>().info(),
        depth: 8,
        wait: false,
        keep: 0,
        group: None,
    }
}

fn topic(id: u32, name: &str) -> Frame {
    Frame::Topic(TopicInfo {
        id,
        name: name.to_owned(),
        kind: Kind::of::<Number>().info(),
    })
}

/// A node of the other user, as ours sees it.
fn peer(name: &str, id: u64) -> Peer {
    Peer {
        id,
        name: name.to_owned(),
        pid: 1,
        uid: another(),
        gid: another(),
        features: 0,
    }
}

/// The memory that a peer sends for a link.
#[derive(Clone, Copy)]
enum Half {
    Whole,
    NotToBeMapped,
}

struct Other {
    session: Arc<Session>,
    socket: Socket,
    /// The node's end.
    ours: OwnedFd,
    buf: Vec<u8>,
    questions: u32,
}

impl Other {
    /// Meets the node.
    fn meet(node: &Arc<Node>) -> Self {
        Self::meet_as(node, "other", 1)
    }

    fn meet_as(node: &Arc<Node>, name: &str, id: u64) -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) =
            net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let socket = Socket::new(ours.try_clone().unwrap()).unwrap();
        let session = node.begin(socket, peer(name, id));
        Self {
            ours,
            session: session.unwrap(),
            socket: Socket::new(theirs).unwrap(),
            buf: Vec::new(),
            questions: 0,
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

    /// All that the node says to what it was told before.
    async fn said(&mut self) -> Vec<Frame> {
        self.questions += 1;
        let (name, kind) = ("nobody".to_owned(), String::new());
        let request = u32::MAX - self.questions;
        self.say(&Frame::Describe { request, name, kind });
        let mut said = Vec::new();
        loop {
            match self.hear().await.expect("the session goes on") {
                Frame::Described { request: of, .. } if of == request => return said,
                frame => said.push(frame),
            }
        }
    }

    /// Why the session has ended.
    async fn end(&mut self) -> String {
        loop {
            match self.hear().await {
                Some(Frame::Bye { reason }) => break reason,
                Some(_) => {}
                None => panic!("no farewell"),
            }
        }
    }

    /// Nothing of the session is left.
    async fn over(&self) {
        let mut over = self.session.over.subscribe();
        let over = tokio::time::timeout(PATIENCE, over.wait_for(|over| *over));
        over.await.expect("it ends").unwrap();
    }

    /// Sends its half of a link with the frame that is made of the half's slots, returns and bytes.
    fn say_with_half(&self, half: Half, frame: impl FnOnce(u32, u32, u64) -> Frame) {
        let (slots, returns) = (1024, 64);
        let (segment, _) = LinkParts::create(slots, returns).unwrap();
        let (word, _) = create_bell().unwrap();
        let (bell, _ear) = Bell::for_another_user().unwrap();
        let frame = frame(slots, returns, segment.bytes() as u64);
        // What is not open for reading is what it should be in every other respect, and the kernel maps it for nobody.
        let path = format!("/proc/self/fd/{}", segment.fd().as_raw_fd());
        let write_only = OpenOptions::new().write(true).open(path).unwrap();
        let first = match half {
            Half::Whole => segment.fd(),
            Half::NotToBeMapped => write_only.as_fd(),
        };
        let fds = [first, word.fd(), bell.as_fd()];
        self.socket.try_send(&frame.encode().unwrap(), &fds).unwrap();
    }

    /// Wants to ask something of a port.
    fn offer(&self, half: Half, link: u32, to_port: u32) {
        self.say_with_half(half, |ring_slots, returns, bytes| Frame::Link {
            link,
            from_port: 0,
            to_port,
            ring_slots,
            returns,
            bytes,
        });
    }

    /// Takes a link that the node wants.
    fn take(&self, half: Half, peer_link: u32) {
        self.say_with_half(half, |ring_slots, returns, bytes| Frame::Linked {
            link: 70,
            peer_link,
            ring_slots,
            returns,
            bytes,
        });
    }
}

/// Of another user, its word for its name does not suffice.
#[tokio::test]
async fn a_socket_leads_to_a_peer_of_another_user_only_if_it_belongs_to_that_user() {
    let (node, _dir) = node(permit().call("shop"), |config| config).await;
    let other = Other::meet(&node);
    for (name, owner, is) in [
        ("other", Some(another()), true),
        ("other", Some(geteuid().as_raw()), false),
        ("other", None, false),
        ("another", Some(another()), false),
        ("other@1001", Some(another()), false),
    ] {
        assert_eq!(other.session.is_node(name, owner), is, "{name} {owner:?}");
    }
    node.leave().await;
}
