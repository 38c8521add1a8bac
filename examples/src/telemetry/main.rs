//! A live view of this machine, made by three processes that share one bus:
//!
//! ```text
//!  sampler ── publish: telemetry.cpu, .memory, .processes ──> analyst <── ask: Snapshot ── viewer
//!  reads /proc     │                                          keeps rates   reply: View    draws
//!                  └─────────── telemetry.cpu ────────────────────────────────────────────> ^
//! ```
//!
//! `telemetry` starts all three for ten seconds. `telemetry sampler`, `telemetry analyst` and `telemetry viewer`
//! start one each, in any order; each can be restarted while the others run. There may be any
//! number of viewers; one that comes later gets the last state at once, because the topics keep one message.
//!
//! The messages are in `messages`, the three roles in `sampler`, `analyst` and `viewer`, and how they are started
//! and ended together in `supervise`. The other modules know nothing of the bus.

mod analyst;
mod args;
mod messages;
mod model;
mod node;
mod plain;
mod probe;
mod processes;
mod rates;
mod sampler;
mod screen;
mod supervise;
mod table;
mod tally;
mod viewer;

use std::process::ExitCode;

use args::{Args, Role};
use clap::Parser;

/// What ends a role early. Every error of the bus names the thing concerned, so they are passed on as they are.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let args = Args::parse();
    let options = &args.options;
    let (who, done) = match args.role {
        None => (
            "telemetry",
            tokio().and_then(|runtime| runtime.block_on(supervise::run(options))),
        ),
        Some(Role::Sampler) => (
            "sampler",
            tokio().and_then(|runtime| runtime.block_on(sampler::run(options))),
        ),
        // An actor needs an arbiter to live on; the other roles have no actors and only need tokio.
        Some(Role::Analyst) => ("analyst", actix::System::new().block_on(analyst::run(options))),
        Some(Role::Viewer) => (
            "viewer",
            tokio().and_then(|runtime| runtime.block_on(viewer::run(options))),
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

/// One thread is enough for every role, and leaves the machine's other cores to the other processes.
fn tokio() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}
