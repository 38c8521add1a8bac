//! Many tells at once, and payloads of every size around the edges of a slot.

use actix::prelude::*;
use futures_util::FutureExt;
use shmbus::{
    error::{SendError, TellAllError},
    prelude::*,
};

use crate::{
    service::{Blob, Keep, Note, Panic, Ping, bytes, digest, start},
    support::{Place, eventually, settled, soon, system},
};

fn notes(range: std::ops::Range<u64>) -> Vec<Note> {
    range.map(|seq| Note { from: 1, seq }).collect()
}

#[test]
fn all_of_a_batch_arrive_in_order_far_beyond_the_window() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor", "window=64"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<(Note, Blob)>("actor").await.unwrap();
        soon("all notes", actor.tell_all(&notes(0..3000))).await.unwrap();
        // In one slot, in two, in buffers of all kinds, between each other.
        let blobs: Vec<Blob> = (3000..3300)
            .map(|seq| Blob {
                seq,
                data: bytes(seq, (seq as usize * 7) % 300),
            })
            .collect();
        soon("all blobs", actor.tell_all(&blobs)).await.unwrap();
        // One by one and in batches keep their order too.
        actor.tell(&Note { from: 1, seq: 3300 }).await.unwrap();
        soon("the last notes", actor.tell_all(&notes(3301..3400)))
            .await
            .unwrap();
        let none: &[Note] = &[];
        actor.tell_all(none).await.unwrap();
        server.until_count(3400).await;
        let log: Vec<u64> = server.log().await.iter().map(|entry| entry.1).collect();
        assert!(log.is_sorted(), "out of order: {log:?}");
        settled(&bus).await;
    });
}

#[test]
fn a_batch_that_meets_a_full_window_sends_its_beginning_and_goes_on_when_there_is_room() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor", "window=8"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<Keep>("actor").await.unwrap();
        let keeps: Vec<Keep> = (0..20)
            .map(|seq| Keep {
                seq,
                data: bytes(seq, 200),
            })
            .collect();
        {
            let mut telling = Box::pin(actor.tell_all(&keeps));
            assert!(telling.as_mut().now_or_never().is_none());
            server.until_kept(8).await;
            server.expect_after("release 3", "3").await;
            // What is dropped half-way has sent a beginning, and gives back what it had archived.
            eventually("room for three more", || {
                telling.as_mut().now_or_never();
                bus.stats().unreleased == 8 && bus.stats().sent >= 11
            })
            .await;
        }
        server.until_kept(8).await;
        server.expect_after("read", "8").await;
        server.expect_after("release 8", "8").await;
        settled(&bus).await;
    });
}

#[test]
fn a_batch_says_how_many_were_sent_when_one_cannot_be() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor", "window=64"]).await;
        let bus = place
            .config("client")
            .message_bytes(64 << 10)
            .join()
            .await
            .unwrap();
        let actor = bus.address::<(Note, Blob)>("actor").await.unwrap();
        let mut blobs: Vec<Blob> = (0..50)
            .map(|seq| Blob {
                seq,
                data: bytes(seq, 100),
            })
            .collect();
        blobs[40].data = bytes(40, 100_000);
        let TellAllError { sent, error, .. } = soon("the failure", actor.tell_all(&blobs)).await.unwrap_err();
        assert_eq!(sent, 40);
        assert!(
            matches!(error, SendError::TooLarge { limit: 65_536, .. }),
            "{error}"
        );
        server.until_count(40).await;
        server.kill();
        let lost = soon("the loss", async {
            loop {
                if let Err(lost) = actor.tell_all(&notes(0..10)).await {
                    break lost;
                }
            }
        })
        .await;
        assert_eq!(lost.error, SendError::PeerLost { name: "actor".into() });
    });
}

/// The payload's length decides between one slot, two, and a buffer; each length on either side of each border.
#[test]
fn payloads_of_every_small_size_arrive_whole_both_ways() {
    let place = Place::new();
    system(async {
        let _server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<Blob>("actor").await.unwrap();
        for seq in 0..600_u64 {
            let blob = Blob {
                seq,
                data: bytes(seq, (seq % 150) as usize),
            };
            let reply = soon("an answer", actor.ask(&blob)).await.unwrap();
            assert_eq!(reply.to_owned(), digest(seq, &blob.data));
        }
        settled(&bus).await;
    });
}

fn keeps(range: std::ops::Range<u64>, len: usize) -> Vec<Keep> {
    range
        .map(|seq| Keep {
            seq,
            data: bytes(seq, len),
        })
        .collect()
}

/// Each message of a batch has its own place in the window; of the memory, small ones keep nothing and longer ones their batch.
#[test]
fn what_is_kept_of_a_batch_keeps_its_place_and_no_other() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<Keep>("actor").await.unwrap();
        soon("small ones", actor.tell_all(&keeps(0..500, 20)))
            .await
            .unwrap();
        server.until_kept(500).await;
        eventually("the memory of the batches is back", || {
            let stats = bus.stats();
            stats.unreleased == 500 && stats.pool_buffers == 0
        })
        .await;
        soon("longer ones", actor.tell_all(&keeps(500..1000, 300)))
            .await
            .unwrap();
        server.until_kept(1000).await;
        assert!(bus.stats().pool_buffers > 0);
        server.expect_after("read", "1000").await;
        server.expect_after("release 999", "999").await;
        eventually("all but one batch are back", || {
            let stats = bus.stats();
            stats.unreleased == 1 && stats.pool_buffers == 1
        })
        .await;
        server.expect_after("read", "1").await;
        server.expect_after("release 1", "1").await;
        settled(&bus).await;
    });
}

#[test]
fn batches_that_a_killed_process_had_are_counted_and_their_memory_is_back() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<Note>("actor").await.unwrap();
        server.expect_after("block", "blocked").await;
        soon("the notes", actor.tell_all(&notes(0..700))).await.unwrap();
        assert_eq!(bus.stats().unreleased, 700);
        server.kill();
        eventually("the loss", || bus.stats().undelivered == 700).await;
        settled(&bus).await;
    });
}

#[test]
fn batches_for_an_actor_that_has_stopped_are_dead_letters_message_by_message() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor", "quiet"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<(Note, Panic)>("actor").await.unwrap();
        server.expect_after("block", "blocked").await;
        soon("the first notes", actor.tell_all(&notes(0..100)))
            .await
            .unwrap();
        actor.tell(&Panic).await.unwrap();
        soon("the other notes", actor.tell_all(&notes(100..300)))
            .await
            .unwrap();
        server.expect_after("go on", "unblocked").await;
        server.until_stat("dead_letters", 200).await;
        server.until_count(100).await;
        settled(&bus).await;
    });
}

/// An actor that was running before it had a name gets its messages by way of its own mailbox.
struct Listener(Vec<u64>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Received<Note>> for Listener {
    type Result = ();
    fn handle(&mut self, note: Received<Note>, _: &mut Context<Self>) {
        self.0.push(note.seq.to_native());
    }
}

impl Handler<Received<Ping>> for Listener {
    type Result = u64;
    fn handle(&mut self, _: Received<Ping>, _: &mut Context<Self>) -> u64 {
        assert!(self.0.is_sorted(), "out of order: {:?}", self.0);
        self.0.len() as u64
    }
}

#[test]
fn batches_reach_a_running_actor_in_order_too() {
    let place = Place::new();
    system(async {
        let bus = place.config("node").join().await.unwrap();
        let running = Listener(Vec::new()).start();
        bus.bind_addr("listener", running)
            .handles::<Note>()
            .handles::<Ping>()
            .start()
            .await
            .unwrap();
        let listener = bus.address::<(Note, Ping)>("listener").await.unwrap();
        soon("the notes", listener.tell_all(&notes(0..2500)))
            .await
            .unwrap();
        assert_eq!(
            *soon("the count", listener.ask(&Ping { n: 0 })).await.unwrap(),
            2500
        );
        settled(&bus).await;
    });
}
