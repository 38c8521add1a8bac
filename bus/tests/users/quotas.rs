//! What one peer can take, of its own user too.

use crate::{
    party::{ALICE, BOB, CAROL, can_switch_users, join, set_mode, shared_place},
    support::{Child, Place, soon, threads},
};

/// Waits for so many. Who is refused tries again.
async fn at_least(child: &mut Child, count: &str, wanted: u64) {
    soon(count, async {
        while child.ask(format!("stat {count}")).await.parse::<u64>().unwrap() < wanted {}
    })
    .await;
}

/// Two parties of this process's own user.
async fn own(place: &Place, args: &[&str]) -> Child {
    let mut child = place.ready("party::party", args).await;
    child.expect_after("join", "ok").await;
    child
}

#[test]
fn a_peer_holds_no_more_bytes_than_it_may_and_others_are_not_disturbed() {
    let place = Place::new();
    threads(async {
        let mut greedy = own(&place, &["greedy"]).await;
        greedy.expect_after("bind greedy", "ok").await;
        let mut modest = own(&place, &["modest"]).await;
        modest.expect_after("bind modest", "ok").await;
        let mut sender = own(&place, &["sender", "bytes=1048576"]).await;
        for name in ["greedy", "modest"] {
            sender.expect_after(&format!("open {name}"), "ok").await;
        }
        let mut sent = 0;
        let refusal = loop {
            match sender.ask("try_keep greedy 60000").await {
                said if said == "ok" => sent += 1,
                said => break said,
            }
        };
        assert!(refusal.contains("Config::peer_bytes"), "{refusal}");
        // Of 64 KiB each.
        assert_eq!(sent, 16);
        sender.expect_after("blob modest 100000", "true").await;
        // What waits goes on when something is released.
        sender.say("keep greedy 60000");
        greedy.until("kept x", "16").await;
        greedy.expect_after("release x", "ok").await;
        sender.expect("ok").await;
        greedy.until("kept x", "1").await;
        greedy.kill();
        sender.until("peers", "modest").await;
        sender.until("stat pool_buffers", "0").await;
    });
}

#[test]
fn who_announces_more_than_it_may_loses_its_session_and_is_counted() {
    for (setting, command) in [
        ("names=3", "bind"),
        ("topics=3", "publish"),
        ("topics=3", "subscribe"),
    ] {
        let place = Place::new();
        threads(async {
            let mut host = own(&place, &["host", setting]).await;
            let mut other = own(&place, &["other"]).await;
            let mut flood = own(&place, &["flood"]).await;
            host.until("peers", "flood other").await;
            for n in 0..3 {
                flood.expect_after(&format!("{command} a{n}"), "ok").await;
            }
            host.expect_after("peers", "flood other").await;
            flood.expect_after(&format!("{command} a3"), "ok").await;
            host.until("peers", "other").await;
            host.expect_after("stat quotas_exceeded", "1").await;
            host.expect_after("stat violations", "0").await;
            // Nobody else has noticed.
            other.expect_after("peers", "flood host").await;
        });
    }
}

#[test]
fn links_beyond_the_limit_are_refused_by_name() {
    let place = Place::new();
    threads(async {
        let mut host = own(&place, &["host", "links=1"]).await;
        host.expect_after("bind service", "ok").await;
        let mut peer = own(&place, &["peer"]).await;
        peer.expect_after("bind back", "ok").await;
        // That is the one, and of the host's own making.
        host.expect_after("open back", "ok").await;
        let said = peer.ask("open service").await;
        assert!(
            said.contains("Config::peer_links") && said.contains("host"),
            "{said}"
        );
        host.expect_after("ping back", "ok").await;
        let mut second = own(&place, &["second"]).await;
        second.expect_after("open service", "ok").await;
        second.expect_after("ping service", "ok").await;
    });
}

#[test]
fn another_user_has_so_many_peers_here_and_no_more() {
    if !can_switch_users("another_user_has_so_many_peers") {
        return;
    }
    let place = shared_place();
    threads(async {
        let mut host = join(
            &place,
            0,
            &["host", &format!("uids={ALICE},{BOB}"), "user_peers=2"],
        )
        .await;
        let mut many = Vec::new();
        for n in 0..4 {
            many.push(join(&place, ALICE, &[&format!("a{n}"), "uids=0"]).await);
        }
        at_least(&mut host, "handshakes_refused", 2).await;
        host.expect_after("stat peers", "2").await;
        let _bob = join(&place, BOB, &["bob", "uids=0"]).await;
        host.until("stat peers", "3").await;
        // Room again.
        drop(many);
        host.until("stat peers", "1").await;
        let _again = join(&place, ALICE, &["again", "uids=0"]).await;
        host.until("stat peers", "2").await;
    });
}

#[test]
fn another_user_has_so_many_handshakes_under_way_and_no_more() {
    if !can_switch_users("another_user_has_so_many_handshakes") {
        return;
    }
    let place = shared_place();
    threads(async {
        let uids = format!("uids={ALICE},{BOB}");
        // A quarter of them: two.
        let mut host = join(&place, 0, &["host", &uids, "handshakes=8"]).await;
        let mut flood = place.ready_as(ALICE, ALICE, "party::party", &["flood"]).await;
        flood.expect_after("dial host 2", "ok").await;
        flood.expect_after("dial host 5", "ok").await;
        at_least(&mut host, "handshakes_refused", 5).await;
        let said = flood.ask("refusals x").await;
        let why = format!("uid {ALICE} has 2 handshakes under way (a quarter of `Config::handshakes`)");
        assert_eq!(said, [why.as_str(); 5].join("; "));
        // A node of that user is not let in either. It is told so, and tries again.
        let mut alice = join(&place, ALICE, &["alice", "uids=0"]).await;
        at_least(&mut host, "handshakes_refused", 6).await;
        at_least(&mut alice, "handshakes_refused", 1).await;
        // Nobody else feels it.
        let mut bob = join(&place, BOB, &["bob", "uids=0"]).await;
        let mut own = join(&place, 0, &["own", &uids]).await;
        bob.until("peers", "host@0 own@0").await;
        own.until("peers", &format!("alice@{ALICE} bob@{BOB} host")).await;
        host.expect_after("peers", &format!("bob@{BOB} own")).await;
        // Once it has hung up there is room, which its node finds by itself.
        flood.expect_after("hang_up x", "ok").await;
        host.until("peers", &format!("alice@{ALICE} bob@{BOB} own")).await;
        alice.until("peers", "host@0 own@0").await;
        host.expect_after("stat violations", "0").await;
    });
}

#[test]
fn what_was_withdrawn_does_not_count() {
    for (setting, begin, end) in [
        ("names=3", "bind", "unbind"),
        ("topics=3", "publish", "unpublish"),
    ] {
        let place = Place::new();
        threads(async {
            let mut host = own(&place, &["host", setting]).await;
            let mut peer = own(&place, &["peer"]).await;
            for n in 0..10 {
                peer.expect_after(&format!("{begin} a{n}"), "ok").await;
                if n >= 2 {
                    peer.expect_after(&format!("{end} a{}", n - 2), "ok").await;
                }
            }
            // Three now, and heard of: one more is too much.
            peer.expect_after(&format!("{begin} b"), "ok").await;
            host.expect_after("peers", "peer").await;
            peer.expect_after(&format!("{begin} c"), "ok").await;
            host.until("stat quotas_exceeded", "1").await;
            host.until("peers", "").await;
        });
    }
}

#[test]
fn a_node_has_so_many_peers_and_meets_the_next_when_there_is_room() {
    let place = Place::new();
    threads(async {
        let mut host = own(&place, &["host", "peers=2"]).await;
        let mut a = own(&place, &["a"]).await;
        let mut b = own(&place, &["b"]).await;
        host.until("peers", "a b").await;
        let mut c = own(&place, &["c"]).await;
        at_least(&mut host, "handshakes_refused", 1).await;
        host.expect_after("peers", "a b").await;
        c.until("peers", "a b").await;
        a.expect_after("leave", "ok").await;
        host.until("peers", "b c").await;
        b.until("peers", "c host").await;
    });
}

/// A frame with descriptors is refused by the kernel then, and is not lost in silence: the session ends, and is begun again
/// until it goes.
#[test]
fn who_has_too_many_descriptors_under_way_goes_on_when_they_have_arrived() {
    if !can_switch_users("who_has_too_many_descriptors_under_way") {
        return;
    }
    let place = shared_place();
    threads(async {
        std::os::unix::fs::chown(place.dir(), Some(CAROL), None).unwrap();
        set_mode(&place, 0o700);
        let mut host = join(&place, CAROL, &["host"]).await;
        host.expect_after("bind service", "ok").await;
        let mut peer = join(&place, CAROL, &["peer"]).await;
        peer.until("peers", "host").await;
        peer.expect_after("choke", "ok").await;
        peer.expect_after("begin_open service", "ok").await;
        host.until("peers", "").await;
        peer.expect_after("breathe", "ok").await;
        peer.expect_after("end_open", "ok").await;
        peer.expect_after("ping service", "ok").await;
        for child in [&mut host, &mut peer] {
            child.expect_after("stat violations", "0").await;
        }
    });
}
