//! Groups: each message is handled once, by whoever has room, also when members go or die.

use crate::{
    listener::{Entry, Listener, Tick, gapless, numbers},
    party::{fill, join, join_threads, send},
    support::{Child, Place, eventually, settled, soon, system, threads},
};

/// Waits until the logs of these members together have so many.
async fn until_together(members: &mut [&mut Child], wanted: u64) {
    soon("all are handled", async {
        loop {
            let mut count = 0;
            for member in members.iter_mut() {
                count += member.number_of("count g").await;
            }
            assert!(count <= wanted, "{count} of {wanted}");
            if count == wanted {
                return;
            }
        }
    })
    .await;
}

/// Every message exactly once in all these logs together.
#[track_caller]
fn once(logs: &[Vec<Entry>], end: u64) {
    let mut all: Vec<u64> = logs.iter().flatten().map(|entry| entry.seq).collect();
    all.sort_unstable();
    gapless(&all, 0, end);
}

#[test]
fn members_share_a_topic_and_each_message_is_handled_once() {
    let place = Place::new();
    system(async {
        let mut a = join(&place, "a").await;
        let mut b = join_threads(&place, "b").await;
        let mut c = join(&place, "c").await;
        a.ok("stream g feed full=wait depth=16 group=work").await;
        b.ok("stream g feed full=wait depth=16 group=work").await;
        c.ok("actor g feed full=wait depth=16 group=work").await;
        // Beside the group: another one, and a subscriber of its own.
        a.ok("stream other feed full=wait group=log").await;
        b.ok("stream alone feed full=wait").await;
        let bus = place.config("origin").join().await.unwrap();
        let own = Listener::stream(&bus, "feed", "full=wait depth=16 group=work")
            .await
            .unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        // Also the smallest go by buffers, so that they can be given to another.
        soon("room", send(&feed, 500, 0)).await.unwrap();
        soon("room", send(&feed, 500, 200)).await.unwrap();
        a.until_count("other", 1000).await;
        b.until_count("alone", 1000).await;
        let mut count = own.count() as u64;
        soon("all are handled", async {
            while count < 1000 {
                count = own.count() as u64;
                for member in [&mut a, &mut b, &mut c] {
                    count += member.number_of("count g").await;
                }
            }
        })
        .await;
        let logs = [a.log("g").await, b.log("g").await, c.log("g").await, own.log()];
        once(&logs, 1000);
        for (log, name) in logs.iter().zip(["a", "b", "c", "own"]) {
            assert!(log.len() >= 16, "{name} has got only {}", log.len());
            assert!(
                log.is_sorted_by_key(|entry| entry.seq),
                "{name} got them out of order"
            );
            assert!(log.iter().all(|entry| !entry.again));
        }
        gapless(&numbers(&a.log("other").await, "origin", "feed"), 0, 1000);
        gapless(&numbers(&b.log("alone").await, "origin", "feed"), 0, 1000);
        assert_eq!((feed.stats().delivered, feed.stats().dropped), (3000, 0));
        settled(&bus).await;
    });
}

#[test]
fn whoever_has_room_takes_the_next_and_without_room_publishers_wait_or_drop() {
    let place = Place::new();
    system(async {
        for (policy, more) in [("full=wait", 0), ("full=drop", 8)] {
            let mut slow = join(&place, "slow").await;
            let mut quick = join(&place, "quick").await;
            slow.ok(&format!("stream g feed depth=8 group=work idle {policy}"))
                .await;
            quick
                .ok(&format!("stream g feed depth=8 group=work {policy}"))
                .await;
            let bus = place.config("origin").join().await.unwrap();
            let feed = bus.publisher::<Tick>("feed").await.unwrap();
            for _ in 0..200 {
                // One at a time: it goes to the one that has room.
                assert_eq!(fill(&feed, 1, 20), 1);
                eventually("it is handled or held", || bus.stats().unreleased <= 8).await;
            }
            quick.until_count("g", 192).await;
            quick.freeze().await;
            // Now nobody reads: the quick one's window, and what a dropping group lets wait.
            let accepted = fill(&feed, 100, 20);
            assert_eq!(accepted, if policy == "full=wait" { 8 } else { 100 });
            assert_eq!(
                feed.stats().dropped,
                if policy == "full=wait" { 0 } else { 100 - 8 - more }
            );
            quick.thaw();
            slow.ok("permit g 1000").await;
            let wanted = 208 + more;
            until_together(&mut [&mut slow, &mut quick], wanted).await;
            once(&[slow.log("g").await, quick.log("g").await], wanted);
            settled(&bus).await;
            bus.leave().await;
        }
    });
}

#[test]
fn what_a_killed_member_had_goes_to_another_and_is_marked() {
    let place = Place::new();
    threads(async {
        let bus = place.config("origin").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        let mut holds = join(&place, "holds").await;
        holds.ok("stream g feed full=wait depth=10 group=work hold").await;
        // Of these it releases three, holds two in hand, and three in its queue.
        holds.ok("stream t other").await;
        send(&feed, 5, 100).await.unwrap();
        holds.until_count("g", 5).await;
        assert_eq!(holds.number_of("release g 3").await, 3);
        eventually("three are back", || bus.stats().pool_buffers == 2).await;
        holds.freeze().await;
        send(&feed, 3, 100).await.unwrap();
        let mut heir = join(&place, "heir").await;
        heir.ok("stream g feed full=wait depth=10 group=work").await;
        assert_eq!(heir.number_of("count g").await, 0);
        holds.kill();
        heir.until_count("g", 5).await;
        let log = heir.log("g").await;
        gapless(&numbers(&log, "origin", "feed"), 3, 8);
        assert!(log.iter().all(|entry| entry.again && entry.n == entry.seq));
        send(&feed, 2, 100).await.unwrap();
        heir.until_count("g", 7).await;
        let log = heir.log("g").await;
        assert!(log[5..].iter().all(|entry| !entry.again));
        gapless(&numbers(&log, "origin", "feed"), 3, 10);
        settled(&bus).await;
    });
}

/// Members are killed one after the other while a publisher goes on.
#[test]
fn the_total_is_exact_however_many_members_are_killed() {
    const EACH: u64 = 200;
    let place = Place::new();
    threads(async {
        let bus = place.config("origin").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        let mut last = join(&place, "last").await;
        last.ok("stream g feed full=wait depth=16 group=work").await;
        let publish = || {
            let feed = feed.clone();
            tokio::spawn(async move { send(&feed, EACH, 60).await })
        };
        let mut logs = Vec::new();
        for round in 0..6 {
            let mut victim = join(&place, &format!("victim{round}")).await;
            victim.ok("stream g feed full=wait depth=16 group=work").await;
            // Whoever has room gets the next one, so that a newcomer may get few of the first.
            while victim.count("g").await < 20 {
                soon("the first are published", publish()).await.unwrap().unwrap();
            }
            // From now on it releases nothing, so what it has handled is exactly known, and it gets what it will hold.
            victim.ok("hold g").await;
            logs.push(victim.handled("g").await);
            soon("the next are published", publish()).await.unwrap().unwrap();
            let others = publish();
            victim.kill();
            soon("the others are published", others).await.unwrap().unwrap();
        }
        let count = feed.stats().published;
        let handled: usize = logs.iter().map(Vec::len).sum();
        last.until_count("g", count - handled as u64).await;
        logs.push(last.log("g").await);
        once(&logs, count);
        let again = logs.iter().flatten().filter(|entry| entry.again).count();
        assert!(again > 0, "nobody held anything");
        assert_eq!(feed.stats().dropped, 0);
        settled(&bus).await;
    });
}

#[test]
fn what_a_leaving_member_had_in_its_queue_goes_to_others_once() {
    let place = Place::new();
    threads(async {
        for ends in ["end g", "leave"] {
            let bus = place.config("origin").join().await.unwrap();
            let feed = bus.publisher::<Tick>("feed").await.unwrap();
            let mut leaver = join(&place, "leaver").await;
            leaver
                .ok("stream g feed full=wait depth=12 group=work idle")
                .await;
            send(&feed, 12, 100).await.unwrap();
            leaver.ok("permit g 4").await;
            leaver.until_count("g", 4).await;
            let mut stays = join(&place, "stays").await;
            stays.ok("stream g feed full=wait depth=3 group=work").await;
            let ended = leaver.ask(ends).await;
            assert!(ended == "ok" || ended == "left");
            stays.until_count("g", 8).await;
            let logs = [leaver.log("g").await, stays.log("g").await];
            once(&logs, 12);
            assert!(logs[1].iter().all(|entry| entry.again));
            eventually("one member is left", || feed.stats().subscribers == 1).await;
            soon("room", send(&feed, 5, 100)).await.unwrap();
            stays.until_count("g", 13).await;
            settled(&bus).await;
            bus.leave().await;
        }
    });
}

/// On one thread, a topic that waits for what a member still holds must not keep it from the others.
#[test]
fn what_is_given_back_of_one_topic_gets_to_it_while_another_waits_for_its_own() {
    let place = Place::new();
    system(async {
        let bus = place.config("origin").join().await.unwrap();
        let kept = bus.publisher::<Tick>("kept").await.unwrap();
        let given = bus.publisher::<Tick>("given").await.unwrap();
        let mut leaver = join(&place, "leaver").await;
        let mut stays = join(&place, "stays").await;
        leaver.ok("stream k kept full=wait depth=4 group=work hold").await;
        leaver
            .ok("stream g given full=wait depth=4 group=work idle")
            .await;
        send(&kept, 1, 100).await.unwrap();
        send(&given, 4, 100).await.unwrap();
        leaver.until_count("k", 1).await;
        leaver.ok("end k").await;
        eventually("its end is known", || kept.stats().subscribers == 0).await;
        stays.ok("stream g given full=wait depth=4 group=work").await;
        leaver.ok("end g").await;
        stays.until_count("g", 4).await;
        assert_eq!(leaver.number_of("release k 1").await, 1);
        settled(&bus).await;
    });
}

#[test]
fn a_group_whose_members_are_all_killed_loses_nothing_up_to_its_depth() {
    let place = Place::new();
    threads(async {
        let bus = place.config("origin").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        let mut members = Vec::new();
        for name in ["a", "b"] {
            let mut member = join(&place, name).await;
            member.ok("stream g feed full=wait depth=6 group=work hold").await;
            members.push(member);
        }
        assert_eq!(fill(&feed, 100, 100), 12);
        for member in &mut members {
            member.until_count("g", 6).await;
            member.kill();
        }
        eventually("nobody is left", || feed.stats().subscribers == 0).await;
        // What they held waits, beyond the depth; nothing more is taken on top of it.
        assert_eq!(bus.stats().pool_buffers, 12);
        assert_eq!(fill(&feed, 100, 100), 0);
        let waiting = feed.clone();
        let waiting = tokio::spawn(async move { send(&waiting, 4, 100).await });
        let mut heir = join(&place, "heir").await;
        heir.ok("stream g feed full=wait depth=6 group=work").await;
        heir.until_count("g", 16).await;
        soon("it goes on", waiting).await.unwrap().unwrap();
        let log = heir.log("g").await;
        let mut again: Vec<_> = log
            .iter()
            .filter(|entry| entry.again)
            .map(|entry| entry.seq)
            .collect();
        again.sort_unstable();
        gapless(&again, 0, 12);
        once(&[log], 16);
        settled(&bus).await;
        // The group without members keeps what comes, up to its depth.
        heir.freeze().await;
        assert_eq!(fill(&feed, 2, 100), 2);
        heir.kill();
        eventually("nobody is left", || feed.stats().subscribers == 0).await;
        assert_eq!(fill(&feed, 100, 100), 4);
        let mut next = join(&place, "next").await;
        next.ok("stream g feed full=wait depth=6 group=work").await;
        next.until_count("g", 6).await;
        gapless(&numbers(&next.log("g").await, "origin", "feed"), 16, 22);
        settled(&bus).await;
    });
}

#[test]
fn a_group_is_over_when_its_publisher_ends_or_its_last_member_leaves() {
    let place = Place::new();
    threads(async {
        let bus = place.config("origin").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        let mut member = join(&place, "member").await;
        member.ok("stream g feed full=wait depth=6 group=work hold").await;
        send(&feed, 4, 100).await.unwrap();
        member.until_count("g", 4).await;
        member.ok("end g").await;
        assert_eq!(member.number_of("release g 4").await, 4);
        settled(&bus).await;
        // What is published before the end is known here comes back, and is kept for a next member.
        eventually("its end is known", || feed.stats().subscribers == 0).await;
        eventually("nobody wants it", || {
            feed.publish(&Tick::new(0, 100)).unwrap();
            bus.stats().pool_buffers == 0
        })
        .await;
        let bytes = feed.stats().bytes;
        send(&feed, 100, 100).await.unwrap();
        assert_eq!(
            feed.stats().bytes,
            bytes,
            "nothing is archived for a group that is over"
        );
        // A publisher that ends takes along what waits for members.
        member.ok("stream h feed full=wait depth=6 group=work hold").await;
        send(&feed, 6, 100).await.unwrap();
        member.until_count("h", 6).await;
        let refused = feed.publish(&Tick::new(0, 100));
        assert!(refused.is_err(), "{refused:?}");
        drop(feed);
        member.kill();
        settled(&bus).await;
    });
}

/// A member whose actor stops gives back what had not reached it; what it had is not counted as handled
/// by anybody else.
#[test]
fn an_actor_that_stops_leaves_its_share_to_the_others() {
    let place = Place::new();
    system(async {
        let bus = place.config("origin").join().await.unwrap();
        let feed = bus.publisher::<Tick>("feed").await.unwrap();
        let mut member = join(&place, "member").await;
        member.ok("actor g feed full=wait depth=8 group=work").await;
        let mut stays = join(&place, "stays").await;
        stays.ok("stream g feed full=wait depth=8 group=work").await;
        soon("room", send(&feed, 50, 50)).await.unwrap();
        until_together(&mut [&mut member, &mut stays], 50).await;
        member.ok("stop g").await;
        for _ in 0..50 {
            soon("room", send(&feed, 1, 50)).await.unwrap();
        }
        until_together(&mut [&mut member, &mut stays], 100).await;
        once(&[member.log("g").await, stays.log("g").await], 100);
        eventually("one member is left", || feed.stats().subscribers == 1).await;
        settled(&bus).await;
    });
}
