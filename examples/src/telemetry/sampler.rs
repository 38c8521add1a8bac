//! The role that reads /proc.

use std::{
    convert::Infallible,
    pin::pin,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use procfs::ProcError;
use shmbus::{
    error::{LookupError, SendError},
    prelude::*,
};
use tokio::{
    select,
    time::{Interval, MissedTickBehavior, interval, timeout},
};

use shmbus_examples::stop;

use crate::{
    Failure,
    args::{Options, Role},
    messages::{Finished, Processes, System},
    node, probe,
};

/// One address for everything the analyst is told, so that all of it arrives in the order it was sent.
type Analyst = Address<(System, Processes, Finished)>;

/// How long the last message may take if the analyst is busy.
const FAREWELL: Duration = Duration::from_millis(500);

/// Samples until told to end.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let mut stop = pin!(stop::requested(
        options.launched_by,
        options.seconds.unwrap_or(0)
    )?);
    let bus = node::join(options, Role::Sampler).await?;
    let mut sampler = Sampler::new(options);
    // Ending can interrupt `work` wherever it waits: a message is counted only once it was sent.
    let done = select! {
        () = &mut stop => Ok(()),
        Err(error) = sampler.work(&bus) => Err(error),
    };
    if let Some(analyst) = sampler.analyst.take() {
        let last = Finished {
            run: sampler.run,
            sent: sampler.sent,
        };
        match timeout(FAREWELL, analyst.tell(&last)).await {
            Ok(Ok(())) => (),
            Ok(Err(error)) => eprintln!("sampler: the analyst was not told of the end: {error}"),
            Err(_) => eprintln!("sampler: the analyst was not told of the end: it is too busy"),
        }
    }
    bus.leave().await;
    node::say(
        options,
        Role::Sampler,
        format_args!("sent {} messages", sampler.earlier + sampler.sent),
    );
    done
}

struct Sampler<'a> {
    options: &'a Options,
    began: Instant,
    system: Interval,
    processes: Interval,
    /// Whom the current run is told, while there is one.
    analyst: Option<Analyst>,
    run: u64,
    /// Messages sent in this run, and in all runs before it.
    sent: u64,
    earlier: u64,
}

/// Why sampling stopped.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("cannot read /proc: {0}")]
    Proc(#[from] ProcError),
    #[error("cannot read /proc: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl<'a> Sampler<'a> {
    fn new(options: &'a Options) -> Self {
        Self {
            options,
            began: Instant::now(),
            system: every(options.rate),
            processes: every(options.process_rate),
            analyst: None,
            run: 0,
            sent: 0,
            earlier: 0,
        }
    }

    /// Finds the analyst, samples for it until it is lost, finds it again, and so on.
    async fn work(&mut self, bus: &Bus) -> Result<Infallible, Failure> {
        loop {
            node::say(self.options, Role::Sampler, "looking for the analyst");
            let analyst = find(bus).await?;
            node::say(self.options, Role::Sampler, "found the analyst");
            let Err(trouble) = self.sample_for(&analyst).await;
            match trouble {
                Trouble::Send(error) if node::is_gone(&error) => {
                    self.analyst = None;
                    eprintln!("sampler: {error}; looking for another analyst");
                }
                other => return Err(other.into()),
            }
        }
    }

    /// One run. If the analyst only lost the connection, it must know how many messages the run before had. If
    /// it is another one, it has never heard of that run, and must not take the numbers it missed for losses.
    async fn sample_for(&mut self, analyst: &Analyst) -> Result<Infallible, Trouble> {
        if self.sent > 0 {
            analyst
                .tell(&Finished {
                    run: self.run,
                    sent: self.sent,
                })
                .await?;
        }
        self.earlier += self.sent;
        self.sent = 0;
        self.run = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_nanos() as u64);
        self.analyst = Some(analyst.clone());
        loop {
            select! {
                _ = self.system.tick() => {
                    let system = System {
                        run: self.run,
                        number: self.sent,
                        at_us: self.at_us(),
                        cpus: probe::cpus()?,
                        memory: probe::memory()?,
                        load: probe::load()?,
                    };
                    analyst.tell(&system).await?;
                }
                _ = self.processes.tick() => {
                    let at_us = self.at_us();
                    // A long list takes many milliseconds: not on this thread, which also serves the bus.
                    let processes = tokio::task::spawn_blocking(probe::processes).await??;
                    analyst.tell(&Processes { run: self.run, number: self.sent, at_us, processes }).await?;
                }
            }
            self.sent += 1;
        }
    }

    fn at_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }
}

/// Waits for the analyst, for as long as it takes.
async fn find(bus: &Bus) -> Result<Analyst, LookupError> {
    loop {
        match bus.address::<(System, Processes, Finished)>(node::ANALYST).await {
            Err(error) if node::is_absent(&error) => tokio::time::sleep(node::PAUSE).await,
            found => return found,
        }
    }
}

fn every(hz: f64) -> Interval {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / hz));
    // After a pause, one sample is enough: the ones that were missed would all say the same.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
