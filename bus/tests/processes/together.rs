//! Many asks by one call: `ask_all`.

use std::{ops::Range, time::Duration};

use actix::prelude::*;
use futures_util::{FutureExt, StreamExt};
use shmbus::{
    error::{AskError, SendError},
    prelude::*,
};

use crate::{
    service::{Blob, Keep, Later, Note, Panic, Ping, bytes, digest, set, start},
    support::{Place, Stage, settled, soon, system, threads},
};

fn pings(range: Range<u64>) -> Vec<Ping> {
    range.map(|n| Ping { n }).collect()
}

fn blobs(count: u64, len: impl Fn(u64) -> usize) -> Vec<Blob> {
    (0..count)
        .map(|seq| Blob {
            seq,
            data: bytes(seq, len(seq)),
        })
        .collect()
}

async fn answered_in_order(place: &Place, node: &str, spin: &str) {
    let bus = set(place.config(node), spin).join().await.unwrap();
    let actor = bus.address::<(Ping, Blob)>("actor").await.unwrap();
    let asked = pings(0..3000);
    let mut n = 0;
    let mut replies = actor.ask_all(&asked);
    while let Some(reply) = soon("an answer", replies.next()).await {
        n += 1;
        assert_eq!(*reply.unwrap(), n);
    }
    assert_eq!(n, 3000);
    assert!(replies.next().await.is_none(), "it stays at its end");
    drop(replies);
    // In slots, in buffers of all kinds and in batches, between each other; as a stream, and few at a time.
    let asked = blobs(300, |seq| match seq % 50 {
        0 => 100_000,
        _ => (seq as usize * 7) % 1500,
    });
    for in_flight in [1, 7, 100_000] {
        // How many there are is not known before.
        let odd = asked.iter().filter(|blob| blob.seq % 2 == 1);
        let replies: Vec<_> = soon("all answers", actor.ask_all(odd).in_flight(in_flight).collect()).await;
        let sent = asked.iter().filter(|blob| blob.seq % 2 == 1);
        assert_eq!(replies.len(), 150);
        for (reply, blob) in replies.into_iter().zip(sent) {
            assert_eq!(reply.unwrap().to_owned(), digest(blob.seq, &blob.data));
        }
    }
    let none: &[Ping] = &[];
    assert!(actor.ask_all(none).next().await.is_none());
    settled(&bus).await;
    bus.leave().await;
}

#[test]
fn each_ask_has_its_own_answer_and_they_come_in_order_on_every_kind_of_runtime() {
    let place = Place::new();
    let _server = system(start(&place, &["server", "actor"]));
    for spin in ["spin=never", "spin=adaptive", "spin=always"] {
        system(answered_in_order(&place, "actix", spin));
        threads(answered_in_order(&place, "threads", spin));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(answered_in_order(&place, "one", ""));
}

#[test]
fn asks_go_far_beyond_the_window_the_ring_and_the_places_for_replies() {
    let place = Place::new();
    system(async {
        for (number, (window, ring)) in [(3, 64), (1000, 16), (40, 32)].into_iter().enumerate() {
            let node = format!("server{number}");
            let (window, slots) = (format!("window={window}"), format!("ring={ring}"));
            let _server = start(&place, &[&node, &node, &window, &slots]).await;
            let bus = place
                .config("client")
                .ring_slots(ring)
                .returns(ring * 2)
                .join()
                .await
                .unwrap();
            let actor = bus.address::<(Ping, Blob)>(node.as_str()).await.unwrap();
            let asked = pings(0..2000);
            let mut all =
                [0, 500, 1000, 1500].map(|from| actor.ask_all(&asked[from..from + 500]).in_flight(300));
            for n in 0..500 {
                for (stream, replies) in all.iter_mut().enumerate() {
                    let reply = soon("an answer", replies.next()).await.unwrap().unwrap();
                    assert_eq!(*reply, stream as u64 * 500 + n + 1);
                }
            }
            drop(all);
            settled(&bus).await;
            bus.leave().await;
        }
    });
}

#[test]
fn an_ask_that_cannot_be_sent_fails_alone_and_for_its_own_reason() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor", "window=8"]).await;
        let bus = place
            .config("client")
            .message_bytes(64 << 10)
            .join()
            .await
            .unwrap();
        let actor = bus.address::<Blob>("actor").await.unwrap();
        let asked = blobs(100, |seq| if seq % 30 == 10 { 100_000 } else { 100 });
        let replies: Vec<_> = soon("all answers", actor.ask_all(&asked).collect()).await;
        assert_eq!(replies.len(), 100);
        for (reply, blob) in replies.into_iter().zip(&asked) {
            match reply {
                Ok(reply) => assert_eq!(reply.to_owned(), digest(blob.seq, &blob.data)),
                Err(AskError::Send(SendError::TooLarge { limit: 65_536, .. })) => {
                    assert_eq!(blob.seq % 30, 10)
                }
                Err(error) => panic!("{error}"),
            }
        }
        // Also if those around it, which wait for room, fail for another.
        server.expect_after("block", "blocked").await;
        let mut replies = actor.ask_all(&asked);
        assert!(replies.next().now_or_never().is_none());
        server.kill();
        for blob in &asked {
            let failed = soon("a failure", replies.next()).await.unwrap();
            let is_too_large = matches!(failed, Err(AskError::Send(SendError::TooLarge { .. })));
            assert_eq!(is_too_large, blob.seq % 30 == 10, "{failed:?}");
        }
        drop(replies);
        settled(&bus).await;
    });
}

#[test]
fn asks_of_a_process_that_is_killed_all_fail_sent_or_not() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor", "window=50"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<(Ping, Blob)>("actor").await.unwrap();
        server.expect_after("block", "blocked").await;
        let (asked, told) = (pings(0..200), blobs(200, |_| 300));
        let (mut pings, mut blobs) = (actor.ask_all(&asked), actor.ask_all(&told));
        assert!(pings.next().now_or_never().is_none());
        assert!(blobs.next().now_or_never().is_none());
        server.kill();
        let lost = AskError::PeerLost { name: "actor".into() };
        let unsent = AskError::Send(SendError::PeerLost { name: "actor".into() });
        for _ in 0..200 {
            let failed = soon("a failure", pings.next())
                .await
                .unwrap()
                .map(|_| ())
                .unwrap_err();
            assert!([&lost, &unsent].contains(&&failed), "{failed}");
            let failed = soon("a failure", blobs.next())
                .await
                .unwrap()
                .map(|_| ())
                .unwrap_err();
            assert!([&lost, &unsent].contains(&&failed), "{failed}");
        }
        assert!(pings.next().await.is_none());
        assert!(blobs.next().await.is_none());
        drop((pings, blobs));
        settled(&bus).await;
    });
}

/// Sent, waiting for room, and waiting for memory: each has its own time.
#[test]
fn asks_that_are_not_answered_in_time_end_at_their_deadline() {
    let place = Place::new();
    for spin in ["spin=never", "spin=adaptive", "spin=always"] {
        system(async {
            let mut server = start(&place, &["server", "actor", "window=16"]).await;
            let bus = set(place.config("client"), spin).join().await.unwrap();
            let actor = bus.address::<(Later, Keep, Ping)>("actor").await.unwrap();
            for seq in 0..8 {
                let data = bytes(seq, 10);
                actor.tell(&Keep { seq, data }).await.unwrap();
            }
            server.until_kept(8).await;
            let within = Duration::from_millis(50);
            let asked: Vec<_> = (0..30).map(|_| Later { bytes: 200 }).collect();
            let replies: Vec<_> = actor.ask_all(&asked).deadline(within).collect().await;
            assert_eq!(replies.len(), 30);
            for reply in replies {
                let late = AskError::Deadline {
                    name: "actor".into(),
                    after: within,
                };
                assert_eq!(reply.map(|_| ()), Err(late));
            }
            server.expect_after("release 8", "8").await;
            server.say("permit 30");
            settled(&bus).await;
            let replies: Vec<_> = soon("answers", actor.ask_all(&pings(0..20)).collect()).await;
            assert!(replies.into_iter().all(|reply| reply.is_ok()));
            bus.leave().await;
        });
    }
}

/// At any moment: nothing asked, on its way, answered and not taken.
#[test]
fn what_is_dropped_gives_everything_back() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor", "window=100"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<(Ping, Blob, Later)>("actor").await.unwrap();
        let (asked, told) = (pings(0..500), blobs(500, |seq| seq as usize));
        for taken in [0, 1, 2, 63, 64, 65, 200, 499] {
            let (mut pings, mut blobs) = (actor.ask_all(&asked), actor.ask_all(&told));
            for _ in 0..taken {
                soon("an answer", pings.next()).await.unwrap().unwrap();
                soon("an answer", blobs.next()).await.unwrap().unwrap();
            }
            // More are on their way.
            let _ = (pings.next().now_or_never(), blobs.next().now_or_never());
        }
        settled(&bus).await;
        let later: Vec<_> = (0..300).map(|_| Later { bytes: 5000 }).collect();
        let mut replies = actor.ask_all(&later);
        assert!(replies.next().now_or_never().is_none());
        drop(replies);
        server.say("permit 300");
        settled(&bus).await;
        server.until_stat("pool_buffers", 0).await;
    });
}

#[test]
fn who_panics_or_stops_fails_the_asks_of_a_batch_one_by_one() {
    let place = Place::new();
    system(async {
        let _lasts = start(&place, &["lasting", "lasts", "quiet", "continue"]).await;
        let mut stopping = start(&place, &["stopping", "stops", "quiet"]).await;
        let bus = place.config("client").join().await.unwrap();
        let lasts = bus.address::<(Panic, Ping)>("lasts").await.unwrap();
        let panics: Vec<_> = (0..20).map(|_| Panic).collect();
        let replies: Vec<_> = soon("all failures", lasts.ask_all(&panics).collect()).await;
        assert_eq!(replies.len(), 20);
        for reply in replies {
            let name = "lasts".to_owned();
            assert_eq!(reply.map(|_| ()), Err(AskError::HandlerPanicked { name }));
        }
        let stops = bus.address::<(Panic, Ping, Note)>("stops").await.unwrap();
        stopping.expect_after("block", "blocked").await;
        let mut panics = stops.ask_all(&panics);
        assert!(panics.next().now_or_never().is_none());
        let asked = pings(0..20);
        let mut pings = stops.ask_all(&asked);
        assert!(pings.next().now_or_never().is_none());
        stopping.expect_after("go on", "unblocked").await;
        let name = || "stops".to_owned();
        let first = soon("the first failure", panics.next()).await.unwrap();
        assert_eq!(first.map(|_| ()), Err(AskError::HandlerPanicked { name: name() }));
        for _ in 1..20 {
            let failed = soon("a failure", panics.next()).await.unwrap();
            assert_eq!(failed.map(|_| ()), Err(AskError::Stopped { name: name() }));
        }
        for _ in 0..20 {
            let failed = soon("a failure", pings.next()).await.unwrap();
            assert_eq!(failed.map(|_| ()), Err(AskError::Stopped { name: name() }));
        }
        assert!(panics.next().await.is_none() && pings.next().await.is_none());
        drop((panics, pings));
        settled(&bus).await;
    });
}

/// Answered after a while, or, if it is the third, when the test says so.
#[derive(ShmMessage, Debug)]
#[shm(reply = u64)]
struct Slow {
    n: u64,
}

struct Sluggish {
    stage: Stage,
}

impl Actor for Sluggish {
    type Context = Context<Self>;
}

impl Handler<Received<Slow>> for Sluggish {
    type Result = u64;
    fn handle(&mut self, slow: Received<Slow>, _: &mut Context<Self>) -> u64 {
        let n = slow.n.to_native();
        if n == 2 {
            self.stage.hear_blocking();
        }
        // Longer than any tick of the kernel's clock.
        std::thread::sleep(Duration::from_millis(if n < 2 { 30 } else { 0 }));
        n
    }
}

/// Role: an actor `sluggish` at a node of that name.
pub fn sluggish(stage: Stage) {
    system(async move {
        let bus = stage.config("sluggish").join().await.expect("join");
        stage.say("ready");
        let bound = bus.bind("sluggish", Sluggish { stage });
        bound.handles::<Slow>().start().await.expect("bind");
        std::future::pending::<()>().await;
    });
}

/// A small reply waits for the handler after its own and no longer, however slow others are.
#[test]
fn replies_do_not_wait_for_many_slow_handlers() {
    let place = Place::new();
    system(async {
        let mut server = place.spawn("together::sluggish", &[]);
        server.expect("ready").await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<Slow>("sluggish").await.unwrap();
        let asked: Vec<_> = (0..20).map(|n| Slow { n }).collect();
        let mut replies = actor.ask_all(&asked);
        for n in 0..20 {
            if n == 2 {
                server.say("go on");
            }
            assert_eq!(*soon("an answer", replies.next()).await.unwrap().unwrap(), n);
        }
        drop(replies);
        settled(&bus).await;
    });
}
