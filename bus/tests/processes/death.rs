//! Processes that are killed: what their peers see, and what is left of them.

use std::{
    collections::BTreeSet,
    fs,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    time::{Duration, Instant},
};

use futures_util::future::{MaybeDone, join_all, maybe_done};
use shmbus::{
    error::{AskError, LookupError, SendError},
    prelude::*,
};

use crate::{
    service::{Blob, Keep, Later, Note, Ping, bytes, pinged, start},
    support::{PATIENCE, Place, Stage, eventually, settled, soon, system, threads},
};

fn lost(error: &AskError) -> bool {
    matches!(
        error,
        AskError::PeerLost { .. } | AskError::Send(SendError::PeerLost { .. })
    )
}

#[test]
fn asks_of_a_killed_process_fail_at_once_and_nobody_elses() {
    let place = Place::new();
    for spin in [Spin::Never, Spin::default(), Spin::Always] {
        system(async {
            let mut doomed = start(&place, &["doomed", "doomed"]).await;
            let live = start(&place, &["live", "live"]).await;
            let bus = place.config("client").spin(spin).join().await.unwrap();
            let mut watch = bus.watch("doomed");
            assert_eq!(soon("up", watch.next()).await, Some(Presence::Up));
            let gone = bus.address::<(Later, Ping, Note)>("doomed").await.unwrap();
            let stays = bus.address::<(Later, Ping)>("live").await.unwrap();
            let asks = (0..40).map(|n| {
                let gone = gone.clone();
                actix::spawn(async move {
                    let ask = gone.ask(&Later { bytes: n }).await.map(|_| ());
                    (ask, Instant::now())
                })
            });
            let asks: Vec<_> = asks.collect();
            let other =
                actix::spawn(async move { stays.ask(&Later { bytes: 5 }).await.map(|reply| reply.len()) });
            eventually("all are asked", || bus.stats().sent == 41).await;
            let killed = Instant::now();
            doomed.kill();
            let mut slowest = Duration::ZERO;
            for ask in soon("the asks fail", join_all(asks)).await {
                let (ask, at) = ask.unwrap();
                assert_eq!(
                    ask,
                    Err(AskError::PeerLost {
                        name: "doomed".into()
                    })
                );
                slowest = slowest.max(at - killed);
            }
            println!("{spin:?}: asks failed {slowest:?} after the kill");
            assert!(slowest < Duration::from_secs(2), "{slowest:?}");
            assert_eq!(soon("down", watch.next()).await, Some(Presence::Down));
            assert_eq!(
                gone.try_tell(&Note { from: 0, seq: 0 }),
                Err(SendError::PeerLost {
                    name: "doomed".into()
                })
            );
            assert!(lost(&gone.ask(&Ping { n: 0 }).await.map(|_| ()).unwrap_err()));
            live.say("permit 1");
            assert_eq!(soon("the other ask", other).await.unwrap(), Ok(5));
            settled(&bus).await;
            bus.leave().await;
        });
    }
}

/// Asks once more in the moment in which it is woken: while a link is being lost, after its asks have failed and before it
/// refuses to send.
struct AsksAgain {
    ask: Mutex<Pin<Box<MaybeDone<Pending>>>>,
    woken: AtomicBool,
}

type Pending = Pin<Box<dyn Future<Output = Result<u64, AskError>> + Send>>;

impl Wake for AsksAgain {
    fn wake(self: Arc<Self>) {
        // It goes out now, or is refused.
        let mut ask = self.ask.lock().unwrap();
        let _ = ask.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        self.woken.store(true, Ordering::SeqCst);
    }
}

fn asks(address: &Address<Later>) -> Pending {
    let address = address.clone();
    Box::pin(async move {
        let reply = address.ask(&Later { bytes: 1 }).deadline(PATIENCE * 2).await;
        reply.map(|reply| reply.len() as u64)
    })
}

/// It must not be an ask that nobody ends before its deadline.
#[test]
fn who_asks_again_at_once_after_a_death_is_told_at_once() {
    let place = Place::new();
    threads(async {
        let mut doomed = start(&place, &["doomed", "doomed"]).await;
        let bus = place.config("client").spin(Spin::Never).join().await.unwrap();
        let gone = bus.address::<Later>("doomed").await.unwrap();
        let mut first = asks(&gone);
        let mut poll = |waker| first.as_mut().poll(&mut Context::from_waker(waker));
        eventually("it is asked", || {
            assert!(poll(Waker::noop()).is_pending());
            bus.stats().sent == 1
        })
        .await;
        let again = Arc::new(AsksAgain {
            ask: Mutex::new(Box::pin(maybe_done(asks(&gone)))),
            woken: AtomicBool::new(false),
        });
        assert!(poll(&Waker::from(again.clone())).is_pending());
        doomed.kill();
        eventually("it is woken", || again.woken.load(Ordering::SeqCst)).await;
        let second = poll_fn(|cx| again.ask.lock().unwrap().as_mut().poll(cx));
        soon("the second ask fails", second).await;
        let second = again.ask.lock().unwrap().as_mut().take_output();
        for outcome in [first.await, second.unwrap()] {
            let error = outcome.unwrap_err();
            assert!(lost(&error), "{error}");
        }
        bus.leave().await;
    });
}

#[test]
fn what_a_killed_receiver_held_is_reusable() {
    let place = Place::new();
    system(async {
        let mut doomed = start(&place, &["doomed", "doomed"]).await;
        let mut live = start(&place, &["live", "live"]).await;
        let bus = place
            .config("client")
            .segment_bytes(16 << 20)
            .pool_bytes(16 << 20)
            .join()
            .await
            .unwrap();
        let gone = bus.address::<Keep>("doomed").await.unwrap();
        let stays = bus.address::<(Keep, Blob)>("live").await.unwrap();
        let keep = |seq| Keep {
            seq,
            data: bytes(seq, 900_000),
        };
        for seq in 0..12 {
            gone.tell(&keep(seq)).await.unwrap();
        }
        for seq in 0..4 {
            stays.tell(&keep(seq)).await.unwrap();
        }
        doomed.until_kept(12).await;
        // Waits for memory that only the doomed one can give, by its death.
        let waiting = stays.clone();
        let waiting = actix::spawn(async move { waiting.tell(&keep(4)).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        doomed.kill();
        soon("memory", waiting).await.unwrap().unwrap();
        live.until_kept(5).await;
        eventually("the rest is free", || bus.stats().pool_buffers == 5).await;
        assert_eq!(bus.stats().undelivered, 12);
        // The survivor's messages are as they were, while the freed memory is used again.
        for seq in 0..20 {
            let reply = soon(
                "an answer",
                stays.ask(&Blob {
                    seq,
                    data: bytes(seq, 500_000),
                }),
            )
            .await
            .unwrap();
            assert_eq!(reply.len.to_native(), 500_000);
        }
        live.expect_after("read", "5").await;
        live.expect_after("release 5", "5").await;
        settled(&bus).await;
    });
}

/// Role `count len wait?`: opens `actor`, tells it so many messages (of so many bytes, or kept if that is 1),
/// says `told`, and waits for its end.
pub fn teller(mut stage: Stage) {
    threads(async move {
        let (count, len) = (stage.number(0), stage.number(1) as usize);
        let bus = stage.config("teller").join().await.expect("join");
        let actor = bus.address::<(Note, Blob, Keep)>("actor").await.expect("lookup");
        if stage.args.len() > 2 {
            stage.say("linked");
            stage.hear().await;
        }
        for seq in 0..count {
            match len {
                0 => actor.tell(&Note { from: 7, seq }).await,
                1 => {
                    actor
                        .tell(&Keep {
                            seq,
                            data: bytes(seq, 100_000),
                        })
                        .await
                }
                len => {
                    actor
                        .tell(&Blob {
                            seq,
                            data: bytes(seq, len),
                        })
                        .await
                }
            }
            .expect("tell");
        }
        stage.say("told");
        stage.wait().await;
    });
}

#[test]
fn what_was_told_is_handled_although_its_sender_was_killed() {
    // In slots, in buffers, in segments of their own.
    for (count, len) in [(1000, 0), (500, 20_000), (6, 9 << 20)] {
        let place = Place::new();
        system(async {
            let mut server = start(&place, &["server", "actor"]).await;
            let args = [&count.to_string(), &len.to_string(), "wait"];
            let mut teller = place.spawn("death::teller", &args);
            teller.expect("linked").await;
            // The receiver does nothing at all, its session included, until the sender is dead.
            server.expect_after("block", "blocked").await;
            teller.expect_after("go", "told").await;
            teller.kill();
            server.expect_after("go", "unblocked").await;
            server.until_count(count).await;
            let log = server.log().await;
            assert!(log.iter().map(|entry| entry.1).eq(0..count as u64), "{log:?}");
            assert_eq!(server.stat("violations").await, 0);
        });
    }
}

#[test]
fn messages_of_a_killed_sender_stay_readable_while_they_are_kept() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor"]).await;
        let mut teller = place.spawn("death::teller", &["50", "1"]);
        teller.expect("told").await;
        server.until_kept(50).await;
        teller.kill();
        server.until("peers", "0").await;
        server.expect_after("read", "50").await;
        server.expect_after("release 50", "50").await;
        // And the server serves on.
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<Ping>("actor").await.unwrap();
        assert_eq!(actor.ask(&Ping { n: 1 }).await.unwrap().to_native(), 2);
    });
}

#[test]
fn a_service_that_is_started_again_is_found_again() {
    let place = Place::new();
    system(async {
        let bus = place.config("client").join().await.unwrap();
        let mut watch = bus.watch("actor");
        assert_eq!(watch.next().await, Some(Presence::Down));
        let mut old: Option<Address<Ping>> = None;
        for _ in 0..5 {
            let mut server = start(&place, &["server", "actor"]).await;
            assert_eq!(soon("up", watch.next()).await, Some(Presence::Up));
            if let Some(old) = old {
                // The address stays with the process it was opened for.
                assert!(lost(&old.ask(&Ping { n: 1 }).await.map(|_| ()).unwrap_err()));
            }
            let actor = bus.address::<Ping>("actor").await.unwrap();
            assert_eq!(actor.pid(), server.pid() as i32);
            pinged(&actor, 1).await;
            server.kill();
            assert_eq!(soon("down", watch.next()).await, Some(Presence::Down));
            old = Some(actor);
        }
        settled(&bus).await;
    });
}

#[test]
fn of_a_killed_process_only_its_socket_is_left_and_the_next_join_removes_it() {
    let shared = || -> BTreeSet<_> {
        fs::read_dir("/dev/shm")
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect()
    };
    let place = Place::new();
    system(async {
        let before = shared();
        let mut server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<Keep>("actor").await.unwrap();
        actor
            .tell(&Keep {
                seq: 0,
                data: bytes(0, 100_000),
            })
            .await
            .unwrap();
        server.until_kept(1).await;
        let ours: BTreeSet<_> = shared().difference(&before).cloned().collect();
        assert!(
            ours.iter().all(|name| !name.to_string_lossy().contains("shmbus")),
            "{ours:?}"
        );
        server.kill();
        bus.leave().await;
        let names = || -> Vec<_> {
            let entries = fs::read_dir(place.folder()).unwrap();
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        assert_eq!(names(), ["server.sock"]);
        let _next = place.config("next").join().await.unwrap();
        assert_eq!(names(), ["next.sock"]);
        assert_eq!(
            fs::read_dir(place.dir()).unwrap().count(),
            1,
            "one folder per bus, and nothing else"
        );
    });
}

#[test]
fn a_lookup_outlives_the_death_of_the_process_it_was_opening() {
    let place = Place::new();
    threads(async {
        let mut frozen = start(&place, &["frozen", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        frozen.freeze().await;
        // It cannot answer the link that this asks for.
        let early = bus
            .address::<Ping>("actor")
            .deadline(Duration::from_millis(50))
            .await;
        assert!(
            matches!(
                early,
                Err(LookupError::Unknown { .. } | LookupError::Refused { .. })
            ),
            "{early:?}"
        );
        let lookup = tokio::spawn(bus.address::<Ping>("actor").into_future());
        tokio::task::yield_now().await;
        frozen.kill();
        let _second = start(&place, &["second", "actor"]).await;
        let actor = soon("the lookup", lookup).await.unwrap().unwrap();
        assert_eq!(actor.node(), "second");
        pinged(&actor, 1).await;
    });
}

#[test]
fn processes_that_come_and_go_leave_the_others_working() {
    let place = Place::new();
    threads(async {
        let mut server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<Ping>("actor").await.unwrap();
        let asking = {
            let (stop, stopped) = tokio::sync::watch::channel(false);
            let task = tokio::spawn(async move {
                let mut asked = 0u64;
                while !*stopped.borrow() {
                    assert_eq!(
                        actor.ask(&Ping { n: asked }).await.unwrap().to_native(),
                        asked + 1
                    );
                    asked += 1;
                }
                asked
            });
            (stop, task)
        };
        for round in 0..8 {
            // Killed at some moment of its work: joining, linking, telling.
            let mut teller = place.spawn("death::teller", &["200000", "3000"]);
            let wanted = round * 40;
            eventually("it is at work", || {
                place.socket("teller").exists() || bus.peers().len() > 1
            })
            .await;
            while (server.count().await as u64) < wanted {
                tokio::task::yield_now().await;
            }
            teller.kill();
            server.until("peers", "1").await;
        }
        asking.0.send(true).unwrap();
        assert!(asking.1.await.unwrap() > 0);
        assert_eq!(server.stat("violations").await, 0);
        settled(&bus).await;
    });
}
