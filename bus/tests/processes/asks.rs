//! Asks: deadlines, many at once, given up, from every kind of runtime, and from inside handlers.

use std::time::{Duration, Instant};

use actix::prelude::*;
use futures_util::{FutureExt, StreamExt, future::join_all, stream::FuturesUnordered};
use shmbus::{error::AskError, prelude::*};

use crate::{
    service::{Blob, Keep, Later, Note, Ping, bytes, digest, set, start},
    support::{Place, Stage, eventually, settled, soon, system, threads},
};

/// Passed on to an actor of another process, whose answer is the answer.
#[derive(ShmMessage, Debug)]
#[shm(reply = Result<u64, String>)]
struct PassOn {
    to: String,
    n: u64,
}

struct Relay {
    bus: Bus,
}

impl Actor for Relay {
    type Context = Context<Self>;
}

impl Handler<Received<PassOn>> for Relay {
    type Result = ResponseFuture<Result<u64, String>>;
    fn handle(&mut self, message: Received<PassOn>, _: &mut Context<Self>) -> Self::Result {
        let bus = self.bus.clone();
        Box::pin(async move {
            let to = bus
                .address::<Ping>(message.to.as_str())
                .await
                .map_err(|error| error.to_string())?;
            let reply = to
                .ask(&Ping {
                    n: message.n.to_native(),
                })
                .await
                .map_err(|error| error.to_string())?;
            Ok(reply.to_native())
        })
    }
}

/// Role: an actor `relay` at a node `relay`.
pub fn relay(mut stage: Stage) {
    system(async move {
        let bus = stage.config("relay").join().await.expect("join");
        bus.bind("relay", Relay { bus: bus.clone() })
            .handles::<PassOn>()
            .start()
            .await
            .expect("bind");
        stage.say("ready");
        stage.wait().await;
    });
}

#[test]
fn an_ask_ends_at_its_deadline_and_its_late_reply_is_released() {
    let place = Place::new();
    for spin in ["spin=never", "spin=adaptive", "spin=always"] {
        system(async {
            let mut server = start(&place, &["server", "actor"]).await;
            let bus = set(place.config("client"), spin).join().await.unwrap();
            let actor = bus.address::<(Later, Ping)>("actor").await.unwrap();
            let begun = Instant::now();
            let within = Duration::from_millis(50);
            let ask = actor
                .ask(&Later { bytes: 100_000 })
                .deadline(within)
                .await
                .map(|_| ());
            assert_eq!(
                ask,
                Err(AskError::Deadline {
                    name: "actor".into(),
                    after: within
                })
            );
            assert!(begun.elapsed() >= within);
            // The reply may still come, so its place is kept; and only its own.
            assert_eq!(bus.stats().open_asks, 1);
            assert_eq!(actor.ask(&Ping { n: 1 }).await.unwrap().to_native(), 2);
            server.say("permit 1");
            settled(&bus).await;
            server.until_stat("pool_buffers", 0).await;
            bus.leave().await;
        });
    }
}

/// A deadline ends the wait for room as well.
#[test]
fn an_ask_that_finds_no_room_ends_at_its_deadline_too() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor", "window=1"]).await;
        let bus = place.config("client").spin(Spin::Never).join().await.unwrap();
        let actor = bus.address::<(Keep, Blob)>("actor").await.unwrap();
        actor
            .tell(&Keep {
                seq: 0,
                data: bytes(0, 100),
            })
            .await
            .unwrap();
        let ask = actor
            .ask(&Blob {
                seq: 0,
                data: bytes(0, 100_000),
            })
            .deadline(Duration::from_millis(30))
            .await;
        assert!(matches!(ask, Err(AskError::Deadline { .. })), "{ask:?}");
        assert_eq!((bus.stats().open_asks, bus.stats().pool_buffers), (0, 1));
        server.until_kept(1).await;
        server.expect_after("release 1", "1").await;
        settled(&bus).await;
        assert_eq!(server.count().await, 0, "the ask was never sent");
    });
}

async fn many_at_once(place: &Place, node: &str) {
    let bus = place.config(node).join().await.unwrap();
    let actor = bus.address::<(Ping, Blob)>("actor").await.unwrap();
    for round in 0..20 {
        let pings: Vec<_> = (0..64).map(|n| Ping { n: n * round }).collect();
        let replies = soon("64 answers", join_all(pings.iter().map(|ping| actor.ask(ping)))).await;
        for (ping, reply) in pings.iter().zip(replies) {
            assert_eq!(reply.unwrap().to_native(), ping.n + 1);
        }
    }
    let blobs: Vec<_> = (0..64)
        .map(|seq| Blob {
            seq,
            data: bytes(seq, (seq * seq * 20) as usize),
        })
        .collect();
    let mut asks: FuturesUnordered<_> = blobs.iter().map(|blob| actor.ask(blob)).collect();
    let mut seen = 0;
    while let Some(reply) = soon("an answer", asks.next()).await {
        let reply = reply.unwrap().to_owned();
        assert_eq!(reply, digest(reply.seq, &blobs[reply.seq as usize].data));
        seen += 1;
    }
    assert_eq!(seen, 64);
    drop(asks);
    settled(&bus).await;
    bus.leave().await;
}

#[test]
fn sixty_four_asks_at_once_on_every_kind_of_runtime() {
    let place = Place::new();
    let _server = system(start(&place, &["server", "actor"]));
    system(many_at_once(&place, "actix"));
    threads(many_at_once(&place, "threads"));
    // Spawned, so that it runs on a worker and not on the thread that waits.
    threads(async {
        tokio::spawn(async move { many_at_once(&place, "spawned").await })
            .await
            .unwrap()
    });
}

#[test]
fn asks_on_a_runtime_of_one_thread() {
    let place = Place::new();
    let _server = system(start(&place, &["server", "actor"]));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(many_at_once(&place, "one"));
}

#[test]
fn an_address_is_used_from_other_threads_and_runtimes() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<(Ping, Note, Later)>("actor").await.unwrap();
        let elsewhere: Vec<_> = (0..3u64)
            .map(|thread| {
                let actor = actor.clone();
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        for n in 0..300 {
                            actor
                                .tell(&Note {
                                    from: thread as u32,
                                    seq: n,
                                })
                                .await
                                .unwrap();
                            assert_eq!(actor.ask(&Ping { n }).await.unwrap().to_native(), n + 1);
                        }
                        // No timer in this runtime: the deadline is kept by the address's own.
                        let late = actor
                            .ask(&Later { bytes: 1 })
                            .deadline(Duration::from_millis(20))
                            .await;
                        assert!(matches!(late, Err(AskError::Deadline { .. })), "{late:?}");
                    });
                })
            })
            .collect();
        eventually("the threads are done", || {
            elsewhere.iter().all(|thread| thread.is_finished())
        })
        .await;
        for thread in elsewhere {
            thread.join().unwrap();
        }
        server.until_count(900).await;
        server.say("permit 3");
        settled(&bus).await;
    });
}

#[test]
fn an_ask_that_is_dropped_gives_back_everything() {
    let place = Place::new();
    for spin in ["spin=never", "spin=adaptive", "spin=always"] {
        system(async {
            let mut server = start(&place, &["server", "actor", "window=100"]).await;
            let bus = set(place.config("client"), spin).join().await.unwrap();
            let actor = bus.address::<(Later, Blob, Keep)>("actor").await.unwrap();
            // Never polled.
            let blob = Blob {
                seq: 0,
                data: bytes(0, 100_000),
            };
            drop(actor.ask(&blob));
            assert_eq!((bus.stats().open_asks, bus.stats().sent), (0, 0));
            // Polled once, so sent; the answer comes after the asker has gone.
            for _ in 0..50 {
                assert!(actor.ask(&Later { bytes: 10_000 }).now_or_never().is_none());
                let _ = actor.ask(&blob).now_or_never();
            }
            assert!(bus.stats().open_asks >= 50);
            server.say("permit 50");
            settled(&bus).await;
            server.until_stat("pool_buffers", 0).await;
            // Waiting for room with its message already in a buffer.
            for seq in 0..100 {
                actor
                    .tell(&Keep {
                        seq,
                        data: bytes(seq, 100),
                    })
                    .await
                    .unwrap();
            }
            assert!(actor.ask(&blob).now_or_never().is_none());
            assert_eq!((bus.stats().open_asks, bus.stats().pool_buffers), (0, 100));
            server.until_kept(100).await;
            server.expect_after("release 100", "100").await;
            settled(&bus).await;
            bus.leave().await;
        });
    }
}

#[test]
fn a_handler_asks_an_actor_of_another_process() {
    let place = Place::new();
    system(async {
        let _server = start(&place, &["server", "actor"]).await;
        let _relay = place.ready("asks::relay", &[]).await;
        let bus = place.config("client").join().await.unwrap();
        let address = bus.address::<PassOn>("relay").await.unwrap();
        let message = |n| PassOn {
            to: "actor".into(),
            n,
        };
        let messages: Vec<_> = (0..50).map(message).collect();
        for (n, reply) in join_all(messages.iter().map(|message| address.ask(message)))
            .await
            .into_iter()
            .enumerate()
        {
            assert_eq!(reply.unwrap().to_owned(), Ok(n as u64 + 1));
        }
        settled(&bus).await;
    });
}

/// Two actors of two processes that ask each other back while they are being asked.
#[test]
fn a_handler_asks_back_the_process_that_asks_it() {
    let place = Place::new();
    system(async {
        let _relay = place.ready("asks::relay", &[]).await;
        let bus = place.config("client").join().await.unwrap();
        struct Here;
        impl Actor for Here {
            type Context = Context<Self>;
        }
        impl Handler<Received<Ping>> for Here {
            type Result = u64;
            fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
                ping.n.to_native() * 3
            }
        }
        bus.bind("here", Here).handles::<Ping>().start().await.unwrap();
        let relay = bus.address::<PassOn>("relay").await.unwrap();
        for n in 0..100 {
            let reply = relay.ask(&PassOn { to: "here".into(), n }).await.unwrap();
            assert_eq!(reply.to_owned(), Ok(n * 3));
        }
        settled(&bus).await;
    });
}

/// An ask may have ended before it was ever sent; whoever then polls it learns of it at once, also if there is room by now.
#[test]
fn asks_whose_deadline_passed_while_they_waited_for_room_end_at_their_next_poll() {
    let place = Place::new();
    system(async {
        let server = start(&place, &["server", "actor", "window=1"]).await;
        let _other = start(&place, &["other", "elsewhere"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<(Later, Ping)>("actor").await.unwrap();
        let elsewhere = bus.address::<Later>("elsewhere").await.unwrap();
        let mut first = Box::pin(actor.ask(&Later { bytes: 8 }));
        assert!(first.as_mut().now_or_never().is_none());
        let ping = Ping { n: 1 };
        let ask = || Box::pin(actor.ask(&ping).deadline(Duration::from_millis(20)));
        let (mut one, mut two) = (ask(), ask());
        assert!(one.as_mut().now_or_never().is_none() && two.as_mut().now_or_never().is_none());
        // When this one's later deadline has passed, theirs has.
        let last = elsewhere
            .ask(&Later { bytes: 0 })
            .deadline(Duration::from_millis(60));
        assert!(matches!(last.await, Err(AskError::Deadline { .. })));
        server.say("permit 1");
        soon("the first answer", first).await.unwrap();
        eventually("there is room", || bus.stats().unreleased == 1).await;
        for ended in [one.as_mut().now_or_never(), two.as_mut().now_or_never()] {
            assert!(matches!(ended, Some(Err(AskError::Deadline { .. }))), "{ended:?}");
        }
    });
}
