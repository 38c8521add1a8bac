//! The role that knows: an actor that takes samples in and answers snapshots.

use std::{pin::pin, time::Instant};

use actix::prelude::*;
use shmbus::{Delivered, Origin, prelude::*};

use shmbus_examples::stop;

use crate::{
    Failure,
    args::{Options, Role},
    messages::{Cpu, CpuTimes, Finished, Load, Memory, MemoryUse, Processes, Snapshot, View, topic},
    node,
    processes::{ProcessTable, Seen},
    rates::Cpus,
    tally::{Stream, Tally},
};

/// Serves until told to end.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let stop = pin!(stop::requested(
        options.launched_by,
        options.seconds.unwrap_or(0)
    )?);
    let bus = node::join(options, Role::Analyst).await?;
    let bound = bus
        .bind(node::ANALYST, Analyst::default())
        .handles::<Snapshot>()
        .start()
        .await?;
    // The samples come to the same actor, by the same kind of handler, whoever publishes them. By default a subscription
    // that is full loses the newest message: the sampler never waits for an analyst, however slow.
    let addr = bound.addr();
    let subscriptions = vec![
        bus.subscribe(topic::CPU, addr.clone()).start::<Cpu>().await?,
        bus.subscribe(topic::MEMORY, addr.clone())
            .start::<MemoryUse>()
            .await?,
        bus.subscribe(topic::PROCESSES, addr.clone())
            .start::<Processes>()
            .await?,
    ];
    addr.send(Subscribed(subscriptions)).await?;
    bus.subscribe(topic::FINISHED, addr.clone())
        .start::<Finished>()
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
    subscriptions: Vec<Delivered>,
    cpus: Cpus,
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
    /// Counts a message of the sampler. True if it begins a run: another run has another clock, so rates begin anew.
    fn count(&mut self, stream: Stream, run: u64, origin: Option<&Origin>) -> bool {
        self.last = Some(Instant::now());
        origin.is_some_and(|origin| self.tally.received(stream, run, origin.sequence()))
    }
}

/// From this process, by actix alone: these subscriptions know what they lost.
#[derive(Message)]
#[rtype(result = "()")]
struct Subscribed(Vec<Delivered>);

impl Handler<Subscribed> for Analyst {
    type Result = ();

    fn handle(&mut self, Subscribed(subscriptions): Subscribed, _: &mut Context<Self>) {
        self.subscriptions = subscriptions;
    }
}

// The handlers read the messages where they lie in shared memory. Numbers in there have a fixed byte order, hence
// `to_native`; strings and vectors are used as they are, nothing is decoded into a message first.

impl Handler<Received<Cpu>> for Analyst {
    type Result = ();

    fn handle(&mut self, msg: Received<Cpu>, _: &mut Context<Self>) {
        if self.count(Stream::Cpu, msg.run.to_native(), msg.origin()) {
            self.cpus = Cpus::default();
        }
        self.cpus
            .push(msg.at_us.to_native(), msg.cpus.iter().map(CpuTimes::from));
        self.load = Load {
            one: msg.load.one.to_native(),
            five: msg.load.five.to_native(),
            fifteen: msg.load.fifteen.to_native(),
        };
    }
}

impl Handler<Received<MemoryUse>> for Analyst {
    type Result = ();

    fn handle(&mut self, msg: Received<MemoryUse>, _: &mut Context<Self>) {
        self.count(Stream::Memory, msg.run.to_native(), msg.origin());
        self.memory = Memory {
            total: msg.memory.total.to_native(),
            available: msg.memory.available.to_native(),
            swap_total: msg.memory.swap_total.to_native(),
            swap_free: msg.memory.swap_free.to_native(),
        };
    }
}

impl Handler<Received<Processes>> for Analyst {
    type Result = ();

    fn handle(&mut self, msg: Received<Processes>, _: &mut Context<Self>) {
        if self.count(Stream::Processes, msg.run.to_native(), msg.origin()) {
            self.processes = ProcessTable::default();
        }
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
        let published = [&msg.cpu, &msg.memory, &msg.processes].map(|count| count.to_native());
        self.tally.finished(msg.run.to_native(), published);
    }
}

impl Handler<Received<Snapshot>> for Analyst {
    type Result = MessageResult<Received<Snapshot>>;

    fn handle(&mut self, msg: Received<Snapshot>, _: &mut Context<Self>) -> Self::Result {
        let lost = self.subscriptions.iter().map(Delivered::lost).sum();
        MessageResult(View {
            cpus: self.cpus.shares(),
            memory: self.memory,
            load: self.load,
            busiest: self.processes.busiest(msg.top.to_native() as usize).to_vec(),
            processes: self.processes.len() as u32,
            silent_ms: self.last.map(|last| last.elapsed().as_millis() as u64),
            totals: self.tally.totals(lost),
        })
    }
}
