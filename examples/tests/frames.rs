//! Runs the whole program: a source, workers and a collector.

mod support;

use std::path::Path;

use nix::sys::signal::Signal;
use support::{Program, assert_no_process_is_left, numbers, wait_for};

fn frames(dir: &Path, line: &[&str]) -> Program {
    Program::start(env!("CARGO_BIN_EXE_frames"), dir, line)
}

/// A picture of a white square on black.
fn square(path: &Path, side: u32) {
    let inside = |at: u32| (side / 4..side * 3 / 4).contains(&at);
    let square = image::GrayImage::from_fn(side, side, |x, y| {
        image::Luma([if inside(x) && inside(y) { 255 } else { 0 }])
    });
    square.save(path).unwrap();
}

#[test]
fn the_chart_without_a_copy_and_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("edges.png");
    for (decode, copies) in [("every", 0), ("once", 1)] {
        let line = [
            "--frames",
            "6",
            "--decode",
            decode,
            "--out",
            out.to_str().unwrap(),
        ];
        let output = frames(dir.path(), &line).output();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            numbers(&output, "frames  ", ["done", "of", "repeated"]),
            [6, 6, 0]
        );
        assert_eq!(numbers(&output, "copies ", ["copies"]), [copies], "{output:?}");
        let edges = image::open(&out).unwrap().to_luma8();
        assert_eq!((edges.width(), edges.height()), (1280, 720 + 64));
        // Between two colour bars there is an edge, within one there is none.
        assert!(edges.get_pixel(160, 60)[0] > 0 && edges.get_pixel(80, 60)[0] == 0);
        std::fs::remove_file(&out).unwrap();
    }
}

#[test]
fn a_folder_of_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let pictures = dir.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    // The second is larger than the largest buffer of the pool.
    for (name, side) in [("a.png", 64), ("b.png", 2304)] {
        square(&pictures.join(name), side);
    }
    let out = dir.path().join("edges.png");
    let line = [
        "--picture",
        pictures.to_str().unwrap(),
        "--frames",
        "4",
        "--out",
        out.to_str().unwrap(),
    ];
    let output = frames(dir.path(), &line).output();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(numbers(&output, "copies ", ["copies"]), [0], "{output:?}");
    for (file, side) in [("edges.png", 64), ("edges-2.png", 2304)] {
        let edges = image::open(dir.path().join(file)).unwrap().to_luma8();
        assert_eq!((edges.width(), edges.height()), (side, side + 64));
        let lit = |x, y| edges.get_pixel(x, y)[0];
        assert_eq!(
            (lit(side / 4, side / 2), lit(side / 2, side / 2), lit(2, 2)),
            (255, 0, 0)
        );
    }
}

#[test]
fn ctrl_c_ends_all() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("edges.png");
    let program = frames(
        dir.path(),
        &["--frames", "1000000", "--out", out.to_str().unwrap()],
    );
    let children = wait_for("three children", || {
        let children = program.children();
        (children.len() == 3).then_some(children)
    });
    program.signal(Signal::SIGINT);
    let output = program.output();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "frames: ended early\n");
    assert_no_process_is_left(&children);
}

#[test]
fn a_picture_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nothing.png");
    let output = frames(dir.path(), &["--picture", path.to_str().unwrap()]).output();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("nothing.png"),
        "{output:?}"
    );
}
