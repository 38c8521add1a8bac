//! One process of the soak: joins, does everything at random, and checks what comes.

mod asking;
mod calls;
mod held;
mod mailboxes;
mod odd;
mod publishing;
mod reading;
mod resources;

use std::{
    fmt::Display,
    io::{BufRead, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use shmbus::prelude::*;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    clock,
    dice::Dice,
    identity::Who,
    ledger::{Books, Ledger},
    messages::ON_PURPOSE,
};
use held::Held;
use resources::Resources;

/// What a process of the soak finds in its environment.
const PLACE: &str = "SHMBUS_SOAK_PLACE";

/// How long anything may take that must come to an end.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Which process this is.
#[derive(Debug, Clone)]
pub struct Place {
    pub who: Who,
    /// How many places there are.
    pub places: u16,
    /// How many of them, from the first one on, are for the whole run.
    pub steady: u16,
    pub seed: u64,
    pub dir: PathBuf,
}

impl Place {
    pub fn from_environment() -> Option<Self> {
        let text = std::env::var(PLACE).ok()?;
        let mut words = text.splitn(5, ' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (who, places, steady, seed) = (Who(number()?), number()?, number()?, number()?);
        Some(Self {
            who,
            places: places as u16,
            steady: steady as u16,
            seed,
            dir: words.next()?.into(),
        })
    }

    pub fn environment(&self) -> (&'static str, String) {
        let Self {
            who,
            places,
            steady,
            seed,
            dir,
        } = self;
        let dir = dir.display();
        (PLACE, format!("{} {places} {steady} {seed} {dir}", who.0))
    }

    pub fn bus_dir(&self) -> PathBuf {
        self.dir.join("bus")
    }

    pub fn books(&self) -> Books {
        Books::new(&self.dir)
    }

    pub fn is_steady(&self) -> bool {
        self.who.slot() < self.steady
    }
}

/// Says one line to the supervisor.
pub fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    // It may be gone; then this process soon is.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Something that must not be.
pub fn fault(what: impl Display) {
    say(format_args!("FAULT {what}"));
}

/// What all parts of this process share.
#[derive(Debug)]
pub struct Member {
    pub place: Place,
    pub bus: Bus,
    pub ledger: Ledger,
    pub held: Held,
    busy: watch::Receiver<bool>,
    numbers: AtomicU64,
    /// Calls of handlers of bound actors, and those that panicked.
    pub handled: AtomicU64,
    pub panics: AtomicU64,
}

impl Member {
    pub fn who(&self) -> Who {
        self.place.who
    }

    pub fn dice(&self, part: u64) -> Dice {
        Dice::part(self.place.seed, self.who().0, part)
    }

    /// A number that nothing else of this process has.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub fn is_busy(&self) -> bool {
        *self.busy.borrow()
    }

    /// A while, or until there is to be peace.
    pub async fn pause(&self, pause: Duration) {
        let mut busy = self.busy.clone();
        let _ = tokio::time::timeout(pause, busy.wait_for(|busy| !busy)).await;
    }
}

/// Every setting at random, within what the others can stand.
fn config(place: &Place, dice: &mut Dice) -> Config {
    let slots = dice.pick(&[16, 64, 1024, 4096]);
    let spins = [
        Spin::Never,
        Spin::default(),
        Spin::Adaptive(Duration::from_micros(10)),
        Spin::For(Duration::from_micros(20)),
    ];
    // Long enough for peers that are stopped or have no core.
    let long = PATIENCE / 2;
    Config::new(place.who.to_string())
        .dir(place.bus_dir())
        .window(dice.pick(&[8, 64, 1024]))
        .ring_slots(slots)
        .returns(slots * dice.pick(&[2, 8]))
        .segment_bytes(dice.pick(&[4 << 20, 8 << 20]))
        .pool_bytes(dice.pick(&[32 << 20, 64 << 20]))
        .spin(dice.pick(&spins))
        .ask_deadline(long)
        .lookup_deadline(long)
        .announce_deadline(long)
        .handshake_deadline(long)
}

pub fn run(place: Place) -> ExitCode {
    let silent = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload().downcast_ref::<&str>().copied();
        if said != Some(ON_PURPOSE) {
            silent(panic);
        }
    }));
    clock::start();
    let (orders, heard) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = orders.send(line);
        }
        // Its supervisor is gone.
        std::process::exit(0);
    });
    let mut dice = Dice::part(place.seed, place.who.0, 0);
    let many = dice.one_in(3);
    let system = if many {
        actix::System::with_tokio_rt(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap_or_else(|error| panic!("no runtime: {error}"))
        })
    } else {
        actix::System::new()
    };
    system.block_on(live(place, dice, many, heard))
}

/// What is done at random, until there is to be peace.
struct Doing {
    callers: Vec<JoinHandle<()>>,
    odd: JoinHandle<()>,
    mailboxes: JoinHandle<mailboxes::Boxes>,
    publishing: JoinHandle<publishing::Topics>,
    reading: JoinHandle<reading::Readers>,
}

/// What is left of it then.
struct Quiet {
    mailboxes: mailboxes::Boxes,
    topics: publishing::Topics,
    readers: reading::Readers,
}

async fn begin(
    member: &Arc<Member>,
    dice: &mut Dice,
    many: bool,
    arbiter: Option<actix::ArbiterHandle>,
) -> Doing {
    // What lasts subscribes before anybody publishes to it.
    let (ready, is_ready) = oneshot::channel();
    let reading = actix::spawn(reading::run(member.clone(), ready));
    let _ = is_ready.await;
    let callers = (0..2 + dice.below(2))
        .map(|flow| {
            let caller = calls::run(member.clone(), flow);
            // Beside the actors, or by the port that is for everybody else.
            match many && flow > 0 {
                true => tokio::spawn(caller),
                false => actix::spawn(caller),
            }
        })
        .collect();
    Doing {
        callers,
        odd: actix::spawn(odd::run(member.clone())),
        mailboxes: actix::spawn(mailboxes::run(member.clone(), arbiter)),
        publishing: actix::spawn(publishing::run(member.clone())),
        reading,
    }
}

impl Doing {
    async fn end(self) -> Result<Quiet, tokio::task::JoinError> {
        for caller in self.callers {
            caller.await?;
        }
        self.odd.await?;
        Ok(Quiet {
            topics: self.publishing.await?,
            mailboxes: self.mailboxes.await?,
            readers: self.reading.await?,
        })
    }
}

async fn live(
    place: Place,
    mut dice: Dice,
    many: bool,
    mut orders: mpsc::UnboundedReceiver<String>,
) -> ExitCode {
    let arbiter = dice.one_in(2).then(actix::Arbiter::new);
    let ledger = match Ledger::new(&place.books(), place.who) {
        Ok(ledger) => ledger,
        Err(error) => {
            fault(format_args!("no ledger: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let before = Resources::now();
    let bus = match config(&place, &mut dice).join().await {
        Ok(bus) => bus,
        Err(error) => {
            fault(format_args!("it cannot join: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let (busy_now, busy) = watch::channel(true);
    let member = Arc::new(Member {
        place,
        bus,
        ledger,
        held: Held::default(),
        busy,
        numbers: AtomicU64::new(1),
        handled: AtomicU64::new(0),
        panics: AtomicU64::new(0),
    });
    let janitor = actix::spawn(held::run(member.clone()));
    let handle = arbiter.as_ref().map(actix::Arbiter::handle);
    let mut doing = Some(begin(&member, &mut dice, many, handle).await);
    let mut quiet: Option<Quiet> = None;
    say("up");
    while let Some(order) = orders.recv().await {
        match order.as_str() {
            "quiet" => {
                busy_now.send_replace(false);
                if let Some(doing) = doing.take() {
                    match doing.end().await {
                        Ok(rest) => quiet = Some(rest),
                        Err(error) => fault(format_args!("a task of it ended badly: {error}")),
                    }
                }
                member.held.end();
                say("quiet");
            }
            "sums" => {
                if let Some(quiet) = &quiet {
                    quiet.readers.sum(&member).await;
                    quiet.topics.check(&member);
                }
                say("sums");
            }
            "drop" => {
                if let Some(quiet) = quiet.take() {
                    drop(quiet.topics);
                    quiet.readers.close(&member).await;
                    quiet.mailboxes.close(&member).await;
                }
                member.held.end();
                resources::settled(&member).await;
                say("dropped");
            }
            "leave" => break,
            other => fault(format_args!("no such order: {other}")),
        }
    }
    // In the midst of everything, if nobody said `quiet` before.
    let leaving = member.bus.clone();
    let stats = leaving.stats();
    if stats.violations > 0 {
        fault(format_args!("peers broke the protocol: {stats:?}"));
    }
    leaving.leave().await;
    busy_now.send_replace(false);
    if let Some(doing) = doing.take() {
        match doing.end().await {
            Ok(rest) => quiet = Some(rest),
            Err(error) => fault(format_args!("a task of it ended badly: {error}")),
        }
    }
    if let Some(quiet) = quiet.take() {
        drop(quiet.topics);
        quiet.readers.close(&member).await;
        quiet.mailboxes.close(&member).await;
    }
    let _ = janitor.await;
    member.held.end();
    if let Some(arbiter) = arbiter {
        arbiter.stop();
        if tokio::task::spawn_blocking(|| arbiter.join()).await.is_err() {
            fault("its other arbiter panicked");
        }
    }
    drop(member);
    before.are_back().await;
    say("left");
    ExitCode::SUCCESS
}
