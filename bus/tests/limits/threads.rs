//! RLIMIT_NPROC: the kernel gives no more threads.

use std::os::unix::fs::chown;

use crate::{
    party::skipped,
    support::{Place, system},
};

/// A user that need not exist by name, whose threads are those of these tests.
const USER: u32 = 12_077;

#[test]
fn a_node_without_threads_to_be_had_says_so_and_joins_when_there_are() {
    if !nix::unistd::geteuid().is_root() {
        return skipped(
            "a_node_without_threads",
            "only root can start processes of a user of its own",
        );
    }
    let place = Place::new();
    chown(place.dir(), Some(USER), Some(USER)).unwrap();
    system(async {
        let start = async |node| place.ready_as(USER, USER, "party::party", &[node]).await;
        let mut server = start("server").await;
        server.expect_after("join", "ok").await;
        server.expect_after("bind server", "ok").await;
        let mut narrow = start("narrow").await;
        for _ in 0..3 {
            narrow.expect_after("threads 1", "ok").await;
            let said = narrow.ask("thread").await;
            assert!(said.contains("temporarily unavailable"), "{said}");
            let said = narrow.ask("join").await;
            assert!(said.contains("RLIMIT_NPROC"), "{said}");
            narrow.expect_after("threads all", "ok").await;
            narrow.expect_after("join", "ok").await;
            // Who has joined needs none: not to open, to send, to answer or to leave.
            narrow.expect_after("threads 1", "ok").await;
            narrow.expect_after("open server", "ok").await;
            narrow.expect_after("ping server", "ok").await;
            narrow.expect_after("blob server 100000", "true").await;
            narrow.expect_after("blob server 6000000", "true").await;
            narrow.expect_after("bind narrow", "ok").await;
            server.expect_after("open narrow", "ok").await;
            server.expect_after("ping narrow", "ok").await;
            narrow.expect_after("leave", "ok").await;
            server.until("peers", "").await;
        }
    });
}
