//! Too much of what would be right, one by one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use rustix::{io::Errno, net::SendFlags};
use shmbus::fuzz::peer;

use crate::{
    Scene,
    peer::{Connection, Rig, Slot},
    support::{PATIENCE, threads},
    victim::Ping,
};

/// A thread that does something again and again until it is told to end.
pub struct Flood {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Rig>,
}

impl Flood {
    pub fn of(mut rig: Rig, mut again: impl FnMut(&mut Rig) + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let watch = over.clone();
        let thread = std::thread::spawn(move || {
            while !watch.load(Ordering::Relaxed) {
                again(&mut rig);
            }
            rig
        });
        Self { over, thread }
    }

    pub fn end(self) -> Rig {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Sends without reading until the victim hangs up.
fn until_hung_up(rig: &Rig, packet: impl Fn(u32) -> Vec<u8>) {
    let deadline = Instant::now() + PATIENCE;
    for n in 0.. {
        loop {
            match rig.connection.try_send(&packet(n), &[], SendFlags::DONTWAIT) {
                Ok(()) => break,
                // Its turn.
                Err(Errno::AGAIN) => std::thread::yield_now(),
                Err(Errno::PIPE | Errno::CONNRESET) => return,
                Err(error) => panic!("{error}"),
            }
            assert!(Instant::now() < deadline, "the victim never hangs up");
        }
    }
}

#[test]
fn questions_whose_answers_nobody_reads() {
    threads(async {
        let mut scene = Scene::new().await;
        let (fds, before) = (scene.number("fds").await, scene.number("rss").await);
        let mut rig = Rig::new(scene.connect());
        rig.introduce().unwrap();
        until_hung_up(&rig, |n| peer::describe(n, "actor"));
        scene.served().await;
        let grown = scene.number("rss").await.saturating_sub(before);
        assert!(grown < 32 << 10, "the victim has grown by {grown} kB");
        drop(rig);
        scene.settled().await;
        scene.victim.until("fds", &fds.to_string()).await;
    });
}

#[test]
fn subscriptions_with_ever_new_ports() {
    threads(async {
        let mut scene = Scene::new().await;
        let fds = scene.number("fds").await;
        let mut rig = Rig::new(scene.connect());
        rig.introduce().unwrap();
        let kind = rig.topic.clone().expect("a topic").1;
        // Each wants a link, none of which is ever answered.
        let mut links = 0;
        for port in 0..3000 {
            rig.frame(&peer::subscribe(port, 1, "out", &kind, 0));
            if port % 100 == 99 {
                rig.frame(&peer::describe(port, "nobody"));
                let heard = rig.connection.until(|heard, _| match heard {
                    peer::Heard::Link(..) => {
                        links += 1;
                        None
                    }
                    peer::Heard::Other("Described") => Some(()),
                    _ => None,
                });
                heard.unwrap();
            }
        }
        assert!(links <= 1024, "{links} links for one peer");
        scene.served().await;
        drop(rig);
        scene.settled().await;
        scene.victim.until("fds", &fds.to_string()).await;
    });
}

#[test]
fn more_kept_for_it_than_a_peer_may_have() {
    threads(async {
        let mut scene = Scene::new().await;
        let mut rig = Rig::new(scene.connect());
        rig.introduce().unwrap();
        let kind = rig.kind().clone();
        for mailbox in 0..20 {
            rig.frame(&peer::subscribe(1, mailbox, "nothing.*", &kind, 65_000));
        }
        let reason = rig.connection.end().unwrap().expect("a reason");
        assert!(reason.contains("messages kept for them"), "{reason}");
        scene.served().await;
        scene.settled().await;
    });
}

/// A peer that the victim reads, and a message to a mailbox that was bound once: there is nothing to hold the victim up, which
/// reads as fast as we write.
fn to_the_dead(scene: &mut Scene) -> (Rig, Slot) {
    let mut rig = Rig::with_slots(scene.connect(), 1 << 14);
    rig.introduce().unwrap();
    rig.ask_victim().unwrap();
    let (_, mailbox, _) = rig.subscription.clone().expect("a subscription");
    let dead = Slot {
        mailbox: mailbox - (1 << 16),
        ..rig.ping()
    };
    (rig, dead)
}

#[test]
fn letters_to_the_dead_without_end() {
    threads(async {
        let mut scene = Scene::new().await;
        let (rig, dead) = to_the_dead(&mut scene);
        let flood = Flood::of(rig, move |rig| {
            if rig.unread() < 1 << 13 {
                for _ in 0..1 << 12 {
                    rig.put(dead);
                }
            }
            rig.ring();
        });
        for _ in 0..4 {
            scene.served().await;
        }
        let rig = flood.end();
        rig.is_served().unwrap();
        drop(rig);
        scene.settled().await;
    });
}

/// More than is in the ring when its session ends, for as long as that takes.
#[test]
fn letters_to_the_dead_while_the_session_ends() {
    threads(async {
        let mut scene = Scene::new().await;
        let (rig, dead) = to_the_dead(&mut scene);
        rig.frame(&peer::heard_topic(999));
        let flood = Flood::of(rig, move |rig| {
            // No regard to what the victim says it has read: that it does not say any more.
            for _ in 0..1 << 12 {
                rig.put(dead);
            }
        });
        scene.settled().await;
        scene.served().await;
        drop(flood.end());
    });
}

#[test]
fn a_peer_that_takes_the_victims_own_id() {
    threads(async {
        let mut scene = Scene::new().await;
        let id = scene.connect().id;
        let refused = scene.number("refused").await;
        let raw = Connection::dial(&scene.place.socket("victim"));
        raw.send(&peer::hello("victim", id), &[]);
        raw.hang_up_comes();
        let deadline = Instant::now() + PATIENCE;
        while scene.number("refused").await != refused + 1 {
            assert!(Instant::now() < deadline, "it is not counted");
        }
        scene.settled().await;
        scene.served().await;
        // Its names are still its own.
        let late = scene.place.config("late").join().await.unwrap();
        let actor = late.address::<Ping>("actor").await.unwrap();
        assert_eq!(actor.ask(&Ping { n: 1 }).await.unwrap().to_native(), 2);
        late.leave().await;
    });
}
