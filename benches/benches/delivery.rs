//! From a port's queue to whoever handles the message, over the public interface: two nodes and both ends on one
//! thread, so that no time is spent waiting for another core. Each number includes the sending.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use actix::prelude::*;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shmbus::prelude::*;

/// Messages per turn, less than a window.
const BATCH: u64 = 64;

/// As much as fits into one slot.
#[derive(ShmMessage)]
struct Small {
    words: [u64; 4],
}

/// A message in a buffer of the pool.
#[derive(ShmMessage)]
struct Large {
    words: [u64; 64],
}

/// Answered when everything before was handled.
#[derive(ShmMessage)]
#[shm(reply = u64)]
struct Total {}

struct Counter {
    sum: u64,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

macro_rules! counts {
    ($($message:ident)*) => {$(
        impl Handler<Received<$message>> for Counter {
            type Result = ();
            fn handle(&mut self, message: Received<$message>, _: &mut Context<Self>) {
                self.sum = self.sum.wrapping_add(message.words[0].to_native());
            }
        }
    )*};
}

counts!(Small Large);

impl Handler<Received<Total>> for Counter {
    type Result = MessageResult<Received<Total>>;
    fn handle(&mut self, _: Received<Total>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.sum)
    }
}

/// Two nodes of a bus of their own.
async fn nodes(dir: &std::path::Path) -> (Bus, Bus) {
    let join = |name: &str| Config::new(name).dir(dir).spin(Spin::Never).join();
    let sender = join("sender").await.expect("a bus of its own");
    let receiver = join("receiver").await.expect("a bus of its own");
    (sender, receiver)
}

/// From the queue into a mailbox and out of it, with no actor: what a port does with each message.
fn port(c: &mut Criterion) {
    let system = System::new();
    let dir = tempfile::tempdir().expect("a directory");
    let (sender, receiver) = system.block_on(nodes(dir.path()));
    let (small, mut smalls, large, mut larges) = system.block_on(async {
        let smalls = receiver
            .subscriber::<Small>("bench.small")
            .when_full(WhenFull::Wait);
        let larges = receiver
            .subscriber::<Large>("bench.large")
            .when_full(WhenFull::Wait);
        (
            sender.publisher::<Small>("bench.small").await.expect("a topic"),
            smalls.await.expect("a subscription"),
            sender.publisher::<Large>("bench.large").await.expect("a topic"),
            larges.await.expect("a subscription"),
        )
    });
    let mut group = c.benchmark_group("port dispatch, published and taken from a stream");
    group.throughput(Throughput::Elements(BATCH));
    macro_rules! measure {
        ($name:literal, $message:expr, $publisher:ident, $subscriber:ident) => {
            let message = $message;
            group.bench_function($name, |b| {
                b.iter(|| {
                    system.block_on(async {
                        for _ in 0..BATCH {
                            $publisher
                                .publish_wait(black_box(&message))
                                .await
                                .expect("there is room");
                        }
                        for _ in 0..BATCH {
                            black_box($subscriber.recv().await);
                        }
                    });
                });
            });
        };
    }
    measure!("32 B, in the slot", Small { words: [1; 4] }, small, smalls);
    measure!("512 B, in the pool", Large { words: [1; 64] }, large, larges);
    group.finish();
}

/// From the queue into a handler.
fn actor(c: &mut Criterion) {
    let system = System::new();
    let dir = tempfile::tempdir().expect("a directory");
    let (sender, receiver) = system.block_on(nodes(dir.path()));
    let counter = system.block_on(async {
        receiver
            .bind("counter", Counter { sum: 0 })
            .handles::<Small>()
            .handles::<Large>()
            .handles::<Total>()
            .start()
            .await
            .expect("nobody else has the name");
        let address = sender.address::<(Small, Large, Total)>("counter");
        address.await.expect("it is bound")
    });
    let mut group = c.benchmark_group("actor delivery, told and handled");
    group.throughput(Throughput::Elements(BATCH));
    macro_rules! measure {
        ($name:literal, $message:expr) => {
            let message = $message;
            group.bench_function($name, |b| {
                b.iter(|| {
                    system.block_on(async {
                        for _ in 0..BATCH {
                            counter
                                .tell(black_box(&message))
                                .await
                                .expect("there is room");
                        }
                        black_box(counter.ask(&Total {}).await.expect("an answer"));
                    });
                });
            });
        };
    }
    measure!("32 B, in the slot", Small { words: [1; 4] });
    measure!("512 B, in the pool", Large { words: [1; 64] });
    group.finish();

    let mut group = c.benchmark_group("actor delivery, one ask");
    group.bench_function("on the same thread", |b| {
        b.iter(|| system.block_on(async { black_box(counter.ask(&Total {}).await.expect("an answer")) }));
    });
    group.finish();
}

criterion_group!(benches, port, actor);
criterion_main!(benches);
