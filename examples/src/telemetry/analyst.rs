//! The role that knows: an actor that takes samples in and answers snapshots.

use std::{pin::pin, time::Instant};

use actix::prelude::*;
use shmbus::prelude::*;

use shmbus_examples::stop;

use crate::{
    Failure,
    args::{Options, Role},
    messages::{CpuTimes, Finished, Load, Memory, Processes, Snapshot, System, View},
    node,
    processes::{ProcessTable, Seen},
    rates::Window,
    tally::Tally,
};

/// Serves until told to end.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let stop = pin!(stop::requested(
        options.launched_by,
        options.seconds.unwrap_or(0)
    )?);
    let bus = node::join(options, Role::Analyst).await?;
    bus.bind(node::ANALYST, Analyst::default())
        .handles::<System>()
        .handles::<Processes>()
        .handles::<Finished>()
        .handles::<Snapshot>()
        .start()
        .await?;
    node::say(
        options,
        Role::Analyst,
        format_args!("ready on bus `{}`", options.bus_name()),
    );
    stop.await;
    bus.leave().await;
    Ok(())
}

#[derive(Default)]
struct Analyst {
    cpus: Vec<Window<CpuTimes>>,
    memory: Memory,
    load: Load,
    processes: ProcessTable,
    tally: Tally,
    last: Option<Instant>,
}

impl Actor for Analyst {
    type Context = Context<Self>;
}

impl Analyst {
    /// Counts a message of the sampler. Another run has another clock, so its rates begin anew.
    fn count(&mut self, run: u64, number: u64) {
        self.last = Some(Instant::now());
        if self.tally.received(run, number) {
            self.cpus.clear();
            self.processes = ProcessTable::default();
        }
    }
}

// The handlers read the messages where they lie in shared memory. Numbers in there have a fixed byte order, hence
// `to_native`; strings and vectors are used as they are, nothing is decoded into a message first.

impl Handler<Received<System>> for Analyst {
    type Result = ();

    fn handle(&mut self, msg: Received<System>, _: &mut Context<Self>) {
        self.count(msg.run.to_native(), msg.number.to_native());
        self.cpus.resize_with(msg.cpus.len(), Window::default);
        for (window, cpu) in self.cpus.iter_mut().zip(msg.cpus.iter()) {
            let times = CpuTimes {
                user: cpu.user.to_native(),
                system: cpu.system.to_native(),
                steal: cpu.steal.to_native(),
                idle: cpu.idle.to_native(),
            };
            window.push(msg.at_us.to_native(), times);
        }
        self.memory = Memory {
            total: msg.memory.total.to_native(),
            available: msg.memory.available.to_native(),
            swap_total: msg.memory.swap_total.to_native(),
            swap_free: msg.memory.swap_free.to_native(),
        };
        self.load = Load {
            one: msg.load.one.to_native(),
            five: msg.load.five.to_native(),
            fifteen: msg.load.fifteen.to_native(),
        };
    }
}

impl Handler<Received<Processes>> for Analyst {
    type Result = ();

    fn handle(&mut self, msg: Received<Processes>, _: &mut Context<Self>) {
        self.count(msg.run.to_native(), msg.number.to_native());
        let list = msg.processes.iter().map(|process| Seen {
            pid: process.pid.to_native(),
            started: process.started.to_native(),
            name: process.name.as_str(),
            state: process.state,
            cpu_ms: process.cpu_ms.to_native(),
            rss: process.rss.to_native(),
        });
        self.processes.update(msg.at_us.to_native(), list);
    }
}

impl Handler<Received<Finished>> for Analyst {
    type Result = ();

    fn handle(&mut self, msg: Received<Finished>, _: &mut Context<Self>) {
        self.tally.finished(msg.run.to_native(), msg.sent.to_native());
    }
}

impl Handler<Received<Snapshot>> for Analyst {
    type Result = MessageResult<Received<Snapshot>>;

    fn handle(&mut self, msg: Received<Snapshot>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(View {
            cpus: self.cpus.iter().map(Window::share).collect(),
            memory: self.memory,
            load: self.load,
            busiest: self.processes.busiest(msg.top.to_native() as usize).to_vec(),
            processes: self.processes.len() as u32,
            silent_ms: self.last.map(|last| last.elapsed().as_millis() as u64),
            totals: self.tally.totals(),
        })
    }
}
