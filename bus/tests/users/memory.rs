//! What a process of another user can see of our memory.

use crate::{
    party::{ALICE, BOB, can_switch_users, inodes, join, shared_place},
    support::threads,
};

/// More than a slot holds, less than a segment of its own; and more than that.
const SIZES: [usize; 3] = [1000, 100_000, 9 << 20];

#[test]
fn messages_of_any_size_go_both_ways_between_users() {
    if !can_switch_users("messages_of_any_size") {
        return;
    }
    let place = shared_place();
    threads(async {
        let (a, b) = (ALICE, BOB);
        let mut alice = join(
            &place,
            a,
            &["alice", &format!("uids={b}"), &format!("call={b}:service")],
        )
        .await;
        alice.expect_after("bind service", "ok").await;
        let mut bob = join(&place, b, &["bob", &format!("uids={a}"), &format!("bind={a}:>")]).await;
        bob.expect_after("open service", "ok").await;
        bob.expect_after("ping service", "ok").await;
        bob.expect_after("pings service 1000", "true").await;
        for size in SIZES {
            for _ in 0..if size > 1 << 20 { 2 } else { 20 } {
                bob.expect_after(&format!("blob service {size}"), "true").await;
            }
        }
        // What is kept is a copy, and still holds up who sent it: a slow actor slows its senders.
        for size in SIZES {
            bob.expect_after(&format!("keep service {size}"), "ok").await;
        }
        alice.until("kept x", "3").await;
        bob.until("stat unreleased", "3").await;
        alice.expect_after("right x", "true").await;
        // Also when the sender is dead.
        bob.kill();
        alice.until("peers", "").await;
        alice.expect_after("right x", "true").await;
        alice.expect_after("stat violations", "0").await;
    });
}

#[test]
fn another_user_gets_no_memory_but_its_own() {
    if !can_switch_users("another_user_gets_no_memory_but_its_own") {
        return;
    }
    let place = shared_place();
    threads(async {
        let uids = format!("uids={ALICE},{BOB}");
        let call = |uid| format!("call={uid}:>");
        let subscribe = |uid| format!("subscribe={uid}:>");
        let args = [
            "host",
            &uids,
            &call(ALICE),
            &call(BOB),
            &subscribe(ALICE),
            &subscribe(BOB),
        ];
        let mut host = join(&place, 0, &args).await;
        host.expect_after("bind service", "ok").await;
        host.expect_after("publish news 2", "ok").await;
        let mut own = join(&place, 0, &["own", &uids]).await;
        for size in SIZES {
            own.expect_after("open service", "ok").await;
            own.expect_after(&format!("fetch service {size}"), "true").await;
        }
        own.expect_after("subscribe news", "ok").await;
        host.expect_after("send news 5000", "ok").await;
        own.expect_after("recv news", "5000 true host").await;
        let ours = inodes(&host.ask("maps shmbus-").await);
        let pool = inodes(&host.ask("maps shmbus-pool").await);
        assert!(!pool.is_empty());

        let mut theirs = Vec::new();
        for (uid, name) in [(ALICE, "alice"), (BOB, "bob")] {
            let args = [name, "uids=0", "bind=0:>", "publish=0:>"];
            let mut child = join(&place, uid, &args).await;
            child.expect_after("open service", "ok").await;
            for size in SIZES {
                child.expect_after(&format!("fetch service {size}"), "true").await;
            }
            // The history lies in memory of the host's own user.
            child.expect_after("subscribe news", "ok").await;
            child.expect_after("recv news", "5000 true host@0").await;
            theirs.push(child);
        }
        host.expect_after("send news 300", "ok").await;
        for child in &mut theirs {
            child.expect_after("recv news", "300 true host@0").await;
        }
        own.expect_after("recv news", "300 true host").await;
        let mut seen = Vec::new();
        for child in &mut theirs {
            // The bell of the host's port is for all who talk to it; everything else is not.
            let all = inodes(&child.ask("maps shmbus-").await);
            let bells = inodes(&child.ask("maps shmbus-bell").await);
            let known: Vec<_> = all
                .difference(&bells)
                .filter(|inode| ours.contains(inode))
                .collect();
            assert!(known.is_empty(), "{known:?} of {ours:?}");
            seen.push(inodes(&child.ask("maps shmbus-pool").await));
        }
        // Nor do two other users share any.
        assert!(seen[0].is_disjoint(&seen[1]) && !seen[0].is_empty() && !seen[1].is_empty());
        assert!(inodes(&host.ask("maps shmbus-pool").await).is_superset(&pool));
        for child in theirs {
            drop(child);
        }
        // What they held is ours again.
        host.until("stat pool_buffers", "2").await;
        host.expect_after("stat violations", "0").await;
    });
}

#[test]
fn a_reply_written_for_one_user_is_copied_for_another() {
    if !can_switch_users("a_reply_written_for_one_user") {
        return;
    }
    let place = shared_place();
    threads(async {
        let uids = format!("uids={ALICE}");
        let mut host = join(&place, 0, &["host", &uids, &format!("call={ALICE}:>")]).await;
        host.expect_after("bind service", "ok").await;
        let mut own = join(&place, 0, &["own", &uids]).await;
        let mut alice = join(&place, ALICE, &["alice", "uids=0", "bind=0:>"]).await;
        for child in [&mut own, &mut alice] {
            child.expect_after("open service", "ok").await;
        }
        let mut copies = 0;
        for size in SIZES {
            // The first one has owned bytes; then each gets what was written in memory for the other.
            own.expect_after(&format!("draw service {size}"), "true").await;
            for _ in 0..2 {
                alice.expect_after(&format!("draw service {size}"), "true").await;
                own.expect_after(&format!("draw service {size}"), "true").await;
            }
            // And what was written for itself.
            own.expect_after(&format!("draw service {size}"), "true").await;
            copies += 4;
        }
        host.expect_after("stat loans_copied", &copies.to_string()).await;
        let ours = inodes(&own.ask("maps shmbus-pool").await);
        let theirs = inodes(&alice.ask("maps shmbus-pool").await);
        assert!(!ours.is_empty() && !theirs.is_empty() && ours.is_disjoint(&theirs));
    });
}
