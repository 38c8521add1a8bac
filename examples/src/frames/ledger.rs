//! Results, each counted once: a group handles a frame at least once (see the example `work-queue`), so a result is
//! known by its frame's number.

use std::collections::{BTreeMap, HashSet};

/// What was counted so far.
#[derive(Debug, Default)]
pub struct Ledger {
    frames: HashSet<u64>,
    by_worker: BTreeMap<u32, u64>,
    bytes: u64,
    repeated: u64,
}

impl Ledger {
    /// Enters the result of a frame of so many bytes. False if it was there already.
    pub fn enter(&mut self, frame: u64, worker: u32, bytes: u64) -> bool {
        let new = self.frames.insert(frame);
        if new {
            *self.by_worker.entry(worker).or_default() += 1;
            self.bytes += bytes;
        } else {
            self.repeated += 1;
        }
        new
    }

    /// Frames done.
    pub fn frames(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Their pixels, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Results of frames whose result was there already.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Frames done, by worker.
    pub fn by_worker(&self) -> impl Iterator<Item = (u32, u64)> {
        self.by_worker.iter().map(|(worker, frames)| (*worker, *frames))
    }
}

#[cfg(test)]
mod tests;
