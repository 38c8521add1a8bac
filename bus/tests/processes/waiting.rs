//! Who waits while the other side stops, dies, leaves or does not read: nobody waits for ever.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use actix::prelude::*;
use shmbus::{
    error::{AskError, Bound, SendError},
    prelude::*,
};

use crate::{
    service::{Blob, Keep, Later, Ping, bytes, pinged, start},
    support::{Child, Place, eventually, settled, soon, system, threads},
};

fn keep(seq: u64) -> Keep {
    Keep {
        seq,
        data: bytes(seq, 200),
    }
}

/// A tell and an ask that wait for room in a window that is full, while `happens`.
async fn wait_while(
    place: &Place,
    spin: Spin,
    happens: impl AsyncFnOnce(&mut Child),
) -> (Result<(), SendError>, Result<(), AskError>, Bus, Child) {
    let mut server = start(place, &["server", "actor", "window=2"]).await;
    let bus = place.config("client").spin(spin).join().await.unwrap();
    let actor = bus.address::<(Keep, Blob)>("actor").await.unwrap();
    for seq in 0..2 {
        actor.tell(&keep(seq)).await.unwrap();
    }
    server.until_kept(2).await;
    let teller = actor.clone();
    let tell = tokio::spawn(async move { teller.tell(&keep(2)).await });
    let blob = Blob {
        seq: 0,
        data: bytes(0, 10_000),
    };
    let ask = tokio::spawn(async move { actor.ask(&blob).await.map(|_| ()) });
    // Both have put their message into a buffer and wait.
    eventually("both wait", || bus.stats().pool_buffers == 4).await;
    happens(&mut server).await;
    let tell = soon("the tell", tell).await.unwrap();
    let ask = soon("the ask", ask).await.unwrap();
    (tell, ask, bus, server)
}

#[test]
fn who_waits_for_room_is_told_that_the_process_died() {
    for spin in [Spin::Never, Spin::default()] {
        let place = Place::new();
        threads(async {
            let (tell, ask, bus, _server) =
                wait_while(&place, spin, async |server: &mut Child| server.kill()).await;
            let name = || "actor".to_owned();
            assert_eq!(tell, Err(SendError::PeerLost { name: name() }));
            assert!(
                matches!(
                    ask,
                    Err(AskError::PeerLost { .. } | AskError::Send(SendError::PeerLost { .. }))
                ),
                "{ask:?}"
            );
            settled(&bus).await;
        });
    }
}

#[test]
fn who_waits_for_room_is_told_that_the_actor_stopped() {
    for spin in [Spin::Never, Spin::default()] {
        let place = Place::new();
        threads(async {
            let unbind = async |server: &mut Child| server.expect_after("unbind", "unbound").await;
            let (tell, ask, bus, _server) = wait_while(&place, spin, unbind).await;
            assert_eq!(tell, Err(SendError::Stopped { name: "actor".into() }));
            assert_eq!(
                ask,
                Err(AskError::Send(SendError::Stopped { name: "actor".into() }))
            );
            // The process lives and keeps what it keeps; only those who waited gave up.
            eventually("their buffers are free", || bus.stats().pool_buffers == 2).await;
            assert_eq!(bus.stats().open_asks, 0);
        });
    }
}

#[test]
fn who_waits_for_room_is_told_that_the_peer_left() {
    let place = Place::new();
    threads(async {
        let leave = async |server: &mut Child| server.expect_after("leave", "left").await;
        let (tell, ask, bus, server) = wait_while(&place, Spin::Never, leave).await;
        // The name is withdrawn first, then the session ends: either may be seen.
        assert!(
            matches!(tell, Err(SendError::PeerLost { .. } | SendError::Stopped { .. })),
            "{tell:?}"
        );
        assert!(ask.is_err());
        // What it keeps is not ours again before it is gone.
        eventually("their buffers are free", || bus.stats().pool_buffers == 2).await;
        drop(server);
        settled(&bus).await;
    });
}

#[test]
fn messages_of_a_bus_that_was_left_are_handled_and_stay_readable() {
    let place = Place::new();
    threads(async {
        let mut server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<Keep>("actor").await.unwrap();
        server.expect_after("block", "blocked").await;
        for seq in 0..600 {
            actor.tell(&keep(seq)).await.unwrap();
        }
        drop(actor);
        bus.leave().await;
        server.expect_after("go", "unblocked").await;
        server.until_kept(600).await;
        server.until("peers", "0").await;
        server.expect_after("read", "600").await;
        server.expect_after("release 600", "600").await;
    });
}

#[test]
fn a_reply_outlives_the_process_that_sent_it() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<Later>("actor").await.unwrap();
        server.say("permit 3");
        let mut kept = Vec::new();
        for len in [20, 100_000, 9 << 20] {
            kept.push((len, actor.ask(&Later { bytes: len }).await.unwrap()));
        }
        server.kill();
        eventually("the peer is gone", || bus.peers().is_empty()).await;
        for (len, reply) in &kept {
            assert!(**reply == *bytes(0, *len as usize), "{len} bytes");
        }
        drop(kept);
        drop(actor);
        settled(&bus).await;
    });
}

struct Idle;

impl Actor for Idle {
    type Context = Context<Self>;
}

impl Handler<Received<Ping>> for Idle {
    type Result = u64;
    fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
        ping.n.to_native()
    }
}

/// A peer that does not read its control frames: the socket fills, and a message that needs a new segment
/// waits until it is read again.
#[test]
fn a_full_control_socket_says_so_and_a_waiting_tell_goes_when_there_is_room() {
    for spin in [Spin::Never, Spin::default()] {
        let place = Place::new();
        system(async {
            let frozen = start(&place, &["frozen", "actor"]).await;
            let bus = place.config("client").spin(spin).join().await.unwrap();
            let actor = bus.address::<(Blob, Ping)>("actor").await.unwrap();
            assert_eq!(actor.ask(&Ping { n: 1 }).await.unwrap().to_native(), 2);
            frozen.freeze().await;
            let large = |seq| Blob {
                seq,
                data: bytes(seq, (8 << 20) + 1),
            };
            // Each binding is told to every peer.
            let name = "n".repeat(120);
            let mut bindings = 0;
            while actor.try_tell(&large(0)) != full(Bound::Socket) {
                for _ in 0..100 {
                    let bound = bus.bind(name.as_str(), Idle).handles::<Ping>().start();
                    bound.await.unwrap().unbind();
                    bindings += 1;
                }
                assert!(bindings < 1500, "the socket never fills");
            }
            let sent = bus.stats().sent;
            // What needs no new segment goes all the same.
            let ask = {
                let actor = actor.clone();
                actix::spawn(async move { actor.ask(&Ping { n: 1 }).await.map(|reply| reply.to_native()) })
            };
            let tell = {
                let actor = actor.clone();
                actix::spawn(async move { actor.tell(&large(1)).await })
            };
            eventually("the ask is sent", || bus.stats().sent == sent + 1).await;
            assert!(!tell.is_finished());
            frozen.thaw();
            soon("the tell", tell).await.unwrap().unwrap();
            assert_eq!(soon("the ask", ask).await.unwrap(), Ok(2));
            let reply = soon("an answer", actor.ask(&Blob { seq: 9, data: vec![] }))
                .await
                .unwrap();
            assert_eq!(reply.seq.to_native(), 9);
            assert_eq!(bus.peers(), ["frozen"]);
            settled(&bus).await;
        });
    }
}

fn full(bound: Bound) -> Result<(), SendError> {
    Err(SendError::Full {
        name: "actor".into(),
        bound,
    })
}

/// Too many unread control frames end the session with that peer, and nobody else's.
#[test]
fn a_peer_that_never_reads_loses_its_session() {
    let place = Place::new();
    system(async {
        let frozen = start(&place, &["frozen", "actor"]).await;
        let _live = start(&place, &["live", "other"]).await;
        let bus = place.config("client").join().await.unwrap();
        let other = bus.address::<Ping>("other").await.unwrap();
        frozen.freeze().await;
        for n in 0..6000 {
            let bound = bus.bind("coming-and-going", Idle).handles::<Ping>().start();
            bound.await.unwrap().unbind();
            if n % 500 == 0 {
                pinged(&other, n).await;
            }
            if bus.peers().len() == 1 {
                break;
            }
        }
        eventually("its session is over", || bus.peers() == ["live"]).await;
        let lookup = bus
            .address::<Ping>("actor")
            .deadline(Duration::from_millis(20))
            .await;
        assert!(lookup.is_err());
        settled(&bus).await;
    });
}

/// It has begun to look for all who wait there, and may never be polled again.
#[test]
fn who_stops_waiting_halfway_holds_up_nobody() {
    for spin in [Spin::default(), Spin::Always] {
        let place = Place::new();
        threads(async {
            let server = start(&place, &["server", "actor"]).await;
            let config = place.config("client").spin(spin);
            let bus = config
                .ask_deadline(Duration::from_secs(3600))
                .join()
                .await
                .unwrap();
            let actor = bus.address::<Later>("actor").await.unwrap();
            let later = Later { bytes: 8 };
            let mut left = pin!(actor.ask(&later));
            poll_fn(|cx| {
                assert!(left.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            let asker = actor.clone();
            let other = tokio::spawn(async move { asker.ask(&Later { bytes: 8 }).await.map(drop) });
            // By then it has stopped looking and sleeps, mostly.
            tokio::time::sleep(Duration::from_millis(50)).await;
            // The first is for who asked first.
            server.say("permit 2");
            soon("the other's reply", other).await.unwrap().unwrap();
            soon("its own", left).await.unwrap();
        });
    }
}
