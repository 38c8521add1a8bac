//! What came of it, in words.

use std::{
    fmt::{self, Display, Formatter},
    path::PathBuf,
    time::Duration,
};

use shmbus_examples::text;

use crate::{args::Options, blocks::Hash, ledger::Ledger};

/// Everything that is printed at the end.
#[derive(Debug)]
pub struct Report<'a> {
    pub options: &'a Options,
    pub path: PathBuf,
    /// Bytes and hash of hashes, computed without the bus.
    pub expected: (u64, Hash),
    pub ledger: Ledger,
    /// How many jobs were done when the victim died, if it did.
    pub killed_after: Option<u64>,
    pub alone: Duration,
    pub took: Duration,
}

impl Report<'_> {
    /// Whether the total is what it should be.
    pub fn is_exact(&self) -> bool {
        self.ledger.total() == self.expected
    }
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { options, ledger, .. } = self;
        let jobs = self.expected.0.div_ceil(options.block.into());
        writeln!(
            f,
            "{} in {jobs} blocks of {}, on bus `{}`",
            self.path.display(),
            text::bytes(options.block.into()),
            options.bus_name(),
        )?;
        for number in 1..=options.workers {
            let killed = match self.killed_after {
                Some(after) if number == 1 => format!("   killed when {after} were done"),
                _ => String::new(),
            };
            writeln!(
                f,
                "worker {number:<4}  {:>6} jobs{killed}",
                ledger.by_worker(number)
            )?;
        }
        writeln!(
            f,
            "jobs         done {} of {jobs}, redelivered {}, repeated {}",
            ledger.jobs(),
            ledger.redelivered(),
            ledger.repeated()
        )?;
        let took = |took: Duration| text::nanos(took.as_nanos() as u64);
        for (name, (bytes, hash), time) in [
            ("total", ledger.total(), self.took),
            ("without bus", self.expected, self.alone),
        ] {
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(
                f,
                "{name:<12} {bytes} bytes, sha256 of sha256s {hash}, in {}",
                took(time)
            )?;
        }
        writeln!(f, "exact        {}", if self.is_exact() { "yes" } else { "no" })
    }
}

#[cfg(test)]
mod tests;
