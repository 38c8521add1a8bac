//! Measuring shmbus beside what every Linux has; see the library's documentation and `--help`.

use std::process::ExitCode;

use clap::Parser;
use shmbus_benches::{args::PingPong, launch, table};

fn main() -> ExitCode {
    launch::main(|| {
        let selection = PingPong::parse().selection()?;
        println!("{}", table::head(&selection));
        launch::measure_all(&selection, |rows| {
            println!("{}", table::of(&rows));
            Ok(())
        })
    })
}
