//! Subscribers that do not run: they slow nobody, pin no more than their depth, and learn what they lost.

use std::time::Duration;

use shmbus::prelude::*;

use crate::{
    listener::{Listener, Tick, gapless, numbers},
    party::{join, send},
    support::{Place, eventually, settled, soon, system, threads},
};

#[test]
fn a_stopped_subscriber_slows_nobody_and_pins_no_more_than_its_depth() {
    const COUNT: u64 = 1500;
    let place = Place::new();
    system(async {
        let mut stopped = join(&place, "stopped").await;
        stopped.ok("stream drops feed full=drop depth=10").await;
        stopped.ok("stream keeps feed full=keep:5 depth=20").await;
        let mut runs = join(&place, "runs").await;
        runs.ok("stream s feed full=wait").await;
        let bus = place.config("origin").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        send(&feed, 5, 100).await.unwrap();
        for id in ["drops", "keeps"] {
            stopped.until_count(id, 5).await;
        }
        settled(&bus).await;
        stopped.freeze().await;
        soon("a stopped subscriber is not waited for", send(&feed, COUNT, 100))
            .await
            .unwrap();
        runs.until_count("s", 5 + COUNT).await;
        // The first ten for one; the first fifteen and the last five for the other.
        eventually("no more is pinned", || bus.stats().pool_buffers <= 20).await;
        assert_eq!(bus.stats().pool_buffers, 20);
        let stats = feed.stats();
        assert_eq!(stats.dropped, (COUNT - 10) + (COUNT - 20));
        stopped.thaw();
        stopped.until_count("drops", 15).await;
        let log = stopped.log("drops").await;
        gapless(&numbers(&log, "origin", "feed"), 0, 15);
        assert_eq!(stopped.number_of("lost drops").await, COUNT - 10);
        let end = 5 + COUNT;
        let mut log = Vec::new();
        while log.last() != Some(&(end - 1)) {
            log = numbers(&stopped.log("keeps").await, "origin", "feed");
        }
        assert!(
            log.ends_with(&[end - 5, end - 4, end - 3, end - 2, end - 1]),
            "{log:?}"
        );
        assert_eq!(stopped.number_of("lost keeps").await + log.len() as u64, end);
        gapless(&numbers(&runs.log("s").await, "origin", "feed"), 0, end);
        assert_eq!(runs.number_of("lost s").await, 0);
        settled(&bus).await;
        // And goes on as before.
        send(&feed, 5, 100).await.unwrap();
        stopped.until_count("drops", 20).await;
        assert_eq!(stopped.number_of("lost drops").await, COUNT - 10);
    });
}

/// A publisher reaches everybody who runs, whoever else is stopped.
#[test]
fn a_stopped_process_holds_up_no_publisher_that_begins() {
    let place = Place::new();
    system(async {
        let mut stopped = join(&place, "stopped").await;
        let mut runs = join(&place, "runs").await;
        for reader in [&mut stopped, &mut runs] {
            reader.ok("stream s feed").await;
        }
        let bus = place
            .config("origin")
            .lookup_deadline(Duration::from_millis(300))
            .announce_deadline(Duration::from_millis(300))
            .join()
            .await
            .unwrap();
        stopped.freeze().await;
        let feed = soon("a publisher", bus.publisher::<Tick>("feed")).await.unwrap();
        send(&feed, 5, 30).await.unwrap();
        runs.until_count("s", 5).await;
        stopped.thaw();
        eventually("it is reached when it goes on", || feed.stats().subscribers == 2).await;
        send(&feed, 5, 30).await.unwrap();
        runs.until_count("s", 10).await;
        stopped.until_count("s", 5).await;
        gapless(&numbers(&stopped.log("s").await, "origin", "feed"), 5, 10);
        settled(&bus).await;
    });
}

#[test]
fn a_publisher_that_is_given_up_is_none() {
    let place = Place::new();
    threads(async {
        let mut stopped = join(&place, "stopped").await;
        stopped.ok("stream s *").await;
        let short = Duration::from_millis(300);
        let bus = place
            .config("origin")
            .announce_deadline(short)
            .join()
            .await
            .unwrap();
        let other = bus.subscriber::<Tick>("feed").await.unwrap();
        stopped.freeze().await;
        // It waits for the one that is stopped.
        let publishing = tokio::spawn(bus.publisher::<Tick>("feed").into_future());
        eventually("it is under way", || other.losses().len() == 1).await;
        publishing.abort();
        assert!(publishing.await.unwrap_err().is_cancelled());
        eventually("it is no more", || other.losses().is_empty()).await;
        drop(other);
        // So the topic may have another type.
        #[derive(ShmMessage)]
        pub struct Another {
            pub text: String,
        }
        soon("a subscriber", bus.subscriber::<Another>("feed"))
            .await
            .unwrap();
        stopped.thaw();
        stopped.expect_after("count s", "0").await;
    });
}

/// Whoever subscribes waits for the publishers that are known, but not for ever.
#[test]
fn a_stopped_publisher_is_told_to_who_subscribes() {
    let place = Place::new();
    system(async {
        let mut publisher = join(&place, "origin").await;
        publisher.ok("publish p feed").await;
        let bus = place.config("reader").join().await.unwrap();
        publisher.freeze().await;
        let short = Duration::from_millis(50);
        let late = bus.subscriber::<Tick>("feed").deadline(short).await;
        let Err(error) = late else {
            panic!("a stopped publisher answered")
        };
        assert!(
            error.to_string().contains("feed") && error.to_string().contains("50ms"),
            "{error}"
        );
        // Nothing of it is left when the publisher goes on.
        publisher.thaw();
        let listener = soon("an answer", Listener::stream(&bus, "feed", ""))
            .await
            .unwrap();
        eventually("one subscriber", || listener.count() == 0).await;
        while publisher.topic("p").await[4] != 1 {}
        publisher.ok("send p 3 20").await;
        eventually("they come once", || listener.count() == 3).await;
        assert_eq!(publisher.topic("p").await[2], 3);
    });
}
