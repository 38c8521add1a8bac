//! One cell of the matrix: what a role does, when it is struck, and what must hold then.

use std::{
    cell::Cell as Flag,
    collections::BTreeSet,
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use shmbus::{
    error::{AskError, SendError},
    faults::Point,
    prelude::*,
};
use tokio::task::JoinHandle;

use crate::{
    party::{ASKS, Item, Listener, MESSAGES, Question, ask, item, settled},
    support::{eventually, soon},
    world::{Party, World},
};

/// A death is known within this, also on a loaded machine. In the table's footer stands how long it took.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Messages that a topic keeps where a late joiner is wanted.
const KEPT: u64 = 8;
/// Messages that a member holds unread where it is to give them back.
const HELD: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Sender,
    Receiver,
    Publisher,
    Subscriber,
    Member,
    Asker,
    Answerer,
}

impl Role {
    pub const ALL: [Role; 7] = [
        Role::Sender,
        Role::Receiver,
        Role::Publisher,
        Role::Subscriber,
        Role::Member,
        Role::Asker,
        Role::Answerer,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Role::Sender => "sender",
            Role::Receiver => "receiver",
            Role::Publisher => "publisher",
            Role::Subscriber => "subscriber",
            Role::Member => "member",
            Role::Asker => "asker",
            Role::Answerer => "answerer",
        }
    }

    fn sends(self) -> bool {
        matches!(
            self,
            Role::Sender | Role::Publisher | Role::Asker | Role::Answerer
        )
    }

    fn gets(self) -> bool {
        !matches!(self, Role::Sender | Role::Publisher)
    }

    /// Whether it opens the link that its messages take.
    fn opens(self) -> bool {
        matches!(self, Role::Sender | Role::Publisher | Role::Asker)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    Kill,
    StopContinue,
    StopKill,
}

impl Strike {
    pub const ALL: [Strike; 3] = [Strike::Kill, Strike::StopContinue, Strike::StopKill];

    pub fn name(self) -> &'static str {
        match self {
            Strike::Kill => "KILL",
            Strike::StopContinue => "STOP, CONT",
            Strike::StopKill => "STOP, KILL",
        }
    }
}

/// Why a role never comes to a point: a letter, and what it stands for.
pub const REASONS: [(char, &str); 9] = [
    ('a', "sends no messages"),
    ('b', "gets no messages"),
    ('c', "whoever answers it has room kept, and never waits"),
    ('d', "its links are opened by the other side"),
    ('e', "opens its links itself"),
    (
        'f',
        "keeps no history, and no messages that wait for a subscription",
    ),
    ('g', "has no group to share messages among"),
    ('h', "gives nothing back unhandled: it is in no group"),
    (
        'i',
        "its publisher waits only while all members are full, which is not certain here",
    ),
];

/// `None`: the cell is tried.
pub fn not_applicable(point: Point, role: Role) -> Option<char> {
    let (reason, applies) = match point {
        Point::Taken
        | Point::Archiving
        | Point::Claimed
        | Point::Published
        | Point::Ringing
        | Point::Growing
        | Point::Announced => ('a', role.sends()),
        Point::Waking if role == Role::Asker => ('c', false),
        Point::Waking if role == Role::Member => ('i', false),
        Point::Delivered | Point::Returning | Point::Returned | Point::Waking => ('b', role.gets()),
        Point::LinkOffer => ('d', role.opens()),
        Point::LinkAnswer => ('e', !role.opens()),
        Point::History => ('f', role == Role::Publisher),
        Point::HandOver => ('g', role == Role::Publisher),
        Point::Refusing => ('h', role == Role::Member),
        Point::Parked
        | Point::DialHello
        | Point::DialVerdict
        | Point::DialEnd
        | Point::AcceptHello
        | Point::AcceptVerdict
        | Point::AcceptEnd => (' ', true),
    };
    (!applies).then_some(reason)
}

/// At which passage: somewhere in the midst of the traffic.
fn nth(point: Point) -> u32 {
    match point {
        Point::Claimed | Point::Published => 5,
        Point::Archiving | Point::Delivered => 4,
        Point::Taken | Point::History => 3,
        Point::Ringing | Point::Growing | Point::Announced | Point::Returning | Point::Returned => 2,
        Point::Parked | Point::HandOver | Point::Refusing => 2,
        _ => 1,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub point: Point,
    pub strike: Strike,
    pub role: Role,
}

/// What the survivor's own traffic came to.
struct Sent {
    done: u64,
    /// All of them were what a lost peer makes them.
    lost: u64,
    /// When the last of it was known.
    at: Instant,
}

/// The traffic of a cell, beside what the victim does by itself.
#[derive(Default)]
struct Traffic {
    task: Option<JoinHandle<Sent>>,
    /// Whether the survivor has its address.
    opened: Rc<Flag<bool>>,
    feed: Option<Publisher<Item>>,
    listener: Option<Listener>,
    subscribing: Option<JoinHandle<Listener>>,
}

fn lost(error: &SendError) -> bool {
    matches!(error, SendError::PeerLost { .. })
}

impl Traffic {
    /// What is there before the fault is armed.
    async fn prepare(&mut self, cell: Cell, world: &mut World, victim: &mut Party) {
        let group = if cell.role == Role::Member { "work" } else { "-" };
        match (cell.role, cell.point) {
            (Role::Sender | Role::Asker, _) => {}
            (Role::Receiver | Role::Answerer, _) => victim.order("bind post", "bound").await,
            (Role::Publisher, Point::History) => {
                victim.order(&format!("publish {KEPT} {KEPT}"), "done").await;
            }
            (Role::Publisher, Point::HandOver) => {
                self.listener = Some(Listener::new(&world.bus, "work", true, |_, _| ()).await);
                world.bystander.order("subscribe work eager", "subscribed").await;
                victim.order(&format!("publish {MESSAGES} 0"), "done").await;
            }
            (Role::Publisher, _) => {
                self.listener = Some(Listener::new(&world.bus, "", false, |_, _| ()).await);
                world.bystander.order("subscribe - eager", "subscribed").await;
            }
            (Role::Subscriber | Role::Member, point) => {
                self.feed = Some(world.bus.publisher("feed").await.expect("publisher"));
                let subscribe = format!("subscribe {group} eager");
                world.bystander.order(&subscribe, "subscribed").await;
                if point == Point::Refusing {
                    victim.order("subscribe work idle", "subscribed").await;
                    self.begin_publishing(world);
                    let sent = soon("published", self.task.take().expect("begun")).await;
                    assert_eq!(sent.expect("no panic").done, MESSAGES);
                }
            }
        }
    }

    async fn begin(&mut self, cell: Cell, world: &mut World, victim: &mut Party) {
        match (cell.role, cell.point) {
            (Role::Sender, _) => victim.say(&format!("tell {MESSAGES}")),
            (Role::Asker, _) => victim.say(&format!("ask {MESSAGES}")),
            (Role::Receiver, _) => self.begin_telling(world),
            (Role::Answerer, _) => self.begin_asking(world),
            (Role::Publisher, Point::History) => {
                let bus = world.bus.clone();
                let new = async move { Listener::new(&bus, "", false, |_, _| ()).await };
                self.subscribing = Some(actix::spawn(new));
            }
            (Role::Publisher, Point::HandOver) => {
                if let Some(listener) = self.listener.take() {
                    listener.end().await;
                }
            }
            (Role::Publisher, _) => victim.say(&format!("publish {MESSAGES} 0")),
            (Role::Member, Point::Refusing) => victim.say("end"),
            (Role::Subscriber | Role::Member, _) => {
                let group = if cell.role == Role::Member { "work" } else { "-" };
                victim.say(&format!("subscribe {group} eager"));
                self.begin_publishing(world);
            }
        }
    }

    fn begin_telling(&mut self, world: &World) {
        let (bus, opened) = (world.bus.clone(), self.opened.clone());
        self.task = Some(actix::spawn(async move {
            let address = bus.address::<Item>("post").await.expect("lookup");
            opened.set(true);
            let mut done = 0;
            while done < MESSAGES {
                match address.tell(&item(done)).await {
                    Ok(()) => done += 1,
                    Err(error) => {
                        assert!(lost(&error), "{error}");
                        break;
                    }
                }
            }
            let lost = MESSAGES - done;
            let at = Instant::now();
            Sent { done, lost, at }
        }));
    }

    fn begin_asking(&mut self, world: &World) {
        let (bus, opened) = (world.bus.clone(), self.opened.clone());
        self.task = Some(actix::spawn(async move {
            let address = bus.address::<Question>("post").await.expect("lookup");
            opened.set(true);
            let asks = (0..MESSAGES).map(|seq| {
                let address = address.clone();
                async move { ask(&address, seq).await }
            });
            let mut asks = futures_util::stream::iter(asks).buffer_unordered(ASKS);
            let mut done = 0;
            while let Some(asked) = asks.next().await {
                match asked {
                    Ok(()) => done += 1,
                    Err(AskError::PeerLost { .. }) => {}
                    Err(AskError::Send(error)) if lost(&error) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            let lost = MESSAGES - done;
            let at = Instant::now();
            Sent { done, lost, at }
        }));
    }

    /// Begins when the victim is subscribed, or gone.
    fn begin_publishing(&mut self, world: &World) {
        let (bus, feed) = (world.bus.clone(), self.feed.clone().expect("opened"));
        self.task = Some(actix::spawn(async move {
            let both = || feed.stats().subscribers == 2 || bus.peers() == ["bystander"];
            eventually("both are subscribed, or one is gone", both).await;
            for seq in 0..MESSAGES {
                feed.publish_wait(&item(seq)).await.expect("publish");
            }
            let at = Instant::now();
            let (done, lost) = (MESSAGES, 0);
            Sent { done, lost, at }
        }));
    }

    async fn sent(&mut self) -> Sent {
        let task = self.task.take().expect("begun");
        soon("the survivor's traffic ends", task).await.expect("no panic")
    }

    /// The victim has survived: everything there was to do is done, once and in order.
    async fn finish(&mut self, cell: Cell, world: &mut World, victim: &mut Party) {
        let all = || (0..MESSAGES).map(|seq| (seq, false));
        match (cell.role, cell.point) {
            (Role::Sender | Role::Asker, _) => {
                victim.expect("done").await;
                assert_eq!(victim.acked.len() as u64, MESSAGES);
                let seen = world.seen.clone();
                eventually("all came", || seen.borrow().len() as u64 >= MESSAGES).await;
                all_of(cell.role, &world.seen.borrow());
            }
            (Role::Receiver | Role::Answerer, _) => {
                let sent = self.sent().await;
                assert_eq!((sent.done, sent.lost), (MESSAGES, 0));
                victim
                    .until("all came", |victim| victim.got.len() as u64 >= MESSAGES)
                    .await;
                all_of(cell.role, &numbers(&victim.got));
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
                    .until("all came", |party| party.got.len() as u64 >= MESSAGES)
                    .await;
                once(&[], &world.bystander.got);
            }
            (Role::Publisher, _) => {
                victim.expect("done").await;
                assert_eq!(victim.acked.len() as u64, MESSAGES);
                let listener = self.listener.as_ref().expect("prepared");
                eventually("all came", || listener.log().len() as u64 >= MESSAGES).await;
                assert!(listener.log().into_iter().eq(all()), "{:?}", listener.log());
                assert_eq!(listener.lost(), 0);
                self.bystander_got_all(world).await;
            }
            (Role::Subscriber, _) => {
                victim.expect("subscribed").await;
                assert_eq!(self.sent().await.done, MESSAGES);
                victim
                    .until("all came", |victim| victim.got.len() as u64 >= MESSAGES)
                    .await;
                assert!(victim.got.iter().copied().eq(all()), "{:?}", victim.got);
                assert_eq!(victim.number("lost").await, 0);
                self.bystander_got_all(world).await;
            }
            (Role::Member, point) => {
                if point == Point::Refusing {
                    victim.expect("ended").await;
                } else {
                    victim.expect("subscribed").await;
                    assert_eq!(self.sent().await.done, MESSAGES);
                }
                let settles = world.bus.clone();
                settled(&settles).await;
                let deadline = Instant::now() + AT_ONCE;
                while (victim.got.len() + world.bystander.got.len() < MESSAGES as usize)
                    && Instant::now() < deadline
                {
                    victim.number("lost").await;
                    world.bystander.number("lost").await;
                }
                let again = world.bystander.got.iter().filter(|(_, again)| *again).count() as u64;
                assert_eq!(again, if point == Point::Refusing { HELD } else { 0 });
                once(&victim.got, &world.bystander.got);
            }
        }
        settled(&world.bus).await;
    }

    async fn bystander_got_all(&self, world: &mut World) {
        let bystander = &mut world.bystander;
        bystander
            .until("all came", |party| party.got.len() as u64 >= MESSAGES)
            .await;
        assert!(
            bystander
                .got
                .iter()
                .copied()
                .eq((0..MESSAGES).map(|seq| (seq, false)))
        );
        assert_eq!(bystander.number("lost").await, 0);
    }

    /// The victim is dead: who waited for it knows, and all that it had sent is there. Returns how long asks and
    /// tells took to fail.
    async fn after_death(
        &mut self,
        cell: Cell,
        world: &mut World,
        victim: &mut Party,
        died: Instant,
    ) -> Option<Duration> {
        let mut failed_after = None;
        let acked = victim.acked.len() as u64;
        assert!(
            cell.role == Role::Asker || victim.acked.iter().copied().eq(0..acked),
            "{:?}",
            victim.acked
        );
        match (cell.role, cell.point) {
            (Role::Sender, _) => {
                world.settled_but_for_the_log().await;
                let seen = world.seen.borrow();
                in_order(&seen);
                let came = seen.len() as u64;
                assert!((acked..=acked + 1).contains(&came), "{acked} told, {came} came");
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
                let sent = u64::from(nth(cell.point)) - 1;
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
                        fresh(party) >= MESSAGES - HELD
                    })
                    .await;
                bystander.number("lost").await;
                let mut got: Vec<_> = world.bystander.got.clone();
                got.sort_unstable();
                got.dedup_by_key(|(seq, _)| *seq);
                assert_eq!(got.len(), world.bystander.got.len(), "{got:?}");
                let first = got.iter().filter(|(_, again)| !again).count() as u64;
                assert_eq!(first, MESSAGES - HELD);
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
                assert_eq!(self.sent().await.done, MESSAGES);
                self.bystander_got_all(world).await;
            }
            (Role::Member, point) => {
                if point != Point::Refusing {
                    assert_eq!(self.sent().await.done, MESSAGES);
                }
                // What it had handled and released is the only thing that the other does not get.
                settled(&world.bus).await;
                let missing = |party: &Party| {
                    let mine = victim.got.iter().chain(&party.got).map(|(seq, _)| *seq);
                    MESSAGES - mine.collect::<BTreeSet<_>>().len() as u64
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
                once(&only.copied().collect::<Vec<_>>(), &world.bystander.got);
            }
        }
        failed_after
    }

    async fn end(&mut self, world: &mut World) {
        self.feed = None;
        if let Some(listener) = self.listener.take() {
            listener.end().await;
        }
        world.bystander.order("end", "ended").await;
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
fn all_of(role: Role, seen: &[u64]) {
    assert_eq!(seen.len() as u64, MESSAGES, "{seen:?}");
    match role {
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
fn once(one: &[(u64, bool)], other: &[(u64, bool)]) {
    let mut all: Vec<_> = one.iter().chain(other).map(|(seq, _)| *seq).collect();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..MESSAGES), "{one:?} and {other:?}");
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

/// Plays a cell. Returns how long asks and tells to the dead took to fail.
pub async fn play(cell: Cell, world: &mut World) -> Option<Duration> {
    let Cell { point, strike, .. } = cell;
    let (kill, nth) = (strike == Strike::Kill, nth(point));
    let mut victim = Party::start(&world.place, "victim").await;
    let mut traffic = Traffic::default();
    let dial = matches!(point, Point::DialHello | Point::DialVerdict | Point::DialEnd);
    let accept = matches!(
        point,
        Point::AcceptHello | Point::AcceptVerdict | Point::AcceptEnd
    );
    let mut newcomer = None;
    if dial {
        victim.arm(point, nth, kill).await;
        victim.say("join");
    } else {
        victim.order("join", "joined").await;
        traffic.prepare(cell, world, &mut victim).await;
        victim.arm(point, nth, kill).await;
        if accept {
            let join = world.place.config("newcomer").join();
            newcomer = Some(actix::spawn(join));
        } else {
            traffic.begin(cell, world, &mut victim).await;
        }
    }
    victim.reach(kill).await;
    if !kill {
        // The others do not even feel that it stands still.
        world.check().await;
    }
    let survives = strike == Strike::StopContinue;
    let died = Instant::now();
    match strike {
        Strike::Kill => {}
        Strike::StopKill => victim.kill().await,
        Strike::StopContinue => victim.thaw(),
    }
    if let Some(joining) = newcomer {
        let bus = soon("a newcomer joins", joining).await.expect("no panic");
        let bus = bus.expect("join");
        let mut peers = vec!["bystander", "survivor"];
        if survives {
            peers.push("victim");
        }
        let knows = || {
            let mut known = bus.peers();
            known.sort();
            known == peers
        };
        eventually("the newcomer knows its peers", knows).await;
        bus.leave().await;
    }
    let mut failed_after = None;
    if survives {
        if dial {
            victim.expect("joined").await;
            traffic.prepare(cell, world, &mut victim).await;
        }
        if dial || accept {
            traffic.begin(cell, world, &mut victim).await;
        }
        traffic.finish(cell, world, &mut victim).await;
        victim.kill().await;
    } else if !dial && !accept {
        failed_after = traffic.after_death(cell, world, &mut victim, died).await;
    }
    traffic.end(world).await;
    world.settled().await;
    failed_after
}
