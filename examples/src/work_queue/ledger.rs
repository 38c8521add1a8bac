//! Results, each counted once.
//!
//! A group handles every message *at least* once. If a worker dies, its unreleased jobs go to others; the bus cannot
//! know whether the dead one had told its result a moment before, and if it guessed, it would either lose jobs or
//! repeat some. So it repeats (and says so), and whoever adds up must recognise a result it already has. The key is
//! the job's number, which the producer gave it: it is the same at every delivery. Whether a job was *marked* as
//! redelivered is no substitute: most of those were never finished before, and must count.

use std::collections::BTreeMap;

use crate::{
    blocks::{Hash, Total},
    messages::Done,
};

/// The results so far, by job.
#[derive(Debug, Default)]
pub struct Ledger {
    results: BTreeMap<u64, (u64, Hash)>,
    by_worker: BTreeMap<u32, u64>,
    redelivered: u64,
    repeated: u64,
}

impl Ledger {
    /// Enters a result, unless the job's is there.
    pub fn enter(&mut self, done: &Done) {
        *self.by_worker.entry(done.worker).or_default() += 1;
        self.redelivered += u64::from(done.redelivered);
        if self.results.insert(done.job, (done.bytes, done.hash)).is_some() {
            self.repeated += 1;
        }
    }

    /// Jobs done.
    pub fn jobs(&self) -> u64 {
        self.results.len() as u64
    }

    /// Jobs by worker, those that another had done as well included.
    pub fn by_worker(&self, worker: u32) -> u64 {
        self.by_worker.get(&worker).copied().unwrap_or(0)
    }

    /// Jobs that were done by another worker than the first that got them.
    pub fn redelivered(&self) -> u64 {
        self.redelivered
    }

    /// Results of jobs whose result was there already.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// What the results come to.
    pub fn total(&self) -> (u64, Hash) {
        let mut total = Total::default();
        for (bytes, hash) in self.results.values() {
            total.add(*bytes, hash);
        }
        total.finish()
    }
}

#[cfg(test)]
mod tests;
