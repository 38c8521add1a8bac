//! Measuring shmbus beside what every Linux has; see the library's documentation and `--help`.

use std::{
    io::{Write, stdout},
    process::ExitCode,
};

use clap::Parser;
use shmbus_benches::{args::PingPong, launch, table};

fn main() -> ExitCode {
    launch::main(|| {
        let selection = PingPong::parse().selection()?;
        writeln!(stdout(), "{}", table::head(&selection))?;
        launch::measure_all(&selection, |rows| Ok(writeln!(stdout(), "{}", table::of(&rows))?))
    })
}
