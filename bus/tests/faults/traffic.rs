//! What a cell's role does with the survivor.

use std::{
    cell::Cell as Flag,
    rc::Rc,
    time::{Duration, Instant},
};

use shmbus::{
    error::{AskError, SendError},
    faults::Point,
    prelude::*,
};
use tokio::task::JoinHandle;

use crate::{
    cell::Cell,
    party::{Item, Listener, Question, ask, ask_all_of, item, tell_run},
    row::{Load, Role, Strike},
    support::{eventually, soon},
    world::{Party, World},
};

/// Messages that a topic keeps where a late joiner is wanted.
pub const KEPT: u64 = 8;
/// Messages that a member holds unread where it is to give them back.
pub const HELD: u64 = 8;

/// What the survivor's own traffic came to.
pub struct Sent {
    pub done: u64,
    /// All of them were what a lost peer makes them.
    pub lost: u64,
    /// When the last of it was known.
    pub at: Instant,
}

/// The traffic of a cell, beside what the victim does by itself.
#[derive(Default)]
pub struct Traffic {
    pub task: Option<JoinHandle<Sent>>,
    /// Whether the survivor has its address.
    pub opened: Rc<Flag<bool>>,
    pub feed: Option<Publisher<Item>>,
    pub listener: Option<Listener>,
    pub subscribing: Option<JoinHandle<Listener>>,
}

/// Between messages that are sent so that somebody is there to learn of a death.
const PAUSE: Duration = Duration::from_millis(1);

/// Whether the survivor goes on until it is told. Who is struck on its way to sleep has nothing to do, perhaps because that
/// was the last message.
fn until_lost(cell: Cell) -> bool {
    cell.row.point == Point::Parked && cell.strike != Strike::StopContinue
}

fn lost(error: &SendError) -> bool {
    matches!(error, SendError::PeerLost { .. })
}

impl Traffic {
    /// What is there before the fault is armed.
    pub async fn prepare(&mut self, cell: Cell, world: &mut World, victim: &mut Party) {
        let load = cell.row.load;
        let group = if cell.role == Role::Member { "work" } else { "-" };
        match (cell.role, cell.row.point) {
            (Role::Sender | Role::Asker, _) => {}
            (Role::Receiver | Role::Answerer, _) => {
                let bind = format!("bind post {}", load.window());
                victim.order(&bind, "bound").await;
            }
            (Role::Publisher, Point::History) => {
                victim
                    .order(&format!("publish {} {KEPT} {KEPT}", load.name()), "done")
                    .await;
            }
            (Role::Publisher, Point::HandOver) => {
                self.listener = Some(Listener::new(&world.bus, "work", true, |_, _| ()).await);
                world.bystander.order("subscribe work eager", "subscribed").await;
                victim
                    .order(&format!("publish {} {} 0", load.name(), load.messages()), "done")
                    .await;
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
                    self.begin_publishing(world, load);
                    let sent = soon("published", self.task.take().expect("begun")).await;
                    assert_eq!(sent.expect("no panic").done, load.messages());
                }
            }
        }
    }

    pub async fn begin(&mut self, cell: Cell, world: &mut World, victim: &mut Party) {
        let load = cell.row.load;
        match (cell.role, cell.row.point) {
            (Role::Sender, _) => victim.say(&format!("tell {} {}", load.name(), load.messages())),
            (Role::Asker, _) => victim.say(&format!("ask {} {}", load.name(), load.messages())),
            (Role::Receiver, _) => self.begin_telling(world, load, until_lost(cell)),
            (Role::Answerer, _) => self.begin_asking(world, load, until_lost(cell)),
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
            (Role::Publisher, _) => victim.say(&format!("publish {} {} 0", load.name(), load.messages())),
            (Role::Member, Point::Refusing) => victim.say("end"),
            (Role::Subscriber | Role::Member, _) => {
                let group = if cell.role == Role::Member { "work" } else { "-" };
                victim.say(&format!("subscribe {group} eager"));
                self.begin_publishing(world, load);
            }
        }
    }

    fn begin_telling(&mut self, world: &World, load: Load, until_lost: bool) {
        let (bus, opened) = (world.bus.clone(), self.opened.clone());
        self.task = Some(actix::spawn(async move {
            let address = bus.address::<Item>("post").await.expect("lookup");
            opened.set(true);
            let mut done = 0;
            while done < load.messages() {
                match tell_run(&address, load, done).await {
                    Ok(sent) => done += sent,
                    Err((sent, error)) => {
                        assert!(lost(&error), "{error}");
                        done += sent;
                        break;
                    }
                }
            }
            let mut failed = load.messages() - done;
            while until_lost && failed == 0 {
                tokio::time::sleep(PAUSE).await;
                match address.tell(&item(load, done)).await {
                    Ok(()) => done += 1,
                    Err(error) => {
                        assert!(lost(&error), "{error}");
                        failed = 1;
                    }
                }
            }
            let (lost, at) = (failed, Instant::now());
            Sent { done, lost, at }
        }));
    }

    fn begin_asking(&mut self, world: &World, load: Load, until_lost: bool) {
        let (bus, opened) = (world.bus.clone(), self.opened.clone());
        self.task = Some(actix::spawn(async move {
            let address = bus.address::<Question>("post").await.expect("lookup");
            opened.set(true);
            let mut done = 0;
            let is_answer = |answer| match answer {
                Ok(()) => true,
                Err(AskError::PeerLost { .. }) => false,
                Err(AskError::Send(error)) if lost(&error) => false,
                Err(error) => panic!("{error}"),
            };
            let count = |_, answer| done += u64::from(is_answer(answer));
            ask_all_of(&address, load, load.messages(), count).await;
            let mut lost = load.messages() - done;
            while until_lost && lost == 0 {
                tokio::time::sleep(PAUSE).await;
                match is_answer(ask(&address, load, done).await) {
                    true => done += 1,
                    false => lost = 1,
                }
            }
            let at = Instant::now();
            Sent { done, lost, at }
        }));
    }

    /// Begins when the victim is subscribed, or gone.
    fn begin_publishing(&mut self, world: &World, load: Load) {
        let (bus, feed) = (world.bus.clone(), self.feed.clone().expect("opened"));
        self.task = Some(actix::spawn(async move {
            let both = || feed.stats().subscribers == 2 || bus.peers() == ["bystander"];
            eventually("both are subscribed, or one is gone", both).await;
            for seq in 0..load.messages() {
                feed.publish_wait(&item(load, seq)).await.expect("publish");
            }
            let at = Instant::now();
            let (done, lost) = (load.messages(), 0);
            Sent { done, lost, at }
        }));
    }

    pub async fn sent(&mut self) -> Sent {
        let task = self.task.take().expect("begun");
        soon("the survivor's traffic ends", task).await.expect("no panic")
    }

    pub async fn end(&mut self, world: &mut World) {
        self.feed = None;
        if let Some(listener) = self.listener.take() {
            listener.end().await;
        }
        world.bystander.order("end", "ended").await;
    }
}
