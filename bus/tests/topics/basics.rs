//! One publisher, many subscribers; many publishers; who sent what, and what it costs.

use std::time::{Duration, Instant, SystemTime};

use shmbus::error::SendError;

use crate::{
    listener::{Listener, Tick, gapless, numbers},
    party::{join, join_threads, send},
    support::{Place, eventually, settled, soon, system, threads},
};

#[test]
fn every_subscriber_gets_every_message_in_order_in_whatever_process() {
    const COUNT: u64 = 600;
    let place = Place::new();
    system(async {
        let mut one = join(&place, "one").await;
        let mut two = join_threads(&place, "two").await;
        let bus = place.config("origin").join().await.unwrap();
        one.ok("stream s feed full=wait").await;
        one.ok("actor a feed full=wait depth=16").await;
        two.ok("stream s feed full=wait depth=16").await;
        two.ok("stream t feed full=wait").await;
        let stream = Listener::stream(&bus, "feed", "full=wait").await.unwrap();
        let actor = Listener::actor(&bus, "feed", "full=wait depth=8").await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        assert_eq!((feed.topic(), feed.stats().subscribers), ("feed", 6));
        let from = SystemTime::now();
        for n in 0..COUNT {
            // In the slot, in a buffer, and once in a segment of its own.
            let len = match n {
                300 => (8 << 20) + 1,
                n if n % 3 == 0 => 0,
                n => (n * 7) as usize,
            };
            soon("room", feed.publish_wait(&Tick::new(n, len))).await.unwrap();
        }
        let until = SystemTime::now();
        let mut logs = Vec::new();
        for id in ["s", "a"] {
            one.until_count(id, COUNT).await;
            logs.push(one.log(id).await);
        }
        for id in ["s", "t"] {
            two.until_count(id, COUNT).await;
            logs.push(two.log(id).await);
        }
        for listener in [&stream, &actor] {
            eventually("all have come", || listener.count() as u64 == COUNT).await;
            logs.push(listener.log());
        }
        for log in logs {
            assert_eq!(log.len() as u64, COUNT);
            gapless(&numbers(&log, "origin", "feed"), 0, COUNT);
            let nanos =
                |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
            assert!(log.iter().all(|entry| entry.n == entry.seq && !entry.again));
            assert!(log.is_sorted_by_key(|entry| entry.time_ns));
            assert!(log[0].time_ns >= nanos(from) && log[599].time_ns <= nanos(until));
        }
        let stats = feed.stats();
        assert_eq!(
            (stats.published, stats.delivered, stats.dropped),
            (COUNT, 6 * COUNT, 0)
        );
        for child in [&mut one, &mut two] {
            assert_eq!(child.number_of("lost s").await, 0);
        }
        settled(&bus).await;
    });
}

#[test]
fn several_publishers_of_one_topic_are_told_apart() {
    let place = Place::new();
    threads(async {
        let bus = place.config("reader").join().await.unwrap();
        let early = Listener::stream(&bus, "feed", "full=wait").await.unwrap();
        let mut parties = Vec::new();
        for name in ["a", "b", "c"] {
            let mut party = join(&place, name).await;
            party.ok("publish p feed").await;
            parties.push(party);
        }
        let own = bus.publisher::<Tick>("feed").await.unwrap();
        let late = Listener::stream(&bus, "feed", "full=wait depth=16")
            .await
            .unwrap();
        let mut other = join(&place, "other").await;
        other.ok("stream s feed full=wait").await;
        for party in &parties {
            party.say("send p 300 20");
        }
        soon("all are sent", send(&own, 300, 0)).await.unwrap();
        for party in &mut parties {
            party.expect("ok").await;
        }
        other.until_count("s", 1200).await;
        for listener in [&early, &late] {
            eventually("all have come", || listener.count() == 1200).await;
        }
        for log in [early.log(), late.log(), other.log("s").await] {
            for publisher in ["a", "b", "c", "reader"] {
                gapless(&numbers(&log, publisher, "feed"), 0, 300);
            }
        }
        // Two publishers of one node count by themselves.
        let second = bus.publisher::<Tick>("feed").await.unwrap();
        send(&second, 5, 0).await.unwrap();
        other.until_count("s", 1205).await;
        let log = other.log("s").await;
        gapless(&numbers(&log[1200..], "reader", "feed"), 0, 5);
        let (_, losses) = early.losses().await;
        assert_eq!(losses.len(), 5);
        assert!(
            losses
                .iter()
                .all(|lost| lost.messages == 0 && lost.topic == "feed")
        );
    });
}

#[test]
fn wildcards_select_topics_and_each_message_says_which() {
    let place = Place::new();
    system(async {
        let mut publisher = join(&place, "origin").await;
        let mut reader = join(&place, "reader").await;
        let topics = ["md.ticks", "md.ticks.nasdaq", "md.trades", "weather"];
        // Half the publishers come before the subscribers, half after.
        for topic in &topics[..2] {
            publisher.ok(&format!("publish {topic} {topic}")).await;
        }
        let patterns = ["md.*", "md.>", ">", "*.ticks", "weather"];
        for pattern in patterns {
            reader.ok(&format!("stream {pattern} {pattern}")).await;
        }
        for topic in &topics[2..] {
            publisher.ok(&format!("publish {topic} {topic}")).await;
        }
        for (at, topic) in topics.iter().enumerate() {
            publisher.ok(&format!("send {topic} {} 0", at + 1)).await;
        }
        for (pattern, selected) in [
            ("md.*", vec![0, 2]),
            ("md.>", vec![0, 1, 2]),
            (">", vec![0, 1, 2, 3]),
            ("*.ticks", vec![0]),
            ("weather", vec![3]),
        ] {
            let total: usize = selected.iter().map(|at| at + 1).sum();
            reader.until_count(pattern, total as u64).await;
            let log = reader.log(pattern).await;
            assert_eq!(log.len(), total, "{pattern}");
            for at in selected {
                gapless(&numbers(&log, "origin", topics[at]), 0, at as u64 + 1);
            }
        }
        // Descriptors went only to those whose pattern matches.
        let [.., delivered, _, subscribers] = publisher.topic("weather").await;
        assert_eq!((delivered, subscribers), (8, 2));
    });
}

#[test]
fn a_message_takes_one_buffer_however_many_subscribers_hold_it() {
    let place = Place::new();
    system(async {
        let mut readers = Vec::new();
        for name in ["a", "b", "c"] {
            let mut reader = join(&place, name).await;
            reader.ok("stream s feed hold").await;
            readers.push(reader);
        }
        let bus = place.config("origin").join().await.unwrap();
        let own = Listener::stream(&bus, "feed", "hold").await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        for messages in 1..=3 {
            send(&feed, 1, 5000).await.unwrap();
            for reader in &mut readers {
                reader.until_count("s", messages).await;
            }
            eventually("it has come", || own.count() as u64 == messages).await;
            let stats = bus.stats();
            assert_eq!((stats.pool_buffers, stats.unreleased), (messages, 4 * messages));
        }
        own.release(3);
        for (at, reader) in readers.iter_mut().enumerate() {
            let left = 3 * (3 - at as u64);
            eventually("the release is seen", || bus.stats().unreleased == left).await;
            assert_eq!(bus.stats().pool_buffers, 3, "the others hold them");
            assert_eq!(reader.number_of("release s 3").await, 3);
        }
        settled(&bus).await;
    });
}

#[test]
fn publishing_without_subscribers_archives_and_allocates_nothing() {
    let place = Place::new();
    system(async {
        // Nothing longer than this can be archived, so what is published is not.
        let bus = place.config("origin").message_bytes(100).join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        for n in 0..1000 {
            feed.publish(&Tick::new(n, 1000)).unwrap();
            feed.publish_wait(&Tick::new(n, 1000)).await.unwrap();
        }
        let stats = feed.stats();
        assert_eq!((stats.published, stats.bytes, stats.delivered), (2000, 0, 0));
        assert_eq!((bus.stats().pool_reserved_bytes, bus.stats().sent), (0, 0));
        // A subscriber of another topic changes nothing.
        let mut reader = join(&place, "reader").await;
        reader.ok("stream s other").await;
        feed.publish(&Tick::new(0, 1000)).unwrap();
        assert_eq!((bus.stats().pool_reserved_bytes, bus.stats().sent), (0, 0));
        reader.ok("stream t feed").await;
        let refused = feed.publish(&Tick::new(0, 1000));
        assert!(
            matches!(refused, Err(SendError::TooLarge { limit: 100, .. })),
            "{refused:?}"
        );
        feed.publish(&Tick::new(2001, 50)).unwrap();
        reader.until_count("t", 1).await;
        assert_eq!(reader.log("t").await[0].seq, 2001, "what nobody got is counted");
        reader.ok("end t").await;
        eventually("it is known to have gone", || feed.stats().subscribers == 0).await;
        feed.publish(&Tick::new(0, 1000)).unwrap();
        settled(&bus).await;
    });
}

#[test]
fn the_counts_of_a_topic_add_up() {
    let place = Place::new();
    system(async {
        let mut reader = join(&place, "reader").await;
        let bus = place.config("origin").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").history(5).await.unwrap();
        send(&feed, 10, 100).await.unwrap();
        let bytes = feed.stats().bytes;
        assert!(
            (1100..1400).contains(&bytes),
            "ten archives of 100 bytes and a little: {bytes}"
        );
        reader.ok("stream full feed depth=8 idle").await;
        reader.ok("stream all feed full=wait").await;
        reader.until_count("all", 5).await;
        assert_eq!(feed.stats().delivered, 10, "the history, twice");
        for n in 10..30 {
            soon("room", feed.publish_wait(&Tick::new(n, 100))).await.unwrap();
        }
        reader.until_count("all", 25).await;
        let stats = feed.stats();
        assert_eq!(
            (stats.published, stats.bytes, stats.subscribers),
            (30, 3 * bytes, 2)
        );
        // 25 to one; 8 to the other, which has room for no more.
        assert_eq!((stats.delivered, stats.dropped), (33, 17));
        assert_eq!(reader.number_of("lost full").await, 17);
        assert_eq!(reader.number_of("lost all").await, 0);
        reader.ok("end full").await;
        reader.ok("end all").await;
        eventually("both have gone", || feed.stats().subscribers == 0).await;
        eventually("only the history is kept", || bus.stats().pool_buffers == 5).await;
        drop(feed);
        settled(&bus).await;
    });
}

/// Its last messages may still wait for the frame that brings their segment, of which the end must not get ahead: behind
/// a message of a topic that is not known any more, nothing would ever be read.
#[test]
fn a_publisher_that_ends_at_once_holds_up_nothing_in_its_own_process() {
    let place = Place::new();
    system(async {
        let bus = place.config("alone").join().await.unwrap();
        let listener = Listener::stream(&bus, "feed.*", "full=wait").await.unwrap();
        for (round, len) in [300, (8 << 20) + 1, 300].into_iter().enumerate() {
            let short = bus.publisher::<Tick>("feed.short").await.unwrap();
            short.publish(&Tick::new(0, len)).unwrap();
            drop(short);
            let next = bus.publisher::<Tick>("feed.next").await.unwrap();
            soon("room", next.publish_wait(&Tick::new(1, 300))).await.unwrap();
            eventually("both have come", || listener.count() == 2 * (round + 1)).await;
        }
        let log = listener.log();
        assert!(log.iter().map(|entry| entry.n).eq([0, 1].repeat(3)));
        settled(&bus).await;
    });
}

#[test]
fn leaving_ends_streams_and_publishers_at_once() {
    let place = Place::new();
    system(async {
        let mut other = join(&place, "other").await;
        other.ok("stream s feed").await;
        other.ok("publish p back").await;
        let bus = place.config("origin").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").history(3).await.unwrap();
        let quotes = bus.publisher::<Tick>("quotes").await.unwrap();
        let mut back = bus.subscriber::<Tick>("back").await.unwrap();
        let actor = Listener::actor(&bus, "back", "").await.unwrap();
        send(&feed, 10, 100).await.unwrap();
        let begin = Instant::now();
        bus.leave().await;
        let took = begin.elapsed();
        assert!(took < Duration::from_millis(900), "leaving took {took:?}");
        assert!(soon("the end of the stream", back.recv()).await.is_none());
        assert!(back.try_recv().is_none());
        for publisher in [&feed, &quotes] {
            let closed = publisher.publish(&Tick::new(0, 0));
            assert!(matches!(closed, Err(SendError::Closed { .. })), "{closed:?}");
            let closed = soon("an answer", publisher.publish_wait(&Tick::new(0, 0))).await;
            assert!(matches!(closed, Err(SendError::Closed { .. })), "{closed:?}");
        }
        // What was published before is read all the same; then there is nobody to be told.
        other.until_count("s", 10).await;
        other.until("topic p", "0 0 0 0 0").await;
        other.ok("send p 5 0").await;
        assert_eq!(actor.count(), 0);
        assert_eq!(other.number_of("lost s").await, 0);
    });
}
