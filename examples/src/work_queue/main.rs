//! A queue of jobs that a group of worker processes shares, and that survives the death of a worker:
//!
//! ```text
//!  producer ── publish: Job ──> `jobs`, group `workers` ──> worker 1, 2, 3 ── tell: Done ──> collector
//!  reads a file, block by block     one of them each        hash the block                 adds up
//! ```
//!
//! `work-queue` starts the producer and the workers, is the collector itself, kills one worker on the way, and
//! compares the total with the same computation made without the bus.
//!
//! What the bus promises is in `worker`, what a program must do about it in `ledger`.

mod args;
mod blocks;
mod collector;
mod launch;
mod ledger;
mod messages;
mod producer;
mod report;
mod worker;

use std::process::ExitCode;

use args::{Args, Role};
use clap::Parser;

/// What ends a role early. Every error of the bus names the thing concerned, so they are passed on as they are.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let args = Args::parse();
    let options = &args.options;
    // An arbiter for the collector, which is an actor; for the others it is just a runtime of one thread.
    let system = actix::System::new();
    let (who, done) = match args.role {
        None => ("work-queue".into(), system.block_on(launch::run(options))),
        Some(Role::Producer) => (
            "producer".into(),
            system.block_on(producer::run(options)).map(|()| true),
        ),
        Some(Role::Worker { number }) => (
            format!("worker {number}"),
            system.block_on(worker::run(options, number)).map(|()| true),
        ),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{who}: {error}");
            ExitCode::FAILURE
        }
    }
}
