//! The comparison as a program; see the library's documentation and `--help`.

use clap::Parser;
use shmbus_benches::{Result, args::Args, launch};

fn main() -> Result<()> {
    let args = Args::parse();
    match &args.role {
        Some(role) => launch::work(role, &args),
        None => launch::compare(&args),
    }
}
