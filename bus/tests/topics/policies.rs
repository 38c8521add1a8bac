//! What happens to a message for which a subscription has no room.

use futures_util::FutureExt;
use shmbus::error::{Bound, SendError};

use crate::{
    listener::{Listener, Tick, gapless, numbers},
    party::{fill, join, join_threads, send},
    support::{Place, eventually, settled, soon, system, threads},
};

#[test]
fn a_subscription_that_is_waited_for_makes_publishers_wait_and_loses_nothing() {
    let place = Place::new();
    system(async {
        let mut slow = join(&place, "slow").await;
        slow.ok("stream s feed full=wait depth=8 idle").await;
        let mut other = join_threads(&place, "other").await;
        other.ok("stream s feed").await;
        let bus = place.config("origin").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        assert_eq!(fill(&feed, 100, 100), 8);
        let full = feed.publish(&Tick::new(8, 100));
        let Err(SendError::Full { name, bound }) = full else {
            panic!("{full:?}")
        };
        assert_eq!((name.as_str(), bound), ("feed", Bound::Window));
        // Nobody got what was refused, and it has no number.
        other.until_count("s", 8).await;
        assert_eq!((feed.stats().published, feed.stats().dropped), (8, 0));
        // One that is given up is not published, one that waits is, when there is room.
        let given_up = Tick::new(99, 100);
        assert!(feed.publish_wait(&given_up).now_or_never().is_none());
        let waiting = feed.clone();
        let waiting = actix::spawn(async move { send(&waiting, 20, 100).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        for more in 1..=5 {
            slow.ok("permit s 1").await;
            slow.until_count("s", more).await;
            other.until_count("s", 8 + more).await;
            assert_eq!(feed.stats().published, 8 + more);
        }
        slow.ok("permit s 1000").await;
        soon("all are published", waiting).await.unwrap().unwrap();
        for reader in [&mut slow, &mut other] {
            reader.until_count("s", 28).await;
            let log = reader.log("s").await;
            gapless(&numbers(&log, "origin", "feed"), 0, 28);
            assert!(log.iter().all(|entry| entry.n == entry.seq), "none was given up");
            assert_eq!(reader.number_of("lost s").await, 0);
        }
        settled(&bus).await;
    });
}

/// What is accepted for a subscription that is waited for is sent: it is not kept where its publisher's death would take it
/// along. With one slot free, a message of two is not accepted.
#[test]
fn what_is_accepted_for_a_subscription_that_is_waited_for_is_in_the_queue() {
    let place = Place::new();
    system(async {
        let mut stopped = join(&place, "stopped").await;
        stopped.ok("stream s feed full=wait depth=64").await;
        let config = place.config("origin").ring_slots(16).returns(32);
        let bus = config.join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        stopped.freeze().await;
        assert_eq!(fill(&feed, 1, 0), 1);
        assert_eq!(fill(&feed, 100, 40), 7);
        stopped.thaw();
        stopped.until_count("s", 8).await;
        settled(&bus).await;
    });
}

#[test]
fn many_waiting_publishers_all_go_in_the_end() {
    let place = Place::new();
    threads(async {
        let mut slow = join(&place, "slow").await;
        slow.ok("stream s feed full=wait depth=2").await;
        let bus = place.config("origin").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        let second = bus.publisher::<Tick>("feed").await.unwrap();
        let publishing = (0..20u64).map(|at| {
            let feed = if at % 2 == 0 { feed.clone() } else { second.clone() };
            tokio::spawn(async move {
                for _ in 0..25 {
                    feed.publish_wait(&Tick::new(at, (at * 3) as usize))
                        .await
                        .unwrap();
                }
            })
        });
        soon("all are published", futures_util::future::join_all(publishing)).await;
        slow.until_count("s", 500).await;
        let log = slow.log("s").await;
        for at in 0..20 {
            assert_eq!(log.iter().filter(|entry| entry.n == at).count(), 25);
        }
        let mut sequences = numbers(&log, "origin", "feed");
        sequences.sort_unstable();
        let twice: Vec<u64> = (0..250).flat_map(|n| [n, n]).collect();
        assert_eq!(sequences, twice);
        settled(&bus).await;
    });
}

#[test]
fn the_newest_are_dropped_for_one_and_counted_and_the_others_get_all() {
    let place = Place::new();
    system(async {
        let mut slow = join(&place, "slow").await;
        let mut quick = join(&place, "quick").await;
        slow.ok("stream s feed full=drop depth=8 idle").await;
        quick.ok("stream s feed full=wait depth=16").await;
        let bus = place.config("origin").join().await.unwrap();
        let own = Listener::stream(&bus, "feed", "depth=4 idle").await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        soon("no waiting for the slow", send(&feed, 100, 100))
            .await
            .unwrap();
        quick.until_count("s", 100).await;
        assert_eq!(slow.number_of("lost s").await, 92);
        assert_eq!(own.lost().await, 96);
        assert_eq!(feed.stats().dropped, 92 + 96);
        eventually("only what the slow may hold", || bus.stats().pool_buffers == 8).await;
        // What they hold is what came first; after that they get what comes next.
        slow.ok("permit s 8").await;
        own.permit(4);
        eventually("they have read", || bus.stats().pool_buffers == 0).await;
        send(&feed, 20, 100).await.unwrap();
        slow.ok("permit s 100").await;
        own.permit(100);
        slow.until_count("s", 16).await;
        eventually("all is read", || own.count() == 8).await;
        let lists = [
            (8, numbers(&slow.log("s").await, "origin", "feed")),
            (4, numbers(&own.log(), "origin", "feed")),
        ];
        for (depth, list) in lists {
            let wanted: Vec<u64> = (0..depth).chain(100..100 + depth).collect();
            assert_eq!(list, wanted);
        }
        assert_eq!((slow.number_of("lost s").await, own.lost().await), (104, 112));
        assert_eq!(feed.stats().dropped, 104 + 112);
        settled(&bus).await;
    });
}

#[test]
fn the_last_are_kept_and_what_they_pushed_out_is_counted() {
    let place = Place::new();
    system(async {
        let mut reader = join(&place, "reader").await;
        // The queue is at the subscriber's side here, because its process takes in what comes.
        reader.ok("stream wide feed full=keep:4 depth=64 idle").await;
        reader.ok("stream tight feed full=keep:4 depth=5 idle").await;
        let bus = place.config("origin").join().await.unwrap();
        let own = Listener::stream(&bus, "feed", "full=keep:4 idle").await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        soon("no waiting", send(&feed, 100, 100)).await.unwrap();
        for id in ["wide", "tight"] {
            reader.ok(&format!("permit {id} 1000")).await;
        }
        own.permit(1000);
        // The tight one may have had the first in its queue before the last four were sent.
        for id in ["wide", "tight"] {
            let mut log = Vec::new();
            while !log.ends_with(&[96, 97, 98, 99]) {
                log = numbers(&reader.log(id).await, "origin", "feed");
            }
            assert!(log.is_sorted() && log.len() <= 8, "{id}: {log:?}");
            let lost = reader.number_of(&format!("lost {id}")).await;
            assert_eq!(lost + log.len() as u64, 100, "{id}");
        }
        eventually("the last are there", || {
            numbers(&own.log(), "origin", "feed").ends_with(&[96, 97, 98, 99])
        })
        .await;
        assert_eq!(own.lost().await + own.count() as u64, 100);
        settled(&bus).await;
    });
}

#[test]
fn losses_are_exact_for_each_publisher() {
    let place = Place::new();
    threads(async {
        let reader = place.config("reader").join().await.unwrap();
        let drops = Listener::stream(&reader, "feed.*", "full=drop depth=4")
            .await
            .unwrap();
        let keeps = Listener::stream(&reader, "feed.*", "full=keep:3 depth=6")
            .await
            .unwrap();
        let mut parties = Vec::new();
        for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
            let mut party = join(&place, name).await;
            party.ok(&format!("publish p feed.{name}")).await;
            assert_eq!(party.topic("p").await[4], 2);
            parties.push((name, party, 500 + 100 * at as u64));
        }
        for (_, party, count) in &parties {
            party.say(format!("send p {count} 20"));
        }
        for (_, party, _) in &mut parties {
            party.expect("ok").await;
        }
        for listener in [&drops, &keeps] {
            let mut total = 0;
            for (name, party, count) in &mut parties {
                let topic = format!("feed.{name}");
                let (_, losses) = listener.losses().await;
                let lost = losses
                    .iter()
                    .find(|lost| lost.topic == topic && lost.publisher == *name);
                assert!(lost.is_some(), "no {name} in {losses:?}");
                // Until what is on its way has come.
                let counted = async || {
                    let (_, losses) = listener.losses().await;
                    let lost = losses.iter().find(|lost| lost.topic == topic).unwrap().messages;
                    let got = numbers(&listener.log(), name, &topic);
                    assert!(got.is_sorted_by(|a, b| a < b));
                    (lost, got.len() as u64)
                };
                soon("each is received or lost", async {
                    loop {
                        let (lost, got) = counted().await;
                        assert!(lost + got <= *count);
                        if lost + got == *count {
                            total += lost;
                            return;
                        }
                        tokio::task::yield_now().await;
                    }
                })
                .await;
                assert_eq!(party.topic("p").await[0], *count);
            }
            assert_eq!(listener.lost().await, total);
        }
        // What is lost of one that goes stays counted.
        let (drops_lost, keeps_lost) = (drops.lost().await, keeps.lost().await);
        let mut dropped = 0;
        for (_, party, _) in &mut parties {
            dropped += party.topic("p").await[3];
        }
        assert!(dropped >= drops_lost, "{dropped} of {drops_lost} + {keeps_lost}");
        parties[0].1.kill();
        parties[1].1.ok("unpublish p").await;
        parties[2].1.expect_after("leave", "left").await;
        eventually("they have gone", || reader.peers() == ["b"]).await;
        soon("nobody publishes", async {
            while !drops.losses().await.1.is_empty() {}
        })
        .await;
        assert_eq!((drops.lost().await, keeps.lost().await), (drops_lost, keeps_lost));
    });
}

/// What waits at the publisher when it ends will never come, and is counted.
#[test]
fn what_a_publisher_still_keeps_when_it_ends_counts_as_lost() {
    let place = Place::new();
    threads(async {
        let reader = place.config("reader").join().await.unwrap();
        let origin = place.config("origin").join().await.unwrap();
        let ticks = Listener::stream(&reader, "feed", "full=keep:4 depth=8 hold")
            .await
            .unwrap();
        let feed = origin.publisher::<Tick>("feed").await.unwrap();
        assert_eq!(feed.stats().subscribers, 1);
        send(&feed, 4, 100).await.unwrap();
        eventually("four are held", || ticks.count() == 4).await;
        send(&feed, 10, 100).await.unwrap();
        assert_eq!(ticks.lost().await, 6);
        drop(feed);
        soon("the last four are given up", async {
            while ticks.lost().await != 10 {}
        })
        .await;
        assert_eq!(ticks.release(10), 4);
        settled(&origin).await;
        assert_eq!(ticks.count(), 4);
    });
}
