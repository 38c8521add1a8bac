//! A chaos soak of shmbus: many processes that use all of it at random, while they join, leave, are stopped and
//! killed; and an account, at the end, of every message, buffer, descriptor, mapping, task and socket.
//!
//! `cargo run --release -p shmbus-soak -- --minutes 2`
//!
//! One process supervises; it starts the others as itself, with their place in the environment. What each of them is
//! told by the bus it writes to a ledger file before and after each step (`ledger.rs`), so that the sums have exact
//! bounds also for those that were killed. What is checked where the messages arrive is in `member/`, what is checked of
//! the sums in `supervisor/audit.rs`.

mod args;
mod clock;
mod dice;
mod identity;
mod ledger;
mod member;
mod messages;
mod supervisor;

use std::process::ExitCode;

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

fn main() -> ExitCode {
    // What the bus says against its peers, and all else if asked for by RUST_LOG; the panics among it are wanted.
    let accused = "shmbus::session::peer=warn".parse();
    let accused = accused.unwrap_or_else(|_| LevelFilter::OFF.into());
    let filter = EnvFilter::builder().with_default_directive(accused);
    tracing_subscriber::fmt()
        .with_env_filter(filter.from_env_lossy())
        .with_writer(std::io::stderr)
        .init();
    match member::Place::from_environment() {
        Some(place) => member::run(place),
        None => supervisor::run(&args::read()),
    }
}
