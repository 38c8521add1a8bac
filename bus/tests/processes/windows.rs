//! Order, windows and every other bound: what is full says so or waits, and nothing is lost.

use std::time::Duration;

use futures_util::{FutureExt, future::join_all};
use shmbus::{
    error::{AskError, Bound, SendError},
    prelude::*,
};

use crate::{
    service::{Blob, Keep, Later, Note, Ping, bytes, pinged, set, start},
    support::{PATIENCE, Place, eventually, settled, soon, system, threads},
};

fn full(bound: Bound) -> Result<(), SendError> {
    Err(SendError::Full {
        name: "actor".into(),
        bound,
    })
}

/// Tells until it is told that this is full. Returns how many went.
fn fill<M: ShmMessage>(address: &Address<M>, bound: Bound, mut message: impl FnMut(u64) -> M) -> u64 {
    let mut told = 0;
    loop {
        match address.try_tell(&message(told)) {
            Ok(()) => told += 1,
            other => {
                assert_eq!(other, full(bound), "after {told}");
                return told;
            }
        }
    }
}

fn keep(seq: u64) -> Keep {
    Keep {
        seq,
        data: bytes(seq, 200),
    }
}

fn ordered(log: &[(u32, u64)], from: u32) {
    let of_one: Vec<u64> = log
        .iter()
        .filter(|entry| entry.0 == from)
        .map(|entry| entry.1)
        .collect();
    assert!(of_one.is_sorted(), "out of order: {of_one:?}");
}

#[test]
fn each_senders_messages_arrive_in_order_and_none_is_lost() {
    const SENDERS: u32 = 4;
    const EACH: u64 = 3000;
    let place = Place::new();
    threads(async {
        let mut server = start(&place, &["server", "actor", "window=64"]).await;
        let bus = place.config("client").join().await.unwrap();
        // Each thread has an address of its own and a clone of a common one, and uses them in turn.
        let common = bus.address::<Note>("actor").await.unwrap();
        let senders = (0..SENDERS).map(|from| {
            let (bus, common) = (bus.clone(), common.clone());
            tokio::spawn(async move {
                let own = bus.address::<(Ping, Note)>("actor").await.unwrap();
                for seq in 0..EACH {
                    let note = Note { from, seq };
                    let sent = if seq % 3 == 0 {
                        common.tell(&note).await
                    } else {
                        own.tell(&note).await
                    };
                    sent.unwrap();
                }
            })
        });
        for sender in soon("all are sent", join_all(senders)).await {
            sender.unwrap();
        }
        server.until_count(SENDERS as usize * EACH as usize).await;
        let log = server.log().await;
        for from in 0..SENDERS {
            ordered(&log, from);
        }
        settled(&bus).await;
    });
}

#[test]
fn messages_of_several_types_keep_their_order() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<(Note, Blob)>("actor").await.unwrap();
        for seq in 0..500 {
            if seq % 2 == 0 {
                actor.tell(&Note { from: 1, seq }).await.unwrap();
            } else {
                // In the slot, in a buffer, in a segment of its own.
                let len = match seq % 100 {
                    51 => (8 << 20) + 1,
                    n => (n * n) as usize,
                };
                actor
                    .tell(&Blob {
                        seq,
                        data: bytes(seq, len),
                    })
                    .await
                    .unwrap();
            }
        }
        server.until_count(500).await;
        let log: Vec<u64> = server.log().await.iter().map(|entry| entry.1).collect();
        assert!(log.is_sorted(), "{log:?}");
        settled(&bus).await;
    });
}

/// With a sender that looks for room itself, and with one that sleeps.
#[test]
fn a_full_window_says_so_and_a_waiting_tell_goes_when_there_is_room() {
    for spin in ["spin=never", "spin=adaptive", "spin=always"] {
        let place = Place::new();
        system(async {
            let mut server = start(&place, &["server", "actor", "window=8"]).await;
            let bus = set(place.config("client"), spin).join().await.unwrap();
            let actor = bus.address::<Keep>("actor").await.unwrap();
            assert_eq!(fill(&actor, Bound::Window, keep), 8);
            server.until_kept(8).await;
            // Kept by the handler, each pins its place.
            assert_eq!(actor.try_tell(&keep(8)), full(Bound::Window));
            let waiting = actor.clone();
            let waiting = actix::spawn(async move { waiting.tell(&keep(8)).await });
            let given_up = keep(9);
            assert!(actor.tell(&given_up).now_or_never().is_none());
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            server.expect_after("release 1", "1").await;
            soon("the waiting tell", waiting).await.unwrap().unwrap();
            server.until_kept(8).await;
            assert_eq!(actor.try_tell(&keep(9)), full(Bound::Window));
            // All told, in order, none lost, and the tell that was given up not among them.
            server.expect_after("read", "8").await;
            server.expect_after("release 8", "8").await;
            eventually("the window is empty", || bus.stats().unreleased == 0).await;
            assert_eq!(fill(&actor, Bound::Window, keep), 8);
            server.until_kept(8).await;
            server.expect_after("release 8", "8").await;
            settled(&bus).await;
        });
    }
}

#[test]
fn many_waiting_tells_all_go_in_the_end() {
    let place = Place::new();
    threads(async {
        let mut server = start(&place, &["server", "actor", "window=4"]).await;
        let bus = place.config("client").spin(Spin::Never).join().await.unwrap();
        let actor = bus.address::<Note>("actor").await.unwrap();
        let tells = (0..200u64).map(|seq| {
            let actor = actor.clone();
            tokio::spawn(async move { actor.tell(&Note { from: 1, seq }).await })
        });
        for told in soon("all tells", join_all(tells)).await {
            told.unwrap().unwrap();
        }
        server.until_count(200).await;
        settled(&bus).await;
    });
}

#[test]
fn a_slow_actor_holds_up_nobody_elses_mailbox_on_its_thread() {
    let place = Place::new();
    system(async {
        // Both actors are bound to the one port of the role's thread.
        let mut server = start(&place, &["server", "actor", "window=4", "two"]).await;
        let bus = place.config("client").join().await.unwrap();
        let slow = bus.address::<(Keep, Ping)>("actor").await.unwrap();
        let other = bus.address::<Ping>("second").await.unwrap();
        for seq in 0..4 {
            slow.tell(&keep(seq)).await.unwrap();
        }
        assert_eq!(slow.try_tell(&keep(4)), full(Bound::Window));
        for n in 0..1000 {
            pinged(&other, n).await;
        }
        let late = slow.ask(&Ping { n: 0 }).deadline(Duration::from_millis(20)).await;
        assert!(matches!(late, Err(AskError::Deadline { .. })), "{late:?}");
        server.until_kept(4).await;
        server.expect_after("release 4", "4").await;
        assert_eq!(slow.ask(&Ping { n: 0 }).await.unwrap().to_native(), 1);
        settled(&bus).await;
    });
}

#[test]
fn a_stopped_process_fills_its_own_queue_only_and_then_gets_everything_in_order() {
    let place = Place::new();
    system(async {
        let mut frozen = start(&place, &["frozen", "actor"]).await;
        let _live = start(&place, &["live", "other"]).await;
        let bus = place.config("client").join().await.unwrap();
        let bus_small = set(place.config("small"), "ring=16").join().await.unwrap();
        let actor = bus.address::<Note>("actor").await.unwrap();
        let few = bus_small.address::<Note>("actor").await.unwrap();
        let other = bus.address::<Ping>("other").await.unwrap();
        frozen.freeze().await;
        // The window's default is half the ring's; a ring smaller than the window is met first.
        assert_eq!(fill(&actor, Bound::Window, |seq| Note { from: 1, seq }), 1024);
        assert_eq!(fill(&few, Bound::Ring, |seq| Note { from: 2, seq }), 16);
        let waiting = {
            let actor = actor.clone();
            actix::spawn(async move {
                for seq in 1024..3000 {
                    actor.tell(&Note { from: 1, seq }).await.unwrap();
                }
            })
        };
        let waiting_few = {
            let few = few.clone();
            actix::spawn(async move {
                for seq in 16..500 {
                    few.tell(&Note { from: 2, seq }).await.unwrap();
                }
            })
        };
        for n in 0..200 {
            pinged(&other, n).await;
        }
        assert!(!waiting.is_finished() && !waiting_few.is_finished());
        frozen.thaw();
        soon("all is sent", waiting).await.unwrap();
        soon("all is sent", waiting_few).await.unwrap();
        frozen.until_count(3500).await;
        let log = frozen.log().await;
        ordered(&log, 1);
        ordered(&log, 2);
        settled(&bus).await;
        settled(&bus_small).await;
    });
}

#[test]
fn a_pool_at_its_limit_says_so_and_a_waiting_tell_goes_when_there_is_memory() {
    for spin in ["spin=never", "spin=adaptive"] {
        let place = Place::new();
        system(async {
            let mut server = start(&place, &["server", "actor"]).await;
            let _second = start(&place, &["second", "echo"]).await;
            let bus = set(set(place.config("client"), spin), "pool=4194304")
                .join()
                .await
                .unwrap();
            let actor = bus.address::<Keep>("actor").await.unwrap();
            let big = |seq| Keep {
                seq,
                data: bytes(seq, 900_000),
            };
            assert_eq!(fill(&actor, Bound::Pool, big), 4);
            server.until_kept(4).await;
            assert_eq!(bus.stats().pool_used_bytes, 4 << 20);
            // Not even a small one has memory; what fits into a slot needs none.
            assert_eq!(actor.try_tell(&keep(0)), full(Bound::Pool));
            let echo = bus.address::<(Ping, Blob)>("echo").await.unwrap();
            assert_eq!(echo.ask(&Ping { n: 1 }).await.unwrap().to_native(), 2);
            // A tell to the one peer and an ask to the other wait for memory that the first one holds.
            let tell = actor.clone();
            let tell = actix::spawn(async move { tell.tell(&big(4)).await });
            let ask = actix::spawn(async move {
                echo.ask(&Blob {
                    seq: 1,
                    data: bytes(1, 1000),
                })
                .await
                .map(|reply| reply.len.to_native())
            });
            tokio::task::yield_now().await;
            assert!(!tell.is_finished() && !ask.is_finished());
            server.expect_after("release 2", "2").await;
            soon("the waiting tell", tell).await.unwrap().unwrap();
            assert_eq!(soon("the waiting ask", ask).await.unwrap(), Ok(1000));
            server.until_kept(3).await;
            server.expect_after("read", "3").await;
            server.expect_after("release 3", "3").await;
            settled(&bus).await;
        });
    }
}

#[test]
fn messages_and_replies_above_the_limit_are_refused_by_name() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor", "message=4096"]).await;
        let bus = place.config("client").message_bytes(10_000).join().await.unwrap();
        let actor = bus.address::<(Keep, Later, Ping)>("actor").await.unwrap();
        let large = Keep {
            seq: 0,
            data: vec![0; 10_000],
        };
        let refused = SendError::TooLarge {
            name: "actor".into(),
            bytes: 10_016,
            limit: 10_000,
        };
        assert_eq!(actor.try_tell(&large), Err(refused.clone()));
        assert_eq!(actor.tell(&large).await, Err(refused));
        // The reply is over the replier's limit.
        server.say("permit 2");
        let failed = actor.ask(&Later { bytes: 5000 }).await.map(|_| ());
        assert!(matches!(failed, Err(AskError::Reply { .. })), "{failed:?}");
        assert!(failed.unwrap_err().to_string().contains("message_bytes"));
        assert_eq!(actor.ask(&Later { bytes: 4000 }).await.unwrap().len(), 4000);
        assert_eq!(actor.ask(&Ping { n: 1 }).await.unwrap().to_native(), 2);
        settled(&bus).await;
        assert_eq!(server.stat("pool_buffers").await, 0);
    });
}

#[test]
fn a_replier_without_memory_says_so() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor", "pool=4194304"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<(Later, Ping)>("actor").await.unwrap();
        server.say("permit 9");
        // Kept replies hold the replier's memory.
        let mut kept = Vec::new();
        for _ in 0..4 {
            kept.push(actor.ask(&Later { bytes: 1_000_000 }).await.unwrap());
        }
        let failed = actor.ask(&Later { bytes: 1_000_000 }).await.map(|_| ());
        assert!(failed.unwrap_err().to_string().contains("pool_bytes"));
        assert!(kept.iter().all(|reply| **reply == *bytes(0, 1_000_000)));
        kept.pop();
        assert_eq!(
            actor.ask(&Later { bytes: 1_000_000 }).await.unwrap().len(),
            1_000_000
        );
        drop(kept);
        let stats = server.stat("pool_buffers").await;
        assert!(stats <= 4, "{stats}");
        settled(&bus).await;
    });
}

/// More asks than replies have room for wait their turn.
#[test]
fn asks_beyond_the_rings_size_wait_their_turn() {
    let place = Place::new();
    threads(async {
        let server = start(&place, &["server", "actor", "ring=16"]).await;
        let bus = set(place.config("client"), "ring=16")
            .spin(Spin::Never)
            .join()
            .await
            .unwrap();
        let actor = bus.address::<Later>("actor").await.unwrap();
        let asks = (0..200).map(|n| {
            let actor = actor.clone();
            tokio::spawn(async move {
                actor
                    .ask(&Later { bytes: n * 3 })
                    .deadline(PATIENCE)
                    .await
                    .unwrap()
                    .len()
            })
        });
        let asks: Vec<_> = asks.collect();
        eventually("all that have room are sent", || bus.stats().open_asks == 200).await;
        server.say("permit 200");
        for (n, ask) in asks.into_iter().enumerate() {
            assert_eq!(soon("an answer", ask).await.unwrap(), n * 3);
        }
        settled(&bus).await;
    });
}
