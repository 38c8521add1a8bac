//! What is counted of a peer, up and down.

use std::pin::pin;

use futures_util::FutureExt;

use super::*;
use crate::session::socket::connect_now;

fn denial(what: Denial, names: &[&str]) -> Frame {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Frame::Denied { what, names }
}

#[tokio::test]
async fn names_that_a_peer_denies_us_count_until_they_are_withdrawn() {
    let (node, _dir) = node(permit().bind("a"), |config| config.peer_names(3)).await;
    let mut other = Other::meet(&node);
    let call = |names: &[&str]| denial(Denial::Call, names);
    let withdraw = |name: &str| Frame::Unbound {
        name: name.to_owned(),
        port: 0,
        mailbox: 0,
    };
    // The same names again are no more.
    for _ in 0..3 {
        other.say(&call(&["a", "b", "c"]));
    }
    for _ in 0..10 {
        other.say(&withdraw("c"));
        other.say(&call(&["c"]));
    }
    other.said().await;
    let denied_by = |name: &str| lock(&node.registry).denied_by(name).is_some();
    assert!(["a", "b", "c"].into_iter().all(denied_by));
    other.say(&withdraw("b"));
    other.said().await;
    assert!(
        !denied_by("b") && denied_by("a"),
        "another name's end is not this one's"
    );
    // Those that are bound count with them.
    let binding = Binding {
        name: "a".to_owned(),
        port: 1,
        mailbox: 1,
        window: 1,
        kinds: vec![],
    };
    other.say(&Frame::Bound(binding));
    other.said().await;
    other.say(&call(&["d"]));
    let reason = other.end().await;
    assert!(reason.contains("Config::peer_names"), "{reason}");
    other.over().await;
    assert!(
        ["a", "b", "c", "d"].into_iter().all(|name| !denied_by(name)),
        "it is gone"
    );
    assert_eq!(node.counters.quotas.get(), 1);
    // Who comes again begins anew.
    let mut again = Other::meet(&node);
    again.say(&call(&["a", "b", "c"]));
    again.said().await;
    node.leave().await;
}

#[tokio::test]
async fn topics_count_until_they_are_withdrawn_whether_permitted_or_not() {
    let (node, _dir) = node(permit().publish("in.*"), |config| config.peer_topics(3)).await;
    let mut other = Other::meet(&node);
    for id in 0..10 {
        for (at, name) in ["in.a", "secret", "in.b"].into_iter().enumerate() {
            other.say(&topic(3 * id + at as u32, name));
        }
        for at in 0..3 {
            other.say(&Frame::Untopic { id: 3 * id + at });
        }
    }
    // Never announced, or withdrawn already.
    for id in [5, 1000] {
        other.say(&Frame::Untopic { id });
    }
    for id in 100..103 {
        other.say(&topic(id, ["in.a", "secret"][id as usize % 2]));
    }
    // Each is acknowledged, whether it is permitted or not.
    let said = other.said().await;
    let heard = said
        .iter()
        .filter(|frame| matches!(frame, Frame::Heard(Announcement::Topic { .. })));
    assert_eq!(heard.count(), 33);
    assert!(other.session.has_denied(101) && !other.session.has_denied(102) && !other.session.has_denied(1));
    other.say(&topic(103, "in.c"));
    let reason = other.end().await;
    assert!(reason.contains("Config::peer_topics"), "{reason}");
    assert_eq!(node.counters.quotas.get(), 1);
    node.leave().await;
}

fn unsubscribe(mailbox: u32) -> Frame {
    Frame::Unsubscribe { port: 0, mailbox }
}

#[tokio::test]
async fn subscriptions_count_until_they_are_withdrawn() {
    let (node, _dir) = node(permit().subscribe("out"), |config| config.peer_topics(3)).await;
    let mut other = Other::meet(&node);
    for mailbox in 0..10 {
        other.say(&Frame::Subscribe(wanted(mailbox, "out")));
        other.say(&unsubscribe(mailbox));
        other.say(&unsubscribe(mailbox));
    }
    for mailbox in 10..13 {
        other.say(&Frame::Subscribe(wanted(mailbox, "out")));
    }
    other.said().await;
    other.say(&Frame::Subscribe(wanted(13, "out")));
    let reason = other.end().await;
    assert!(reason.contains("Config::peer_topics"), "{reason}");
    node.leave().await;
}

/// Each keeps a task of ours waiting for the link, which the peer need not answer.
#[tokio::test]
async fn subscriptions_that_wait_for_their_link_count_after_they_were_withdrawn() {
    let (node, _dir) = node(permit().subscribe("out"), |config| config.peer_topics(3)).await;
    publish(&node, "out").await;
    let mut other = Other::meet(&node);
    for answered in [true, false] {
        for mailbox in 0..3 {
            other.say(&Frame::Subscribe(wanted(mailbox, "out")));
            other.say(&unsubscribe(mailbox));
        }
        let link = loop {
            if let Frame::Link { link, .. } = other.hear().await.expect("a link") {
                break link;
            }
        };
        other.said().await;
        assert_eq!(other.session.attaching(), 3);
        if answered {
            // Each of them asks for it anew.
            let mut link = Some(link);
            while other.session.attaching() > 0 {
                if let Some(link) = link {
                    other.say(&Frame::link_refused(link, "no"));
                }
                link = other.said().await.into_iter().find_map(|frame| match frame {
                    Frame::Link { link, .. } => Some(link),
                    _ => None,
                });
            }
        }
    }
    other.say(&Frame::Subscribe(wanted(9, "out")));
    let reason = other.end().await;
    assert!(reason.contains("Config::peer_topics"), "{reason}");
    node.leave().await;
}

#[tokio::test]
async fn who_acknowledges_nothing_loses_its_session() {
    let (node, _dir) = node(permit().subscribe(">"), |config| config).await;
    let mut other = Other::meet(&node);
    let mut buf = Vec::new();
    for id in 0.. {
        other.session.announce_topics(&topic(id, "out"));
        if other.session.reason().is_some() {
            assert_eq!(id, 1 << 15);
            break;
        }
        // It reads all of them.
        while other.socket.try_recv(&mut buf).is_ok() {}
        if id % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let reason = other.end().await;
    assert!(reason.contains("acknowledges nothing"), "{reason}");
    node.leave().await;
}

/// Handshakes that take a place, as long as they last.
#[tokio::test]
async fn no_more_handshakes_than_allowed_are_under_way() {
    let (node, dir) = node(permit().call("shop"), |config| {
        config.handshakes(2).handshake_deadline(PATIENCE)
    })
    .await;
    let path = dir.path().join("default/node.sock");
    let silent: Vec<_> = (0..4).map(|_| connect_now(&path).unwrap()).collect();
    // Behind them in the queue: a node that would be met at once.
    let late = Socket::connect(&path, PATIENCE).await.unwrap();
    let me = Me::new("default", "late");
    let mut dial = pin!(handshake::dial(&late, &me, PATIENCE));
    // The listener, whose next connection is there already, has had its turns.
    for _ in 0..1000 {
        assert!(dial.as_mut().now_or_never().is_none(), "it is heard");
        tokio::task::yield_now().await;
    }
    drop(silent);
    dial.await.unwrap();
    node.leave().await;
}

#[tokio::test]
async fn handshakes_under_way_count_as_peers_by_user_and_in_all() {
    let full = |verdict: Verdict| matches!(verdict, Verdict::Refused(Code::Full, _));
    let (node, _dir) = node(permit().call("shop"), |config| config.peers(4).user_peers(2)).await;
    assert_eq!(node.decide(&peer("a", 1)), Verdict::Welcome);
    // Of the same name, and another one all the same.
    assert_eq!(node.decide(&peer("a", 2)), Verdict::Welcome);
    assert!(full(node.decide(&peer("b", 3))));
    let own = |name: &str, id| Peer {
        uid: geteuid().as_raw(),
        ..peer(name, id)
    };
    assert_eq!(node.decide(&own("c", 4)), Verdict::Welcome);
    assert_eq!(node.decide(&own("c", 5)), Verdict::Welcome);
    assert!(full(node.decide(&own("d", 6))));
    node.leave().await;
}
