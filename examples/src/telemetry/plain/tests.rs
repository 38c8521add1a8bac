use std::time::Duration;

use super::*;
use crate::messages::{Busy, CpuShare, Load, Memory, Totals, View};

fn model() -> Model {
    let mut model = Model::new("b");
    model.running = Duration::from_secs(10);
    model.answered(Duration::from_micros(40));
    model.view = View {
        cpus: vec![CpuShare {
            user: 40.0,
            system: 10.0,
            steal: 0.0,
        }],
        memory: Memory {
            total: 4 << 30,
            available: 3 << 30,
            swap_total: 0,
            swap_free: 0,
        },
        load: Load {
            one: 0.5,
            five: 0.25,
            fifteen: 0.0,
        },
        busiest: vec![Busy {
            pid: 7,
            name: "work\u{1b}".into(),
            state: b'R',
            cpu: 99.5,
            rss: 2 << 20,
        }],
        processes: 80,
        silent_ms: Some(3),
        totals: Totals {
            runs: 1,
            sent: 250,
            received: 250,
            lost: 0,
            finished: true,
        },
    };
    model
}

#[test]
fn everything_is_there() {
    let text = Plain(&model()).to_string();
    for part in [
        "telemetry on bus `b`, 0:10\n",
        "cpu0   [###############               ]  50.0 %  (user 40.0, system 10.0, steal 0.0)\n",
        "memory 1.0 GiB of 4.0 GiB used\n",
        "load   0.50 0.25 0.00\n",
        "      7  work?            R    99.5     2.0 MiB\n",
        "messages    sent 250, received 250, lost 0\n",
        "asks        answered 1, failed 0\n",
        "round trip  p50 40.0 us, p99 40.0 us, max 40.0 us\n",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    assert!(!text.contains("swap"));
}

#[test]
fn totals_that_are_not_final_say_so() {
    let mut model = model();
    model.view.totals = Totals {
        runs: 2,
        sent: 9,
        received: 8,
        lost: 1,
        finished: false,
    };
    assert!(
        Plain(&model)
            .to_string()
            .contains("sent 9, received 8, lost 1, in 2 runs so far\n")
    );
    model.link = Link::Lost("the node of `analyst` is gone".into());
    assert!(
        Plain(&model)
            .to_string()
            .contains("when last heard of (the node of `analyst` is gone)\n")
    );
}

#[test]
fn with_nobody_there_it_says_that() {
    let text = Plain(&Model::new("b")).to_string();
    assert!(
        text.contains("sent 0, received 0, lost 0 (there was no analyst)\n"),
        "{text}"
    );
    assert!(!text.contains("cpu") && !text.contains("round trip"), "{text}");
}
