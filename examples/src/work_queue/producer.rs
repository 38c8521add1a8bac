//! The role that publishes the jobs.

use std::{future, pin::pin};

use shmbus_examples::stop;
use tokio::select;

use crate::{Failure, args::Options, blocks::Blocks, messages::Job};

/// The topic of the jobs.
pub const JOBS: &str = "jobs";

/// Publishes all jobs, then stays until told to end.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let stop = pin!(stop::requested(options.place.launched_by, 0)?);
    let path = options.path()?;
    let mut blocks = Blocks::open(&path, options.bytes, options.block)?;
    let bus = options.join("producer").await?;
    // Once this is there, it has reached every subscriber that was there before; the workers were. Without any, a
    // topic keeps nothing (but its history, if it has one), and these jobs would be lost.
    let jobs = bus.publisher::<Job>(JOBS).await?;
    let publish = async {
        let mut number = 0;
        while let Some(len) = blocks.next_len() {
            // The block is read from the file straight into the memory that a worker reads it in.
            let mut loan = jobs.loan(len).await?;
            blocks.read(&mut loan)?;
            // Waits while no worker has room, so the jobs in memory are bounded.
            loan.send(|data| Job { number, data }).await?;
            number += 1;
        }
        // What a dead worker had is sent again from here, where the memory is. So the producer stays until the
        // collector has everything, not only until everything was taken.
        future::pending().await
    };
    let done: Result<(), Failure> = select! {
        () = stop => Ok(()),
        done = publish => done,
    };
    bus.leave().await;
    done
}
