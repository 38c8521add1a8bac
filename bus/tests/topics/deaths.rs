//! Processes that are killed: what they held comes back, what they published is read to the end.

use shmbus::prelude::*;

use crate::{
    listener::{Listener, Tick, gapless, numbers},
    party::{fill, join, join_threads, send},
    support::{Place, eventually, settled, soon, system, threads},
};

#[test]
fn what_a_killed_subscriber_held_is_the_publishers_again() {
    let place = Place::new();
    system(async {
        let mut lives = join(&place, "lives").await;
        lives.ok("stream s feed full=wait").await;
        let bus = place.config("origin").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        for (round, options) in [
            "full=drop depth=16 hold",
            "full=drop depth=16 idle",
            "full=keep:8 depth=16 hold",
            "full=wait depth=64 hold",
        ]
        .into_iter()
        .enumerate()
        {
            let mut victim = join(&place, &format!("victim{round}")).await;
            victim.ok(&format!("stream s feed {options}")).await;
            victim.ok(&format!("stream t feed {options}")).await;
            assert_eq!(feed.stats().subscribers, 3);
            soon("room", send(&feed, 40, 3000)).await.unwrap();
            lives.until_count("s", 40 * (round as u64 + 1)).await;
            eventually("it is held", || bus.stats().pool_buffers >= 16).await;
            victim.kill();
            settled(&bus).await;
            eventually("two have gone", || feed.stats().subscribers == 1).await;
        }
        // One that was waited for is waited for no more.
        let mut victim = join(&place, "last").await;
        victim.ok("stream s feed full=wait depth=4 hold").await;
        assert_eq!(fill(&feed, 100, 100), 4);
        let waiting = feed.clone();
        let waiting = actix::spawn(async move { send(&waiting, 6, 100).await });
        tokio::task::yield_now().await;
        victim.kill();
        soon("it goes on", waiting).await.unwrap().unwrap();
        lives.until_count("s", 170).await;
        gapless(&numbers(&lives.log("s").await, "origin", "feed"), 0, 170);
        settled(&bus).await;
    });
}

#[test]
fn everything_that_a_killed_publisher_published_is_read() {
    let place = Place::new();
    threads(async {
        let reader = place.config("reader").join().await.unwrap();
        let reads = Listener::stream(&reader, "feed", "full=wait").await.unwrap();
        let idles = Listener::stream(&reader, "feed", "full=wait idle").await.unwrap();
        let mut other = join(&place, "other").await;
        other.ok("stream s feed full=drop depth=1000 idle").await;
        for round in 0..3u64 {
            let name = format!("origin{round}");
            let mut publisher = join(&place, &name).await;
            publisher.ok("publish p feed").await;
            assert_eq!(publisher.topic("p").await[4], 3);
            // More than a reader takes at a time; the one process does not even run.
            other.freeze().await;
            let published = publisher.number_of("try p 900 30").await;
            assert_eq!(published, 900);
            publisher.kill();
            other.thaw();
            eventually("all is read", || {
                numbers(&reads.log(), &name, "feed").len() == 900
            })
            .await;
            eventually("it is known to be gone", || reader.peers() == ["other"]).await;
            idles.permit(900);
            other.ok("permit s 900").await;
            other.until_count("s", 900 * (round + 1)).await;
            eventually("all is read later", || idles.count() as u64 == 900 * (round + 1)).await;
            for log in [reads.log(), idles.log(), other.log("s").await] {
                gapless(&numbers(&log, &name, "feed"), 0, 900);
            }
        }
        for listener in [&reads, &idles] {
            let (lost, losses) = listener.losses().await;
            assert_eq!((lost, losses.len()), (0, 0), "{losses:?}");
        }
        assert_eq!(other.number_of("lost s").await, 0);
    });
}

#[test]
fn what_was_lost_of_a_killed_publisher_stays_counted() {
    let place = Place::new();
    threads(async {
        let reader = place.config("reader").join().await.unwrap();
        let reads = Listener::stream(&reader, "feed", "full=drop depth=10 hold")
            .await
            .unwrap();
        let mut publisher = join_threads(&place, "origin").await;
        publisher.ok("publish p feed").await;
        assert_eq!(publisher.topic("p").await[4], 1);
        publisher.ok("send p 50 30").await;
        let dropped = publisher.topic("p").await[3];
        assert_eq!(dropped, 40);
        publisher.kill();
        eventually("it is known to be gone", || reader.peers().is_empty()).await;
        assert_eq!(reads.count(), 10);
        soon("it is forgotten", async {
            while !reads.losses().await.1.is_empty() {}
        })
        .await;
        assert_eq!(reads.lost().await, 40);
        // What is held of the dead is still readable, and goes nowhere.
        assert_eq!(reads.release(10), 10);
        // Its successor begins anew.
        let mut publisher = join(&place, "origin").await;
        publisher.ok("publish p feed").await;
        assert_eq!(publisher.topic("p").await[4], 1);
        publisher.ok("send p 3 30").await;
        eventually("its messages come", || reads.count() == 13).await;
        gapless(&numbers(&reads.log()[10..], "origin", "feed"), 0, 3);
        assert_eq!(reads.lost().await, 40);
    });
}

/// The queue at the subscriber counts what it pushes out, also of a publisher that is gone.
#[test]
fn what_is_pushed_out_of_the_queue_is_counted_also_when_its_publisher_is_gone() {
    let place = Place::new();
    threads(async {
        let reader = place.config("reader").join().await.unwrap();
        let keeps = Listener::stream(&reader, "feed", "full=keep:5 depth=40 idle")
            .await
            .unwrap();
        let mut first = join(&place, "first").await;
        let mut second = join(&place, "second").await;
        for publisher in [&mut first, &mut second] {
            publisher.ok("publish p feed").await;
            assert_eq!(publisher.topic("p").await[4], 1);
        }
        first.ok("send p 20 30").await;
        soon("fifteen are pushed out", async {
            while keeps.lost().await != 15 {}
        })
        .await;
        first.kill();
        eventually("it is known to be gone", || reader.peers() == ["second"]).await;
        second.ok("send p 3 30").await;
        soon("three more are pushed out", async {
            while keeps.lost().await != 18 {}
        })
        .await;
        keeps.permit(100);
        eventually("five are left", || keeps.count() == 5).await;
        let log = keeps.log();
        gapless(&numbers(&log, "first", "feed"), 18, 20);
        gapless(&numbers(&log, "second", "feed"), 0, 3);
    });
}

/// A process that publishes and subscribes is killed in the middle of both.
#[test]
fn the_death_of_one_disturbs_nobody_else() {
    let place = Place::new();
    threads(async {
        let mut lives = join(&place, "lives").await;
        lives.ok("stream s feed.> full=wait").await;
        lives.ok("publish p feed.lives").await;
        let bus = place.config("own").join().await.unwrap();
        let own = Listener::stream(&bus, "feed.>", "full=wait").await.unwrap();
        for round in 0..4 {
            let name = format!("victim{round}");
            let mut victim = join_threads(&place, &name).await;
            victim.ok("stream s feed.> full=wait depth=8").await;
            victim.ok("publish p feed.victim").await;
            lives.ok("flood p 50").await;
            victim.ok("flood p 50").await;
            victim.until_more("s", 50).await;
            victim.kill();
            let end = lives.number_of("calm p").await;
            let is_last = |numbers: &[u64]| numbers.last() == Some(&(end - 1));
            eventually("all of the living", || {
                is_last(&numbers(&own.log(), "lives", "feed.lives"))
            })
            .await;
            let own_log = own.log();
            gapless(
                &numbers(&own_log, "lives", "feed.lives"),
                numbers(&own_log, "lives", "feed.lives")[0],
                end,
            );
            let of_victim = numbers(&own_log, &name, "feed.victim");
            let log = lives.log("s").await;
            let of_victim_there = numbers(&log, &name, "feed.victim");
            // Each got all up to some message, without a gap.
            for list in [&of_victim, &of_victim_there] {
                if let Some(first) = list.first() {
                    gapless(list, *first, *first + list.len() as u64);
                }
            }
        }
        assert_eq!((own.lost().await, lives.number_of("lost s").await), (0, 0));
        assert_eq!(bus.stats().violations, 0);
    });
}

#[test]
fn a_subscriber_may_outlive_its_bus_and_its_messages_their_publisher() {
    let place = Place::new();
    threads(async {
        let reader = place.config("reader").join().await.unwrap();
        let origin = place.config("origin").join().await.unwrap();
        let mut ticks = reader.subscriber::<Tick>("feed").await.unwrap();
        let feed = origin.publisher::<Tick>("feed").await.unwrap();
        assert_eq!(feed.stats().subscribers, 1);
        send(&feed, 3, 5000).await.unwrap();
        let held: Received<Tick> = soon("a message", ticks.recv()).await.unwrap();
        drop(feed);
        origin.leave().await;
        let next = soon("the next", ticks.recv()).await.unwrap();
        assert_eq!(
            (next.n.to_native(), next.origin().unwrap().publisher()),
            (1, "origin")
        );
        reader.leave().await;
        assert!(soon("the end", ticks.recv()).await.is_none());
        drop(ticks);
        assert_eq!(held.to_owned(), Tick::new(0, 5000));
        assert_eq!(held.origin().unwrap().topic(), "feed");
    });
}
