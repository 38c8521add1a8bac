//! What a loan costs.

use actix::prelude::*;

use crate::{Bulk, Config, Received, ShmMessage, message::tests::counting::allocations};

#[derive(ShmMessage, Debug)]
struct Frame {
    seq: u64,
    data: Bulk,
}

struct Viewer;

impl Actor for Viewer {
    type Context = Context<Self>;
}

impl Handler<Received<Frame>> for Viewer {
    type Result = ();
    fn handle(&mut self, _: Received<Frame>, _: &mut Context<Self>) {}
}

#[test]
fn a_loan_allocates_nothing_once_warm() {
    const LEN: usize = 100_000;
    actix::System::new().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let bus = Config::new("node").dir(dir.path()).join().await.unwrap();
        bus.bind("viewer", Viewer)
            .handles::<Frame>()
            .start()
            .await
            .unwrap();
        let viewer = bus.address::<Frame>("viewer").await.unwrap();
        let mut seq = 0;
        let mut send = || {
            let mut loan = viewer.try_loan(LEN).unwrap();
            loan[LEN - 1] = 1;
            loan.try_send(|data| Frame { seq, data }).unwrap();
            drop(viewer.try_loan::<Frame>(LEN).unwrap());
            seq += 1;
        };
        let idle = async || {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
            while bus.stats().unreleased > 0 {
                assert!(std::time::Instant::now() < deadline);
                tokio::task::yield_now().await;
            }
        };
        // As many at once as are counted below.
        for _ in 0..64 {
            send();
        }
        idle().await;
        let count = allocations(|| {
            for _ in 0..64 {
                send();
            }
        });
        assert_eq!(count, 0);
        idle().await;
        assert_eq!(bus.stats().pool_buffers, 0);
    });
}
