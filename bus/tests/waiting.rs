//! What wakes a sender that waits for room.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use actix::prelude::*;
use shmbus::prelude::*;
use tokio::sync::Notify;

const DEADLINE: Duration = Duration::from_secs(20);

#[derive(ShmMessage)]
struct Number {
    n: u32,
}

/// Keeps each message until it is let go, and goes on with its work meanwhile.
struct Keeper {
    go: Arc<Notify>,
}

impl Actor for Keeper {
    type Context = Context<Self>;
}

impl Handler<Received<Number>> for Keeper {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: Received<Number>, _: &mut Context<Self>) -> Self::Result {
        let go = self.go.clone();
        Box::pin(async move {
            go.notified().await;
            drop(message);
        })
    }
}

/// Counts how often a task is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    /// Lets the runtime work until the task has been woken so often.
    async fn reach(&self, times: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.0.load(Ordering::Relaxed) < times {
            assert!(Instant::now() < deadline, "not woken {times} times");
            tokio::task::yield_now().await;
        }
    }
}

#[test]
fn a_sender_is_woken_though_somebody_else_took_back_what_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let go = Arc::new(Notify::new());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let receiver = Config::new("receiver").dir(dir.path());
    let keeper = Keeper { go: go.clone() };
    let receiver = thread::spawn(move || {
        System::new().block_on(async {
            let bus = receiver.join().await.unwrap();
            let keeper = bus.bind("keeper", keeper).handles::<Number>();
            keeper.window(1).start().await.unwrap();
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
        let address = bus.address::<Number>("keeper").await.unwrap();
        address.try_tell(&Number { n: 0 }).unwrap();

        let next = Number { n: 1 };
        let mut waiting = pin!(address.tell(&next));
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut poll = || waiting.as_mut().poll(&mut TaskContext::from_waker(&waker));
        assert!(poll().is_pending(), "the window is one message");
        // The slot was read: a wake-up, but the message is still held.
        wakes.reach(1).await;
        assert!(poll().is_pending(), "the window is one message");
        let before = wakes.0.load(Ordering::Relaxed);

        go.notify_one();
        // Counting takes back what was released, as sending does. This runtime does nothing else meanwhile.
        let deadline = Instant::now() + DEADLINE;
        while bus.stats().unreleased > 0 {
            assert!(Instant::now() < deadline, "nothing was released");
            thread::yield_now();
        }
        wakes.reach(before + 1).await;
        assert!(matches!(poll(), Poll::Ready(Ok(()))));
        go.notify_one();
        let _ = end.send(());
        bus.leave().await;
    });
    receiver.join().unwrap();
}
