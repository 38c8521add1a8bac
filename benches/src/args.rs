//! What can be chosen on the command line.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

use crate::case::Case;

/// Payload sizes of a run without `--payload`, in bytes.
const SIZES: [usize; 9] = [
    64,
    512,
    1 << 10,
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    4 << 20,
];

/// Round trips and one-way messages between two processes, in a table.
#[derive(Debug, Clone, Parser)]
#[command(name = "pingpong", version)]
pub struct Args {
    /// What is measured; may be given several times. All if none is given.
    #[arg(long = "case", value_enum, value_delimiter = ',')]
    cases: Vec<Case>,

    /// Bytes per message, at least 8, with an optional K or M; may be given several times.
    #[arg(long = "payload", visible_alias = "size", value_parser = bytes, value_delimiter = ',')]
    payloads: Vec<usize>,

    /// What carries the messages; may be given several times. All if none is given.
    #[arg(long = "system", value_delimiter = ',', value_parser = crate::systems::names())]
    pub systems: Vec<String>,

    /// How long each measurement lasts, after a warm-up of a quarter of it.
    #[arg(long, default_value_t = 0.5, value_parser = positive)]
    pub seconds: f64,

    /// How often each measurement is repeated; the table shows medians.
    #[arg(long, visible_alias = "repeat", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeats: u32,

    /// Put the server on core 0 and the client on core 1.
    #[arg(long)]
    pub pin: bool,

    /// Messages that a receiving mailbox may hold unreleased (shmbus; its default if not given).
    #[arg(long)]
    pub window: Option<u32>,

    /// Set in the processes this program starts.
    #[arg(long, hide = true)]
    pub role: Option<Role>,

    /// The directory both processes of a measurement use.
    #[arg(long, hide = true, default_value = ".")]
    pub dir: PathBuf,
}

/// Which of the two processes of a measurement this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Answers and counts.
    Server,
    /// Sends, and has the clock.
    Client,
}

impl Args {
    /// The cases chosen.
    #[must_use]
    pub fn cases(&self) -> &[Case] {
        if self.cases.is_empty() {
            Case::value_variants()
        } else {
            &self.cases
        }
    }

    /// The sizes chosen.
    #[must_use]
    pub fn payloads(&self) -> &[usize] {
        if self.payloads.is_empty() {
            &SIZES
        } else {
            &self.payloads
        }
    }

    /// How long one measurement lasts.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 1 << 10),
        None => match text.strip_suffix(['M', 'm']) {
            Some(digits) => (digits, 1 << 20),
            None => (text, 1),
        },
    };
    let bytes = digits
        .parse::<usize>()
        .map_err(|error| error.to_string())?
        .saturating_mul(unit);
    if (8..=1 << 30).contains(&bytes) {
        Ok(bytes)
    } else {
        Err("8 bytes to 1024M".into())
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("a number of seconds, above 0 and at most 3600".into()),
    }
}
