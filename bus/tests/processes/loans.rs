//! Payloads produced in place, from nothing to far above the largest class of the pool.

use std::sync::{Arc, Mutex};

use actix::prelude::*;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use shmbus::{
    error::{AskError, Bound, SendError},
    prelude::*,
};

use crate::{
    service::{Digest, Ping, bytes, digest, set, settled, start},
    support::{Child, Place, Stage, eventually, soon, system},
};

#[derive(ShmMessage, Debug)]
#[shm(reply = Digest)]
struct Frame {
    seq: u64,
    data: Bulk,
    note: String,
}

/// Kept by its handler until the test says `release`.
#[derive(ShmMessage, Debug)]
struct Hold {
    data: Bulk,
}

/// Answered with so many bytes.
#[derive(ShmMessage, Debug)]
#[shm(reply = Hold)]
struct Fetch {
    len: u32,
}

#[derive(Clone, Default)]
struct Sink {
    held: Arc<Mutex<Vec<Bytes>>>,
}

impl Actor for Sink {
    type Context = Context<Self>;
}

impl Handler<Received<Frame>> for Sink {
    type Result = MessageResult<Received<Frame>>;
    fn handle(&mut self, frame: Received<Frame>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(digest(
            frame.seq.to_native() + frame.note.len() as u64,
            &frame.data,
        ))
    }
}

impl Handler<Received<Hold>> for Sink {
    type Result = ();
    fn handle(&mut self, hold: Received<Hold>, _: &mut Context<Self>) {
        let held = hold.into_bytes(|hold| &hold.data);
        self.held.lock().unwrap().push(held);
    }
}

impl Handler<Received<Fetch>> for Sink {
    type Result = MessageResult<Received<Fetch>>;
    fn handle(&mut self, fetch: Received<Fetch>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(Hold {
            data: bytes(1, fetch.len.to_native() as usize).into(),
        })
    }
}

impl Handler<Received<Ping>> for Sink {
    type Result = u64;
    fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
        ping.n.to_native()
    }
}

/// Role: `setting=value..`; says `ready`, then does what the test says.
pub fn sink(mut stage: Stage) {
    system(async move {
        let config = stage
            .args
            .iter()
            .fold(stage.config("server"), |config, arg| set(config, arg));
        let bus = config.join().await.expect("join");
        let sink = Sink::default();
        let _bound = bus
            .bind("sink", sink.clone())
            .handles::<Frame>()
            .handles::<Hold>()
            .handles::<Fetch>()
            .handles::<Ping>()
            .start()
            .await
            .expect("bind");
        stage.say("ready");
        loop {
            match stage.hear().await.as_str() {
                "held" => stage.say(sink.held.lock().unwrap().len()),
                // Cuts the payload in two, and lets the message go with the second half.
                "halve" => {
                    let mut held = sink.held.lock().unwrap();
                    let last = held.last_mut().expect("something is held");
                    *last = last.split_off(last.len() / 2);
                    stage.say(digest(0, last).sum);
                }
                "release" => {
                    sink.held.lock().unwrap().clear();
                    stage.say("released");
                }
                // Whether each page begins with its number.
                "pages" => {
                    let held = sink.held.lock().unwrap();
                    let mut pages = held.last().expect("something is held").chunks(4096).enumerate();
                    stage.say(pages.all(|(n, page)| page[..8] == n.to_le_bytes()));
                }
                "shared" => stage.say(shared_memory()),
                other => panic!("unknown command {other}"),
            }
        }
    });
}

/// Role: `node depth`; subscribes `frames`, and says what it got each time the test says `next`.
pub fn watcher(mut stage: Stage) {
    system(async move {
        let bus = stage.config(stage.arg(0)).join().await.expect("join");
        let depth = stage.number(1) as u32;
        let frames = bus
            .subscriber::<Frame>("frames")
            .depth(depth)
            .when_full(WhenFull::Wait);
        let mut frames = frames.await.expect("subscribe");
        stage.say("ready");
        loop {
            stage.hear().await;
            let frame = frames.next().await.expect("a frame");
            stage.say(digest(frame.seq.to_native(), &frame.data).sum);
        }
    });
}

async fn sink_of(place: &Place, args: &[&str]) -> Child {
    let mut child = place.spawn("loans::sink", args);
    child.expect("ready").await;
    child
}

/// Shared memory that this process has touched and still maps, in bytes.
fn shared_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssShmem:"))
        .expect("RssShmem");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

/// Segments of messages of `len` bytes that this process maps. Other tests of it have other lengths.
fn large_segments(len: usize) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    let bytes = |line: &str| {
        let (range, _) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        Some(usize::from_str_radix(to, 16).ok()? - usize::from_str_radix(from, 16).ok()?)
    };
    let of_len = |bytes: usize| (len..len + 8192).contains(&bytes);
    maps.lines()
        .filter(|line| line.contains("shmbus-large") && bytes(line).is_some_and(of_len))
        .count()
}

#[test]
fn payloads_of_every_size_arrive_as_they_were_written() {
    let place = Place::new();
    system(async {
        let _sink = sink_of(&place, &[]).await;
        let bus = place.config("client").join().await.unwrap();
        let sink = bus.address::<Frame>("sink").await.unwrap();
        let around = |n: usize| [n - 300, n - 30, n - 1, n, n + 1];
        let sizes = [0, 1, 7, 40, 63, 64, 65].into_iter();
        let sizes = sizes.chain([1 << 12, 1 << 16].into_iter().flat_map(around));
        let sizes = sizes.chain([1 << 20, 4 << 20, (8 << 20) - 300, (8 << 20) - 10, (8 << 20) + 1]);
        for (seq, len) in sizes.enumerate() {
            let (seq, payload) = (seq as u64, bytes(seq as u64, len));
            let mut loan = sink.loan(len).await.unwrap();
            assert!(loan.len() == len && loan.as_ptr().addr().is_multiple_of(64));
            loan.copy_from_slice(&payload);
            let reply = loan
                .ask(|data| Frame {
                    seq,
                    data,
                    note: "n".repeat(len % 100),
                })
                .await
                .unwrap();
            let note = (len % 100) as u64;
            assert_eq!(
                reply.to_owned(),
                digest(seq + note, &payload),
                "{len} bytes on loan"
            );
            drop(reply);

            let frame = Frame {
                seq,
                data: payload.as_slice().into(),
                note: String::new(),
            };
            let reply = sink.ask(&frame).await.unwrap();
            assert_eq!(reply.to_owned(), digest(seq, &payload), "{len} bytes owned");
        }
        assert_eq!(bus.stats().loans_copied, 0);
        settled(&bus).await;
    });
}

#[test]
fn a_loan_goes_to_an_address_of_several_messages_and_a_reply_may_be_bulk() {
    let place = Place::new();
    system(async {
        let _sink = sink_of(&place, &[]).await;
        let bus = place.config("client").join().await.unwrap();
        let sink = bus.address::<(Ping, Frame, Fetch)>("sink").await.unwrap();
        let mut loan = sink.loan::<Frame>(10_000).await.unwrap();
        loan.fill(5);
        let reply = loan
            .ask(|data| Frame {
                seq: 3,
                data,
                note: String::new(),
            })
            .await
            .unwrap();
        assert_eq!(reply.to_owned(), digest(3, &[5; 10_000]));
        for len in [0, 10, 100_000, 9 << 20] {
            let reply = sink.ask(&Fetch { len }).await.unwrap();
            assert_eq!(reply.into_bytes(|hold| &hold.data), bytes(1, len as usize));
        }
        settled(&bus).await;
    });
}

#[test]
fn a_loan_that_is_not_sent_goes_back() {
    let place = Place::new();
    system(async {
        let mut child = sink_of(&place, &["window=2"]).await;
        let bus = place.config("client").join().await.unwrap();
        let sink = bus.address::<Hold>("sink").await.unwrap();
        let loan = sink.try_loan::<Hold>(5000).unwrap();
        assert_eq!(bus.stats().pool_buffers, 1);
        drop(loan);
        assert_eq!(bus.stats().pool_buffers, 0);
        // So does one whose message is never made.
        let loan = sink.try_loan::<Hold>(5000).unwrap();
        drop(loan.send(|data| Hold { data }));
        assert_eq!(bus.stats().pool_buffers, 0);

        // The window is full: the loan comes back as it was.
        for n in 0..2 {
            let mut loan = sink.try_loan::<Hold>(5000).unwrap();
            loan.fill(n);
            loan.try_send(|data| Hold { data }).unwrap();
        }
        let mut loan = sink.try_loan::<Hold>(5000).unwrap();
        loan.fill(7);
        let at = loan.as_ptr();
        let unsent = loan.try_send(|data| Hold { data }).unwrap_err();
        assert_eq!(
            unsent.error,
            SendError::Full {
                name: "sink".into(),
                bound: Bound::Window
            }
        );
        let loan = unsent.loan;
        assert!(loan.as_ptr() == at && loan[..] == [7; 5000]);
        assert_eq!(bus.stats().pool_buffers, 3);

        // And waits for room, where that is wanted.
        child.until("held", "2").await;
        let mut sending = std::pin::pin!(loan.send(|data| Hold { data }));
        assert!((&mut sending).now_or_never().is_none());
        child.expect_after("release", "released").await;
        soon("there is room", sending).await.unwrap();
        child.until("held", "1").await;
        assert_eq!(child.ask("halve").await, digest(0, &[7; 2500]).sum.to_string());
        child.expect_after("release", "released").await;
        settled(&bus).await;
    });
}

#[test]
fn a_part_of_a_message_keeps_it_and_no_more() {
    let place = Place::new();
    system(async {
        let mut child = sink_of(&place, &[]).await;
        let bus = place.config("client").join().await.unwrap();
        let sink = bus.address::<Hold>("sink").await.unwrap();
        // In the slot, in a buffer, in a segment.
        for len in [10, 1000, 9 << 20] {
            let payload = bytes(len as u64, len);
            match len {
                10 => sink
                    .tell(&Hold {
                        data: payload.as_slice().into(),
                    })
                    .await
                    .unwrap(),
                _ => {
                    let mut loan = sink.loan::<Hold>(len).await.unwrap();
                    loan.copy_from_slice(&payload);
                    loan.send(|data| Hold { data }).await.unwrap();
                }
            }
            child.until("held", "1").await;
            let half = digest(0, &payload[len / 2..]).sum.to_string();
            assert_eq!(child.ask("halve").await, half);
            assert_eq!(bus.stats().unreleased, 1);
            child.expect_after("release", "released").await;
            settled(&bus).await;
        }
    });
}

#[test]
fn a_loan_waits_for_memory() {
    let place = Place::new();
    system(async {
        let mut child = sink_of(&place, &[]).await;
        let config = place.config("client").segment_bytes(8 << 20).pool_bytes(8 << 20);
        let bus = config.join().await.unwrap();
        let sink = bus.address::<Hold>("sink").await.unwrap();
        for _ in 0..2 {
            sink.loan::<Hold>(3 << 20)
                .await
                .unwrap()
                .send(|data| Hold { data })
                .await
                .unwrap();
        }
        let full = Err(SendError::Full {
            name: "sink".into(),
            bound: Bound::Pool,
        });
        assert_eq!(sink.try_loan::<Hold>(3 << 20).map(|_| ()), full);
        child.until("held", "2").await;
        let mut waiting = std::pin::pin!(sink.loan::<Hold>(3 << 20));
        assert!((&mut waiting).now_or_never().is_none());
        child.expect_after("release", "released").await;
        let loan = soon("memory comes back", waiting).await.unwrap();
        assert_eq!(loan.len(), 3 << 20);
        drop(loan);
        settled(&bus).await;
    });
}

#[test]
fn a_long_note_costs_one_copy_and_is_counted() {
    let place = Place::new();
    system(async {
        let _sink = sink_of(&place, &[]).await;
        let bus = place.config("client").join().await.unwrap();
        let sink = bus.address::<Frame>("sink").await.unwrap();
        let payload = bytes(4, 4000);
        for n in 1..4 {
            let mut loan = sink.loan(4000).await.unwrap();
            loan.copy_from_slice(&payload);
            let asked = loan.ask(|data| Frame {
                seq: 0,
                data,
                note: "n".repeat(6000),
            });
            assert_eq!(asked.await.unwrap().to_owned(), digest(6000, &payload));
            assert_eq!(bus.stats().loans_copied, n);
        }
        settled(&bus).await;
    });
}

#[test]
fn a_limit_is_named_before_anything_is_written() {
    let place = Place::new();
    system(async {
        let _sink = sink_of(&place, &["message=10000000"]).await;
        let config = place.config("client").message_bytes(10_000_000);
        let bus = config
            .segment_bytes(4 << 20)
            .pool_bytes(8 << 20)
            .join()
            .await
            .unwrap();
        let sink = bus.address::<Hold>("sink").await.unwrap();
        let error = sink.try_loan::<Hold>(10_000_000).unwrap_err();
        assert!(
            matches!(
                error,
                SendError::TooLarge {
                    limit: 10_000_000,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.to_string().contains("`Config::message_bytes`"), "{error}");
        // Less than that, and more than the pool can ever hold: nobody waits for it.
        for len in [9_000_000, 8 << 20] {
            let error = soon("the refusal", sink.loan::<Hold>(len)).await.unwrap_err();
            assert!(error.to_string().contains("`Config::pool_bytes`"), "{error}");
            let error = soon(
                "the refusal",
                sink.tell(&Hold {
                    data: vec![0; len].into(),
                }),
            )
            .await
            .unwrap_err();
            assert!(error.to_string().contains("`Config::pool_bytes`"), "{error}");
        }
        settled(&bus).await;
    });
}

#[test]
fn a_loan_outlives_its_receiver_and_says_so() {
    let place = Place::new();
    system(async {
        let mut child = sink_of(&place, &[]).await;
        let bus = place.config("client").join().await.unwrap();
        let sink = bus.address::<Frame>("sink").await.unwrap();
        let (one, other) = (
            sink.loan::<Frame>(100).await.unwrap(),
            sink.loan::<Frame>(100).await.unwrap(),
        );
        child.kill();
        eventually("the peer is gone", || bus.stats().peers == 0).await;
        let make = |data| Frame {
            seq: 0,
            data,
            note: String::new(),
        };
        let lost = SendError::PeerLost { name: "sink".into() };
        let unsent = one.try_send(make).unwrap_err();
        assert_eq!((&unsent.error, unsent.loan.len()), (&lost, 100));
        drop(unsent);
        assert_eq!(other.ask(make).await.unwrap_err(), AskError::Send(lost.clone()));
        assert_eq!(sink.loan::<Frame>(1).await.unwrap_err(), lost);
        assert_eq!(bus.stats().pool_buffers, 0);
    });
}

#[test]
fn three_hundred_mebibytes_come_and_go() {
    const LEN: usize = 300 << 20;
    const MUCH: u64 = 100 << 20;
    let place = Place::new();
    system(async {
        let mut child = sink_of(&place, &[&format!("message={}", 512 << 20)]).await;
        let bus = place
            .config("client")
            .message_bytes(512 << 20)
            .join()
            .await
            .unwrap();
        let sink = bus.address::<(Ping, Hold)>("sink").await.unwrap();
        let before = bus.stats().pool_reserved_bytes;
        let mut loan = sink.loan::<Hold>(LEN).await.unwrap();
        // A number per page is enough to tell pages apart, and fast in a debug build.
        for (n, page) in loan.chunks_mut(4096).enumerate() {
            page[..8].copy_from_slice(&n.to_le_bytes());
        }
        assert!(bus.stats().pool_reserved_bytes > before + LEN as u64 - 1);
        loan.send(|data| Hold { data }).await.unwrap();
        child.until("held", "1").await;
        child.expect_after("pages", "true").await;
        assert!(shared_memory() > MUCH && large_segments(LEN) == 1);

        // It goes when the reader lets go, although nothing else is sent or asked of this node.
        child.expect_after("release", "released").await;
        eventually("the segment is unmapped", || large_segments(LEN) == 0).await;
        assert!(shared_memory() < MUCH, "{}", shared_memory());
        assert_eq!(bus.stats().pool_reserved_bytes, before);
        let theirs: u64 = child.ask("shared").await.parse().unwrap();
        assert!(theirs < MUCH, "{theirs}");
        settled(&bus).await;

        // A second time, while smaller messages go by.
        let mut loan = sink.loan::<Hold>(LEN).await.unwrap();
        loan[LEN - 1] = 1;
        loan.send(|data| Hold { data }).await.unwrap();
        for n in 0..1000 {
            assert_eq!(sink.ask(&Ping { n }).await.unwrap().to_native(), n);
        }
        child.until("held", "1").await;
        assert_eq!(large_segments(LEN), 1);
        child.expect_after("release", "released").await;
        eventually("the segment is unmapped", || large_segments(LEN) == 0).await;
        settled(&bus).await;
    });
}

#[test]
fn large_replies_are_freed_too() {
    const LEN: usize = 11 << 20;
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<crate::service::Later>("actor").await.unwrap();
        server.say("permit 1");
        let reply = actor
            .ask(&crate::service::Later { bytes: LEN as u64 })
            .await
            .unwrap();
        assert!(large_segments(LEN) == 1 && reply.len() == LEN);
        assert!(server.stat("pool_reserved_bytes").await >= LEN as u64);
        drop(reply);
        assert_eq!(large_segments(LEN), 0);
        let mut left = u64::MAX;
        while left > 0 {
            left = soon("it comes back", server.stat("pool_used_bytes")).await;
        }
    });
}

#[test]
fn a_topics_payload_is_in_one_buffer_for_all() {
    let place = Place::new();
    system(async {
        let bus = place.config("publisher").join().await.unwrap();
        let frames = bus.publisher::<Frame>("frames").await.unwrap();
        let make = |data| Frame {
            seq: 0,
            data,
            note: String::new(),
        };
        // Nobody wants it.
        frames.try_loan(100).unwrap().try_send(make).unwrap();
        assert_eq!((bus.stats().pool_buffers, frames.stats().published), (0, 1));

        let mut watchers = Vec::new();
        for node in ["one", "two"] {
            let mut watcher = place.spawn("loans::watcher", &[node, "2"]);
            watcher.expect("ready").await;
            watchers.push(watcher);
        }
        eventually("both are there", || frames.stats().subscribers == 2).await;
        for len in [0, 100, 1 << 20, 9 << 20] {
            let payload = bytes(len as u64, len);
            for n in 1..3 {
                let mut loan = frames.loan(len).await.unwrap();
                loan.copy_from_slice(&payload);
                loan.send(make).await.unwrap();
                assert_eq!(bus.stats().pool_buffers, n, "one for both");
            }
            // Their depth is used up: the loan comes back, or waits.
            let mut loan = frames.try_loan(len).unwrap();
            loan.copy_from_slice(&payload);
            let unsent = loan.try_send(make).unwrap_err();
            assert!(matches!(
                unsent.error,
                SendError::Full {
                    bound: Bound::Window,
                    ..
                }
            ));
            assert_eq!(unsent.loan[..], payload[..]);
            let mut sending = std::pin::pin!(unsent.loan.send(make));
            assert!((&mut sending).now_or_never().is_none());
            let sum = digest(0, &payload).sum.to_string();
            for watcher in &mut watchers {
                watcher.expect_after("next", &sum).await;
            }
            soon("there is room", sending).await.unwrap();
            for watcher in &mut watchers {
                watcher.expect_after("next", &sum).await;
                watcher.expect_after("next", &sum).await;
            }
            settled(&bus).await;
        }
        let abandoned = frames.loan(10).await.unwrap();
        drop(abandoned.send(make));
        assert_eq!(bus.stats().pool_buffers, 0);
    });
}
