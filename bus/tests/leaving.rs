//! What becomes of messages whose sender is gone before they are handled.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use actix::prelude::*;
use shmbus::prelude::*;

/// More than a port takes from one ring at a time.
const MESSAGES: u32 = 1000;
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(ShmMessage)]
struct Number {
    n: u32,
}

/// Handles nothing until it is let go, and keeps its thread from doing anything else until then.
struct Held {
    go: Receiver<()>,
    seen: Sender<u32>,
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
        self.seen.send(message.n.to_native()).unwrap();
    }
}

#[test]
fn what_was_told_before_its_sender_left_is_handled() {
    let dir = tempfile::tempdir().unwrap();
    let (let_go, go) = channel();
    let (seen, numbers) = channel();
    // The receiver's sessions live on other threads than its actor, so they notice the end first.
    let sessions = actix::System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    });
    sessions.block_on(async {
        let receiver = Config::new("receiver").dir(dir.path()).join().await.unwrap();
        let arbiter = Arbiter::new();
        let held = Held { go, seen };
        receiver
            .bind("held", held)
            .handles::<Number>()
            .start_on(&arbiter.handle())
            .await
            .unwrap();

        let sender = Config::new("sender").dir(dir.path()).join().await.unwrap();
        let address = sender.address::<Number>("held").await.unwrap();
        for n in 0..MESSAGES {
            address.try_tell(&Number { n }).unwrap();
        }
        drop(address);
        sender.leave().await;

        let gone = async {
            while !receiver.peers().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, gone).await.unwrap();
        let_go.send(()).unwrap();
        for n in 0..MESSAGES {
            assert_eq!(numbers.recv_timeout(DEADLINE), Ok(n));
        }
        receiver.leave().await;
        arbiter.stop();
    });
}
