//! Names, and who has them.

use super::*;
use crate::error::BindError;

fn binding(name: &str, mailbox: u32) -> Binding {
    Binding {
        name: name.to_owned(),
        port: 1,
        mailbox,
        window: 1,
        kinds: vec![],
    }
}

fn unbound(name: &str, mailbox: u32) -> Frame {
    Frame::Unbound {
        name: name.to_owned(),
        port: 1,
        mailbox,
    }
}

#[tokio::test]
async fn a_name_goes_with_its_own_mailbox_only() {
    let (node, _dir) = node(permit().bind(">"), |config| config).await;
    let (mut first, mut second) = (Other::meet(&node), Other::meet_as(&node, "second", 2));
    let has = |name: &str| {
        node.provider(name)
            .and_then(|one| one.session)
            .map(|one| one.peer.name.clone())
    };
    first.say(&Frame::Bound(binding("a", 1)));
    first.said().await;
    let name = has("a").unwrap();
    assert_eq!(name, first.session.peer.name);
    // The end of another mailbox, of another name, and of somebody else's.
    first.say(&unbound("a", 2));
    first.say(&unbound("b", 1));
    second.say(&unbound("a", 1));
    first.said().await;
    second.said().await;
    assert_eq!(has("a"), Some(name));
    // Bound anew before the end of the old one is told.
    first.say(&Frame::Bound(binding("a", 7)));
    first.say(&unbound("a", 1));
    first.said().await;
    assert_eq!(node.provider("a").unwrap().binding.mailbox, 7);
    first.say(&unbound("a", 7));
    first.said().await;
    assert_eq!(has("a"), None);
    node.leave().await;
}

#[tokio::test]
async fn what_two_peers_deny_is_denied_until_both_withdraw_it() {
    let (node, _dir) = node(permit().bind(">"), |config| config).await;
    let mut others = [Other::meet(&node), Other::meet_as(&node, "second", 2)];
    let denied = || lock(&node.registry).denied_by("a").map(|by| by.peer.id);
    for other in &mut others {
        let names = vec!["a".to_owned()];
        other.say(&Frame::Denied {
            what: Denial::Call,
            names,
        });
        other.said().await;
    }
    let [first, second] = &mut others;
    assert_eq!(denied(), Some(first.session.peer.id));
    first.say(&unbound("a", 1));
    first.said().await;
    assert_eq!(denied(), Some(second.session.peer.id));
    second.say(&Frame::bye(""));
    second.over().await;
    assert_eq!(denied(), None);
    node.leave().await;
}

#[tokio::test]
async fn who_comes_again_begins_to_count_anew() {
    let (node, _dir) = node(permit().bind(">"), |config| config.peer_names(2)).await;
    for _ in 0..3 {
        let mut other = Other::meet(&node);
        for (name, mailbox) in [("a", 1), ("b", 2)] {
            other.say(&Frame::Bound(binding(name, mailbox)));
        }
        other.said().await;
        other.say(&Frame::bye(""));
        other.over().await;
    }
    node.leave().await;
}

/// A peer that says everything twice ends it as often, and owes nothing.
#[tokio::test]
async fn what_is_announced_twice_counts_twice_and_ends_at_once() {
    let (node, _dir) = node(permit().bind(">"), |config| config.peer_names(2)).await;
    let mut other = Other::meet(&node);
    for mailbox in 0..3 {
        other.say(&Frame::Bound(binding("a", mailbox)));
        other.say(&Frame::Bound(binding("a", mailbox)));
        other.say(&unbound("a", mailbox));
        other.say(&unbound("a", mailbox));
    }
    other.said().await;
    assert!(node.provider("a").is_none());
    node.leave().await;
}

#[tokio::test]
async fn a_name_that_cannot_be_bound_takes_no_mailbox() {
    let (node, _dir) = node(permit().call(">"), |config| config.mailboxes(2)).await;
    let port = node.port_of(PortKey::Shared).unwrap();
    let bind = |name: &str, kinds: usize| node.bind(&port, name, vec![Kind::of::<Number>(); kinds], 8);
    let first = bind("a", 1).unwrap();
    for _ in 0..5 {
        let taken = bind("a", 1);
        assert!(matches!(taken, Err(BindError::NameTaken { .. })), "{taken:?}");
        let kinds = bind("b", 129);
        assert!(matches!(kinds, Err(BindError::NotAnnounced { .. })), "{kinds:?}");
        assert!(matches!(bind("b c", 1), Err(BindError::Name(_))));
    }
    let second = bind("b", 1).unwrap();
    let many = bind("c", 1);
    assert!(matches!(many, Err(BindError::TooMany { limit: 2 })), "{many:?}");
    // Nor is an actor's name told to who comes when it is no longer bound.
    node.unbind(&first.binding);
    let mut other = Other::meet(&node);
    let bound = vec![second.binding.clone()];
    assert_eq!(other.said().await, [Frame::Names { bound, more: false }]);
    bind("c", 1).unwrap();
    node.leave().await;
    assert!(matches!(bind("d", 1), Err(BindError::Closed)));
}

#[tokio::test]
async fn who_is_met_already_or_dialled_by_the_lower_id_is_a_duplicate() {
    let duplicate = |verdict: Verdict| matches!(verdict, Verdict::Refused(Code::Duplicate, _));
    let (node, _dir) = node(permit().bind(">"), |config| config).await;
    let other = Other::meet(&node);
    assert!(duplicate(node.decide(&peer("again", 1))));
    let (ours, _theirs) = Socket::pair().unwrap();
    assert!(node.begin(ours, peer("again", 1)).is_none());
    assert!(
        node.sessions
            .iter()
            .all(|known| Arc::ptr_eq(&known, &other.session))
    );
    lock(&node.dialling).insert("both".to_owned());
    assert!(duplicate(node.decide(&peer("both", node.id() + 1))));
    assert_eq!(node.decide(&peer("both", node.id() - 1)), Verdict::Welcome);
    node.leave().await;
    let late = node.decide(&peer("late", 7));
    assert!(matches!(late, Verdict::Refused(Code::Shutdown, _)), "{late:?}");
}
