//! Once a publisher or a subscription is there, every peer that runs knows of it: the very next message counts.

use futures_util::future::join_all;
use shmbus::prelude::*;

use crate::{
    listener::Tick,
    party::{join, join_threads},
    support::{Child, Place, settled, soon, system, threads},
};

const ROUNDS: u64 = 200;

/// The subscriber's process says over another channel that it subscribes; then the topic begins, with one message.
async fn first_messages_arrive(mut reader: Child, bus: Bus) {
    for round in 0..ROUNDS {
        let topic = format!("feed.{round}");
        let pattern = [topic.as_str(), "*.*", "feed.>"][round as usize % 3];
        reader.ok(&format!("stream s {pattern}")).await;
        let feed = soon("a publisher", bus.publisher::<Tick>(topic.as_str()))
            .await
            .unwrap();
        // Nothing is awaited in between.
        feed.publish(&Tick::new(round, 20)).unwrap();
        assert_eq!(feed.stats().delivered, 1, "round {round}");
        reader.until_count("s", 1).await;
        assert_eq!(reader.log("s").await[0].n, round);
        reader.ok("forget s").await;
    }
    settled(&bus).await;
}

#[test]
fn a_publisher_reaches_with_its_first_message_who_subscribed_before() {
    let place = Place::new();
    system(async {
        let reader = join(&place, "reader").await;
        let bus = place.config("origin").join().await.unwrap();
        first_messages_arrive(reader, bus).await;
    });
    let place = Place::new();
    threads(async {
        let bus = place.config("origin").join().await.unwrap();
        let reader = join_threads(&place, "reader").await;
        first_messages_arrive(reader, bus).await;
    });
}

/// A topic and a subscription begin at the same time; the publisher's process is told over another channel when the
/// subscription is there, and publishes.
async fn what_follows_arrives(mut publishers: Vec<Child>, bus: Bus) {
    for round in 0..ROUNDS {
        let pattern = ["feed", "*", ">"][round as usize % 3];
        for publisher in &publishers {
            publisher.say("publish p feed");
        }
        for _ in 0..round % 5 {
            tokio::task::yield_now().await;
        }
        let mut ticks = soon("a subscription", bus.subscriber::<Tick>(pattern))
            .await
            .unwrap();
        for publisher in &publishers {
            publisher.say("send p 1 20");
        }
        let told = publishers.iter_mut().map(async |publisher| {
            publisher.expect("ok").await;
            publisher.expect("ok").await;
            assert_eq!(publisher.topic("p").await[2], 1, "round {round}");
            publisher.ok("unpublish p").await;
        });
        join_all(told).await;
        for _ in &publishers {
            let tick = soon("its message", ticks.recv()).await.unwrap();
            assert_eq!(tick.origin().unwrap().sequence(), 0);
        }
        assert_eq!(ticks.lost(), 0);
    }
    settled(&bus).await;
}

#[test]
fn a_subscription_gets_what_is_published_once_it_is_there() {
    let place = Place::new();
    threads(async {
        let mut publishers = vec![join(&place, "a").await];
        let bus = place.config("reader").join().await.unwrap();
        publishers.push(join_threads(&place, "b").await);
        what_follows_arrives(publishers, bus).await;
    });
}
