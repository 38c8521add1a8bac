//! Everything at once, at random: publishers and subscribers join, leave and are killed. At the end every
//! message is accounted for and all memory is back.
//!
//! About five seconds; a minute with `SHMBUS_SOAK=1`. `SHMBUS_SEED` repeats a run.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use shmbus::Lost;

use crate::{
    listener::{Entry, Listener, Tick},
    party::{join, join_threads, send},
    support::{Child, Place, eventually, settled, soon, threads},
};

/// xorshift: the choices of one run, by its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

const POLICIES: [&str; 5] = [
    "full=wait depth=32",
    "full=drop depth=8",
    "full=drop depth=200 idle",
    "full=keep:4 depth=16",
    "full=wait depth=16 group=work",
];

/// A process that comes and goes.
struct Guest {
    child: Child,
    floods: bool,
}

/// Checks what one listener got: in order and once of each publisher, and no more than was published.
#[track_caller]
fn check(log: &[Entry], group: bool, ends: &HashMap<(String, String), u64>) {
    let mut last: HashMap<(&str, &str), &Entry> = HashMap::new();
    for entry in log.iter().filter(|entry| !(group && entry.again)) {
        let key = (entry.publisher.as_str(), entry.topic.as_str());
        if let Some(before) = last.insert(key, entry) {
            // A guest may publish a topic a second time, which counts from 0.
            let begins_anew = entry.publisher != "lasting" && entry.time_ns > before.time_ns;
            assert!(entry.seq > before.seq || begins_anew, "{entry} after {before}");
        }
        if let Some(end) = ends.get(&(entry.publisher.clone(), entry.topic.clone())) {
            assert!(entry.seq < *end, "{entry} was never published");
        }
    }
}

#[test]
fn at_the_end_every_counter_adds_up() {
    let long = std::env::var("SHMBUS_SOAK").is_ok_and(|soak| soak == "1");
    let lasts = Duration::from_secs(if long { 60 } else { 5 });
    let seed = std::env::var("SHMBUS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() as u64 | 1
    });
    println!("SHMBUS_SEED={seed}");
    threads(soak(Dice(seed), lasts));
}

async fn soak(mut dice: Dice, lasts: Duration) {
    let place = Place::new();
    // These live through it all: a publisher and subscribers of every kind.
    let bus = place.config("lasting").join().await.unwrap();
    let steady = bus.publisher::<Tick>("feed.steady").history(4).await.unwrap();
    let mut witness = join(&place, "witness").await;
    for (at, policy) in POLICIES.iter().enumerate() {
        // A member for every topic: a group whose members have all died waits for the next one.
        let pattern = if policy.contains("group") {
            "feed.>"
        } else {
            "feed.steady"
        };
        witness.ok(&format!("stream {at} {pattern} {policy}")).await;
    }
    let all = Listener::stream(&bus, "feed.>", "full=drop depth=64")
        .await
        .unwrap();
    let counted = Listener::stream(&bus, "feed.steady", "full=keep:8")
        .await
        .unwrap();

    let mut guests: Vec<Guest> = Vec::new();
    let (mut names, mut ids) = (0u32, 0u32);
    let mut steps = 0;
    let until = Instant::now() + lasts;
    while Instant::now() < until {
        steps += 1;
        soon(
            "nobody holds up the steady one",
            send(&steady, 1 + dice.below(40), dice.below(300) as usize),
        )
        .await
        .unwrap();
        // What holds a group up, or a publisher that is waited for, is read now and then.
        witness.ok("permit 2 50").await;
        if guests.is_empty() || (guests.len() < 4 && dice.below(4) == 0) {
            names += 1;
            let name = format!("guest{names}");
            let child = match dice.below(2) {
                0 => join(&place, &name).await,
                _ => join_threads(&place, &name).await,
            };
            guests.push(Guest { child, floods: false });
            continue;
        }
        let at = dice.below(guests.len() as u64) as usize;
        ids += 1;
        let guest = &mut guests[at];
        match dice.below(12) {
            0 => {
                guest.child.kill();
                guests.swap_remove(at);
            }
            1 => {
                guest.child.expect_after("leave", "left").await;
                guests.swap_remove(at);
            }
            2 if guest.floods => {
                guest.child.number_of("calm p").await;
                guest.child.ok("unpublish p").await;
                guest.floods = false;
            }
            2..=4 if !guest.floods => {
                let topic = dice.pick(&["feed.steady", "feed.a", "feed.b.c"]);
                guest
                    .child
                    .ok(&format!("publish p {topic} {}", dice.below(3)))
                    .await;
                guest.child.ok(&format!("flood p {}", dice.below(200))).await;
                guest.floods = true;
            }
            5 => {
                guest.child.ok("forget s").await;
            }
            6 => {
                guest.child.freeze().await;
                // Only those that are not waited for are left stopped for a while.
                tokio::task::yield_now().await;
                guest.child.thaw();
            }
            _ => {
                let pattern = dice.pick(&["feed.steady", "feed.*", ">"]);
                let policy = dice.pick(&[
                    "full=wait depth=32",
                    "full=drop depth=8",
                    "full=keep:4 depth=16 hold",
                    "full=wait depth=16 group=work",
                ]);
                guest.child.ok(&format!("stream s {pattern} {policy}")).await;
            }
        }
    }
    // Peace.
    for mut guest in guests {
        if guest.floods {
            guest.child.number_of("calm p").await;
        }
        guest.child.expect_after("leave", "left").await;
    }
    eventually("all guests have gone", || bus.peers() == ["witness"]).await;
    witness.ok("permit 2 1000000").await;
    let published = steady.stats().published;
    println!("{steps} steps, {names} guests, {ids} changes, {published} published");
    assert_eq!(published, steady.next_sequence());
    let ends = HashMap::from([(("lasting".to_owned(), "feed.steady".to_owned()), published)]);
    for (at, policy) in POLICIES.iter().enumerate() {
        let group = policy.contains("group");
        let id = at.to_string();
        if group {
            check(&witness.log(&id).await, true, &ends);
            continue;
        }
        // Received or lost, all of it.
        soon("each message is accounted for", async {
            loop {
                let losses = witness.ask(format!("losses {id}")).await;
                let lost = losses
                    .split(' ')
                    .find_map(|entry| entry.strip_prefix("lasting|feed.steady|"))
                    .expect("the steady publisher");
                let lost: u64 = lost.parse().expect("a number");
                // The log itself is megabytes long, and asked for once.
                let got = witness.number_of(&format!("got {id} lasting")).await;
                assert!(lost + got <= published, "{policy}: {lost} + {got} > {published}");
                if policy.contains("wait") {
                    assert_eq!(lost, 0, "{policy}");
                }
                if lost + got == published {
                    return check(&witness.log(&id).await, false, &ends);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    let (_, losses) = counted.losses().await;
    let lost = |losses: &[Lost]| {
        losses
            .iter()
            .find(|lost| lost.publisher == "lasting")
            .map(|lost| lost.messages)
    };
    let got = counted
        .log()
        .iter()
        .filter(|entry| entry.publisher == "lasting")
        .count() as u64;
    assert_eq!(lost(&losses).map(|lost| lost + got), Some(published));
    check(&all.log(), false, &ends);
    // Those that live on are all there is; then the memory is back.
    assert_eq!(steady.stats().subscribers, 7);
    assert_eq!(bus.stats().violations, 0);
    drop(steady);
    settled(&bus).await;
    assert_eq!(witness.number_of("buffers").await, 0);
}
