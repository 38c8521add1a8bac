//! A node of some user that does what its test says.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{File, Permissions},
    io::IoSlice,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt},
    },
    time::Duration,
};

use nix::sys::resource::{Resource, setrlimit};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
use shmbus::{Permit, Publisher, Subscriber, prelude::*};

use crate::{
    node::{Blob, Node, said},
    support::{Child, Place, Stage, system},
};

/// Two users that need not exist by name.
pub const ALICE: u32 = 12_001;
pub const BOB: u32 = 12_002;
/// One of whom no more than one test at a time may have processes.
pub const CAROL: u32 = 12_004;

/// Whether this process can be other users; says so if it cannot.
pub fn can_switch_users(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("{test}: skipped, because only root can start processes of other users");
    }
    root
}

/// A runtime directory that everybody may join in: sticky, like /tmp.
pub fn shared_place() -> Place {
    let place = Place::new();
    set_mode(&place, 0o1777);
    place
}

pub fn set_mode(place: &Place, mode: u32) {
    std::fs::set_permissions(place.dir(), Permissions::from_mode(mode)).expect("a mode");
}

/// Starts a party as this user, in a group of the same number, and joins.
pub async fn join(place: &Place, uid: u32, args: &[&str]) -> Child {
    let mut child = place.ready_as(uid, uid, "party::party", args).await;
    child.expect_after("join", "ok").await;
    child
}

fn numbers(list: &str) -> Vec<u32> {
    list.split(',').map(|n| n.parse().expect("a number")).collect()
}

fn set(config: Config, setting: &str) -> Config {
    let Some((key, value)) = setting.split_once('=') else {
        return config;
    };
    let number = || value.parse::<u64>().expect("a number");
    let permit = |of: fn(Permit, String) -> Permit| {
        let (uid, names) = value.split_once(':').expect("uid:names");
        of(Permit::uid(uid.parse().expect("a uid")), names.to_owned())
    };
    match key {
        "uids" => config.allow_uids(numbers(value)),
        "gids" => config.allow_gids(numbers(value)),
        "call" => config.permit(permit(|permit, names| permit.call(names))),
        "bind" => config.permit(permit(|permit, names| permit.bind(names))),
        "publish" => config.permit(permit(|permit, names| permit.publish(names))),
        "subscribe" => config.permit(permit(|permit, names| permit.subscribe(names))),
        "lookup" => config.lookup_deadline(Duration::from_millis(number())),
        "bytes" => config.peer_bytes(number()),
        "pool" => config.segment_bytes(4 << 20).pool_bytes(number()),
        "user_pool" => config.user_pool_bytes(number()),
        "names" => config.peer_names(number() as usize),
        "topics" => config.peer_topics(number() as usize),
        "links" => config.peer_links(number() as usize),
        "handshakes" => config.handshakes(number() as usize),
        "peers" => config.peers(number() as usize),
        "user_peers" => config.user_peers(number() as usize),
        "window" => config.window(number() as u32),
        other => panic!("unknown setting {other}"),
    }
}

/// The memory segments of this process whose name begins like this, by inode.
fn segments(name: &str) -> BTreeSet<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let of = format!("/memfd:{name}");
    let inode = |line: &str| {
        let mut words = line.split_whitespace();
        let inode = words.nth(4)?.parse().ok()?;
        words.next()?.starts_with(&of).then_some(inode)
    };
    let mapped = maps.lines().filter_map(inode);
    let open = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    let open = open.filter_map(|fd| {
        let path = fd.ok()?.path();
        let target = std::fs::read_link(&path).ok()?;
        target
            .to_str()?
            .starts_with(&of)
            .then(|| std::fs::metadata(&path).ok().map(|m| m.ino()))?
    });
    mapped.chain(open).collect()
}

/// What `maps` said.
pub fn inodes(said: &str) -> BTreeSet<u64> {
    said.split_whitespace()
        .map(|n| n.parse().expect("an inode"))
        .collect()
}

/// A connection to a node, which has said nothing.
fn silent(node: &str) -> OwnedFd {
    let dir = std::env::var("SHMBUS_DIR").expect("a directory");
    let path = format!("{dir}/default/{node}.sock");
    let (family, of) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let fd = net::socket_with(family, of, SocketFlags::CLOEXEC, None).expect("a socket");
    let to = net::SocketAddrUnix::new(path).expect("a path");
    net::connect(&fd, &to).expect("a connection");
    fd
}

/// Has more descriptors under way than RLIMIT_NOFILE, which holds for all of a user without privileges.
fn choke() -> (OwnedFd, OwnedFd) {
    const LIMIT: u64 = 128;
    setrlimit(Resource::RLIMIT_NOFILE, LIMIT, LIMIT).expect("a lower limit");
    let flags = SocketFlags::CLOEXEC;
    let pair = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a pair");
    let null = File::open("/dev/null").expect("a file");
    let fds = [null.as_fd(); 200];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut control = net::SendAncillaryBuffer::new(&mut space);
    assert!(control.push(net::SendAncillaryMessage::ScmRights(&fds)));
    net::sendmsg(
        &pair.0,
        &[IoSlice::new(b"x")],
        &mut control,
        net::SendFlags::empty(),
    )
    .expect("sent");
    pair
}

/// What the node has said there instead of a hello.
fn refusal(fd: &OwnedFd) -> Option<String> {
    let mut packet = vec![0; 1 << 16];
    let (_, len) = net::recv(fd, &mut packet, net::RecvFlags::DONTWAIT).ok()?;
    shmbus::fuzz::peer::refusal(&packet[..len])
}

/// Role: `node setting=value..`; says `ready`, then does what the test says.
pub fn party(mut stage: Stage) {
    system(async move {
        let config = stage.args[1..]
            .iter()
            .fold(stage.config(stage.arg(0)), |config, arg| set(config, arg));
        let mut node = Node::new(config);
        let mut publishers: HashMap<String, Publisher<Blob>> = HashMap::new();
        let mut subscribers: HashMap<String, Subscriber<Blob>> = HashMap::new();
        let (mut dialled, mut said_to) = (Vec::new(), Vec::new());
        let (mut in_flight, mut opening) = (None, None);
        stage.say("ready");
        loop {
            let line = stage.hear().await;
            let mut words = line.split(' ');
            let (command, name) = (words.next().unwrap_or(""), words.next().unwrap_or("").to_owned());
            let number: usize = words.next().unwrap_or("0").parse().expect("a number");
            let answer = match command {
                "publish" => {
                    let publisher = node.bus().publisher(name.clone()).history(number).await;
                    said(publisher.map(|publisher| publishers.insert(name, publisher)))
                }
                // As "open", and meanwhile this does what else the test says.
                "begin_open" => {
                    let open = node.bus().address(name.as_str());
                    opening = Some((name, actix::spawn(open.into_future())));
                    "ok".into()
                }
                "end_open" => {
                    let (name, opening) = opening.take().expect("begun");
                    let opened = opening.await.expect("no panic");
                    said(opened.map(|address| node.addresses.insert(name, address)))
                }
                // From now on this user's processes may send no descriptor.
                "choke" => {
                    in_flight = Some(choke());
                    "ok".into()
                }
                "breathe" => {
                    drop(in_flight.take());
                    "ok".into()
                }
                "unpublish" => {
                    publishers.remove(&name).expect("published");
                    "ok".into()
                }
                "send" => {
                    let data = vec![number as u8; number];
                    said(publishers[&name].publish(&Blob { data }))
                }
                "subscribers" => publishers[&name].stats().subscribers.to_string(),
                "subscribe" | "subscribe_wait" | "subscribe_last" => {
                    let policy = match command {
                        "subscribe_wait" => WhenFull::Wait,
                        "subscribe_last" => WhenFull::KeepLast(32),
                        _ => WhenFull::DropNewest,
                    };
                    let depth = if number == 0 { 64 } else { number as u32 };
                    let subscriber = node.bus().subscriber(name.clone()).depth(depth);
                    let subscriber = subscriber.when_full(policy).await;
                    said(subscriber.map(|subscriber| subscribers.insert(name, subscriber)))
                }
                "join_group" => {
                    let member = node.bus().subscriber(name.clone()).group("work");
                    said(
                        member
                            .depth(64)
                            .await
                            .map(|member| subscribers.insert(name, member)),
                    )
                }
                // The next message's length, and whether another member had it.
                "take" => match subscribers.get_mut(&name).expect("subscribed").recv().await {
                    Some(blob) => {
                        let origin = blob.origin().expect("an origin");
                        format!("{} {}", blob.data.len(), origin.is_redelivered())
                    }
                    None => "end".into(),
                },
                // So many connections to a node, on which nothing is said.
                "dial" => {
                    dialled.extend((0..number).map(|_| silent(&name)));
                    "ok".into()
                }
                // What was said on them.
                "refusals" => {
                    said_to.extend(dialled.iter().filter_map(refusal));
                    said_to.join("; ")
                }
                "hang_up" => {
                    dialled.clear();
                    "ok".into()
                }
                // The next message's length, if it is right, and whose it is.
                "recv" => match subscribers.get_mut(&name).expect("subscribed").recv().await {
                    Some(blob) => {
                        let right = *blob.data == vec![blob.data.len() as u8; blob.data.len()];
                        let origin = blob.origin().expect("an origin");
                        format!("{} {right} {}", blob.data.len(), origin.publisher())
                    }
                    None => "end".into(),
                },
                "try_recv" => match subscribers.get_mut(&name).expect("subscribed").try_recv() {
                    Some(blob) => blob.data.len().to_string(),
                    None => "none".into(),
                },
                "maps" => {
                    let inodes = segments(&name);
                    inodes.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
                }
                _ => node.obey(command, &name, number).await,
            };
            stage.say(answer);
        }
    });
}
