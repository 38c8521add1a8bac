//! The bells that a peer brings, and what it does to the victim's own.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags},
    eventfd::{EfdFlags, EventFd},
    signal::SigSet,
    signalfd::{SfdFlags, SignalFd},
};
use rustix::net::SocketType;
use shmbus::fuzz::peer;

use crate::{
    Scene,
    floods::Flood,
    peer::{RETURNS, Rig, SLOTS, Stage, pair},
    rows::{
        Expect::{self, Closed, Harmless},
        Row,
    },
    support::{eventually, threads},
};

/// More than any number of rings: the next one does not fit.
const FULL: [u8; 8] = (u64::MAX - 1).to_ne_bytes();

/// A link that the peer offers with this bell.
fn offered(value: &'static str, expect: Expect, bell: impl FnOnce() -> OwnedFd + 'static) -> Row {
    Row::new(Stage::Session, ("bell", "Link"), value, expect, move |rig| {
        rig.eventfd = bell();
        let packet = peer::link(7, rig.port, SLOTS, RETURNS, rig.memory.bytes());
        rig.send_with(&packet, &rig.half());
    })
}

/// A link that the victim has opened, and rings, each time it tells something: the peer never seems to wake.
fn rung(value: &'static str, why: &'static str, change: impl FnOnce(&mut Rig) + 'static) -> Row {
    let row = Row::new(Stage::Answering, ("bell", "rung"), value, Harmless(why), |rig| {
        change(rig);
        rig.sleep(7);
    });
    row.then("tell 8")
}

fn eventfd(flags: EfdFlags, full: bool) -> OwnedFd {
    let eventfd = EventFd::from_flags(flags | EfdFlags::EFD_CLOEXEC).unwrap();
    if full {
        rustix::io::write(&eventfd, &FULL).unwrap();
    }
    eventfd.into()
}

/// Asks for a link with a bell that is not one but looks like it, and is answered: then the victim rings it.
fn not_one(value: &'static str, bell: impl FnOnce() -> OwnedFd + 'static) -> Row {
    let row = Row::new(
        Stage::Session,
        ("bell", "Link"),
        value,
        Harmless("the peer is not woken"),
        |rig| {
            rig.eventfd = bell();
            rig.sleep(3);
            rig.ask_victim().unwrap();
            let slot = rig.ping();
            // An ask, whose answer is rung for.
            rig.put(crate::peer::Slot { kind: 2, ..slot });
        },
    );
    row.then("lost")
}

/// Between nodes of one user.
pub fn eventfds() -> Vec<Row> {
    let none = Closed("eventfd is refused: it is none");
    vec![
        offered("a socket of packets", none, || pair(SocketType::SEQPACKET).0),
        offered("a socket of bytes", none, || pair(SocketType::STREAM).0),
        offered("a device", none, || {
            let file = std::fs::File::options().write(true).open("/dev/full");
            file.unwrap().into()
        }),
        offered("blocking, and full", Closed("non-blocking"), || {
            eventfd(EfdFlags::empty(), true)
        }),
        offered("non-blocking, and full", Harmless("linked"), || {
            eventfd(EfdFlags::EFD_NONBLOCK, true)
        }),
        offered("a semaphore", Harmless("linked"), || {
            eventfd(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_SEMAPHORE, false)
        }),
        offered("a poller", Closed("non-blocking"), || {
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap().0
        }),
        not_one("for signals", || {
            let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
            let fd = SignalFd::with_flags(&SigSet::empty(), flags).unwrap();
            fd.as_fd().try_clone_to_owned().unwrap()
        }),
        not_one("the victim's other end, full", || {
            eventfd(EfdFlags::EFD_NONBLOCK, true)
        }),
        rung("sound asleep", "rung, once per sleep", |_| {}),
        rung("asleep, and full", "rung anew", |rig| {
            rustix::io::write(&rig.eventfd, &FULL).unwrap();
        }),
        rung("word: all ones", "rung, once", |rig| rig.bell.store(0, u64::MAX)),
    ]
}

/// Between users.
pub fn sockets() -> Vec<Row> {
    let none = Closed("not a local socket of packets");
    vec![
        offered("an eventfd", none, || eventfd(EfdFlags::EFD_NONBLOCK, false)),
        offered("a socket of bytes", none, || pair(SocketType::STREAM).0),
        offered("a socket of datagrams", none, || pair(SocketType::DGRAM).0),
        offered("of another network", none, || {
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()
        }),
        offered("a pipe", none, || nix::unistd::pipe().unwrap().1),
        offered("a file", none, || tempfile::tempfile().unwrap().into()),
        not_one("nobody at the other end", || pair(SocketType::SEQPACKET).0),
        not_one("a blocking socket, full", || {
            let (bell, ear) = pair(SocketType::SEQPACKET);
            while rustix::io::write(&bell, &[1]).is_ok() {}
            rustix::io::ioctl_fionbio(&bell, false).unwrap();
            // Nobody reads it as long as this process lives.
            std::mem::forget(ear);
            bell
        }),
        not_one("a socket that was never connected", || {
            let flags = rustix::net::SocketFlags::CLOEXEC;
            let (family, of) = (rustix::net::AddressFamily::UNIX, SocketType::SEQPACKET);
            rustix::net::socket_with(family, of, flags, None).unwrap()
        }),
        rung("sound asleep", "rung, once per sleep", |_| {}),
        rung("word: all ones", "rung, once", |rig| rig.bell.store(0, u64::MAX)),
    ]
}

/// Does this to the victim's own bell while the honest peer is served.
async fn while_served(mut scene: Scene, strike: impl Fn(&Rig, &OwnedFd) + Send + 'static) {
    let fds = scene.number("fds").await;
    let mut rig = scene.rig();
    rig.introduce().unwrap();
    rig.ask_victim().unwrap();
    let bell = rig.victims_bell();
    let flood = Flood::of(rig, move |rig| strike(rig, &bell));
    for _ in 0..20 {
        scene.served().await;
    }
    let rig = flood.end();
    rig.is_served().unwrap();
    // It comes to rest.
    eventually("the victim sleeps", || rig.victim_sleeps()).await;
    scene.served().await;
    drop(rig);
    scene.settled().await;
    scene.victim.until("fds", &fds.to_string()).await;
    assert_eq!(scene.number("violations").await, 0);
    scene.end().await;
}

#[test]
fn a_bell_that_is_rung_without_end() {
    threads(async { while_served(Scene::new().await, |rig, _| rig.ring()).await });
}

#[test]
fn a_bell_whose_rings_are_read_away() {
    let read = |_: &Rig, bell: &OwnedFd| {
        let _ = rustix::io::read(bell, &mut [0; 8]);
    };
    threads(async move { while_served(Scene::new().await, read).await });
}

#[test]
fn a_bell_that_is_filled_again_and_again() {
    let fill = |_: &Rig, bell: &OwnedFd| {
        let _ = rustix::io::read(bell, &mut [0; 8]);
        let _ = rustix::io::write(bell, &FULL);
    };
    threads(async move { while_served(Scene::new().await, fill).await });
}

/// It goes on holding everything that it has of the victim.
#[test]
fn the_bell_of_a_session_that_was_closed_costs_the_victim_nothing() {
    threads(async {
        let Some(mut scene) = Scene::between_users().await else {
            return eprintln!("skipped, because only root can start a victim of another user");
        };
        let fds = scene.number("fds").await;
        let mut rig = scene.rig();
        rig.introduce().unwrap();
        rig.ask_victim().unwrap();
        rig.frame(&peer::heard_topic(999));
        rig.connection.end().unwrap();
        scene.settled().await;
        scene.victim.until("fds", &fds.to_string()).await;
        rig.ring();
        scene.served().await;
        drop(rig);
        scene.end().await;
    });
}

/// What others write into the counter then fails, and the victim never reads it.
#[test]
fn a_bell_that_was_filled_still_wakes_the_victim() {
    threads(async {
        let mut scene = Scene::new().await;
        let mut rig = scene.rig();
        rig.introduce().unwrap();
        rig.ask_victim().unwrap();
        let bell = rig.victims_bell();
        for _ in 0..10 {
            let _ = rustix::io::read(&bell, &mut [0; 8]);
            rustix::io::write(&bell, &FULL).unwrap();
            // The edge that this was is over.
            eventually("the victim sleeps", || rig.victim_sleeps()).await;
            scene.served().await;
        }
        drop(rig);
        scene.settled().await;
        scene.end().await;
    });
}

#[test]
fn a_bell_of_another_user_that_is_rung_without_end_or_shut() {
    threads(async {
        let Some(mut scene) = Scene::between_users().await else {
            return eprintln!("skipped, because only root can start a victim of another user");
        };
        // Shut, it wakes for this peer no more; and for others as before.
        let mut rig = scene.rig();
        rig.introduce().unwrap();
        rig.ask_victim().unwrap();
        rustix::net::shutdown(rig.victims_bell(), rustix::net::Shutdown::Both).unwrap();
        scene.served().await;
        rig.is_served().unwrap();
        drop(rig);
        scene.settled().await;
        while_served(scene, |rig, _| rig.ring()).await;
    });
}
