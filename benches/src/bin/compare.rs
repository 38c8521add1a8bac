//! The comparison; see the library's documentation and `--help`.

use std::{
    io::{Write, stdout},
    process::ExitCode,
};

use clap::Parser;
use shmbus_benches::{
    args::Compare,
    launch,
    plot::{self, Charts},
    summary, systems, table,
};

fn main() -> ExitCode {
    launch::main(|| {
        let args = Compare::parse();
        if args.listing {
            return Ok(write!(stdout(), "{}", systems::listing())?);
        }
        if let Some(dir) = &args.plot {
            plot::prepare(dir)?;
        }
        let selection = args.selection();
        if !args.json {
            writeln!(stdout(), "{}", table::head(&selection))?;
        }
        let mut charts = Charts::default();
        launch::measure_all(&selection, |rows| {
            for row in &rows {
                charts.add(row);
                if args.json {
                    writeln!(stdout(), "{}", summary::json(row)?)?;
                }
            }
            if !args.json {
                writeln!(stdout(), "{}", table::of(&rows))?;
            }
            Ok(())
        })?;
        if !args.json {
            write!(stdout(), "\nTuning:\n{}", table::foot(&selection))?;
        }
        match &args.plot {
            Some(dir) => charts.write(dir),
            None => Ok(()),
        }
    })
}
