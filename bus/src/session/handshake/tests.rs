use std::os::fd::AsFd;

use super::*;
use crate::session::socket::{Listener, listen_at};

const SOON: Duration = Duration::from_secs(10);
/// For handshakes that are meant to time out.
const SHORT: Duration = Duration::from_millis(20);

fn me(node: &str) -> Me {
    Me::new("mall", node)
}

type Dialled = Result<Peer, HandshakeError>;
type Accepted = Result<Option<Peer>, HandshakeError>;

/// Both sides of a handshake over a socket pair; each end closes as soon as its side is done.
async fn meet(dialler: &Me, acceptor: &Me, verdict: Verdict) -> (Dialled, Accepted) {
    let (a, b) = Socket::pair().unwrap();
    tokio::join!(async move { dial(&a, dialler, SOON).await }, async move {
        accept(&b, acceptor, SOON, |_| verdict).await
    },)
}

/// What an acceptor makes of a dialler that says these packets and then waits.
async fn accept_raw(packets: &[&[u8]]) -> (Accepted, Vec<Vec<u8>>) {
    let (a, b) = Socket::pair().unwrap();
    for packet in packets {
        a.try_send(packet, &[]).unwrap();
    }
    let result = accept(&b, &me("b"), SOON, |_| Verdict::Welcome).await;
    drop(b);
    let (mut answers, mut buf) = (Vec::new(), Vec::new());
    while a.recv(&mut buf).await.unwrap().is_some() {
        answers.push(buf.clone());
    }
    (result, answers)
}

#[tokio::test]
async fn two_nodes_meet() {
    let (mut a, mut b) = (me("a"), me("b"));
    a.features = 0b0110;
    b.features = 0b0011;
    let (there, here) = meet(&a, &b, Verdict::Welcome).await;
    let uid = nix::unistd::geteuid().as_raw();
    let gid = nix::unistd::getegid().as_raw();
    let pid = std::process::id() as i32;
    assert_eq!(
        there.unwrap(),
        Peer {
            id: b.id,
            name: "b".into(),
            pid,
            uid,
            gid,
            features: 0b0010
        }
    );
    assert_eq!(
        here.unwrap().unwrap(),
        Peer {
            id: a.id,
            name: "a".into(),
            pid,
            uid,
            gid,
            features: 0b0010
        }
    );
}

#[tokio::test]
async fn they_meet_over_a_listener() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = Listener::new(listen_at(&path).unwrap()).unwrap();
    let (a, b) = (me("a"), me("b"));
    let (there, here) = tokio::join!(
        async { dial(&Socket::connect(&path, SOON).await.unwrap(), &a, SOON).await },
        async { accept(&listener.accept().await.unwrap(), &b, SOON, |_| Verdict::Welcome).await },
    );
    assert_eq!(
        (there.unwrap().name, here.unwrap().unwrap().name),
        ("b".into(), "a".into())
    );
}

#[test]
fn ids_differ() {
    let mut ids: Vec<_> = (0..1000).map(|_| me("a").id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1000);
}

#[tokio::test]
async fn a_probe_is_nothing() {
    let (a, b) = Socket::pair().unwrap();
    drop(a);
    let decide = |_: &Peer| panic!("asked about a probe");
    assert!(accept(&b, &me("b"), SOON, decide).await.unwrap().is_none());
}

#[tokio::test]
async fn another_version_is_refused_and_named() {
    let mut packet = me("a").hello(Role::Dial).encode();
    packet[8] = 9;
    let (result, answers) = accept_raw(&[&packet]).await;
    assert!(
        matches!(
            result,
            Err(HandshakeError::Version {
                theirs: 9,
                ours: PROTOCOL
            })
        ),
        "{result:?}"
    );
    // It is told who we are, and why not.
    assert_eq!(Hello::decode(&answers[0]).unwrap().node, "b");
    match Verdict::decode(&answers[1]).unwrap() {
        Verdict::Refused(Code::Version, text) => assert!(text.contains("protocol 9, this node 1"), "{text}"),
        other => panic!("{other:?}"),
    }

    // The same seen from the dialler.
    let (a, b) = Socket::pair().unwrap();
    let mut packet = me("b").hello(Role::Accept).encode();
    packet[8] = 9;
    b.try_send(&packet, &[]).unwrap();
    let result = dial(&a, &me("a"), SOON).await;
    assert!(
        matches!(result, Err(HandshakeError::Version { theirs: 9, .. })),
        "{result:?}"
    );
    let mut buf = Vec::new();
    b.recv(&mut buf).await.unwrap().unwrap();
    b.recv(&mut buf).await.unwrap().unwrap();
    assert!(matches!(
        Verdict::decode(&buf),
        Ok(Verdict::Refused(Code::Version, _))
    ));
}

#[tokio::test]
async fn what_does_not_fit_is_named_on_both_sides() {
    let a = me("a");

    let other = Me { abi: 5, ..me("b") };
    let (there, here) = meet(&a, &other, Verdict::Welcome).await;
    assert!(
        matches!(there, Err(HandshakeError::Abi { theirs: 5, ours: ABI })),
        "{there:?}"
    );
    assert!(
        matches!(here, Err(HandshakeError::Abi { theirs: ABI, ours: 5 })),
        "{here:?}"
    );

    let other = Me::new("market", "b");
    let (there, here) = meet(&a, &other, Verdict::Welcome).await;
    assert_eq!(
        there.unwrap_err().to_string(),
        "the peer is on bus `market`, this node on bus `mall`"
    );
    assert_eq!(
        here.unwrap_err().to_string(),
        "the peer is on bus `mall`, this node on bus `market`"
    );

    let bit = 1 << 40;
    let other = Me {
        features: bit | 1,
        ..me("b")
    };
    for (a, b) in [(&a, &other), (&other, &a)] {
        let (there, here) = meet(a, b, Verdict::Welcome).await;
        assert!(
            matches!(there, Err(HandshakeError::Features { missing, .. }) if missing == bit),
            "{there:?}"
        );
        assert!(
            matches!(here, Err(HandshakeError::Features { missing, .. }) if missing == bit),
            "{here:?}"
        );
    }

    // A protocol of our own that differs, as a later build would have it.
    let later = Me {
        protocol: PROTOCOL + 1,
        ..me("b")
    };
    let (there, here) = meet(&a, &later, Verdict::Welcome).await;
    assert!(
        matches!(there, Err(HandshakeError::Version { theirs: 2, ours: 1 })),
        "{there:?}"
    );
    assert!(
        matches!(here, Err(HandshakeError::Version { theirs: 1, ours: 2 })),
        "{here:?}"
    );
}

#[tokio::test]
async fn another_user_is_refused_unheard() {
    let uid = nix::unistd::geteuid().as_raw();
    let stranger = Me {
        uid: uid + 1,
        ..me("b")
    };
    let (there, here) = meet(&me("a"), &stranger, Verdict::Welcome).await;
    match there.unwrap_err() {
        HandshakeError::Refused {
            code: Code::ForeignUid,
            text,
        } => {
            assert_eq!(
                text,
                format!(
                    "the peer runs as uid {uid} (gid {}), this node as uid {}, whose `Config::allow_uids` and \
                     `allow_gids` do not let it in",
                    nix::unistd::getegid(),
                    uid + 1
                )
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(
        matches!(here, Err(HandshakeError::ForeignUid { theirs, ours, .. }) if (theirs, ours) == (uid, uid + 1))
    );

    let stranger = Me {
        uid: uid + 1,
        ..me("a")
    };
    let (there, here) = meet(&stranger, &me("b"), Verdict::Welcome).await;
    assert!(
        matches!(there, Err(HandshakeError::ForeignUid { .. })),
        "{there:?}"
    );
    // The verdict comes in place of the hello.
    assert!(
        matches!(
            here,
            Err(HandshakeError::Refused {
                code: Code::ForeignUid,
                ..
            })
        ),
        "{here:?}"
    );
}

#[tokio::test]
async fn another_user_who_is_named_is_let_in() {
    let uid = nix::unistd::geteuid().as_raw();
    let gid = nix::unistd::getegid().as_raw();
    for (uids, gids) in [(vec![uid], vec![]), (vec![], vec![gid])] {
        let users = Users {
            uids,
            gids,
            permits: vec![],
        };
        // To this one everybody here is another user.
        let host = Me {
            uid: uid + 1,
            users: Arc::new(users),
            ..me("b")
        };
        let (there, here) = meet(&me("a"), &host, Verdict::Welcome).await;
        assert!(there.is_ok(), "{there:?}");
        assert_eq!(here.unwrap().unwrap().uid, uid);
    }
}

#[tokio::test]
async fn a_decision_against_a_peer_reaches_it() {
    for code in [Code::NodeNameClash, Code::Duplicate, Code::Full, Code::Shutdown] {
        let (there, here) = meet(&me("a"), &me("b"), Verdict::refuse(code, "because")).await;
        match (there.unwrap_err(), here.unwrap_err()) {
            (
                HandshakeError::Refused { code: there, text: a },
                HandshakeError::Declined { code: here, text: b },
            ) => {
                assert_eq!(
                    (there, here, a.as_str(), b.as_str()),
                    (code, code, "because", "because")
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn garbage_is_not_answered() {
    let good = me("a").hello(Role::Dial).encode();
    for packet in [&b"GET / HTTP/1.1\r\n"[..], &good[..20], &[0; 5_000]] {
        let (result, answers) = accept_raw(&[packet]).await;
        assert!(matches!(result, Err(HandshakeError::Garbage(_))), "{result:?}");
        assert!(answers.is_empty());
    }
    let (result, _) = accept_raw(&[&good, b"no verdict"]).await;
    assert!(
        matches!(result, Err(HandshakeError::Garbage(HelloError::Magic))),
        "{result:?}"
    );
    let (result, _) = accept_raw(&[&Verdict::Welcome.encode()]).await;
    assert!(
        matches!(result, Err(HandshakeError::Garbage(HelloError::Magic))),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_hello_of_the_wrong_side_is_out_of_turn() {
    let (a, b) = Socket::pair().unwrap();
    let (x, y) = (me("x"), me("y"));
    let both = tokio::join!(dial(&a, &x, SHORT), dial(&b, &y, SHORT));
    assert!(
        matches!(
            both,
            (Err(HandshakeError::OutOfTurn), Err(HandshakeError::OutOfTurn))
        ),
        "{both:?}"
    );
}

/// Unanswered: what was kept by node would be taken for this node's own.
#[tokio::test]
async fn a_node_does_not_meet_itself() {
    let (a, mut b) = (me("a"), me("b"));
    b.id = a.id;
    let (there, here) = meet(&a, &b, Verdict::Welcome).await;
    assert!(matches!(here, Err(HandshakeError::OwnId)), "{here:?}");
    assert!(matches!(there, Err(HandshakeError::HungUp)), "{there:?}");
}

#[tokio::test]
async fn descriptors_are_no_part_of_it() {
    let (a, b) = Socket::pair().unwrap();
    a.try_send(&me("a").hello(Role::Dial).encode(), &[a.as_fd()])
        .unwrap();
    let result = accept(&b, &me("b"), SOON, |_| Verdict::Welcome).await;
    assert!(matches!(result, Err(HandshakeError::Descriptors)), "{result:?}");
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let (a, b) = Socket::pair().unwrap();
    let result = accept(&b, &me("b"), SHORT, |_| Verdict::Welcome).await;
    assert!(
        matches!(result, Err(HandshakeError::Timeout { after: SHORT })),
        "{result:?}"
    );
    let result = dial(&a, &me("a"), SHORT).await;
    assert!(
        matches!(result, Err(HandshakeError::Timeout { after: SHORT })),
        "{result:?}"
    );

    // Also when it comes later, after the hello.
    let (a, b) = Socket::pair().unwrap();
    a.try_send(&me("a").hello(Role::Dial).encode(), &[]).unwrap();
    let result = accept(&b, &me("b"), SHORT, |_| Verdict::Welcome).await;
    assert!(
        matches!(result, Err(HandshakeError::Timeout { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn hanging_up_midway_is_named() {
    let (a, b) = Socket::pair().unwrap();
    drop(b);
    let result = dial(&a, &me("a"), SOON).await;
    assert!(matches!(result, Err(HandshakeError::HungUp)), "{result:?}");

    let (a, b) = Socket::pair().unwrap();
    a.try_send(&me("a").hello(Role::Dial).encode(), &[]).unwrap();
    drop(a);
    let result = accept(&b, &me("b"), SOON, |_| Verdict::Welcome).await;
    assert!(matches!(result, Err(HandshakeError::HungUp)), "{result:?}");
}
