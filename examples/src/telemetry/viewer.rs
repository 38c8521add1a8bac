//! The role that asks and draws.

use std::{
    io::{self, Write},
    pin::pin,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getppid},
};
use shmbus::{error::AskError, prelude::*};
use tokio::{
    select,
    time::{Interval, MissedTickBehavior, interval},
};

use shmbus_examples::stop;

use crate::{
    Failure,
    args::{Options, Role},
    messages::{Cpu, CpuTimes, Snapshot, topic},
    model::{Link, Model},
    node,
    plain::Plain,
    screen::Screen,
};

/// How long a lookup may take before the screen is drawn again.
const LOOK: Duration = Duration::from_millis(200);
/// How long an answer may take; then the analyst is called slow, and asked again.
const ANSWER: Duration = Duration::from_secs(1);
/// How long to wait at the end for the analyst to know how many messages there were.
const SETTLE: Duration = Duration::from_millis(500);

/// How many samples of the CPUs may wait to be drawn.
const KEPT: u32 = 64;

/// Asks and draws until told to end, then prints what came of it.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let mut stop = pin!(stop::requested(
        options.launched_by,
        options.seconds.unwrap_or(0)
    )?);
    let bus = node::join(options, Role::Viewer).await?;
    let mut viewer = Viewer {
        options,
        // A viewer wants the newest samples: if it cannot keep up, the oldest go, and nobody waits.
        cpus: bus
            .subscriber(topic::CPU)
            .when_full(WhenFull::KeepLast(KEPT))
            .await?,
        bus,
        analyst: None,
        model: Model::new(options.bus_name()),
        screen: Screen::open()?,
        began: Instant::now(),
        drawn: None,
        ticks: interval(Duration::from_secs_f64(1.0 / options.asks)),
    };
    viewer.ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    viewer.say("looking for the analyst; the table follows at the end");
    let done = loop {
        // Ending can interrupt `step` wherever it waits: an ask is counted only once its outcome is known.
        select! {
            () = &mut stop => break Ok(()),
            step = viewer.step() => match step {
                Ok(true) => break Ok(()),
                Ok(false) => (),
                Err(error) => break Err(error),
            }
        }
    };
    viewer.settle().await;
    viewer.model.running = viewer.began.elapsed();
    // The terminal first becomes what it was.
    drop(viewer.screen);
    let printed = write!(io::stdout(), "{}", Plain(&viewer.model));
    viewer.bus.leave().await;
    done.and(printed.map_err(Failure::from))
}

struct Viewer<'a> {
    options: &'a Options,
    bus: Bus,
    cpus: Subscriber<Cpu>,
    analyst: Option<Address<Snapshot>>,
    model: Model,
    screen: Option<Screen>,
    began: Instant,
    drawn: Option<Instant>,
    ticks: Interval,
}

impl Viewer<'_> {
    /// Says in words what the live table would show.
    fn say(&self, text: impl std::fmt::Display) {
        if self.screen.is_none() {
            node::say(self.options, Role::Viewer, text);
        }
    }

    /// A sample of the CPUs comes in; or one ask, or one attempt to find whom to ask; then draws, if it is time. True
    /// if the user wants to end.
    async fn step(&mut self) -> Result<bool, Failure> {
        select! {
            sample = self.cpus.recv() => {
                self.sampled(&sample.ok_or("the bus is closed")?);
                return Ok(false);
            }
            _ = self.ticks.tick() => (),
        }
        match self.analyst.clone() {
            None => self.look().await?,
            Some(analyst) => {
                // The reply is decoded only if it will be shown; otherwise its memory goes back as it is.
                let show = self
                    .drawn
                    .is_none_or(|last| last.elapsed().as_secs_f64() * self.options.draws >= 1.0);
                self.ask(&analyst, show).await;
                if !show {
                    return Ok(false);
                }
            }
        }
        self.draw()
    }

    fn sampled(&mut self, sample: &Received<Cpu>) {
        let times = sample.cpus.iter().map(CpuTimes::from);
        let at = (sample.run.to_native(), sample.at_us.to_native());
        self.model.bars.sampled(at, times, self.began.elapsed());
        self.model.bars.lost = self.cpus.lost();
    }

    async fn look(&mut self) -> Result<(), Failure> {
        match self.bus.address::<Snapshot>(node::ANALYST).deadline(LOOK).await {
            Ok(analyst) => {
                self.say("found the analyst");
                self.analyst = Some(analyst);
            }
            Err(error) if node::is_absent(&error) => tokio::time::sleep(node::PAUSE).await,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn ask(&mut self, analyst: &Address<Snapshot>, show: bool) {
        let began = Instant::now();
        let answer = analyst
            .ask(&Snapshot {
                top: self.options.top,
            })
            .deadline(ANSWER)
            .await;
        match answer {
            Ok(view) => {
                self.model.answered(began.elapsed());
                if show {
                    self.model.view = view.to_owned();
                }
            }
            Err(error) => {
                self.model.failed += 1;
                self.model.link = if is_gone(&error) {
                    self.analyst = None;
                    self.say(format_args!("{error}; looking for another analyst"));
                    Link::Lost(error.to_string())
                } else {
                    Link::Trouble(error.to_string())
                };
            }
        }
    }

    fn draw(&mut self) -> Result<bool, Failure> {
        self.drawn = Some(Instant::now());
        self.model.running = self.began.elapsed();
        let Some(screen) = &mut self.screen else {
            return Ok(false);
        };
        screen.draw(&self.model)?;
        if !screen.wants_to_end()? {
            return Ok(false);
        }
        match self.options.launched_by {
            // All three shall end, in order: that is for the parent to do, as if Ctrl-C had been for it.
            Some(parent) if getppid().as_raw() == parent => {
                kill(Pid::from_raw(parent), Signal::SIGINT)?;
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// The last ask. `telemetry` ends the sampler first, so its last message is on its way or there already.
    async fn settle(&mut self) {
        let began = Instant::now();
        while let Some(sample) = self.cpus.try_recv() {
            self.sampled(&sample);
        }
        while let Some(analyst) = self.analyst.clone() {
            self.ask(&analyst, true).await;
            let settled = self.model.view.totals.finished || self.options.launched_by.is_none();
            if settled || began.elapsed() >= SETTLE {
                break;
            }
            tokio::time::sleep(node::PAUSE).await;
        }
    }
}

/// Whether the analyst must be looked up again.
fn is_gone(error: &AskError) -> bool {
    match error {
        AskError::Send(error) => node::is_gone(error),
        AskError::PeerLost { .. } | AskError::Stopped { .. } | AskError::Malformed { .. } => true,
        _ => false,
    }
}
