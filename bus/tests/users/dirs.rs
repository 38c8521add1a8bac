//! Who gets into the directory, and past the handshake.

use std::os::unix::fs::{MetadataExt, chown, symlink};

use crate::{
    party::{ALICE, BOB, can_switch_users, join, set_mode, shared_place},
    support::{Child, Place, threads},
};

/// What joining says to this user.
async fn refused(place: &Place, uid: u32, args: &[&str]) -> String {
    let mut child = place.ready_as(uid, uid, "party::party", args).await;
    child.ask("join").await
}

async fn meets(child: &mut Child, peers: &str) {
    child.until("peers", peers).await;
}

#[test]
fn another_users_directory_is_refused_by_default_and_so_is_one_for_everybody() {
    if !can_switch_users("another_users_directory_is_refused") {
        return;
    }
    threads(async {
        let place = Place::new();
        set_mode(&place, 0o755);
        let said = refused(&place, ALICE, &["alice"]).await;
        assert!(said.contains("belongs to uid 0"), "{said}");
        chown(place.dir(), Some(ALICE), None).unwrap();
        set_mode(&place, 0o1777);
        let said = refused(&place, ALICE, &["alice"]).await;
        assert!(said.contains("may be written by others"), "{said}");
    });
}

#[test]
fn two_users_meet_in_a_sticky_directory_if_both_let_the_other_in() {
    if !can_switch_users("two_users_meet") {
        return;
    }
    let place = shared_place();
    threads(async {
        let mut alice = join(&place, ALICE, &["alice", &format!("uids={BOB}")]).await;
        let mut bob = join(&place, BOB, &["bob", &format!("uids={ALICE}")]).await;
        meets(&mut alice, &format!("bob@{BOB}")).await;
        meets(&mut bob, &format!("alice@{ALICE}")).await;
        let folder = std::fs::metadata(place.folder()).unwrap();
        assert_eq!((folder.uid(), folder.mode() & 0o7777), (ALICE, 0o1777));
        // Each takes its own socket away, in a folder of somebody else too.
        bob.expect_after("leave", "ok").await;
        assert!(!place.socket("bob").exists());
        // And what a killed one has left is its user's to remove.
        let mut bob = join(&place, BOB, &["bob", &format!("uids={ALICE}")]).await;
        bob.kill();
        meets(&mut alice, "").await;
        let mut bob = join(&place, BOB, &["bob", &format!("uids={ALICE}")]).await;
        meets(&mut bob, &format!("alice@{ALICE}")).await;
    });
}

#[test]
fn who_is_let_in_by_one_side_only_is_refused_by_the_other() {
    if !can_switch_users("who_is_let_in_by_one_side_only") {
        return;
    }
    let place = shared_place();
    threads(async {
        let mut alice = join(&place, ALICE, &["alice", &format!("uids={BOB}")]).await;
        // Bob lets in root, and not Alice, whose folder it is.
        let said = refused(&place, BOB, &["bob", "uids=0"]).await;
        assert!(said.contains(&format!("belongs to uid {ALICE}")), "{said}");
        // Root lets Bob in, who may therefore use its folder, and not Alice.
        let other = shared_place();
        let mut root = join(&other, 0, &["root", &format!("uids={BOB}")]).await;
        let mut alice_there = join(&other, ALICE, &["alice", "uids=0"]).await;
        alice_there.until("stat handshakes_refused", "1").await;
        let mut bob = join(&other, BOB, &["bob", &format!("uids=0,{ALICE}")]).await;
        meets(&mut bob, "root@0").await;
        meets(&mut root, &format!("bob@{BOB}")).await;
        meets(&mut alice, "").await;
        drop(alice_there);
    });
}

#[test]
fn a_group_lets_in_who_runs_in_it() {
    if !can_switch_users("a_group_lets_in_who_runs_in_it") {
        return;
    }
    const GROUP: u32 = 12_100;
    let place = Place::new();
    chown(place.dir(), None, Some(GROUP)).unwrap();
    set_mode(&place, 0o2770);
    threads(async {
        let gids = format!("gids={GROUP}");
        let mut alice = place
            .ready_as(
                ALICE,
                GROUP,
                "party::party",
                &["alice", &gids, &format!("uids={BOB}")],
            )
            .await;
        alice.expect_after("join", "ok").await;
        let uids = format!("uids={ALICE}");
        let mut bob = place
            .ready_as(BOB, GROUP, "party::party", &["bob", &gids, &uids])
            .await;
        bob.expect_after("join", "ok").await;
        meets(&mut bob, &format!("alice@{ALICE}")).await;
        let socket = std::fs::metadata(place.socket("bob")).unwrap();
        assert_eq!((socket.gid(), socket.mode() & 0o777), (GROUP, 0o660));
        let folder = std::fs::metadata(place.folder()).unwrap();
        assert_eq!((folder.gid(), folder.mode() & 0o7777), (GROUP, 0o2770));
        // Who is not in the group does not get that far.
        let said = refused(&place, 12_003, &["carol", &gids]).await;
        assert!(said.contains("ermission denied"), "{said}");
    });
}

#[test]
fn unsafe_shared_directories_are_refused_with_what_to_do() {
    if !can_switch_users("unsafe_shared_directories_are_refused") {
        return;
    }
    threads(async {
        let uids = format!("uids={BOB}");
        for (owner, mode, says) in [
            (0, 0o777, "chmod 1777"),
            (0, 0o770, "sticky bit"),
            (0, 0o700, "lets no other user in"),
            (12_003, 0o1777, "belongs to uid 12003"),
        ] {
            let place = Place::new();
            chown(place.dir(), Some(owner), Some(12_100)).unwrap();
            set_mode(&place, mode);
            let said = refused(&place, 0, &["root", &uids]).await;
            assert!(said.contains(says), "{mode:o}: {said}");
            assert!(!place.folder().exists());
        }
        // The bus's folder is judged like the directory.
        let place = shared_place();
        std::fs::create_dir(place.folder()).unwrap();
        chown(place.folder(), Some(12_003), None).unwrap();
        let said = refused(&place, 0, &["root", &uids]).await;
        assert!(said.contains("belongs to uid 12003"), "{said}");
        std::fs::remove_dir(place.folder()).unwrap();
        symlink("/tmp", place.folder()).unwrap();
        let said = refused(&place, 0, &["root", &uids]).await;
        assert!(said.contains("is a symbolic link"), "{said}");
        // A name that somebody holds by a dead socket.
        let place = shared_place();
        let _host = join(&place, 0, &["host", &format!("uids={ALICE},{BOB}")]).await;
        let mut alice = join(&place, ALICE, &["node", &format!("uids=0,{BOB}")]).await;
        alice.kill();
        let said = refused(&place, BOB, &["node", &format!("uids=0,{ALICE}")]).await;
        assert!(said.contains("was left by another user"), "{said}");
    });
}
