//! Whatever speaks to a node's socket without being a node: refused and counted, and nobody else notices.

use std::{
    io::IoSlice,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg, socket,
};
use shmbus::prelude::*;

use crate::{
    service::{Ping, pinged, start},
    support::{Child, PATIENCE, Place, eventually, settled, soon, threads},
};

/// A raw client of the rendezvous socket.
struct Raw(OwnedFd);

impl Raw {
    fn connect(path: &Path) -> Self {
        let fd = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        let patience = nix::sys::time::TimeVal::new(PATIENCE.as_secs() as i64, 0);
        nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::ReceiveTimeout, &patience).unwrap();
        connect(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        Self(fd)
    }

    /// Sends a packet; the node may have hung up already.
    fn send(&self, bytes: &[u8], fds: &[i32]) {
        let rights = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights };
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let _ = sendmsg::<UnixAddr>(self.0.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None);
    }

    /// The next packet; empty once the node has hung up.
    fn recv(&self) -> Vec<u8> {
        let mut packet = vec![0; 1 << 16];
        match recv(self.0.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Ok(len) => packet.truncate(len),
            Err(nix::errno::Errno::ECONNRESET) => packet.clear(),
            Err(error) => panic!("the node neither answered nor hung up: {error}"),
        }
        packet
    }

    fn until_hang_up(&self) {
        while !self.recv().is_empty() {}
    }
}

/// A hello, as `session/hello.rs` lays it out.
fn hello(abi: u64, protocol: u32, bus: &str, node: &str) -> Vec<u8> {
    let mut hello = b"SHMBUS\r\n".to_vec();
    hello.extend(protocol.to_le_bytes());
    hello.extend(0u64.to_le_bytes());
    hello.extend(abi.to_le_bytes());
    hello.extend(0xfeed_u64.to_le_bytes());
    hello.extend(std::process::id().to_le_bytes());
    hello.push(0);
    for name in [bus, node] {
        hello.push(name.len() as u8);
        hello.extend(name.as_bytes());
    }
    hello
}

const WELCOME: &[u8] = b"SHMBUSV\n\0\0\0";

/// The rkyv ABI of the node at `path`, by its own hello.
fn abi(path: &Path) -> u64 {
    let raw = Raw::connect(path);
    raw.send(&hello(0, 1, "default", "raw"), &[]);
    let theirs = raw.recv();
    raw.until_hang_up();
    u64::from_le_bytes(theirs[20..28].try_into().unwrap())
}

/// A session that the node takes for one with a peer.
fn session(path: &Path, abi: u64) -> Raw {
    let raw = Raw::connect(path);
    raw.send(&hello(abi, 1, "default", "raw"), &[]);
    assert!(raw.recv().starts_with(b"SHMBUS\r\n"));
    assert!(raw.recv().starts_with(b"SHMBUSV\n\0"));
    raw.send(WELCOME, &[]);
    raw
}

/// Bytes without a pattern, the same in each run.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A server, and a client of it that must notice nothing.
async fn pair(place: &Place, args: &[&str]) -> (Child, Bus, Address<Ping>) {
    let server = start(place, args).await;
    let bus = place.config("client").join().await.unwrap();
    let actor = bus.address::<Ping>("actor").await.unwrap();
    (server, bus, actor)
}

async fn unaffected(server: &mut Child, bus: &Bus, actor: &Address<Ping>) {
    for n in 0..20 {
        pinged(actor, n).await;
    }
    server.until("peers", "1").await;
    settled(bus).await;
}

#[test]
fn packets_that_are_no_hello_are_refused_and_counted() {
    let place = Place::new();
    threads(async {
        let (mut server, bus, actor) = pair(&place, &["server", "actor"]).await;
        let path = place.socket("server");
        let right = hello(abi(&path), 1, "default", "raw");
        let mut packets: Vec<Vec<u8>> = (0..40).map(|n| noise(n, 1 + (n * n * 30) as usize)).collect();
        packets.extend((1..right.len()).step_by(5).map(|len| right[..len].to_vec()));
        packets.push([right.as_slice(), b"x"].concat());
        packets.push(hello(abi(&path), 1, "default", "bad name"));
        packets.push(hello(abi(&path), 1, "", "raw"));
        let before = server.stat("handshakes_refused").await;
        for packet in &packets {
            let raw = Raw::connect(&path);
            raw.send(packet, &[]);
            raw.until_hang_up();
        }
        // The server counts after it has hung up.
        server
            .until_stat("handshakes_refused", before + packets.len() as u64)
            .await;
        unaffected(&mut server, &bus, &actor).await;
    });
}

#[test]
fn peers_that_do_not_fit_are_told_why() {
    let place = Place::new();
    threads(async {
        let (mut server, bus, actor) = pair(&place, &["server", "actor"]).await;
        let path = place.socket("server");
        let abi = abi(&path);
        let before = server.stat("handshakes_refused").await;
        let others = [
            (hello(abi, 2, "default", "raw"), "protocol"),
            (hello(abi ^ 1, 1, "default", "raw"), "rkyv"),
            (hello(abi, 1, "another", "raw"), "bus"),
        ];
        for (packet, why) in &others {
            let raw = Raw::connect(&path);
            raw.send(packet, &[]);
            assert!(raw.recv().starts_with(b"SHMBUS\r\n"));
            let verdict = raw.recv();
            assert!(verdict.starts_with(b"SHMBUSV\n") && verdict[8] != 0);
            let text = String::from_utf8_lossy(&verdict[11..]).into_owned();
            assert!(text.contains(why), "{text}");
            raw.until_hang_up();
        }
        server.until_stat("handshakes_refused", before + 3).await;
        unaffected(&mut server, &bus, &actor).await;
    });
}

#[test]
fn descriptors_and_oversized_packets_in_a_handshake_are_refused() {
    let place = Place::new();
    threads(async {
        let (mut server, bus, actor) = pair(&place, &["server", "actor"]).await;
        let path = place.socket("server");
        let right = hello(abi(&path), 1, "default", "raw");
        let open = || {
            std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
                .unwrap()
                .count()
        };
        let before = open();
        for n in 1..30 {
            let raw = Raw::connect(&path);
            match n % 3 {
                0 => raw.send(&right, &vec![0; n]),
                1 => raw.send(&right, &[0]),
                _ => raw.send(&noise(n as u64, 100_000), &[]),
            }
            raw.until_hang_up();
        }
        eventually("no descriptor stays behind", || open() == before).await;
        unaffected(&mut server, &bus, &actor).await;
    });
}

#[test]
fn garbage_after_the_handshake_closes_that_session_only() {
    let place = Place::new();
    threads(async {
        let (mut server, bus, actor) = pair(&place, &["server", "actor"]).await;
        let path = place.socket("server");
        let abi = abi(&path);
        let rounds = 40;
        for round in 0..rounds {
            let raw = session(&path, abi);
            // Its names, which it tells first.
            assert!(!raw.recv().is_empty());
            let garbage = noise(round, 1 + (round * 37 % 3000) as usize);
            raw.send(&garbage, if round % 4 == 3 { &[0, 1, 2] } else { &[] });
            raw.until_hang_up();
        }
        server.until_stat("violations", rounds).await;
        unaffected(&mut server, &bus, &actor).await;
    });
}

#[test]
fn silent_clients_are_hung_up_on_at_the_deadline_and_hold_up_nobody() {
    let place = Place::new();
    threads(async {
        let args = ["server", "actor", "handshake=300", "handshakes=8"];
        let (mut server, bus, actor) = pair(&place, &args).await;
        let path = place.socket("server");
        let abi = abi(&path);
        let before = server.stat("handshakes_refused").await;
        let begun = Instant::now();
        // More than it meets at once: one says nothing, one stops half-way.
        let silent: Vec<_> = (0..10).map(|_| Raw::connect(&path)).collect();
        let halfway: Vec<_> = (0..10).map(|_| Raw::connect(&path)).collect();
        for raw in &halfway {
            raw.send(&hello(abi, 1, "default", "raw"), &[]);
        }
        // Sessions there are not held up at all.
        for n in 0..50 {
            pinged(&actor, n).await;
        }
        // A node that joins now waits its turn.
        let late = soon("a join", place.config("late").join()).await.unwrap();
        let address = soon("a lookup", late.address::<Ping>("actor")).await.unwrap();
        pinged(&address, 1).await;
        late.leave().await;
        for raw in silent.iter().chain(&halfway) {
            raw.until_hang_up();
        }
        assert!(begun.elapsed() >= Duration::from_millis(300));
        server.until_stat("handshakes_refused", before + 20).await;
        unaffected(&mut server, &bus, &actor).await;
    });
}

#[test]
fn connecting_and_hanging_up_is_no_error() {
    let place = Place::new();
    threads(async {
        let (mut server, bus, actor) = pair(&place, &["server", "actor"]).await;
        for _ in 0..50 {
            drop(Raw::connect(&place.socket("server")));
        }
        unaffected(&mut server, &bus, &actor).await;
        assert_eq!(server.stat("handshakes_refused").await, 0);
    });
}

#[test]
fn a_client_of_another_socket_type_does_not_connect() {
    let place = Place::new();
    threads(async {
        let (mut server, bus, actor) = pair(&place, &["server", "actor"]).await;
        assert!(UnixStream::connect(place.socket("server")).is_err());
        unaffected(&mut server, &bus, &actor).await;
    });
}

/// Somebody else's socket and files in the folder.
#[test]
fn strangers_in_the_folder_are_left_alone() {
    let place = Place::new();
    threads(async {
        let (mut server, bus, actor) = pair(&place, &["server", "actor"]).await;
        let stranger = std::os::unix::net::UnixListener::bind(place.socket("stranger")).unwrap();
        std::fs::write(place.socket("text"), "not a socket").unwrap();
        std::fs::write(place.folder().join("notes.txt"), "hello").unwrap();
        let next = soon("a join", place.config("next").join()).await.unwrap();
        assert_eq!(next.peers().len(), 2);
        assert!(place.socket("text").exists() && place.folder().join("notes.txt").exists());
        assert!(place.socket("stranger").exists());
        next.leave().await;
        drop(stranger);
        unaffected(&mut server, &bus, &actor).await;
    });
}

#[test]
fn peers_above_the_limit_are_refused() {
    let place = Place::new();
    threads(async {
        let (mut server, bus, actor) = pair(&place, &["server", "actor", "peers=2"]).await;
        let second = place.config("second").join().await.unwrap();
        let third = place.config("third").join().await.unwrap();
        assert_eq!(second.peers().len(), 3);
        assert_eq!(third.peers().len(), 2, "not with the server");
        let lookup = third
            .address::<Ping>("actor")
            .deadline(Duration::from_millis(50))
            .await;
        assert!(lookup.is_err());
        third.leave().await;
        second.leave().await;
        unaffected(&mut server, &bus, &actor).await;
    });
}
