//! Runs the whole program: a producer, workers and a collector.

mod support;

use std::path::Path;

use nix::sys::signal::Signal;
use support::{Program, assert_no_process_is_left, numbers, wait_for};

/// Real input that every checkout has: the lock file of the workspace.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");

fn work_queue(dir: &Path, line: &[&str]) -> Program {
    let file = ["--file", FILE];
    Program::start(env!("CARGO_BIN_EXE_work-queue"), dir, &[&file, line].concat())
}

#[test]
fn a_killed_worker_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for kill in ["running", "hung"] {
        let output = work_queue(dir.path(), &["--block", "64", "--depth", "8", "--kill", kill]).output();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.contains("exact        yes\n") && text.contains("killed when"),
            "{text}"
        );
        let [done, of, redelivered, repeated] =
            numbers(&output, "jobs", ["done", "of", "redelivered", "repeated"]);
        assert_eq!(done, of, "{text}");
        let by_worker: u64 = (1..=3).map(|worker| by_worker(&text, worker)).sum();
        assert_eq!(by_worker, done + repeated, "{text}");
        if kill == "hung" {
            // It had all that it may have at a time.
            assert_eq!(redelivered, 8, "{text}");
        }
    }
}

/// The number in a line such as `worker 1         12 jobs`.
fn by_worker(text: &str, worker: u32) -> u64 {
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("worker {worker} ")))
        .unwrap();
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

#[test]
fn one_worker_does_it_all() {
    let dir = tempfile::tempdir().unwrap();
    let output = work_queue(dir.path(), &["--workers", "1", "--kill", "never"]).output();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(numbers(&output, "jobs", ["redelivered", "repeated"]), [0, 0]);
}

#[test]
fn ctrl_c_ends_all() {
    let dir = tempfile::tempdir().unwrap();
    // So many jobs that it can't be done before the signal comes.
    let line = ["--block", "2048", "--kill", "never"];
    let program = Program::start(env!("CARGO_BIN_EXE_work-queue"), dir.path(), &line);
    let children = wait_for("four children", || {
        let children = program.children();
        (children.len() == 4).then_some(children)
    });
    program.signal(Signal::SIGINT);
    let output = program.output();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "work-queue: ended early\n"
    );
    assert_no_process_is_left(&children);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nothing");
    let line = ["--file", path.to_str().unwrap()];
    let output = Program::start(env!("CARGO_BIN_EXE_work-queue"), dir.path(), &line).output();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains(line[1]),
        "{output:?}"
    );
}

#[test]
fn an_empty_file_has_no_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty");
    std::fs::write(&path, "").unwrap();
    let line = ["--file", path.to_str().unwrap()];
    let output = Program::start(env!("CARGO_BIN_EXE_work-queue"), dir.path(), &line).output();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("done 0 of 0") && text.ends_with("exact        yes\n"),
        "{text}"
    );
}
