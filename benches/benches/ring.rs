//! The IO queue and the return ring, over sealed segments as between processes: both ends on one core, and on
//! two threads.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shmbus::bench;

const SLOTS: u32 = 2048;
const RETURNS: u32 = 32_768;

fn one_core(c: &mut Criterion) {
    let (mut sender, mut receiver) = bench::link(SLOTS, RETURNS).expect("there is memory");
    let mut group = c.benchmark_group("ring, one core");
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 slots there", |b| {
        b.iter(|| {
            for _ in 0..64 {
                assert!(sender.push(black_box(&[7; 40])));
            }
            for _ in 0..64 {
                black_box(receiver.pop());
            }
            receiver.publish();
        });
    });
    group.bench_function("64 returns back", |b| {
        b.iter(|| {
            for token in 0..64 {
                receiver.give_back(black_box(token));
            }
            for _ in 0..64 {
                black_box(sender.returned());
            }
        });
    });
    group.finish();
}

fn two_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring, two threads");
    group.bench_function("one way", |b| {
        b.iter_custom(|messages| {
            let (mut sender, mut receiver) = bench::link(SLOTS, RETURNS).expect("there is memory");
            thread::scope(|scope| {
                let reader = scope.spawn(move || {
                    let mut read = 0;
                    while read < messages {
                        match receiver.pop() {
                            Some(word) => {
                                black_box(word);
                                read += 1;
                                if read % u64::from(SLOTS / 4) == 0 {
                                    receiver.publish();
                                }
                            }
                            None => std::hint::spin_loop(),
                        }
                    }
                });
                let start = Instant::now();
                for _ in 0..messages {
                    while !sender.push(black_box(&[7; 40])) {
                        std::hint::spin_loop();
                    }
                }
                reader.join().expect("the reader does not panic");
                start.elapsed()
            })
        });
    });
    group.bench_function("round trip", |b| {
        let (mut sender, mut there) = bench::link(SLOTS, RETURNS).expect("there is memory");
        let (mut back, mut receiver) = bench::link(SLOTS, RETURNS).expect("there is memory");
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut read = 0;
                // Relaxed: the end is the only news.
                while !over.load(Ordering::Relaxed) {
                    match there.pop() {
                        Some(word) => {
                            read += 1;
                            if read % (SLOTS / 4) == 0 {
                                there.publish();
                            }
                            assert!(back.push(&[word as u8; 40]));
                        }
                        None => std::hint::spin_loop(),
                    }
                }
            });
            let mut asked = 0;
            b.iter(|| {
                while !sender.push(black_box(&[7; 40])) {
                    std::hint::spin_loop();
                }
                asked += 1;
                while receiver.pop().is_none() {
                    std::hint::spin_loop();
                }
                if asked % (SLOTS / 4) == 0 {
                    receiver.publish();
                }
            });
            over.store(true, Ordering::Relaxed);
        });
    });
    group.finish();
}

criterion_group!(benches, one_core, two_threads);
criterion_main!(benches);
