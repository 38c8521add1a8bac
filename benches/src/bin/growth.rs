//! What a message costs as a bus grows; see `--help`.

use std::process::ExitCode;

use clap::Parser;
use shmbus_benches::{growth::Growth, launch};

fn main() -> ExitCode {
    launch::main(|| Growth::parse().run())
}
