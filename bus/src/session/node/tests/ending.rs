//! What a frame that cannot be sent does to its session.

use std::io;

use nix::errno::Errno;
use rustix::net::sockopt;

use super::*;
use crate::session::parcel;

/// A frame that no socket of that little room takes: `EMSGSIZE`, as far as the kernel goes.
fn large() -> Frame {
    Frame::Described {
        request: 7,
        schema: Some(vec![7; 20_000]),
        reply: None,
    }
}

impl Other {
    fn shrink(&self) {
        sockopt::set_socket_send_buffer_size(&self.ours, 1).unwrap();
    }
}

/// As when the user has too many descriptors in flight (`ETOOMANYREFS`): the frame would be lost, and what comes after it
/// not understood.
#[tokio::test]
async fn a_frame_that_the_kernel_refuses_ends_the_session_which_is_begun_again() {
    let (node, _dir) = node(permit().call("shop"), |config| config).await;
    let mut other = Other::meet(&node);
    other.said().await;
    other.shrink();
    other.session.send(&large(), &[]);
    let reason = other.end().await;
    assert!(reason.contains("a control frame"), "{reason}");
    assert!(other.session.ended_short());
    assert_eq!(node.counters.violations.get(), 0);
    node.leave().await;
}

/// The same of one that had to wait for room.
#[tokio::test]
async fn a_waiting_frame_that_the_kernel_refuses_ends_the_session_which_is_begun_again() {
    let (node, _dir) = node(permit().call("shop"), |config| config).await;
    let mut other = Other::meet(&node);
    other.said().await;
    let filling = Frame::Unlink { link: u32::MAX }.encode().unwrap();
    while other.session.socket.try_send(&filling, &[]).is_ok() {}
    other.session.send(&large(), &[]);
    other.shrink();
    // Reads, so that there is room. There may be none for a farewell.
    while other
        .hear()
        .await
        .is_some_and(|frame| !matches!(frame, Frame::Bye { .. }))
    {}
    other.over().await;
    let reason = other.session.reason().unwrap();
    assert!(reason.contains("a control frame"), "{reason}");
    assert!(other.session.ended_short());
    node.leave().await;
}

#[tokio::test]
async fn what_is_the_peers_fault_or_its_end_is_no_lack_of_ours() {
    let (node, _dir) = node(permit().call("shop"), |config| config).await;
    for (error, short, violations) in [
        (io::Error::from(Errno::ETOOMANYREFS), true, 0),
        (io::Error::from(Errno::EMFILE), true, 0),
        (io::Error::from(Errno::EPIPE), false, 0),
        (io::Error::from(Errno::ECONNRESET), false, 0),
        (io::Error::from(Errno::ENOTCONN), false, 0),
        (io::ErrorKind::InvalidData.into(), false, 1),
    ] {
        let other = Other::meet(&node);
        let before = node.counters.violations.get();
        other.session.refused("it", &error);
        assert_eq!(other.session.ended_short(), short, "{error}");
        assert_eq!(node.counters.violations.get() - before, violations, "{error}");
        other.over().await;
    }
    node.leave().await;
}

/// Who finds that the peer has gone leaves it to the reader, which hears first what the peer has said.
#[tokio::test]
async fn what_a_peer_said_before_its_end_is_heard_though_the_end_is_noticed_before() {
    let (node, _dir) = node(permit().call("shop"), |config| config).await;
    let mut other = Other::meet(&node);
    other.said().await;
    let Other { session, socket, .. } = other;
    socket
        .try_send(&topic(1, "secret").encode().unwrap(), &[])
        .unwrap();
    drop(socket);
    session.send(&Frame::Unlink { link: u32::MAX }, &[]);
    let mut over = session.over.subscribe();
    let over = tokio::time::timeout(PATIENCE, over.wait_for(|over| *over));
    over.await.expect("it ends").unwrap();
    assert_eq!(node.counters.denied.get(), 1, "the topic was heard");
    assert_eq!(session.reason(), Some("the peer hung up"));
    node.leave().await;
}

/// Long before they are too many.
#[tokio::test]
async fn frames_that_a_peer_does_not_read_wait_to_a_bound_of_their_bytes() {
    let (node, _dir) = node(permit().call("shop"), |config| config).await;
    let other = Other::meet(&node);
    let frame = large();
    let sent = (0..4_000).take_while(|_| {
        other.session.send(&frame, &[]);
        other.session.reason().is_none()
    });
    assert!((3_000..4_000).contains(&sent.count()));
    let reason = other.session.reason().unwrap();
    assert!(reason.contains("does not read"), "{reason}");
    node.leave().await;
}

/// As at a limit of this process, which is both ends of it.
#[tokio::test]
async fn a_session_with_oneself_that_ends_is_begun_again_for_topics_and_names() {
    let (node, _dir) = node(permit(), |config| config).await;
    let port = node.port_of(PortKey::Shared).unwrap();
    let feed = node.publish_topic(port.clone(), "feed", Kind::of::<Number>(), 0);
    let (feed, mailbox) = (feed.await.unwrap(), subscribe(&node, "feed").await);
    bind(&node, "name");
    let received = async || {
        let taken = async {
            while mailbox.pop().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, taken).await.expect("it arrives");
    };
    let published = async || {
        let reached = async {
            while feed.counts().subscribers == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.expect("topic and subscription come together");
        let parcel = parcel::pack(&Number { n: 7 }, &node.pool, 1 << 20, |_| ());
        feed.publish(&mut parcel.ok()).expect("there is room");
    };
    published().await;
    received().await;
    for at in 0..2 {
        let before = node.own_session().unwrap();
        node.own_ends()[at].close("a test");
        let replaced = async {
            while node
                .own_session_now()
                .is_some_and(|now| Arc::ptr_eq(&now, &before))
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, replaced).await.expect("it ends");
        feed.flush();
        published().await;
        received().await;
        let route = node.route(&port, "name", &[Kind::of::<Number>()], PATIENCE).await;
        assert!(!route.unwrap().link.is_lost());
    }
    node.leave().await;
}
