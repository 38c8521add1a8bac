//! What another user may do, and how it learns what it may not.

use crate::{
    party::{ALICE, BOB, can_switch_users, join, shared_place},
    support::{soon, threads},
};

#[test]
fn without_permits_another_user_gets_nothing_and_is_told() {
    if !can_switch_users("without_permits") {
        return;
    }
    let place = shared_place();
    threads(async {
        let (a, b) = (ALICE, BOB);
        let mut alice = join(&place, a, &["alice", &format!("uids={b}"), "lookup=200"]).await;
        alice.expect_after("bind early", "ok").await;
        alice.expect_after("publish md.ticks", "ok").await;
        let all = |what| format!("{what}={a}:>");
        let args = [
            "bob",
            &format!("uids={a}"),
            &all("bind"),
            &all("publish"),
            &all("subscribe"),
            &all("call"),
            "lookup=200",
        ];
        let mut bob = join(&place, b, &args).await;
        bob.until("peers", &format!("alice@{a}")).await;
        alice.expect_after("bind late", "ok").await;
        for name in ["early", "late"] {
            let said = bob.ask(format!("open {name}")).await;
            assert!(said.starts_with(&format!("denied by node `alice@{a}`")), "{said}");
            assert!(
                said.contains(&format!("Permit::uid({b}).call(\"{name}\")")),
                "{said}"
            );
        }
        let said = bob.ask("subscribe md.ticks").await;
        assert!(said.starts_with(&format!("denied by node `alice@{a}`")), "{said}");
        alice.until("stat denied", "1").await;
        // A pattern gets what it may: nothing.
        bob.expect_after("subscribe md.>", "ok").await;
        alice.expect_after("subscribers md.ticks", "0").await;
        alice.until("stat denied", "2").await;
        // What Bob binds and publishes does not exist for Alice, who can have it for herself.
        bob.expect_after("bind taken", "ok").await;
        alice.until("stat denied", "3").await;
        bob.expect_after("publish news", "ok").await;
        alice.until("stat denied", "4").await;
        alice.expect_after("bind taken", "ok").await;
        alice.expect_after("subscribe news", "ok").await;
        bob.expect_after("subscribers news", "0").await;
        let said = alice.ask("open nobody").await;
        assert!(said.contains("nobody bound"), "{said}");
        // A name that is free again is no longer denied, but not there.
        alice.expect_after("unbind late", "ok").await;
        soon("it is told", async {
            while !bob.ask("open late").await.contains("nobody bound") {}
        })
        .await;
        let said = bob.ask("open early").await;
        assert!(said.starts_with("denied"), "{said}");
        alice.expect_after("stat violations", "0").await;
        bob.expect_after("stat violations", "0").await;
    });
}

#[test]
fn what_is_permitted_works_and_the_rest_does_not() {
    if !can_switch_users("what_is_permitted_works") {
        return;
    }
    let place = shared_place();
    threads(async {
        let (a, b) = (ALICE, BOB);
        let args = [
            "alice",
            &format!("uids={b}"),
            &format!("call={b}:shop.*"),
            &format!("subscribe={b}:md.>"),
            &format!("publish={b}:orders.*"),
            &format!("bind={b}:feed"),
        ];
        let mut alice = join(&place, a, &args).await;
        for name in ["shop.a", "vault"] {
            alice.expect_after(&format!("bind {name}"), "ok").await;
        }
        for topic in ["md.ticks", "secret"] {
            alice.expect_after(&format!("publish {topic} 1"), "ok").await;
            alice.expect_after(&format!("send {topic} 500"), "ok").await;
        }
        alice.expect_after("subscribe >", "ok").await;
        let all = |what| format!("{what}={a}:>");
        let args = [
            "bob",
            &format!("uids={a}"),
            &all("bind"),
            &all("publish"),
            &all("subscribe"),
            &all("call"),
        ];
        let mut bob = join(&place, b, &args).await;
        bob.expect_after("open shop.a", "ok").await;
        bob.expect_after("ping shop.a", "ok").await;
        assert!(bob.ask("open vault").await.starts_with("denied"));
        bob.expect_after("subscribe >", "ok").await;
        bob.expect_after("recv >", &format!("500 true alice@{a}")).await;
        bob.expect_after("try_recv >", "none").await;
        // Nor does a topic that begins later, and is not permitted, find the subscription that is there.
        alice.expect_after("publish late 1", "ok").await;
        alice.expect_after("subscribers late", "1").await;
        // Both of them on one link: what is not permitted holds up nothing.
        for topic in ["orders.new", "gossip"] {
            bob.expect_after(&format!("publish {topic}"), "ok").await;
        }
        for _ in 0..100 {
            bob.expect_after("send gossip 600", "ok").await;
        }
        bob.expect_after("send orders.new 700", "ok").await;
        // Alice's own topics come here too.
        loop {
            let said = alice.ask("recv >").await;
            if said == format!("700 true bob@{b}") {
                break;
            }
            assert_eq!(said, "500 true alice");
        }
        // Bob gets his own, too.
        while bob.ask("try_recv >").await != "none" {}
        bob.until("stat unreleased", "0").await;
        // A name of Bob's that Alice takes note of, and calls, because Bob permits it.
        bob.expect_after("bind feed", "ok").await;
        alice.expect_after("open feed", "ok").await;
        alice.expect_after("blob feed 4000", "true").await;
        for child in [&mut alice, &mut bob] {
            child.expect_after("stat violations", "0").await;
        }
    });
}

#[test]
fn a_subscriber_of_another_user_holds_up_nobody() {
    if !can_switch_users("a_subscriber_of_another_user_holds_up_nobody") {
        return;
    }
    let place = shared_place();
    threads(async {
        let (a, b) = (ALICE, BOB);
        let args = [
            "alice",
            &format!("uids={b}"),
            &format!("subscribe={b}:>"),
            "pool=16777216",
            "user_pool=8388608",
        ];
        let mut alice = join(&place, a, &args).await;
        alice.expect_after("publish news", "ok").await;
        for policy in ["subscribe_wait news 8", "subscribe_last news"] {
            let args = ["bob", &format!("uids={a}"), &format!("publish={a}:>")];
            let mut bob = join(&place, b, &args).await;
            bob.expect_after(policy, "ok").await;
            bob.freeze().await;
            // More messages than it takes, and more bytes than there is memory for its user or for ours.
            for _ in 0..40 {
                alice.expect_after("send news 1048576", "ok").await;
            }
            bob.thaw();
            bob.expect_after("recv news", &format!("1048576 true alice@{a}"))
                .await;
            bob.kill();
            alice.until("stat pool_buffers", "0").await;
        }
    });
}
