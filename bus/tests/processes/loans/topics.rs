//! Loans of a topic: one buffer for all who subscribe.

use futures_util::FutureExt;
use shmbus::error::{Bound, SendError};

use super::Frame;
use crate::{
    service::{bytes, digest},
    support::{Place, eventually, settled, soon, system},
};

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
            let watcher = place.ready("loans::watcher", &[node, "2"]).await;
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
