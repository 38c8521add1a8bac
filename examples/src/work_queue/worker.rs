//! The role that does the work.

use std::pin::pin;

use shmbus::prelude::*;
use shmbus_examples::stop;
use tokio::select;

use crate::{
    Failure,
    args::Options,
    blocks,
    collector::COLLECTOR,
    messages::{Done, Job, Ready},
    producer::JOBS,
};

/// The group whose members share the jobs.
const GROUP: &str = "workers";

/// Takes jobs until told to end.
pub async fn run(options: &Options, number: u32) -> Result<(), Failure> {
    let mut stop = pin!(stop::requested(options.place.launched_by, 0)?);
    let bus = options.join(&format!("worker-{number}")).await?;
    let collector = bus.address::<(Ready, Done)>(COLLECTOR).await?;
    let mut jobs = bus
        .subscriber::<Job>(JOBS)
        .group(GROUP)
        .depth(options.depth)
        .when_full(WhenFull::Wait)
        .await?;
    collector.tell(&Ready { worker: number }).await?;
    loop {
        let job = select! {
            () = &mut stop => break,
            job = jobs.recv() => job,
        };
        let Some(job) = job else { break };
        let done = Done {
            job: job.number.to_native(),
            worker: number,
            redelivered: job.origin().is_some_and(|origin| origin.is_redelivered()),
            bytes: job.data.len() as u64,
            hash: blocks::hash(&job.data),
        };
        collector.tell(&done).await?;
        // Dropping the job is what says that it was handled; if this process dies before, another worker gets it.
        // So it is dropped after the result was told, never before: a death in between repeats the job, which the
        // collector notices, while the other order would lose it.
        drop(job);
    }
    bus.leave().await;
    Ok(())
}
