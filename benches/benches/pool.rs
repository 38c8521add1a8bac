//! Taking buffers and giving them back, with nothing else in use and with much.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use shmbus::bench::Memory;

fn pool(c: &mut Criterion) {
    let mut group = c.benchmark_group("pool, take and give back");
    for bytes in [64, 4 << 10, 1 << 20] {
        let pool = Memory::new(64 << 20);
        group.bench_with_input(BenchmarkId::new("bytes", bytes), &bytes, |b, bytes| {
            b.iter(|| drop(black_box(pool.take(black_box(*bytes)))));
        });
    }
    for live in [10, 1_000, 100_000] {
        let pool = Memory::new(256 << 20);
        let held: Vec<_> = (0..live)
            .map(|_| pool.take(64).expect("there is memory"))
            .collect();
        group.bench_with_input(
            BenchmarkId::new("64 bytes, buffers in use", live),
            &live,
            |b, _| {
                b.iter(|| drop(black_box(pool.take(black_box(64)))));
            },
        );
        drop(held);
    }
    group.finish();
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("pool, 32 taken, then 32 given back");
    for bytes in [64, 512] {
        let pool = Memory::new(64 << 20);
        let mut held = Vec::with_capacity(32);
        group.bench_with_input(BenchmarkId::new("bytes", bytes), &bytes, |b, bytes| {
            b.iter(|| {
                held.extend((0..32).map(|_| pool.take(black_box(*bytes))));
                held.clear();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pool, batches);
criterion_main!(benches);
