//! The comparison; see the library's documentation and `--help`.

use std::process::ExitCode;

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
            print!("{}", systems::listing());
            return Ok(());
        }
        if let Some(dir) = &args.plot {
            plot::prepare(dir)?;
        }
        let selection = args.selection();
        if !args.json {
            println!("{}", table::head(&selection));
        }
        let mut charts = Charts::default();
        launch::measure_all(&selection, |rows| {
            for row in &rows {
                charts.add(row);
                if args.json {
                    println!("{}", summary::json(row)?);
                }
            }
            if !args.json {
                println!("{}", table::of(&rows));
            }
            Ok(())
        })?;
        if !args.json {
            print!("\nTuning:\n{}", table::foot(&selection));
        }
        match &args.plot {
            Some(dir) => charts.write(dir),
            None => Ok(()),
        }
    })
}
