//! The round trip and the one-way message of the comparison program, as benches with a history.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use shmbus_benches::{
    case::{Case, Point, Shape},
    launch::{self, Plan},
    report::Driven,
    systems,
};

fn pingpong(c: &mut Criterion) {
    let plan = Plan {
        program: env!("CARGO_BIN_EXE_pingpong").into(),
        seconds: 0.2,
        pin: false,
        shape: Shape::default(),
    };
    for case in [Case::Ask, Case::Ask64, Case::Tell] {
        let mut group = c.benchmark_group(format!("two processes, {case}"));
        // Each sample is a pair of new processes.
        group.sample_size(10);
        for name in ["shmbus-spin", "shmbus-park", "unix"] {
            let system = systems::named(name).expect("it is in every build");
            for payload in [64, 4 << 10] {
                group.bench_function(BenchmarkId::new(system.name, payload), |b| {
                    let point = Point {
                        case,
                        payload,
                        receivers: 1,
                    };
                    b.iter_custom(|messages| {
                        let sample = launch::measure(&plan, system, point);
                        let Driven {
                            elapsed,
                            messages: sent,
                            ..
                        } = sample.expect("a measurement").driven;
                        elapsed.div_f64(sent as f64).mul_f64(messages as f64)
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, pingpong);
criterion_main!(benches);
