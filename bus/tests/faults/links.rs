//! Cells in which a link is refused, or ended while its session goes on.

use std::{
    ops::Range,
    rc::Rc,
    sync::{Arc, Mutex},
};

use actix::Arbiter;
use shmbus::{faults::Point, prelude::*};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    cell::Cell,
    party::{Item, Question, ask, bind, item, settings},
    row::{Load, Role, Strike},
    support::{eventually, settled, soon},
    world::{Party, World},
};

/// Messages before a link is ended.
const SENT: u64 = 6;

pub fn is_of(point: Point) -> bool {
    matches!(
        point,
        Point::LinkRefusing
            | Point::LinkRefused
            | Point::RefusalHeard
            | Point::RefusalTold
            | Point::Unlinking
            | Point::Unlinked
            | Point::UnlinkHeard
            | Point::UnlinkDone
    )
}

/// Somebody to tell or to ask.
pub enum To {
    Tell(Address<Item>),
    Ask(Address<Question>),
}

impl To {
    pub async fn open(bus: &Bus, asks: bool, name: &str) -> Result<Self, String> {
        let opened = if asks {
            bus.address(name).await.map(To::Ask)
        } else {
            bus.address(name).await.map(To::Tell)
        };
        opened.map_err(|error| error.to_string())
    }

    async fn one(&self, seq: u64) -> Result<(), String> {
        match self {
            To::Tell(address) => {
                let told = address.tell(&item(Load::Usual, seq)).await;
                told.map_err(|error| error.to_string())
            }
            To::Ask(address) => {
                let asked = ask(address, Load::Usual, seq).await;
                asked.map_err(|error| error.to_string())
            }
        }
    }

    /// Sends them one after the other.
    pub async fn send(&self, seqs: Range<u64>) -> Result<(), String> {
        for seq in seqs {
            self.one(seq).await?;
        }
        Ok(())
    }

    /// Sends until that fails: the error.
    pub async fn fail(&self) -> String {
        let failed = async {
            for seq in SENT.. {
                if let Err(error) = self.one(seq).await {
                    return error;
                }
            }
            unreachable!()
        };
        soon("an error for who sends by a link that is gone", failed).await
    }
}

/// Runs this on another thread, which keeps what comes of it to its end.
pub async fn on<W: Future + 'static>(arbiter: &Arbiter, work: impl FnOnce() -> W + Send + 'static) {
    let (done, is_done) = oneshot::channel();
    arbiter.spawn_fn(move || {
        actix::spawn(async move {
            let _kept = work().await;
            let _ = done.send(());
            std::future::pending::<()>().await;
        });
    });
    soon("another thread has done it", is_done)
        .await
        .expect("no panic");
}

pub async fn play(cell: Cell, world: &mut World) {
    let mut victim = Party::start(&world.place, "victim").await;
    match cell.row.point {
        Point::LinkRefusing | Point::LinkRefused => refuses(cell, world, &mut victim).await,
        Point::RefusalHeard | Point::RefusalTold => is_refused(cell, world, &mut victim).await,
        Point::Unlinking | Point::Unlinked => ends(cell, world, &mut victim).await,
        _ => hears_the_end(cell, world, &mut victim).await,
    }
    victim.kill().await;
    world.settled().await;
}

fn asks(cell: Cell) -> bool {
    matches!(cell.role, Role::Asker | Role::Answerer)
}

fn verb(cell: Cell) -> &'static str {
    if asks(cell) { "ask" } else { "tell" }
}

async fn arm(cell: Cell, victim: &mut Party) {
    let kill = cell.strike == Strike::Kill;
    victim.arm(cell.row.point, cell.row.nth(), kill).await;
}

/// The victim is struck, and the others work all the time. Whether it lives on.
async fn strike(cell: Cell, world: &mut World, victim: &mut Party) -> bool {
    let kill = cell.strike == Strike::Kill;
    victim.reach(kill).await;
    if !kill {
        world.check().await;
    }
    match cell.strike {
        Strike::Kill => {}
        Strike::StopKill => victim.kill().await,
        Strike::StopContinue => victim.thaw(),
    }
    if cell.strike != Strike::StopContinue {
        death_is_known(&world.bus).await;
    }
    cell.strike == Strike::StopContinue
}

async fn death_is_known(bus: &Bus) {
    let knows = || !bus.peers().iter().any(|peer| peer == "victim");
    eventually("its death is known", knows).await;
}

/// The victim allows one link, which it has opened itself, and refuses the survivor's.
async fn refuses(cell: Cell, world: &mut World, victim: &mut Party) {
    victim.order("join narrow", "joined").await;
    victim.order("bind post 8", "bound").await;
    victim.order("check 1", "checked").await;
    arm(cell, victim).await;
    let bus = world.bus.clone();
    let opening: JoinHandle<Result<To, String>> =
        actix::spawn(async move { To::open(&bus, asks(cell), "post").await });
    let survives = strike(cell, world, victim).await;
    if survives || cell.row.point == Point::LinkRefused {
        let opened = soon("the survivor knows", opening).await.expect("no panic");
        let why = opened.err().expect("a refusal");
        assert!(
            why.contains("Config::peer_links") && why.contains("`victim`"),
            "{why}"
        );
    } else {
        // The name is waited for until somebody else has it.
        assert!(!opening.is_finished());
        opening.abort();
    }
    if survives {
        victim.order("check 2", "checked").await;
    }
}

/// A third node of the survivor's process allows one link, which it has opened itself.
async fn is_refused(cell: Cell, world: &mut World, victim: &mut Party) {
    let narrow = settings(world.place.config("narrow")).peer_links(1);
    let narrow = narrow.join().await.expect("join");
    bind(&narrow, "slim", Load::Usual.window(), Rc::new(|_| ())).await;
    victim.order("join", "joined").await;
    victim.order("bind own 8 quiet", "bound").await;
    let own = To::open(&narrow, true, "own").await.expect("lookup");
    own.send(0..SENT).await.expect("answers");
    arm(cell, victim).await;
    victim.say(&format!("open {} slim", verb(cell)));
    if strike(cell, world, victim).await {
        let why = victim.answer("a refusal").await;
        assert!(
            why.contains("Config::peer_links") && why.contains("`narrow`"),
            "{why}"
        );
        own.send(SENT..2 * SENT).await.expect("answers");
        victim.order("check 2", "checked").await;
    } else {
        death_is_known(&narrow).await;
        own.fail().await;
    }
    settled(&narrow).await;
    assert_eq!(narrow.stats().violations, 0);
    drop(own);
    narrow.leave().await;
}

/// A thread of the victim ends, and with it the link that it has.
async fn ends(cell: Cell, world: &mut World, victim: &mut Party) {
    victim.order("join", "joined").await;
    if cell.role.opens() {
        let spread = format!("spread {} sink {SENT}", verb(cell));
        victim.order(&spread, "spread").await;
        arm(cell, victim).await;
        victim.say("retire");
        let survives = strike(cell, world, victim).await;
        // What was sent came, once and in order; the link's end is no loss.
        let seen = world.seen.clone();
        eventually("all came", || seen.borrow().len() as u64 >= SENT).await;
        assert!(seen.borrow().iter().copied().eq(0..SENT), "{seen:?}");
        if survives {
            victim.expect("retired").await;
        }
    } else {
        victim.order("bind_apart post", "bound").await;
        let to = To::open(&world.bus, asks(cell), "post").await.expect("lookup");
        to.send(0..SENT).await.expect("sent");
        victim
            .until("all came", |victim| victim.got.len() as u64 == SENT)
            .await;
        arm(cell, victim).await;
        victim.say("retire");
        strike(cell, world, victim).await;
        let why = to.fail().await;
        assert!(why.contains("victim") || why.contains("post"), "{why}");
        if cell.strike == Strike::StopContinue {
            victim.expect("retired").await;
        }
        let came = victim.got.iter().map(|(seq, _)| *seq);
        assert!(came.eq(0..SENT), "{:?}", victim.got);
    }
    if cell.strike == Strike::StopContinue {
        victim.order("check 2", "checked").await;
    }
}

/// A thread of the survivor ends, and with it the link that it has with the victim.
async fn hears_the_end(cell: Cell, world: &mut World, victim: &mut Party) {
    let arbiter = Arbiter::new();
    let bus = world.bus.clone();
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    victim.order("join", "joined").await;
    if cell.role.opens() {
        let noted = seen.clone();
        on(&arbiter, move || async move {
            let note = move |seq| noted.lock().unwrap().push(seq);
            bind(&bus, "fleeting", Load::Usual.window(), Rc::new(note)).await;
        })
        .await;
        let using = format!("use {} fleeting {SENT}", verb(cell));
        victim.order(&using, "used").await;
        eventually("all came", || seen.lock().unwrap().len() as u64 == SENT).await;
    } else {
        victim.order("bind post 8", "bound").await;
        let asks = asks(cell);
        on(&arbiter, move || async move {
            let to = To::open(&bus, asks, "post").await.expect("lookup");
            to.send(0..SENT).await.expect("sent");
            to
        })
        .await;
        victim
            .until("all came", |victim| victim.got.len() as u64 == SENT)
            .await;
    }
    arm(cell, victim).await;
    arbiter.stop();
    arbiter.join().expect("no panic");
    if strike(cell, world, victim).await {
        if cell.role.opens() {
            victim.say("again");
            let why = victim.answer("an error").await;
            assert!(why.contains("survivor") || why.contains("fleeting"), "{why}");
            assert!(seen.lock().unwrap().iter().copied().eq(0..SENT));
        } else {
            // By another link it goes on.
            let to = To::open(&world.bus, asks(cell), "post").await.expect("lookup");
            to.send(SENT..2 * SENT).await.expect("sent");
            victim
                .until("all came", |victim| victim.got.len() as u64 == 2 * SENT)
                .await;
            let came = victim.got.iter().map(|(seq, _)| *seq);
            assert!(came.eq(0..2 * SENT), "{:?}", victim.got);
        }
        victim.order("check 2", "checked").await;
    } else if !cell.role.opens() {
        let came = victim.got.iter().map(|(seq, _)| *seq);
        assert!(came.eq(0..SENT), "{:?}", victim.got);
    }
}
