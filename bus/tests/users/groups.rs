//! Groups of a topic whose members are of several users: each user's are a group of their own.

use crate::{
    party::{ALICE, BOB, can_switch_users, inodes, join, shared_place},
    support::{Child, threads},
};

/// What the member gets next, in this order, and then nothing.
async fn takes(member: &mut Child, lens: std::ops::Range<u64>, again: bool) {
    for len in lens {
        member.expect_after("take jobs", &format!("{len} {again}")).await;
    }
    member.expect_after("try_recv jobs", "none").await;
}

async fn publishes(host: &mut Child, lens: std::ops::Range<u64>) {
    for len in lens {
        host.expect_after(&format!("send jobs {len}"), "ok").await;
    }
}

#[test]
fn what_a_member_of_another_user_held_goes_to_another_of_that_user_once() {
    if !can_switch_users("what_a_member_of_another_user_held") {
        return;
    }
    let place = shared_place();
    threads(async {
        let uids = format!("uids={ALICE},{BOB}");
        let (to_alice, to_bob) = (format!("subscribe={ALICE}:>"), format!("subscribe={BOB}:>"));
        let mut host = join(&place, 0, &["host", &uids, &to_alice, &to_bob]).await;
        host.expect_after("publish jobs", "ok").await;
        let member = async |uid: u32, name: &str| {
            let mut child = join(&place, uid, &[name, "uids=0", "publish=0:>"]).await;
            child.expect_after("join_group jobs", "ok").await;
            child
        };
        let mut first = member(ALICE, "first").await;
        let mut bob = member(BOB, "bob").await;
        let mut own = join(&place, 0, &["own", &uids]).await;
        own.expect_after("join_group jobs", "ok").await;
        host.until("subscribers jobs", "3").await;
        publishes(&mut host, 1000..1010).await;
        // Each user's group gets each message.
        takes(&mut bob, 1000..1010, false).await;
        takes(&mut own, 1000..1010, false).await;
        for len in 1000..1003 {
            first.expect_after("take jobs", &format!("{len} false")).await;
        }
        host.until("stat unreleased", "7").await;
        let mut second = member(ALICE, "second").await;
        host.until("subscribers jobs", "4").await;
        // Stopped, so that it does not matter how far it has read.
        first.freeze().await;
        first.kill();
        takes(&mut second, 1003..1010, true).await;
        for other in [&mut bob, &mut own] {
            other.expect_after("try_recv jobs", "none").await;
        }
        host.until("stat unreleased", "0").await;
        host.until("stat pool_buffers", "0").await;
        // Nothing of it went by memory that another user has.
        let theirs = inodes(&second.ask("maps shmbus-pool").await);
        for other in [&mut bob, &mut own] {
            let known = inodes(&other.ask("maps shmbus-pool").await);
            assert!(
                !known.is_empty() && known.is_disjoint(&theirs),
                "{known:?} {theirs:?}"
            );
        }
        // What the last one of that user has, and what comes then, waits for the next one of that user, and for nobody else.
        publishes(&mut host, 1010..1015).await;
        second.expect_after("take jobs", "1010 false").await;
        second.kill();
        host.until("subscribers jobs", "2").await;
        publishes(&mut host, 1015..1020).await;
        let mut third = member(ALICE, "third").await;
        for len in 1011..1020 {
            third
                .expect_after("take jobs", &format!("{len} {}", len < 1015))
                .await;
        }
        takes(&mut bob, 1010..1020, false).await;
        takes(&mut own, 1010..1020, false).await;
        host.until("stat unreleased", "0").await;
        host.until("stat pool_buffers", "0").await;
        host.expect_after("stat violations", "0").await;
    });
}
