//! What a run is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;

/// Processes that use shmbus at random while they join, leave, are stopped and killed. At the end every message is
/// accounted for and nothing is held. A failing run prints its seed and what disagrees, and ends with 1.
#[derive(Debug, Parser)]
#[command(name = "shmbus-soak")]
struct Given {
    /// How long there is chaos, in minutes; the reckoning comes after.
    #[arg(long, default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,
    /// How many processes there are at a time; a quarter of them live through it all.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(4..=200))]
    processes: u16,
    /// Decides all choices (not what the kernel's scheduler makes of them). Random if none is given.
    #[arg(long)]
    seed: Option<u64>,
    /// Keeps the ledgers also of a run in which all adds up.
    #[arg(long)]
    keep: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if (0.0..=10_000.0).contains(&minutes) => Ok(minutes),
        _ => Err("a number of minutes, from 0 to 10000".into()),
    }
}

#[derive(Debug)]
pub struct Args {
    pub lasts: Duration,
    pub processes: u16,
    pub seed: u64,
    pub keep: bool,
}

pub fn read() -> Args {
    let given = Given::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Args {
        lasts: Duration::from_secs_f64(given.minutes * 60.0),
        processes: given.processes,
        seed: given.seed.unwrap_or(now.as_nanos() as u64 % 1_000_000_007),
        keep: given.keep,
    }
}
