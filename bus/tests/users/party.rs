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

use actix::prelude::*;
use nix::sys::resource::{Resource, setrlimit};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
use shmbus::{Permit, Publisher, Subscriber, prelude::*};

use crate::support::{Child, Place, Stage, system};

/// Two users that need not exist by name.
pub const ALICE: u32 = 12_001;
pub const BOB: u32 = 12_002;
/// One of whom no more than one test at a time may have processes.
pub const CAROL: u32 = 12_004;

/// Travels in its slot.
#[derive(ShmMessage, Debug)]
#[shm(reply = u64)]
pub struct Ping {
    pub n: u64,
}

/// Travels in a buffer, and so does its reply.
#[derive(ShmMessage, Debug)]
#[shm(reply = Vec<u8>)]
pub struct Blob {
    pub data: Vec<u8>,
}

/// Travels in its slot; the reply has so many bytes.
#[derive(ShmMessage, Debug)]
#[shm(reply = Vec<u8>)]
pub struct Fetch {
    pub len: u64,
}

/// Kept by the actor until its test says `release`.
#[derive(ShmMessage, Debug)]
pub struct Keep {
    pub data: Vec<u8>,
}

#[derive(Default)]
struct Actor_ {
    kept: std::rc::Rc<std::cell::RefCell<Vec<Received<Keep>>>>,
}

impl Actor for Actor_ {
    type Context = Context<Self>;
}

impl Handler<Received<Ping>> for Actor_ {
    type Result = u64;
    fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
        ping.n.to_native() + 1
    }
}

impl Handler<Received<Blob>> for Actor_ {
    type Result = MessageResult<Received<Blob>>;
    fn handle(&mut self, blob: Received<Blob>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(blob.data.to_vec())
    }
}

impl Handler<Received<Fetch>> for Actor_ {
    type Result = MessageResult<Received<Fetch>>;
    fn handle(&mut self, fetch: Received<Fetch>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(bytes(fetch.len.to_native() as usize))
    }
}

impl Handler<Received<Keep>> for Actor_ {
    type Result = ();
    fn handle(&mut self, keep: Received<Keep>, _: &mut Context<Self>) {
        self.kept.borrow_mut().push(keep);
    }
}

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
    let mut child = place.spawn_as(uid, uid, "party::party", args);
    child.expect("ready").await;
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

/// Bytes that differ by place.
fn bytes(len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..=u8::MAX).collect();
    bytes = bytes.repeat(len / bytes.len() + 1);
    bytes.truncate(len);
    bytes
}

/// What `maps` said.
pub fn inodes(said: &str) -> BTreeSet<u64> {
    said.split_whitespace()
        .map(|n| n.parse().expect("an inode"))
        .collect()
}

fn said<T, E: std::fmt::Display>(outcome: Result<T, E>) -> String {
    match outcome {
        Ok(_) => "ok".into(),
        Err(error) => error.to_string(),
    }
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
        let mut bus: Option<Bus> = None;
        let mut addresses: HashMap<String, Address<(Ping, Blob, Keep, Fetch)>> = HashMap::new();
        let mut publishers: HashMap<String, Publisher<Blob>> = HashMap::new();
        let mut subscribers: HashMap<String, Subscriber<Blob>> = HashMap::new();
        let actor = Actor_::default();
        let kept = actor.kept.clone();
        let mut bound = Vec::new();
        let (mut dialled, mut said_to) = (Vec::new(), Vec::new());
        let (mut in_flight, mut opening) = (None, None);
        stage.say("ready");
        loop {
            let line = stage.hear().await;
            let mut words = line.split(' ');
            let (command, name) = (words.next().unwrap_or(""), words.next().unwrap_or("").to_owned());
            let number: usize = words.next().unwrap_or("0").parse().expect("a number");
            let on = || bus.as_ref().expect("joined");
            let answer = match command {
                "join" => match config.clone().join().await {
                    Ok(joined) => {
                        bus = Some(joined);
                        "ok".into()
                    }
                    Err(error) => error.to_string(),
                },
                "leave" => {
                    bus.take().expect("joined").leave().await;
                    "ok".into()
                }
                "peers" => {
                    let mut peers = on().peers();
                    peers.sort();
                    peers.join(" ")
                }
                "bind" => {
                    let actor = Actor_ { kept: kept.clone() };
                    let bind = on()
                        .bind(name, actor)
                        .handles::<Ping>()
                        .handles::<Blob>()
                        .handles::<Keep>()
                        .handles::<Fetch>();
                    let outcome = bind.start().await;
                    let text = said(outcome.as_ref().map(|_| ()));
                    bound.extend(outcome.ok());
                    text
                }
                "unbind" => {
                    let at = bound
                        .iter()
                        .position(|known| known.name() == name)
                        .expect("bound");
                    bound.swap_remove(at).unbind();
                    "ok".into()
                }
                "open" => match on().address::<(Ping, Blob, Keep, Fetch)>(name.clone()).await {
                    Ok(address) => {
                        addresses.insert(name, address);
                        "ok".into()
                    }
                    Err(error) => error.to_string(),
                },
                // The same, and meanwhile this does what else the test says.
                "begin_open" => {
                    let open = on().address(name.clone());
                    opening = Some((name, actix::spawn(async move { open.await })));
                    "ok".into()
                }
                "end_open" => {
                    let (name, opening) = opening.take().expect("begun");
                    said(
                        opening
                            .await
                            .expect("no panic")
                            .map(|address| addresses.insert(name, address)),
                    )
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
                "ping" => said(addresses[&name].ask(&Ping { n: 1 }).await),
                // Answers whether the reply is right.
                "blob" => {
                    let data = bytes(number);
                    match addresses[&name].ask(&Blob { data: data.clone() }).await {
                        Ok(reply) => (reply.as_slice() == data).to_string(),
                        Err(error) => error.to_string(),
                    }
                }
                // The same of a reply that is so long.
                "fetch" => {
                    let fetch = Fetch { len: number as u64 };
                    match addresses[&name].ask(&fetch).await {
                        Ok(reply) => (reply.as_slice() == bytes(number)).to_string(),
                        Err(error) => error.to_string(),
                    }
                }
                "try_keep" => said(addresses[&name].try_tell(&Keep {
                    data: vec![7; number],
                })),
                "keep" => said(
                    addresses[&name]
                        .tell(&Keep {
                            data: vec![7; number],
                        })
                        .await,
                ),
                "kept" => kept.borrow().len().to_string(),
                "right" => kept
                    .borrow()
                    .iter()
                    .all(|keep| *keep.data == vec![7; keep.data.len()])
                    .to_string(),
                "release" => {
                    kept.borrow_mut().clear();
                    "ok".into()
                }
                "publish" => match on().publisher::<Blob>(name.clone()).history(number).await {
                    Ok(publisher) => {
                        publishers.insert(name, publisher);
                        "ok".into()
                    }
                    Err(error) => error.to_string(),
                },
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
                    match on()
                        .subscriber::<Blob>(name.clone())
                        .depth(depth)
                        .when_full(policy)
                        .await
                    {
                        Ok(subscriber) => {
                            subscribers.insert(name, subscriber);
                            "ok".into()
                        }
                        Err(error) => error.to_string(),
                    }
                }
                "join_group" => {
                    let group = on().subscriber::<Blob>(name.clone()).group("work");
                    match group.depth(64).await {
                        Ok(subscriber) => {
                            subscribers.insert(name, subscriber);
                            "ok".into()
                        }
                        Err(error) => error.to_string(),
                    }
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
                "stat" => {
                    let stats = format!("{:?} ", on().stats());
                    let of = format!("{name}: ");
                    let at = stats.find(&of).expect("a count") + of.len();
                    stats[at..].split([',', ' ']).next().expect("a number").to_owned()
                }
                other => panic!("unknown command {other}"),
            };
            stage.say(answer);
        }
    });
}
