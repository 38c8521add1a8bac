//! What must hold after a cell's strike.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use shmbus::{faults::Point, prelude::*};

use crate::{
    cell::Cell,
    row::Role,
    support::{eventually, settled, soon},
    traffic::{HELD, KEPT, Traffic},
    world::{Party, World},
};

/// A death is known within this, also on a loaded machine. In the table's footer stands how long it took.
const AT_ONCE: Duration = Duration::from_secs(5);

impl Traffic {
    /// The victim has survived: everything there was to do is done, once and in order.
    pub async fn finish(&mut self, cell: Cell, world: &mut World, victim: &mut Party) {
        let messages = cell.row.load.messages();
        let all = || (0..messages).map(|seq| (seq, false));
        match (cell.role, cell.row.point) {
            (Role::Sender | Role::Asker, _) => {
                victim.expect("done").await;
                assert_eq!(victim.acked.len() as u64, messages);
                let seen = world.seen.clone();
                eventually("all came", || seen.borrow().len() as u64 >= messages).await;
                all_of(cell, &world.seen.borrow());
            }
            (Role::Receiver | Role::Answerer, _) => {
                let sent = self.sent().await;
                assert_eq!((sent.done, sent.lost), (messages, 0));
                victim
                    .until("all came", |victim| victim.got.len() as u64 >= messages)
                    .await;
                all_of(cell, &numbers(&victim.got));
            }
            (Role::Publisher, Point::History) => {
                let new = soon("subscribed", self.subscribing.take().expect("begun")).await;
                let listener = new.expect("no panic");
                eventually("the history came", || listener.log().len() as u64 >= KEPT).await;
                assert!(listener.log().into_iter().eq((0..KEPT).map(|seq| (seq, false))));
                self.listener = Some(listener);
            }
            (Role::Publisher, Point::HandOver) => {
                world
                    .bystander
                    .until("all came", |party| party.got.len() as u64 >= messages)
                    .await;
                once(&[], &world.bystander.got, messages);
            }
            (Role::Publisher, _) => {
                victim.expect("done").await;
                assert_eq!(victim.acked.len() as u64, messages);
                let listener = self.listener.as_ref().expect("prepared");
                eventually("all came", || listener.log().len() as u64 >= messages).await;
                assert!(listener.log().into_iter().eq(all()), "{:?}", listener.log());
                assert_eq!(listener.lost(), 0);
                self.bystander_got_all(world, messages).await;
            }
            (Role::Subscriber, _) => {
                victim.expect("subscribed").await;
                assert_eq!(self.sent().await.done, messages);
                victim
                    .until("all came", |victim| victim.got.len() as u64 >= messages)
                    .await;
                assert!(victim.got.iter().copied().eq(all()), "{:?}", victim.got);
                assert_eq!(victim.number("lost").await, 0);
                self.bystander_got_all(world, messages).await;
            }
            (Role::Member, point) => {
                if point == Point::Refusing {
                    victim.expect("ended").await;
                } else {
                    victim.expect("subscribed").await;
                    assert_eq!(self.sent().await.done, messages);
                }
                let settles = world.bus.clone();
                settled(&settles).await;
                let deadline = Instant::now() + AT_ONCE;
                while (victim.got.len() + world.bystander.got.len() < messages as usize)
                    && Instant::now() < deadline
                {
                    victim.number("lost").await;
                    world.bystander.number("lost").await;
                }
                let again = world.bystander.got.iter().filter(|(_, again)| *again).count() as u64;
                assert_eq!(again, if point == Point::Refusing { HELD } else { 0 });
                once(&victim.got, &world.bystander.got, messages);
            }
        }
        settled(&world.bus).await;
    }

    async fn bystander_got_all(&self, world: &mut World, messages: u64) {
        let bystander = &mut world.bystander;
        bystander
            .until("all came", |party| party.got.len() as u64 >= messages)
            .await;
        assert!(
            bystander
                .got
                .iter()
                .copied()
                .eq((0..messages).map(|seq| (seq, false)))
        );
        assert_eq!(bystander.number("lost").await, 0);
    }

    /// The victim is dead: who waited for it knows, and all that it had sent is there. Returns how long asks and
    /// tells took to fail.
    pub async fn after_death(
        &mut self,
        cell: Cell,
        world: &mut World,
        victim: &mut Party,
        died: Instant,
    ) -> Option<Duration> {
        let messages = cell.row.load.messages();
        let mut failed_after = None;
        let acked = victim.acked.len() as u64;
        assert!(
            cell.role == Role::Asker || victim.acked.iter().copied().eq(0..acked),
            "{:?}",
            victim.acked
        );
        match (cell.role, cell.row.point) {
            (Role::Sender, _) => {
                world.settled_but_for_the_log().await;
                let seen = world.seen.borrow();
                in_order(&seen);
                let came = seen.len() as u64;
                assert!(
                    (acked..=acked + cell.row.load.run()).contains(&came),
                    "{acked} told, {came} came"
                );
            }
            (Role::Asker, _) => {
                world.settled_but_for_the_log().await;
                let seen = world.seen.borrow();
                none_twice(&seen);
                let answered: BTreeSet<_> = victim.acked.iter().collect();
                assert_eq!(answered.len(), victim.acked.len(), "an answer came twice");
                assert!(seen.len() as u64 >= acked);
            }
            (Role::Receiver | Role::Answerer, _) => {
                match cell.role {
                    Role::Receiver => in_order(&numbers(&victim.got)),
                    _ => none_twice(&numbers(&victim.got)),
                }
                let mut watch = world.bus.watch("post");
                while soon("it is known to be down", watch.next()).await == Some(Presence::Up) {}
                if self.opened.get() {
                    let sent = self.sent().await;
                    assert!(sent.lost > 0, "nothing was under way");
                    let after = sent.at.saturating_duration_since(died);
                    assert!(after < AT_ONCE, "the survivor knew after {after:?}");
                    failed_after = Some(after);
                    if cell.role == Role::Answerer {
                        assert!(sent.done <= victim.got.len() as u64);
                    }
                } else if let Some(task) = self.task.take() {
                    // Its address is looked up until somebody else has the name.
                    assert!(!task.is_finished());
                    task.abort();
                }
            }
            (Role::Publisher, Point::History) => {
                let new = soon("subscribed", self.subscribing.take().expect("begun")).await;
                let listener = new.expect("no panic");
                // What was sent before it died came.
                let sent = u64::from(cell.row.nth()) - 1;
                eventually("what was sent came", || listener.log().len() as u64 >= sent).await;
                assert!(listener.log().into_iter().eq((0..sent).map(|seq| (seq, false))));
                self.listener = Some(listener);
            }
            (Role::Publisher, Point::HandOver) => {
                // What it took back has died with it, apart from what it had given to the other.
                let fresh = |party: &Party| party.got.iter().filter(|(_, again)| !again).count() as u64;
                let bystander = &mut world.bystander;
                bystander
                    .until("all that was published came", |party| {
                        fresh(party) >= messages - HELD
                    })
                    .await;
                bystander.number("lost").await;
                let mut got: Vec<_> = world.bystander.got.clone();
                got.sort_unstable();
                got.dedup_by_key(|(seq, _)| *seq);
                assert_eq!(got.len(), world.bystander.got.len(), "{got:?}");
                let first = got.iter().filter(|(_, again)| !again).count() as u64;
                assert_eq!(first, messages - HELD);
            }
            (Role::Publisher, _) => {
                let listener = self.listener.as_ref().expect("prepared");
                eventually("all that was published came", || {
                    listener.log().len() as u64 >= acked
                })
                .await;
                let bystander = &mut world.bystander;
                bystander
                    .until("all that was published came", |party| {
                        party.got.len() as u64 >= acked
                    })
                    .await;
                bystander.number("lost").await;
                for log in [&listener.log(), &bystander.got] {
                    let came = log.len() as u64;
                    assert!(
                        log.iter().copied().eq((0..came).map(|seq| (seq, false))),
                        "{log:?}"
                    );
                    assert!(came <= acked + 1, "{acked} published, {came} came");
                }
                assert_eq!((listener.lost(), bystander.number("lost").await), (0, 0));
            }
            (Role::Subscriber, _) => {
                in_order(&numbers(&victim.got));
                assert_eq!(self.sent().await.done, messages);
                self.bystander_got_all(world, messages).await;
            }
            (Role::Member, point) => {
                if point != Point::Refusing {
                    assert_eq!(self.sent().await.done, messages);
                }
                // What it had handled and released is the only thing that the other does not get.
                settled(&world.bus).await;
                let missing = |party: &Party| {
                    let mine = victim.got.iter().chain(&party.got).map(|(seq, _)| *seq);
                    messages - mine.collect::<BTreeSet<_>>().len() as u64
                };
                world
                    .bystander
                    .until("all came", |party| missing(party) == 0)
                    .await;
                assert!(victim.got.iter().all(|(_, again)| !again));
                in_order_with_gaps(&victim.got);
                let marked: BTreeSet<_> = world
                    .bystander
                    .got
                    .iter()
                    .filter(|(_, again)| *again)
                    .map(|(seq, _)| *seq)
                    .collect();
                // Handled by the dead but not released: given to another, and marked.
                let only = victim.got.iter().filter(|(seq, _)| !marked.contains(seq));
                once(&only.copied().collect::<Vec<_>>(), &world.bystander.got, messages);
            }
        }
        failed_after
    }
}

/// From 0 on, once, without gaps.
#[track_caller]
fn in_order(seen: &[u64]) {
    assert!(seen.iter().copied().eq(0..seen.len() as u64), "{seen:?}");
}

fn numbers(got: &[(u64, bool)]) -> Vec<u64> {
    got.iter().map(|(seq, _)| *seq).collect()
}

#[track_caller]
fn none_twice(seen: &[u64]) {
    let different: BTreeSet<_> = seen.iter().collect();
    assert_eq!(different.len(), seen.len(), "{seen:?}");
}

/// All of a cell, once; tells also in order. Of asks that wait for room at the same time, each tries for itself.
#[track_caller]
fn all_of(cell: Cell, seen: &[u64]) {
    assert_eq!(seen.len() as u64, cell.row.load.messages(), "{seen:?}");
    match cell.role {
        Role::Asker | Role::Answerer => none_twice(seen),
        _ => in_order(seen),
    }
}

#[track_caller]
fn in_order_with_gaps(got: &[(u64, bool)]) {
    assert!(got.is_sorted_by(|a, b| a.0 < b.0), "{got:?}");
}

/// Each message with one of them, once.
#[track_caller]
fn once(one: &[(u64, bool)], other: &[(u64, bool)], messages: u64) {
    let mut all: Vec<_> = one.iter().chain(other).map(|(seq, _)| *seq).collect();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..messages), "{one:?} and {other:?}");
    let fresh: Vec<_> = other.iter().filter(|(_, again)| !again).copied().collect();
    in_order_with_gaps(&fresh);
}

impl World {
    /// Everything that came from the dead has been handled.
    async fn settled_but_for_the_log(&mut self) {
        let bus = self.bus.clone();
        eventually("the victim is forgotten", || bus.peers() == ["bystander"]).await;
        // The actor of this thread had its turn: the check's question came to it later.
        self.check().await;
        let (handled, seen) = (|| bus.stats().unreleased, self.seen.clone());
        let mut before = usize::MAX;
        eventually("nothing more comes", || {
            let now = seen.borrow().len();
            handled() == 0 && std::mem::replace(&mut before, now) == now
        })
        .await;
    }
}
