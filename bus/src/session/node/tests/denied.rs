//! What another user is told, and what not.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::error::TopicError;

fn denied(names: &[&str]) -> Frame {
    Frame::Denied {
        what: Denial::Call,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn unbound(name: &str, (port, mailbox): (u32, u32)) -> Frame {
    let name = name.to_owned();
    Frame::Unbound { name, port, mailbox }
}

#[tokio::test]
async fn of_an_actor_that_it_may_not_call_another_user_learns_its_name_and_its_end() {
    let (node, _dir) = node(permit().call("shop"), |config| config).await;
    // Before the session, and after.
    for early in [true, false] {
        let bound = early.then(|| (bind(&node, "shop"), bind(&node, "vault")));
        let mut other = Other::meet(&node);
        let snapshot = other.said().await;
        let (shop, vault) = match bound {
            Some((shop, vault)) => {
                let bound = vec![shop.binding.clone()];
                assert_eq!(
                    snapshot,
                    [denied(&["vault"]), Frame::Names { bound, more: false }]
                );
                (shop, vault)
            }
            None => (bind(&node, "shop"), bind(&node, "vault")),
        };
        if !early {
            assert_eq!(
                other.said().await,
                [Frame::Bound(shop.binding.clone()), denied(&["vault"])]
            );
        }
        let number = (vault.binding.port, vault.binding.mailbox);
        assert_ne!(number, (0, 0), "a number that says something");
        node.unbind(&vault.binding);
        assert_eq!(other.said().await, [unbound("vault", (0, 0))]);
        node.unbind(&shop.binding);
        let number = (shop.binding.port, shop.binding.mailbox);
        assert_eq!(other.said().await, [unbound("shop", number)]);
        other.say(&Frame::bye(""));
        other.over().await;
    }
    node.leave().await;
}

#[tokio::test]
async fn as_many_names_are_denied_as_there_are() {
    let (node, _dir) = node(permit().call("shop"), |config| config).await;
    for n in 0..150 {
        bind(&node, &format!("vault-{n}"));
    }
    let mut other = Other::meet(&node);
    let mut heard = 0;
    for frame in other.said().await {
        match frame {
            Frame::Denied { names, .. } => heard += names.len(),
            Frame::Names { bound, more } => assert!(bound.is_empty() && !more),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard, 150);
    node.leave().await;
}

#[tokio::test]
async fn what_messages_look_like_is_told_to_whom_it_concerns() {
    let rights = permit().call("shop").subscribe("out").publish("in.*");
    let (node, _dir) = node(rights, |config| config).await;
    for name in ["shop", "vault"] {
        bind(&node, name);
    }
    for name in ["out", "secret"] {
        publish(&node, name).await;
    }
    for pattern in ["in.a", "hidden"] {
        subscribe(&node, pattern).await;
    }
    let mut other = Other::meet(&node);
    other.said().await;
    for (name, told) in [
        ("shop", true),
        ("vault", false),
        ("out", true),
        ("secret", false),
        ("in.a", true),
        ("hidden", false),
    ] {
        let kind = Kind::of::<Number>().info().name;
        let name = name.to_owned();
        other.say(&Frame::Describe {
            request: 7,
            name: name.clone(),
            kind,
        });
        match other.hear().await {
            Some(Frame::Described {
                request: 7,
                schema,
                reply,
            }) => {
                assert_eq!((schema.is_some(), reply.is_some()), (told, told), "{name}");
            }
            heard => panic!("{name}: {heard:?}"),
        }
    }
    node.leave().await;
}

#[tokio::test]
async fn topics_and_subscriptions_are_told_to_whom_they_concern() {
    let (node, _dir) = node(permit().subscribe("out.*").publish("in.*"), |config| config).await;
    let begin = async |round: &str| {
        for name in ["out", "secret"] {
            publish(&node, &format!("{name}.{round}")).await;
        }
        for pattern in ["in", "hidden"] {
            subscribe(&node, &format!("{pattern}.{round}")).await;
        }
    };
    begin("early").await;
    let mut other = Other::meet(&node);
    for round in ["early", "late"] {
        let mut told: Vec<_> = other.said().await.into_iter().filter_map(about).collect();
        told.sort();
        assert_eq!(told, [format!("in.{round}"), format!("out.{round}")]);
        if round == "early" {
            begin("late").await;
        }
    }
    node.leave().await;
}

fn about(frame: Frame) -> Option<String> {
    match frame {
        Frame::Topic(topic) => Some(topic.name),
        Frame::Subscribe(wanted) => Some(wanted.pattern),
        _ => None,
    }
}

#[tokio::test]
async fn who_may_neither_call_nor_publish_gets_no_link() {
    for (rights, gets) in [
        (permit().bind("back").subscribe("out"), false),
        (permit().call("shop"), true),
        (permit().publish("in.*"), true),
    ] {
        let (node, _dir) = node(rights, |config| config).await;
        let port = node.port_of(PortKey::Shared).unwrap();
        let mut other = Other::meet(&node);
        other.said().await;
        other.offer(Half::Whole, 7, port.id);
        match other.hear().await {
            Some(Frame::LinkRefused { link: 7, reason }) if !gets => {
                assert!(reason.contains("Config::permit"), "{reason}");
            }
            Some(Frame::Linked { peer_link: 7, .. }) if gets => {}
            heard => panic!("{heard:?}"),
        }
        assert_eq!(node.counters.denied.get(), u64::from(!gets));
        assert_eq!(lock(&other.session.links).by_id.len(), usize::from(gets));
        node.leave().await;
    }
}

/// What a peer has said of a topic that nobody asks for, or before it has gone, is not held against who asks for it now.
#[tokio::test]
async fn a_topic_is_denied_as_long_as_somebody_asks_for_it_and_somebody_denies_it() {
    let (node, _dir) = node(permit().publish(">"), |config| config).await;
    let mut other = Other::meet(&node);
    let deny = |topic: &str| Frame::Denied {
        what: Denial::Subscribe,
        names: vec![topic.to_owned()],
    };
    other.say(&deny("feed"));
    other.said().await;
    let first = subscribe(&node, "feed").await;
    // Late: the subscription is there, and gets what others publish.
    other.say(&deny("feed"));
    other.said().await;
    first.close();
    let second = subscribe(&node, "feed").await;
    other.say(&deny("feed"));
    other.say(&Frame::bye(""));
    other.over().await;
    let third = subscribe(&node, "feed").await;
    for mailbox in [second, third] {
        mailbox.close();
    }
    node.leave().await;
}

/// One who denies it is none who publishes it for us; where there is another one, we have that one's.
#[tokio::test]
async fn who_asks_for_a_topic_learns_of_a_denial_as_long_as_nobody_else_publishes_it() {
    for published in [false, true] {
        let (node, _dir) = node(permit().publish(">"), |config| config.announce_deadline(PATIENCE)).await;
        if published {
            publish(&node, "feed").await;
        }
        let mut other = Other::meet(&node);
        other.said().await;
        let mut begun = Vec::new();
        for mailbox in 0..2 {
            let node = node.clone();
            begun.push(tokio::spawn(async move {
                let port = node.port_of(PortKey::Shared).unwrap();
                let number = Kind::of::<Number>();
                node.subscribe(&port, number, wanted(0, "feed"), PATIENCE).await
            }));
            while !matches!(other.hear().await, Some(Frame::Subscribe(_))) {}
            if mailbox == 0 {
                other.say(&Frame::Heard(Announcement::Subscription { port: 0, mailbox }));
                let first = begun.pop().unwrap().await.unwrap().unwrap();
                begun.push(tokio::spawn(async move { Ok(first) }));
            }
        }
        let names = vec!["feed".to_owned()];
        let what = Denial::Subscribe;
        other.say(&Frame::Denied { what, names });
        other.said().await;
        let mut begun = begun.into_iter();
        // The one that is there already ends, and the other one asks still.
        begun.next().unwrap().await.unwrap().unwrap().close();
        other.say(&Frame::Heard(Announcement::Subscription { port: 0, mailbox: 1 }));
        let outcome = begun.next().unwrap().await.unwrap();
        match outcome {
            Ok(_) if published => {}
            Err(TopicError::Denied { topic, .. }) if !published => assert_eq!(topic, "feed"),
            outcome => panic!("{published} {:?}", outcome.map(|_| ())),
        }
        node.leave().await;
    }
}

/// Counts what a session logs of its denials.
struct Log(AtomicUsize);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().ends_with("denial")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
        tracing::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn enter(&self, _: &tracing::Id) {}
    fn exit(&self, _: &tracing::Id) {}
}

#[tokio::test]
async fn of_a_peer_that_asks_again_and_again_for_what_it_may_not_the_log_tells_so_often() {
    let log = Arc::new(Log(AtomicUsize::new(0)));
    let _guard = tracing::subscriber::set_default(log.clone());
    let (node, _dir) = node(permit().call("shop"), |config| config).await;
    let mut other = Other::meet(&node);
    for id in 0..100 {
        other.say(&topic(id, "secret"));
        let names = vec!["mine".to_owned()];
        other.say(&Frame::Denied {
            what: Denial::Bind,
            names,
        });
        other.said().await;
    }
    assert_eq!(node.counters.denied.get(), 100);
    assert_eq!(log.0.load(Ordering::SeqCst), 32);
    node.leave().await;
}
