//! Loans that find no room, are given up, or are over a limit; and one whose receiver is gone.

use futures_util::FutureExt;
use shmbus::error::{AskError, Bound, SendError};

use super::{Frame, Hold, sink_of};
use crate::{
    service::digest,
    support::{Place, eventually, settled, soon, system},
};

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
