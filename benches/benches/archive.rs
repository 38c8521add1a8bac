//! Archiving in place, and the check at delivery.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shmbus::{ShmMessage, ShmType, bench};

#[derive(ShmMessage)]
struct Words {
    words: [u64; 8],
}

/// 300 bytes archived.
#[derive(ShmMessage)]
struct Order {
    text: String,
    levels: Vec<u64>,
    id: u64,
}

#[derive(ShmMessage)]
struct Blob {
    seq: u64,
    bytes: Vec<u8>,
}

fn measure<T: ShmType>(c: &mut Criterion, name: &str, value: &T) {
    let mut piece = bench::Memory::new(8 << 20)
        .take(2 << 20)
        .expect("there is memory");
    let room = piece.bytes();
    let len = bench::archive(value, room).expect("it fits");
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function("archive", |b| {
        b.iter(|| bench::archive(black_box(value), black_box(&mut *room)))
    });
    group.bench_function("check", |b| b.iter(|| bench::check::<T>(black_box(&room[..len]))));
    group.bench_function("memcpy", |b| {
        let from = vec![1; len];
        b.iter(|| black_box(&mut room[..len]).copy_from_slice(black_box(&from)));
    });
    group.finish();
}

fn archive(c: &mut Criterion) {
    measure(
        c,
        "64 B struct",
        &Words {
            words: std::array::from_fn(|at| at as u64),
        },
    );
    let order = Order {
        text: "x".repeat(60),
        levels: (0..27).collect(),
        id: 7,
    };
    measure(c, "300 B String and Vec", &order);
    for (name, len) in [("4 KiB bytes", 4 << 10), ("1 MiB bytes", 1 << 20)] {
        measure(
            c,
            name,
            &Blob {
                seq: 1,
                bytes: vec![7; len],
            },
        );
    }
}

criterion_group!(benches, archive);
criterion_main!(benches);
