//! Payloads of all sizes, to whom they may go, and what a receiver may keep of one.

use super::{Fetch, Frame, Hold, sink_of};
use crate::{
    service::{Ping, bytes, digest},
    support::{Place, settled, system},
};

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
