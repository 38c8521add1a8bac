//! The last messages, for those who come later.

use crate::{
    listener::{Listener, Tick, gapless, numbers},
    party::{join, join_threads, send},
    support::{Place, eventually, settled, soon, system, threads},
};

#[test]
fn a_late_joiner_gets_the_last_messages_and_then_the_live_ones() {
    let place = Place::new();
    system(async {
        let bus = place.config("origin").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").history(5).await.unwrap();
        let mut reader = join(&place, "reader").await;
        for (id, published) in [("none", 0), ("some", 3), ("all", 20)] {
            send(&feed, published - feed.next_sequence(), (published * 10) as usize)
                .await
                .unwrap();
            reader.ok(&format!("stream {id} feed")).await;
            reader.until_count(id, published.min(5)).await;
        }
        let own = Listener::stream(&bus, "feed", "").await.unwrap();
        let actor = Listener::actor(&bus, "feed", "depth=2 full=wait").await.unwrap();
        // Too long for the IO queue: each takes a buffer.
        soon("room", send(&feed, 10, 150)).await.unwrap();
        for (id, from) in [("none", 0), ("some", 0), ("all", 15)] {
            reader.until_count(id, 30 - from).await;
            gapless(&numbers(&reader.log(id).await, "origin", "feed"), from, 30);
            assert_eq!(reader.number_of(&format!("lost {id}")).await, 0);
        }
        for listener in [&own, &actor] {
            eventually("all have come", || listener.count() == 15).await;
            gapless(&numbers(&listener.log(), "origin", "feed"), 15, 30);
        }
        // The history is all that is kept, and it goes with its publisher.
        eventually("only the history", || bus.stats().pool_buffers == 5).await;
        drop(feed);
        settled(&bus).await;
    });
}

/// More history than the newcomer has room for comes as fast as it reads, and nothing overtakes it.
#[test]
fn a_history_beyond_the_depth_comes_in_order() {
    let place = Place::new();
    system(async {
        let mut reader = join(&place, "reader").await;
        let bus = place.config("origin").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").history(50).await.unwrap();
        send(&feed, 100, 30).await.unwrap();
        reader.ok("stream waits feed full=wait depth=4").await;
        reader.ok("stream drops feed full=drop depth=4 idle").await;
        reader.ok("stream keeps feed full=keep:4 depth=8 idle").await;
        reader.until_count("waits", 50).await;
        soon("room", send(&feed, 10, 30)).await.unwrap();
        reader.until_count("waits", 60).await;
        gapless(&numbers(&reader.log("waits").await, "origin", "feed"), 50, 110);
        for id in ["drops", "keeps"] {
            reader.ok(&format!("permit {id} 1000")).await;
        }
        // The history waits for the one, so what was new was dropped.
        reader.until_count("drops", 50).await;
        gapless(&numbers(&reader.log("drops").await, "origin", "feed"), 50, 100);
        assert_eq!(reader.number_of("lost drops").await, 10);
        let mut log = Vec::new();
        while log.last() != Some(&109) {
            log = numbers(&reader.log("keeps").await, "origin", "feed");
        }
        assert!(log.ends_with(&[106, 107, 108, 109]) && log.is_sorted(), "{log:?}");
        assert_eq!(reader.number_of("lost keeps").await + log.len() as u64, 60);
        drop(feed);
        settled(&bus).await;
    });
}

#[test]
fn there_is_no_gap_and_no_duplicate_however_fast_the_publisher_is() {
    const HISTORY: u64 = 10;
    let place = Place::new();
    threads(async {
        let mut publisher = join_threads(&place, "origin").await;
        publisher.ok(&format!("publish p feed {HISTORY}")).await;
        publisher.ok(&format!("send p {HISTORY} 40")).await;
        let mut reader = join(&place, "reader").await;
        let bus = place.config("own").join().await.unwrap();
        publisher.ok("flood p 40").await;
        let mut own = Vec::new();
        let mut before = Vec::new();
        for round in 0..12 {
            let policy = ["full=wait depth=64", "full=wait depth=3"][round % 2];
            before.push(publisher.topic("p").await[0]);
            reader.ok(&format!("stream {round} feed {policy}")).await;
            own.push(Listener::stream(&bus, "feed", policy).await.unwrap());
        }
        // Some of them live on, some leave under way.
        let left = own.split_off(8);
        for listener in &left {
            eventually("it gets some", || listener.count() > 30).await;
            listener.end().await;
        }
        let end = publisher.number_of("calm p").await;
        for round in 0..12u64 {
            let id = round.to_string();
            while numbers(&reader.log(&id).await, "origin", "feed").last() != Some(&(end - 1)) {}
            let log = numbers(&reader.log(&id).await, "origin", "feed");
            gapless(&log, log[0], end);
            // It had the history of the moment when it was attached, which was later than `before`.
            assert!(
                log[0] + HISTORY >= before[round as usize],
                "{} {}",
                log[0],
                before[round as usize]
            );
            assert_eq!(reader.number_of(&format!("lost {id}")).await, 0);
        }
        for (listener, before) in own.iter().zip(&before) {
            eventually("all have come", || {
                numbers(&listener.log(), "origin", "feed").last() == Some(&(end - 1))
            })
            .await;
            let log = numbers(&listener.log(), "origin", "feed");
            gapless(&log, log[0], end);
            assert!(log[0] + HISTORY >= *before);
        }
        for listener in &left {
            let log = numbers(&listener.log(), "origin", "feed");
            gapless(&log, log[0], log[0] + log.len() as u64);
        }
        assert_eq!(publisher.topic("p").await[3], 0);
    });
}

/// With a policy that drops, what is missing is counted, and nothing comes twice.
#[test]
fn a_late_joiner_of_a_fast_publisher_counts_what_it_lost() {
    let place = Place::new();
    threads(async {
        let mut publisher = join_threads(&place, "origin").await;
        publisher.ok("publish p feed 10").await;
        publisher.ok("flood p 40").await;
        let mut reader = join(&place, "reader").await;
        let ids: Vec<String> = (0..8).map(|round| round.to_string()).collect();
        for (round, id) in ids.iter().enumerate() {
            let policy = ["full=drop depth=5", "full=keep:5 depth=12"][round % 2];
            reader.ok(&format!("stream {id} feed {policy}")).await;
        }
        let keeps = |id: &str| id.parse::<usize>().is_ok_and(|round| round % 2 == 1);
        reader.until_more("0", 300).await;
        let end = publisher.number_of("calm p").await;
        for id in &ids {
            soon("each is received or lost", async {
                loop {
                    let log = numbers(&reader.log(id).await, "origin", "feed");
                    assert!(log.is_sorted_by(|a, b| a < b), "twice, or out of order");
                    let lost = reader.number_of(&format!("lost {id}")).await;
                    let first = log.first().copied().unwrap_or(end);
                    if log.len() as u64 + lost >= end - first {
                        // Where the last are kept, newer ones may push out what was before the first that
                        // came; where the newest are dropped, the history comes first and nothing is lost
                        // before it.
                        let most = end - first + 10;
                        let all = log.len() as u64 + lost;
                        assert!(keeps(id) || all <= most, "{} + {lost} > {most}", log.len());
                        return;
                    }
                }
            })
            .await;
        }
    });
}
