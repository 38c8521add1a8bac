//! Big frames through a pipeline of processes, without a copy:
//!
//! ```text
//!  source ── publish: Frame ──> `frames`, group `workers` ──> worker 1, 2 ── tell: Edges ──> collector
//!  decodes into the frame         one of them each        computes into the result     writes a PNG
//! ```
//!
//! The source decodes a picture straight into memory on loan from the bus, a worker reads the pixels there and computes
//! edges into memory on loan for the result, and the collector keeps the results it writes as they came.
//!
//! `frames` starts the source and the workers, and is the collector itself. What the processes do with pixels is in
//! `picture` and `pixels`, which know nothing of the bus.

mod args;
mod collector;
mod launch;
mod ledger;
mod messages;
mod picture;
mod pixels;
mod report;
mod source;
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
        None => ("frames".into(), system.block_on(launch::run(options))),
        Some(Role::Source) => ("source".into(), system.block_on(source::run(options))),
        Some(Role::Worker { number }) => (
            format!("worker {number}"),
            system.block_on(worker::run(options, number)),
        ),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{who}: {error}");
            ExitCode::FAILURE
        }
    }
}
