//! Those who must not be disturbed: a survivor in this process, and a bystander in another one.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use shmbus::{faults::Point, prelude::*};

use crate::{
    party::{Listener, Note, Question, ask, bind, item, settings},
    row::Load,
    support::{Child, PATIENCE, Place, eventually, settled, soon},
};

/// A process of the matrix, and what it has said.
pub struct Party {
    child: Child,
    /// What it sent and the bus has taken.
    pub acked: Vec<u64>,
    /// What it got, and whether that was marked as given to another before.
    pub got: Vec<(u64, bool)>,
    answers: VecDeque<String>,
    ended: bool,
}

impl Party {
    pub async fn start(place: &Place, node: &str) -> Self {
        let child = place.spawn("party::party", &[node]);
        let mut party = Self {
            child,
            acked: Vec::new(),
            got: Vec::new(),
            answers: VecDeque::new(),
            ended: false,
        };
        party.expect("up").await;
        party
    }

    pub fn say(&self, line: &str) {
        self.child.say(line);
    }

    /// Takes what it says next, if that comes soon.
    async fn turn(&mut self) {
        let next = tokio::time::timeout(Duration::from_millis(1), self.child.hear_or_end());
        let Ok(line) = next.await else { return };
        let Some(line) = line else {
            self.ended = true;
            return;
        };
        let words: Vec<&str> = line.split(' ').collect();
        let number = || words[1].parse().expect("a number");
        match words[0] {
            "ok" => self.acked.push(number()),
            "got" => self.got.push((number(), words[2] == "true")),
            _ => self.answers.push_back(line),
        }
    }

    /// Waits for a condition on what it has said.
    pub async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(!self.ended, "{} ended before: {what}", self.child.name);
            assert!(
                Instant::now() < deadline,
                "not within {PATIENCE:?}: {what}; acknowledged {:?}, got {:?}, said {:?}",
                self.acked,
                self.got,
                self.answers
            );
            self.turn().await;
        }
    }

    /// Waits for its answer.
    pub async fn expect(&mut self, answer: &str) {
        assert_eq!(self.answer(answer).await, answer);
    }

    /// What it says next.
    pub async fn answer(&mut self, wanted: &str) -> String {
        self.until(wanted, |party| !party.answers.is_empty()).await;
        self.answers.pop_front().expect("an answer")
    }

    pub async fn order(&mut self, line: &str, answer: &str) {
        self.say(line);
        self.expect(answer).await;
    }

    pub async fn number(&mut self, line: &str) -> u64 {
        self.say(line);
        self.answer(line).await.parse().expect("a number")
    }

    pub async fn arm(&mut self, point: Point, nth: u32, kill: bool) {
        let index = Point::ALL.iter().position(|known| *known == point);
        let action = if kill { "kill" } else { "stop" };
        let line = format!("arm {} {nth} {action}", index.expect("a point"));
        self.order(&line, "armed").await;
    }

    /// Waits until it has done to itself what it was armed for.
    pub async fn reach(&mut self, kill: bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if (kill && self.ended) || (!kill && self.child.is_stopped()) {
                break;
            }
            assert!(kill || !self.ended, "it ended instead of stopping");
            assert!(
                Instant::now() < deadline,
                "it did not come to the point; acknowledged {:?}, got {:?}, said {:?}",
                self.acked,
                self.got,
                self.answers
            );
            self.turn().await;
        }
        if kill {
            assert_eq!(
                self.child.ended_by(),
                Some(Signal::SIGKILL as i32),
                "how it ended"
            );
        }
    }

    pub fn thaw(&self) {
        self.child.signal(Signal::SIGCONT);
    }

    /// Kills it, and takes what it has said before.
    pub async fn kill(&mut self) {
        self.child.kill();
        while !self.ended {
            self.turn().await;
        }
    }
}

pub struct World {
    pub place: Place,
    pub bus: Bus,
    /// What the victim's messages and questions to the survivor were.
    pub seen: Rc<RefCell<Vec<u64>>>,
    pub bystander: Party,
    aside: Option<Address<Question>>,
    resources: Option<u64>,
    checks: u64,
}

impl World {
    pub async fn new() -> Self {
        let place = Place::new();
        let bus = settings(place.config("survivor")).join().await.expect("join");
        let seen: Rc<RefCell<Vec<u64>>> = Rc::default();
        let noted = seen.clone();
        let noted: Note = Rc::new(move |seq| noted.borrow_mut().push(seq));
        bind(&bus, "sink", Load::Usual.window(), noted.clone()).await;
        bind(&bus, "many", Load::Batch.window(), noted).await;
        bind(&bus, "check", Load::Usual.window(), Rc::new(|_| ())).await;
        let mut bystander = Party::start(&place, "bystander").await;
        bystander.order("join", "joined").await;
        bystander
            .order(&format!("bind aside {} quiet", Load::Usual.window()), "bound")
            .await;
        let mut world = Self {
            place,
            bus,
            seen,
            bystander,
            aside: None,
            resources: None,
            checks: 0,
        };
        world.warm().await;
        for _ in 0..10 {
            world.check().await;
        }
        world
    }

    /// Buffers of all classes are held at the same time, both ways: what comes later needs no more segments of the pool,
    /// whichever class a block of them is given to.
    async fn warm(&mut self) {
        let held = u64::from(Load::Usual.window());
        self.bystander.order("subscribe - idle", "subscribed").await;
        let feed = self.bus.publisher("feed").await.expect("publisher");
        eventually("the bystander is subscribed", || feed.stats().subscribers == 1).await;
        for seq in 0..held {
            feed.publish_wait(&item(Load::Usual, seq)).await.expect("publish");
        }
        self.bystander.order("end", "ended").await;
        let idle = Listener::new(&self.bus, "", true, |_, _| ()).await;
        let publish = format!("publish {} {held} 0", Load::Usual.name());
        self.bystander.order(&publish, "done").await;
        idle.end().await;
        self.bystander.order("unpublish", "unpublished").await;
        self.bystander.acked.clear();
    }

    /// The survivor and the bystander can talk, both ways.
    pub async fn check(&mut self) {
        self.checks += 1;
        self.bystander
            .order(&format!("check {}", self.checks), "checked")
            .await;
        if self.aside.is_none() {
            let aside = soon("the bystander's actor", self.bus.address::<Question>("aside")).await;
            self.aside = Some(aside.expect("lookup"));
        }
        let aside = self.aside.as_ref().expect("opened");
        let asked = soon("the bystander's answer", ask(aside, Load::Usual, self.checks)).await;
        asked.expect("an answer");
    }

    /// Nothing is left of the victim, at neither.
    pub async fn settled(&mut self) {
        self.check().await;
        settled(&self.bus).await;
        let bus = &self.bus;
        eventually("the victim is forgotten", || bus.peers() == ["bystander"]).await;
        assert_eq!(bus.stats().violations, 0, "violations");
        // The first cell shows what a bystander needs.
        let most = self.resources.unwrap_or(u64::MAX);
        let pool = bus.stats().pool_reserved_bytes;
        self.bystander
            .order(&format!("settle {most} {pool}"), "settled")
            .await;
        if self.resources.is_none() {
            self.resources = Some(self.bystander.number("resources").await);
        }
        self.bystander.got.clear();
        self.seen.borrow_mut().clear();
    }
}
