//! Coming and going, in any order.

use shmbus::prelude::*;

use crate::{
    listener::{Listener, Tick, gapless, numbers},
    party::{join, join_threads, send},
    support::{Child, Place, eventually, settled, soon, system, threads},
};

/// Waits until the publisher `p` has so many subscribers.
async fn until_subscribers(publisher: &mut Child, wanted: u64) {
    while publisher.topic("p").await[4] != wanted {
        tokio::task::yield_now().await;
    }
}

#[test]
fn publishers_and_subscribers_come_and_go_in_any_order() {
    let place = Place::new();
    system(async {
        let mut early = join(&place, "early").await;
        early.ok("stream s feed full=wait").await;
        let mut publisher = join_threads(&place, "origin").await;
        publisher.ok("publish p feed").await;
        publisher.ok("send p 10 30").await;
        let mut late = join_threads(&place, "late").await;
        late.ok("stream s feed full=wait").await;
        publisher.ok("send p 10 30").await;
        early.until_count("s", 20).await;
        early.ok("end s").await;
        until_subscribers(&mut publisher, 1).await;
        publisher.ok("send p 10 30").await;
        early.ok("stream t feed full=wait").await;
        publisher.ok("send p 10 30").await;
        publisher.ok("unpublish p").await;
        late.until_count("s", 30).await;
        early.until_count("t", 10).await;
        // The next publisher of the topic counts from 0, and has both from the beginning.
        publisher.ok("publish p feed").await;
        assert_eq!(publisher.topic("p").await[4], 2);
        publisher.ok("send p 5 0").await;
        late.until_count("s", 35).await;
        early.until_count("t", 15).await;
        let (early_log, late_log) = (early.log("t").await, late.log("s").await);
        gapless(&numbers(&early.log("s").await, "origin", "feed"), 0, 20);
        gapless(&numbers(&early_log[..10], "origin", "feed"), 30, 40);
        gapless(&numbers(&late_log[..30], "origin", "feed"), 10, 40);
        for log in [&early_log[10..], &late_log[30..]] {
            gapless(&numbers(log, "origin", "feed"), 0, 5);
        }
        // Without any publisher the subscribers wait for one, also of another node.
        publisher.kill();
        let bus = place.config("second").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        send(&feed, 5, 0).await.unwrap();
        early.until_count("t", 20).await;
        late.until_count("s", 40).await;
        gapless(&numbers(&late.log("s").await, "second", "feed"), 0, 5);
        settled(&bus).await;
    });
}

/// The announcement of a publisher that is gone at once must not get lost: the subscriber could not know
/// what its messages are, and everything behind them on the link would wait for ever.
#[test]
fn what_a_short_lived_publisher_published_arrives_and_holds_up_nobody() {
    let place = Place::new();
    for here in [true, false] {
        system(async {
            let reader = place.config("reader").join().await.unwrap();
            let origin = match here {
                true => reader.clone(),
                false => place.config("origin").join().await.unwrap(),
            };
            let mut ticks = reader
                .subscriber::<Tick>("feed.*")
                .when_full(WhenFull::Wait)
                .await
                .unwrap();
            let lasting = origin.publisher::<Tick>("feed.lasting").await.unwrap();
            assert_eq!(lasting.stats().subscribers, 1);
            for round in 0..50 {
                let short = origin.publisher::<Tick>("feed.short").await.unwrap();
                short.publish(&Tick::new(round, (round % 20) as usize)).unwrap();
                drop(short);
                lasting.publish(&Tick::new(round, 30)).unwrap();
                for topic in ["feed.short", "feed.lasting"] {
                    let tick = soon(topic, ticks.recv()).await.unwrap();
                    assert_eq!(
                        (tick.origin().unwrap().topic(), tick.n.to_native()),
                        (topic, round)
                    );
                }
            }
            assert_eq!(ticks.lost(), 0);
        });
    }
}

/// The same while the subscription comes into being: it gets all of the history, or knows nothing of it.
#[test]
fn a_publisher_may_end_while_a_subscription_begins() {
    let place = Place::new();
    threads(async {
        let reader = place.config("reader").join().await.unwrap();
        let origin = place.config("origin").join().await.unwrap();
        let lasting = origin.publisher::<Tick>("feed.lasting").await.unwrap();
        let first = reader.subscriber::<Tick>("feed.*").await.unwrap();
        assert_eq!(lasting.stats().subscribers, 1);
        drop(first);
        for round in 0..100 {
            let short = origin.publisher::<Tick>("feed.short").history(3).await.unwrap();
            send(&short, 3, 20).await.unwrap();
            let subscribing = tokio::spawn(reader.subscriber::<Tick>("feed.*").into_future());
            for _ in 0..round % 10 {
                tokio::task::yield_now().await;
            }
            drop(short);
            let mut ticks = soon("a subscription", subscribing).await.unwrap().unwrap();
            lasting.publish(&Tick::new(round, 30)).unwrap();
            let mut got = 0;
            loop {
                let tick = soon("what comes after it", ticks.recv()).await.unwrap();
                match tick.origin().unwrap().topic() {
                    "feed.short" => got += 1,
                    _ => break,
                }
            }
            assert!(got == 0 || got == 3, "{got} of 3");
        }
        drop(lasting);
        settled(&origin).await;
    });
}

/// More often than a link has routes.
#[test]
fn a_node_may_subscribe_and_publish_again_and_again() {
    const ROUNDS: u64 = 1200;
    let place = Place::new();
    threads(async {
        let reader = place.config("reader").join().await.unwrap();
        let origin = place.config("origin").join().await.unwrap();
        let feed = origin.publisher::<Tick>("feed").history(1).await.unwrap();
        feed.publish(&Tick::new(7, 20)).unwrap();
        for round in 0..ROUNDS {
            let mut ticks = soon("a subscription", reader.subscriber::<Tick>("feed"))
                .await
                .unwrap();
            let tick = soon("the history", ticks.recv()).await.unwrap();
            assert_eq!((tick.n.to_native(), ticks.lost()), (7, 0), "round {round}");
        }
        let mut ticks = reader.subscriber::<Tick>("short").await.unwrap();
        let lasting = origin.publisher::<Tick>("short").await.unwrap();
        assert_eq!(lasting.stats().subscribers, 1);
        for round in 0..ROUNDS {
            let short = soon("a publisher", origin.publisher::<Tick>("short"))
                .await
                .unwrap();
            short.publish(&Tick::new(round, 20)).unwrap();
            let tick = soon("its message", ticks.recv()).await.unwrap();
            assert_eq!((tick.n.to_native(), ticks.lost()), (round, 0));
        }
        drop(feed);
        settled(&origin).await;
    });
}

#[test]
fn a_subscription_that_is_given_up_leaves_nothing_behind() {
    let place = Place::new();
    threads(async {
        let reader = place.config("reader").join().await.unwrap();
        let origin = place.config("origin").join().await.unwrap();
        let feed = origin.publisher::<Tick>("feed").history(1).await.unwrap();
        send(&feed, 1, 20).await.unwrap();
        for yields in 0..20 {
            let subscribing = tokio::spawn(reader.subscriber::<Tick>("feed").group("g").into_future());
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            subscribing.abort();
            let _ = subscribing.await;
            let publishing = tokio::spawn(origin.publisher::<Tick>("given.up").into_future());
            for _ in 0..yields / 4 {
                tokio::task::yield_now().await;
            }
            publishing.abort();
            let _ = publishing.await;
        }
        eventually("no subscriber is known", || feed.stats().subscribers == 0).await;
        drop(feed);
        settled(&origin).await;
        // Nobody publishes it any more, so it may have another type.
        #[derive(ShmMessage)]
        struct Another {
            text: String,
        }
        let another = origin.publisher::<Another>("given.up").await;
        assert!(another.is_ok(), "{another:?}");
    });
}

#[test]
fn an_actor_that_stops_is_unsubscribed() {
    let place = Place::new();
    system(async {
        let mut reader = join(&place, "reader").await;
        let bus = place.config("origin").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        reader.ok("actor a feed").await;
        let own = Listener::actor(&bus, "feed", "").await.unwrap();
        assert_eq!(feed.stats().subscribers, 2);
        send(&feed, 3, 20).await.unwrap();
        reader.until_count("a", 3).await;
        reader.ok("stop a").await;
        own.stop();
        eventually("nobody subscribes", || {
            feed.publish(&Tick::new(0, 20)).unwrap();
            feed.stats().subscribers == 0
        })
        .await;
        assert_eq!(reader.number_of("count a").await, 3);
        settled(&bus).await;
    });
}
