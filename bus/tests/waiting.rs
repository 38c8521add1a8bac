//! What wakes a sender that waits for room.

use std::{
    future::poll_fn,
    pin::pin,
    sync::mpsc::{Receiver, channel},
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use actix::prelude::*;
use shmbus::prelude::*;

const DEADLINE: Duration = Duration::from_secs(20);

#[derive(ShmMessage)]
struct Number {
    n: u32,
}

/// Handles its first message when it is let go.
struct Held {
    go: Receiver<()>,
}

impl Actor for Held {
    type Context = Context<Self>;
}

impl Handler<Received<Number>> for Held {
    type Result = ();

    fn handle(&mut self, message: Received<Number>, _: &mut Context<Self>) {
        if message.n == 0 {
            self.go.recv_timeout(DEADLINE).unwrap();
        }
    }
}

#[test]
fn a_sender_is_woken_though_somebody_else_took_back_what_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let (let_go, go) = channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let receiver = Config::new("receiver").dir(dir.path());
    let receiver = thread::spawn(move || {
        System::new().block_on(async {
            let bus = receiver.join().await.unwrap();
            let held = bus.bind("held", Held { go }).handles::<Number>();
            held.window(1).start().await.unwrap();
            let _ = ended.await;
            bus.leave().await;
        });
    });

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let bus = Config::new("sender").dir(dir.path()).join().await.unwrap();
        let address = bus.address::<Number>("held").await.unwrap();
        address.try_tell(&Number { n: 0 }).unwrap();
        let next = Number { n: 1 };
        let mut waiting = pin!(address.tell(&next));
        let pending = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await;
        assert!(pending, "the window is one message");

        let_go.send(()).unwrap();
        // Counting takes back what was released, as sending does. This runtime does nothing meanwhile.
        let deadline = Instant::now() + DEADLINE;
        while bus.stats().unreleased > 0 {
            assert!(Instant::now() < deadline, "nothing was released");
            thread::yield_now();
        }
        tokio::time::timeout(DEADLINE, waiting)
            .await
            .expect("woken")
            .unwrap();
        let _ = end.send(());
        bus.leave().await;
    });
    receiver.join().unwrap();
}
