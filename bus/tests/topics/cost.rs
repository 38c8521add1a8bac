//! What a subscriber costs its publisher. Not a test of anything: it prints a table.
//! `cargo test --release -p shmbus --test topics -- --ignored --nocapture cost`

use std::time::Instant;

use shmbus::prelude::*;

use crate::{
    listener::Tick,
    party::join,
    support::{Child, Place, settled, system},
};

/// Messages per burst, and bursts: fewer where each takes long.
fn load(bytes: usize, stopped: bool) -> (u32, u32) {
    match (bytes < 64 << 10, stopped) {
        (true, true) => (256, 60),
        (true, false) => (256, 300),
        (false, _) => (16, 40),
    }
}

/// Nanoseconds per message: of the fastest burst, which nobody has disturbed, and of the middle one.
async fn measure(
    bus: &Bus,
    feed: &Publisher<Tick>,
    readers: &[Child],
    bytes: usize,
    stopped: bool,
) -> [f64; 2] {
    let tick = Tick::new(1, bytes);
    let mut times = Vec::new();
    let (burst, bursts) = load(bytes, stopped);
    for _ in 0..bursts {
        if stopped {
            for reader in readers {
                reader.freeze().await;
            }
        }
        let from = Instant::now();
        for _ in 0..burst {
            feed.publish(&tick).expect("room");
        }
        times.push(from.elapsed().as_nanos() as f64 / f64::from(burst));
        for reader in readers {
            reader.thaw();
        }
        settled(bus).await;
    }
    times.sort_by(f64::total_cmp);
    [times[0], times[times.len() / 2]]
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_subscriber() {
    println!("subscribers   bytes   stopped: best, median   reading: best, median   ns per publish");
    for count in [0, 1, 4, 8] {
        for bytes in [0, 48, 4080, (1 << 20) - 16] {
            let place = Place::new();
            system(async {
                let mut readers = Vec::new();
                for at in 0..count {
                    let mut reader = join(&place, &format!("reader{at}")).await;
                    reader.ok("stream s feed depth=1024").await;
                    readers.push(reader);
                }
                let bus = place.config("origin").join().await.expect("join");
                let feed = bus.publisher::<Tick>("feed").await.expect("a publisher");
                measure(&bus, &feed, &readers, bytes, false).await;
                let [sb, sm] = measure(&bus, &feed, &readers, bytes, true).await;
                let [rb, rm] = measure(&bus, &feed, &readers, bytes, false).await;
                println!(
                    "{count:>11} {:>7} {sb:>15.1} {sm:>8.1} {rb:>15.1} {rm:>8.1}",
                    bytes + 16
                );
                assert_eq!(feed.stats().dropped, 0);
            });
        }
    }
}
