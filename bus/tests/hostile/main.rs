//! A peer that speaks the handshake and then says anything: what a node makes of each wrong value.
//!
//! `cargo test -p shmbus --test hostile -- --nocapture` prints a table, a row for each value of each field. In each row
//! the victim, a process of its own, closes that session with a reason that names the thing, and counts it, or the
//! value is harmless and the row says why; it never panics, and another peer is served all the time. The peer's
//! packets and memory are made by `shmbus::fuzz::peer`.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod bells;
mod floods;
mod peer;
mod rows;
mod spoofs;
mod victim;

use peer::{Connection, Rig, Stage};
use rows::{Expect, Row};
use shmbus::{Permit, prelude::*};
use support::{Child, Place, soon, threads};
use victim::Ping;

/// The victim's user, where it is another one than ours.
const ANOTHER: u32 = 12_001;

roles![victim::victim, spoofs::original];

/// A victim, and an honest peer of it that must notice nothing.
struct Scene {
    place: Place,
    victim: Child,
    bus: Bus,
    honest: Address<Ping>,
    next: u64,
    /// Whether the victim is of another user.
    foreign: bool,
}

impl Scene {
    async fn new() -> Self {
        let place = Place::new();
        let victim = place.ready("victim::victim", &[]).await;
        let config = place.config("honest");
        Self::with(place, victim, config, false).await
    }

    /// With a victim of another user, who lets ours call one actor and use a few topics. `None`: not without root.
    async fn between_users() -> Option<Self> {
        let us = nix::unistd::geteuid();
        if !us.is_root() {
            return None;
        }
        let place = Place::new();
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        std::fs::set_permissions(place.dir(), everybody).unwrap();
        let victim = place
            .ready_as(ANOTHER, ANOTHER, "victim::victim", &[&us.to_string()])
            .await;
        let config = place.config("honest").allow_uids([ANOTHER]);
        let config = config.permit(Permit::uid(ANOTHER).bind("actor"));
        Some(Self::with(place, victim, config, true).await)
    }

    async fn with(place: Place, victim: Child, config: Config, foreign: bool) -> Self {
        let bus = config.join().await.unwrap();
        let honest = bus.address::<Ping>("actor").await.unwrap();
        Self {
            place,
            victim,
            bus,
            honest,
            next: 1,
            foreign,
        }
    }

    /// A new session of the hostile peer.
    fn connect(&mut self) -> Connection {
        self.next += 1;
        Connection::open(&self.place.socket("victim"), self.next)
    }

    fn rig(&mut self) -> Rig {
        let rig = Rig::new(self.connect());
        if self.foreign { rig.of_another_user() } else { rig }
    }

    /// The honest peer is served.
    async fn served(&self) {
        for n in 0..3 {
            let answer = soon("an answer for the honest peer", self.honest.ask(&Ping { n })).await;
            assert_eq!(answer.expect("an answer").to_native(), n + 1);
        }
    }

    async fn number(&mut self, name: &str) -> u64 {
        self.victim.ask(name).await.parse().expect("a number")
    }

    /// Nobody but the honest peer is left, and nothing of the others.
    async fn settled(&mut self) {
        self.victim.until("peers", "1").await;
        assert_eq!(self.victim.ask("panics").await, "", "the victim panicked");
    }

    async fn end(self) {
        self.bus.leave().await;
    }

    /// Plays one row. What came of it, or what should have.
    async fn play(&mut self, row: Row) -> Result<String, String> {
        let before = self.number("violations").await;
        let mut rig = self.rig();
        rig.introduce()?;
        match row.stage {
            Stage::Session => {}
            Stage::Asking => rig.ask_victim()?,
            Stage::Answering | Stage::Asked => {
                rig.say_bound();
                self.victim.say("tell 1");
                rig.answer_victim()?;
                let told = self.victim.hear().await;
                assert_eq!(told, "told 1");
            }
        }
        if row.stage == Stage::Asked {
            self.victim.expect_after("ask", "asking").await;
            rig.hear_ask();
        }
        (row.act)(&mut rig);
        rig.ring();
        if !row.then.is_empty() {
            self.victim.ask(row.then).await;
        }
        self.served().await;
        let outcome = match row.expect {
            Expect::Closed(why) => match rig.connection.end() {
                Ok(Some(reason)) if reason.contains(why) => Ok(format!("closed: {reason}")),
                other => Err(format!("{other:?} and not closed for `{why}`")),
            },
            Expect::HungUp(why) => rig.connection.end().map(|_| format!("closed: {why}")),
            Expect::Harmless(why) => rig.is_served().map(|()| format!("harmless: {why}")),
        };
        let counted = u64::from(matches!(row.expect, Expect::Closed(_)));
        drop(rig);
        self.settled().await;
        let now = self.number("violations").await;
        if now != before + counted {
            return Err(format!("{} violations were counted, not {counted}", now - before));
        }
        outcome
    }
}

fn play(rows: fn() -> Vec<Row>) {
    threads(async move { play_in(Scene::new().await, rows()).await });
}

/// With a victim of another user.
fn play_between_users(rows: fn() -> Vec<Row>) {
    threads(async move {
        match Scene::between_users().await {
            Some(scene) => play_in(scene, rows()).await,
            None => eprintln!("skipped, because only root can start a victim of another user"),
        }
    });
}

async fn play_in(mut scene: Scene, rows: Vec<Row>) {
    // Once round, so that everything that grows to its working size has.
    scene.play(rows::honest()).await.expect("an honest peer");
    let (fds, kilobytes) = (scene.number("fds").await, scene.number("rss").await);
    let mut failed = 0;
    for row in rows {
        let name = format!("{:<12} {:<26} {:<30}", row.area, row.field, row.value);
        match scene.play(row).await {
            Ok(outcome) => println!("{name} {outcome}"),
            Err(problem) => {
                failed += 1;
                println!("{name} FAILED: {problem}");
            }
        }
    }
    assert_eq!(failed, 0, "rows failed; see the table");
    scene.victim.until("fds", &fds.to_string()).await;
    let grown = scene.number("rss").await.saturating_sub(kilobytes);
    assert!(grown < 32 << 10, "the victim has grown by {grown} kB");
    scene.end().await;
}

#[test]
fn every_field_of_a_slot() {
    play(rows::slots);
}

#[test]
fn every_field_of_an_answer() {
    play(rows::answers);
}

#[test]
fn returns_and_the_words_of_a_link() {
    play(rows::words);
}

#[test]
fn every_kind_of_frame() {
    play(rows::frames);
}

#[test]
fn wrong_descriptors() {
    play(rows::descriptors);
}

#[test]
fn every_field_of_a_slot_of_another_user() {
    play_between_users(rows::slots);
}

#[test]
fn returns_and_the_words_of_a_link_with_another_user() {
    play_between_users(rows::words);
}

#[test]
fn every_kind_of_frame_of_another_user() {
    play_between_users(rows::frames);
}

#[test]
fn what_another_user_may_not_do() {
    play_between_users(rows::denied);
}

#[test]
fn wrong_bells() {
    play(bells::eventfds);
}

#[test]
fn wrong_bells_of_another_user() {
    play_between_users(bells::sockets);
}
