//! A topic has one type; names that are not valid; settings that do not fit.

use actix::prelude::*;
use shmbus::{
    error::{BindError, NameError, TopicError},
    prelude::*,
};

use crate::{
    listener::{Listener, Tick},
    party::join,
    support::{Place, eventually, system},
};

mod other {
    use shmbus::prelude::*;

    /// Named like the message of all other tests, and another one.
    #[derive(ShmMessage, Debug)]
    pub struct Tick {
        pub n: u32,
        pub data: Vec<u8>,
    }
}
use other::Tick as Other;

/// A message with a name of its own.
#[derive(ShmMessage, Debug)]
pub struct Unrelated {
    pub text: String,
}

/// A message whose stable name is a byte longer than peers take.
#[derive(ShmMessage, Debug)]
#[shm(
    name = "tests.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
           xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
           xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
)]
pub struct Verbose;

struct Mute;

impl Actor for Mute {
    type Context = Context<Self>;
}

impl Handler<Received<Verbose>> for Mute {
    type Result = ();
    fn handle(&mut self, _: Received<Verbose>, _: &mut Context<Self>) {}
}

#[track_caller]
fn differs<T>(outcome: Result<T, TopicError>, at: &str) {
    let Err(error) = outcome else {
        panic!("a topic with two types")
    };
    let TopicError::Schema {
        topic,
        node,
        message,
        difference,
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((topic.as_str(), node.as_str()), ("feed", at));
    assert!(message.ends_with("Tick"), "{message}");
    for part in ["n", "u32", "u64"] {
        assert!(difference.contains(part), "{difference}");
    }
    assert!(error.to_string().contains("feed"));
}

#[test]
fn the_second_party_with_another_type_is_told_which_field_differs() {
    assert_eq!(Tick::NAME, Other::NAME);
    let place = Place::new();
    system(async {
        let bus = place.config("here").join().await.unwrap();
        // Against a publisher in another process, and against a subscriber there.
        for (line, end) in [("publish p feed", "unpublish p"), ("stream p feed", "end p")] {
            let mut other = join(&place, "there").await;
            other.ok(line).await;
            differs(bus.publisher::<Other>("feed").await, "there");
            if line.starts_with("publish") {
                differs(bus.subscriber::<Other>("feed").await, "there");
                differs(bus.subscriber::<Other>("*").await, "there");
            }
            other.ok(end).await;
            let known = || async { bus.publisher::<Other>("feed").await.is_ok() };
            while !known().await {
                tokio::task::yield_now().await;
            }
            other.kill();
            eventually("the session has ended", || bus.peers().is_empty()).await;
        }
        // The same within this process.
        let publisher = bus.publisher::<Tick>("feed").await.unwrap();
        differs(bus.publisher::<Other>("feed").await, "here");
        differs(bus.subscriber::<Other>("feed").await, "here");
        drop(publisher);
        let subscriber = bus.subscriber::<Tick>("feed").await.unwrap();
        differs(bus.publisher::<Other>("feed").await, "here");
        drop(subscriber);
        assert!(bus.publisher::<Other>("feed").await.is_ok());
    });
}

#[test]
fn wildcards_pass_over_topics_of_other_messages() {
    let place = Place::new();
    system(async {
        let mut there = join(&place, "there").await;
        let bus = place.config("here").join().await.unwrap();
        let text = bus.publisher::<Unrelated>("feed.text").await.unwrap();
        there.ok("publish p feed.ticks").await;
        there.ok("stream s feed.*").await;
        let mut both = bus.subscriber::<Unrelated>("feed.>").await.unwrap();
        text.publish(&Unrelated { text: "hello".into() }).unwrap();
        there.ok("send p 3 0").await;
        there.ok("stream t feed.*").await;
        there.ok("send p 2 0").await;
        assert_eq!(both.recv().await.unwrap().text.as_str(), "hello");
        let exact = there.ask("stream u feed.text").await;
        assert!(exact.contains("Unrelated") && exact.contains("Tick"), "{exact}");
        assert_eq!(there.ask("ended s").await, "false");
        assert!(both.try_recv().is_none());
        assert_eq!((text.stats().subscribers, text.stats().delivered), (1, 1));
    });
}

#[test]
fn names_that_are_not_valid_are_refused_at_the_place() {
    let place = Place::new();
    system(async {
        let bus = place.config("here").join().await.unwrap();
        let at = |outcome: Result<(), TopicError>, what: &str| match outcome {
            Err(TopicError::Name(NameError { what: found, at, .. })) => {
                assert_eq!(found, what);
                at
            }
            other => panic!("{other:?}"),
        };
        for (name, place) in [
            ("", 0),
            ("a..b", 2),
            ("md.ti cks", 5),
            ("md.", 3),
            (".md", 0),
            ("md.*", 3),
        ] {
            let refused = bus.publisher::<Tick>(name).await.map(drop);
            assert_eq!(at(refused, "topic"), place, "{name}");
        }
        for (pattern, place) in [("", 0), ("a.>.b", 2), ("a.b*", 3), ("a.**", 2), ("ü", 0)] {
            let refused = bus.subscriber::<Tick>(pattern).await.map(drop);
            assert_eq!(at(refused, "topic pattern"), place, "{pattern}");
            let refused = Listener::actor(&bus, pattern, "").await.map(drop);
            assert_eq!(at(refused, "topic pattern"), place, "{pattern}");
        }
        let long = "x".repeat(255);
        assert!(bus.publisher::<Tick>(long.clone()).await.is_ok());
        assert_eq!(
            at(bus.publisher::<Tick>(long + "x").await.map(drop), "topic"),
            255
        );
    });
}

#[test]
fn settings_out_of_range_are_named() {
    let place = Place::new();
    system(async {
        let bus = place.config("here").mailboxes(2).join().await.unwrap();
        for (options, said) in [
            ("depth=0", "depth"),
            ("depth=65536", "depth"),
            ("full=keep:0", "KeepLast(0)"),
            ("full=keep:4 depth=4", "depth"),
            ("full=keep:4 group=g", "group"),
        ] {
            let Err(error) = Listener::stream(&bus, "feed", options).await else {
                panic!("{options} works")
            };
            assert!(matches!(error, TopicError::Setting { .. }));
            assert!(error.to_string().contains(said), "{options}: {error}");
        }
        let two = [
            bus.subscriber::<Tick>("a").await.unwrap(),
            bus.subscriber::<Tick>("b").await.unwrap(),
        ];
        let third = bus.subscriber::<Tick>("c").await;
        assert!(
            matches!(third, Err(TopicError::TooMany { limit: 2 })),
            "{third:?}"
        );
        drop(two);
        assert!(bus.subscriber::<Tick>("c").await.is_ok());
    });
}

/// Announced nevertheless, it would end the session with each peer.
#[test]
fn what_is_too_long_to_be_announced_is_refused_and_ends_no_session() {
    let place = Place::new();
    system(async {
        let mut there = join(&place, "there").await;
        let bus = place.config("here").join().await.unwrap();
        let group = |bytes| bus.subscriber::<Tick>("feed").group("g".repeat(bytes));
        for refused in [
            group(257).await.map(drop),
            bus.subscriber::<Verbose>("feed").await.map(drop),
            bus.publisher::<Verbose>("feed").await.map(drop),
        ] {
            let Err(TopicError::NotAnnounced { topic, problem }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(topic, "feed");
            assert!(problem.contains("257 (limit 256)"), "{problem}");
        }
        let refused = bus.bind("mute", Mute).handles::<Verbose>().start().await;
        let Err(BindError::NotAnnounced { name, problem }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(name, "mute");
        assert!(problem.contains("257 (limit 256)"), "{problem}");
        let mut member = group(256).await.unwrap();
        there.ok("publish p feed").await;
        there.ok("send p 1 0").await;
        assert_eq!(member.recv().await.unwrap().n.to_native(), 0);
        assert_eq!(bus.peers(), ["there"]);
    });
}
