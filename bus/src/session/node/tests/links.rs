//! Links that come to nothing.

use futures_util::FutureExt;
use nix::errno::Errno;

use super::*;
use crate::session::{link::Link, opening::OpenError};

/// Begins to open a link to the peer's port 0, and hears its number.
async fn begin_opening<'a>(
    node: &'a Arc<Node>,
    port: &'a Arc<Port>,
    other: &mut Other,
    session: &'a Arc<Session>,
) -> (impl Future<Output = Result<Arc<Link>, OpenError>> + use<'a>, u32) {
    let mut opening = Box::pin(session.link(node, port, 0));
    assert!(opening.as_mut().now_or_never().is_none());
    (opening, wanted_link(other).await)
}

/// The number of the link that the node wants.
async fn wanted_link(other: &mut Other) -> u32 {
    loop {
        if let Frame::Link { link, .. } = other.hear().await.expect("a link") {
            return link;
        }
    }
}

#[tokio::test]
async fn who_gives_up_opening_a_link_says_so() {
    let (node, _dir) = node(permit().bind(">"), |config| config).await;
    let port = node.port_of(PortKey::Shared).unwrap();
    let mut other = Other::meet(&node);
    let session = other.session.clone();
    let (opening, link) = begin_opening(&node, &port, &mut other, &session).await;
    drop(opening);
    assert_eq!(other.said().await, [Frame::Unlink { link }]);
    assert!(lock(&session.links).offers.is_empty());
    // Its answer comes too late.
    other.take(Half::Whole, link);
    other.said().await;
    assert!(lock(&session.links).by_id.is_empty());
    node.leave().await;
}

/// Also who waited for somebody else's attempt.
#[tokio::test]
async fn who_opens_a_link_while_the_session_ends_is_told() {
    let (node, _dir) = node(permit().bind(">"), |config| config).await;
    let port = node.port_of(PortKey::Shared).unwrap();
    let mut other = Other::meet(&node);
    let session = other.session.clone();
    let mut opening = [(); 2].map(|()| Box::pin(session.link(&node, &port, 0)));
    for opening in &mut opening {
        assert!(opening.as_mut().now_or_never().is_none());
    }
    wanted_link(&mut other).await;
    other.say(&Frame::bye(""));
    other.over().await;
    for opening in opening {
        let opened = tokio::time::timeout(PATIENCE, opening).await.expect("it is told");
        assert!(matches!(opened, Err(OpenError::PeerLost)), "{opened:?}");
    }
    let opened = session.link(&node, &port, 0).now_or_never();
    assert!(matches!(opened, Some(Err(OpenError::PeerLost))), "{opened:?}");
    node.leave().await;
}

#[tokio::test]
async fn a_link_whose_session_has_ended_is_lost_from_the_beginning() {
    let (node, _dir) = node(permit().bind(">"), |config| config).await;
    let port = node.port_of(PortKey::Shared).unwrap();
    let mut other = Other::meet(&node);
    let session = other.session.clone();
    let (opening, link) = begin_opening(&node, &port, &mut other, &session).await;
    other.take(Half::Whole, link);
    other.say(&Frame::bye(""));
    other.over().await;
    let link = opening.await.expect("both halves");
    assert!(link.is_lost());
    assert!(lock(&session.links).by_id.is_empty());
    node.leave().await;
}

#[tokio::test]
async fn half_of_a_link_that_is_none_ends_the_session_and_a_lack_of_ours_does_not() {
    let (node, _dir) = node(permit().call("shop").bind(">"), |config| config).await;
    let port = node.port_of(PortKey::Shared).unwrap();
    let mut other = Other::meet(&node);
    other.said().await;
    let session = other.session.clone();
    session.accept_link(&node, port.id, 5, Err(Errno::EMFILE.into()));
    let said = other.said().await;
    assert!(
        matches!(said[..], [Frame::LinkRefused { link: 5, .. }]),
        "{said:?}"
    );

    let (opening, link) = begin_opening(&node, &port, &mut other, &session).await;
    let null = std::fs::File::open("/dev/null").unwrap();
    let frame = Frame::Linked {
        link: 70,
        peer_link: link,
        ring_slots: 16,
        returns: 64,
        bytes: 0,
    };
    let fds = [null.as_fd(); 3];
    other.socket.try_send(&frame.encode().unwrap(), &fds).unwrap();
    let reason = other.end().await;
    assert!(reason.contains("protocol violation: link"), "{reason}");
    assert!(opening.await.is_err());
    assert_eq!(node.counters.violations.get(), 1);
    node.leave().await;
}

/// Too little address space, say: nothing that the peer did wrong.
#[tokio::test]
async fn half_of_a_link_that_cannot_be_mapped_costs_that_link_and_no_more() {
    let (node, _dir) = node(permit().call("shop").bind(">"), |config| config).await;
    let port = node.port_of(PortKey::Shared).unwrap();
    let mut other = Other::meet(&node);
    let session = other.session.clone();
    other.said().await;
    other.offer(Half::NotToBeMapped, 5, port.id);
    let said = other.said().await;
    assert!(
        matches!(&said[..], [Frame::LinkRefused { link: 5, reason }] if reason.contains("RLIMIT_AS")),
        "{said:?}"
    );

    let (opening, link) = begin_opening(&node, &port, &mut other, &session).await;
    other.take(Half::NotToBeMapped, link);
    // The peer has put both halves together, and is told to let them go.
    assert_eq!(other.said().await, [Frame::Unlink { link }]);
    let opened = opening.await;
    assert!(
        matches!(&opened, Err(OpenError::Refused(reason)) if reason.contains("RLIMIT_AS")),
        "{opened:?}"
    );
    assert!(lock(&session.links).offers.is_empty());
    assert!(lock(&session.links).by_id.is_empty());

    // When there is room again, there is a link.
    let (opening, link) = begin_opening(&node, &port, &mut other, &session).await;
    other.take(Half::Whole, link);
    assert!(!opening.await.unwrap().is_lost());
    assert_eq!(node.counters.violations.get(), 0);
    node.leave().await;
}

/// Each is mapped, whatever the peer calls it.
#[tokio::test]
async fn links_of_one_number_count_each_until_they_are_withdrawn() {
    let (node, _dir) = node(permit().call("shop"), |config| config.peer_links(3)).await;
    let port = node.port_of(PortKey::Shared).unwrap();
    let mut other = Other::meet(&node);
    let session = other.session.clone();
    other.said().await;
    for _ in 0..2 {
        for _ in 0..5 {
            other.offer(Half::Whole, 5, port.id);
        }
        let said = other.said().await;
        let (taken, refused) = said.split_at(3);
        let is_taken = |frame: &Frame| matches!(frame, Frame::Linked { peer_link: 5, .. });
        assert!(taken.iter().all(is_taken), "{said:?}");
        let is_refused = |frame: &Frame| matches!(frame, Frame::LinkRefused { link: 5, reason } if reason.contains("Config::peer_links"));
        assert!(refused.len() == 2 && refused.iter().all(is_refused), "{said:?}");
        assert_eq!(lock(&session.links).by_id.len(), 3);
        other.say(&Frame::Unlink { link: 5 });
        other.said().await;
        assert!(lock(&session.links).by_id.is_empty());
    }
    assert_eq!(node.counters.violations.get(), 0);
    node.leave().await;
}

#[tokio::test]
async fn who_has_all_the_links_it_may_uses_those_and_gets_no_others() {
    let (node, _dir) = node(permit().bind(">"), |config| config.peer_links(1)).await;
    let port = node.port_of(PortKey::Shared).unwrap();
    let mut other = Other::meet(&node);
    let session = other.session.clone();
    let (opening, link) = begin_opening(&node, &port, &mut other, &session).await;
    // Also while it is being opened.
    let mut again = Box::pin(session.link(&node, &port, 0));
    assert!(again.as_mut().now_or_never().is_none());
    other.take(Half::Whole, link);
    let link = opening.await.unwrap();
    assert_eq!(again.await.unwrap().id, link.id);
    assert_eq!(session.link(&node, &port, 0).await.unwrap().id, link.id);
    let more = session.link(&node, &port, 1).await;
    assert!(
        matches!(&more, Err(OpenError::Refused(reason)) if reason.contains("Config::peer_links")),
        "{more:?}"
    );
    node.leave().await;
}

/// A reply in a buffer takes an entry of our return ring, until it is released.
#[tokio::test]
async fn no_more_asks_are_open_than_their_replies_can_be_returned() {
    let (node, _dir) = node(permit().bind(">"), |config| config.ring_slots(16).returns(32)).await;
    let port = node.port_of(PortKey::Shared).unwrap();
    let mut other = Other::meet(&node);
    let session = other.session.clone();
    let (opening, link) = begin_opening(&node, &port, &mut other, &session).await;
    other.take(Half::Whole, link);
    let link = opening.await.unwrap();
    let asks = std::iter::from_fn(|| link.room.open_ask().then_some(())).count();
    assert_eq!(asks, 32);
    node.leave().await;
}

/// Each is a socket pair and a task that listens.
#[tokio::test]
async fn all_links_of_another_user_to_one_port_ring_the_same_bell() {
    let (node, _dir) = node(permit().call("shop"), |config| config).await;
    let port = node.port_of(PortKey::Shared).unwrap();
    let other = Other::meet(&node);
    let bell = || other.session.bell_of(&node, &port).unwrap();
    assert_eq!(bell().as_fd().as_raw_fd(), bell().as_fd().as_raw_fd());
    assert_ne!(bell().as_fd().as_raw_fd(), port.bell().as_fd().as_raw_fd());
    node.leave().await;
}
