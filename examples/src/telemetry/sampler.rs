//! The role that reads /proc.

use std::{
    convert::Infallible,
    pin::pin,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use procfs::ProcError;
use shmbus::{error::SendError, prelude::*};
use shmbus_examples::stop;
use tokio::{
    select,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    Failure,
    args::{Options, Role},
    messages::{Cpu, Finished, MemoryUse, Processes, topic},
    node, probe,
};

/// Samples until told to end.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let mut stop = pin!(stop::requested(
        options.launched_by,
        options.seconds.unwrap_or(0)
    )?);
    let bus = node::join(options, Role::Sampler).await?;
    let mut sampler = Sampler::new(options, &bus).await?;
    node::say(
        options,
        Role::Sampler,
        format_args!("publishing on bus `{}`", options.bus_name()),
    );
    let done = select! {
        () = &mut stop => Ok(()),
        Err(error) = sampler.work() => Err(error),
    };
    let sent = sampler.finish()?;
    bus.leave().await;
    node::say(options, Role::Sampler, format_args!("sent {sent} messages"));
    done
}

/// Publishes to whoever listens. It knows nobody, and waits for nobody: if there is no subscriber, a message is
/// kept as the topic's history until the next one takes its place, and that is all.
struct Sampler {
    began: Instant,
    run: u64,
    system: Interval,
    process_list: Interval,
    cpu: Publisher<Cpu>,
    memory: Publisher<MemoryUse>,
    processes: Publisher<Processes>,
    finished: Publisher<Finished>,
}

impl Sampler {
    async fn new(options: &Options, bus: &Bus) -> Result<Self, Failure> {
        // With a history of one, an analyst or a viewer that comes later gets the last state at once, not only when
        // the next sample is due.
        Ok(Self {
            began: Instant::now(),
            run: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |time| time.as_nanos() as u64),
            system: every(options.rate),
            process_list: every(options.process_rate),
            cpu: bus.publisher(topic::CPU).history(1).await?,
            memory: bus.publisher(topic::MEMORY).history(1).await?,
            processes: bus.publisher(topic::PROCESSES).history(1).await?,
            finished: bus.publisher(topic::FINISHED).await?,
        })
    }

    async fn work(&mut self) -> Result<Infallible, Failure> {
        let run = self.run;
        let unread = |error: ProcError| format!("cannot read /proc: {error}");
        loop {
            select! {
                _ = self.system.tick() => {
                    let cpus = probe::cpus().map_err(unread)?;
                    let load = probe::load().map_err(unread)?;
                    self.cpu.publish(&Cpu { run, at_us: self.at_us(), cpus, load })?;
                    let memory = probe::memory().map_err(unread)?;
                    self.memory.publish(&MemoryUse { run, memory })?;
                }
                _ = self.process_list.tick() => {
                    let at_us = self.at_us();
                    // A long list takes many milliseconds: not on this thread, which also serves the bus.
                    let processes = tokio::task::spawn_blocking(probe::processes).await?.map_err(unread)?;
                    self.processes.publish(&Processes { run, at_us, processes })?;
                }
            }
        }
    }

    /// Ends the topics, and tells how many messages there were: by topic to those who count, and in all to the caller.
    fn finish(self) -> Result<u64, SendError> {
        let last = Finished {
            run: self.run,
            cpu: self.cpu.next_sequence(),
            memory: self.memory.next_sequence(),
            processes: self.processes.next_sequence(),
        };
        self.finished.publish(&last)?;
        Ok(last.cpu + last.memory + last.processes)
    }

    fn at_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }
}

fn every(hz: f64) -> Interval {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / hz));
    // After a pause, one sample is enough: the ones that were missed would all say the same.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
