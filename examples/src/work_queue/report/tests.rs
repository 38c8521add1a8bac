use clap::Parser;

use super::*;
use crate::{args::Args, blocks::hash, messages::Done};

#[test]
fn a_report() {
    let args = Args::parse_from(["work-queue", "--bus", "b", "--workers", "2", "--block", "1024"]);
    let mut ledger = Ledger::default();
    ledger.enter(&Done {
        job: 0,
        worker: 2,
        redelivered: true,
        bytes: 1024,
        hash: hash(b"a"),
    });
    let expected = ledger.total();
    let mut report = Report {
        options: &args.options,
        path: "/f".into(),
        expected,
        ledger,
        killed_after: Some(7),
        alone: Duration::from_micros(3),
        took: Duration::from_millis(5),
    };
    let text = report.to_string();
    for part in [
        "/f in 1 blocks of 1.0 KiB, on bus `b`\n",
        "worker 1          0 jobs   killed when 7 were done\n",
        "worker 2          1 jobs\n",
        "done 1 of 1, redelivered 1, repeated 0\n",
        "without bus  1024 bytes",
        "in 3.0 us\n",
        "exact        yes\n",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    report.expected.1[0] ^= 1;
    assert!(report.to_string().ends_with("exact        no\n"));
}
