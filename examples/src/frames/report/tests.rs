use std::time::Duration;

use clap::Parser;

use super::*;
use crate::args::Args;

#[test]
fn a_report() {
    let args = Args::parse_from(["frames", "--bus", "b", "--frames", "2"]);
    let mut collection = Collection {
        took: Duration::from_millis(500),
        copies: 2,
        ..Collection::default()
    };
    collection.ledger.enter(0, 1, 1_000_000_000);
    collection.ledger.enter(1, 2, 1_000_000_000);
    let files = [("a.png", "/tmp/x.png".into())];
    let report = |counted| {
        Report {
            options: &args.options,
            collection: &collection,
            counted,
            files: &files,
        }
        .to_string()
    };
    let text = report(true);
    for part in [
        "frames on bus `b`\n",
        "worker 2          1 frames\n",
        "done 2 of 2, repeated 0, 1.9 GiB of pixels\n",
        "4.0 frames/s, 4.00 GB/s of pixels, in 500.0 ms\n",
        "copies       1 per frame\n",
        "result       /tmp/x.png (edges of a.png)\n",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    assert!(
        !report(false).contains("copies"),
        "a number that is not complete is not shown"
    );
}
