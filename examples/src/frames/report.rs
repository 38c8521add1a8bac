//! What came of it, in words.

use std::{
    fmt::{self, Display, Formatter},
    path::PathBuf,
};

use shmbus_examples::text;

use crate::{args::Options, collector::Collection};

/// Everything that is printed at the end.
#[derive(Debug)]
pub struct Report<'a> {
    pub options: &'a Options,
    pub collection: &'a Collection,
    /// Every process has said how often it copied.
    pub counted: bool,
    /// Name of each picture, and the file with its result.
    pub files: &'a [(&'a str, PathBuf)],
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Collection {
            ledger, took, copies, ..
        } = self.collection;
        let frames = ledger.frames();
        writeln!(f, "frames on bus `{}`", self.options.bus_name())?;
        for (worker, frames) in ledger.by_worker() {
            writeln!(f, "worker {worker:<4}  {frames:>6} frames")?;
        }
        writeln!(
            f,
            "frames       done {frames} of {}, repeated {}, {} of pixels",
            self.options.frames,
            ledger.repeated(),
            text::bytes(ledger.bytes())
        )?;
        if frames > 0 {
            let seconds = took.as_secs_f64().max(1e-9);
            let rate = frames as f64 / seconds;
            let bytes = ledger.bytes() as f64 / seconds / 1e9;
            let took = text::nanos(took.as_nanos() as u64);
            writeln!(
                f,
                "speed        {rate:.1} frames/s, {bytes:.2} GB/s of pixels, in {took}"
            )?;
            if self.counted {
                // 0, 1 or, of several pictures, something in between.
                writeln!(f, "copies       {} per frame", *copies as f64 / frames as f64)?;
            }
        }
        for (picture, file) in self.files {
            writeln!(f, "result       {} (edges of {picture})", file.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
