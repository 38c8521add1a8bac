//! Which of the sampler's messages arrived.

use crate::messages::Totals;

/// Counts numbered messages, run by run.
#[derive(Debug, Default)]
pub struct Tally {
    /// Sums over the runs before the current one.
    past: Sum,
    runs: u32,
    run: Option<Run>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    sent: u64,
    received: u64,
}

#[derive(Debug)]
struct Run {
    id: u64,
    /// The number that comes next if none is lost; so many have been sent at least.
    next: u64,
    received: u64,
    finished: bool,
}

impl Tally {
    /// Message `number` of run `id` arrived. True if it begins a run: nothing measured before
    /// it can be compared with it.
    pub fn received(&mut self, id: u64, number: u64) -> bool {
        let began = self.run.as_ref().is_none_or(|run| run.id != id);
        if began {
            self.past = self.sum();
            self.runs += 1;
            self.run = Some(Run {
                id,
                next: 0,
                received: 0,
                finished: false,
            });
        }
        if let Some(run) = &mut self.run {
            run.received += 1;
            run.next = run.next.max(number + 1);
        }
        began
    }

    /// The sampler says that run `id` had `sent` messages in all. An unknown run is not ours to judge: an
    /// earlier analyst received it.
    pub fn finished(&mut self, id: u64, sent: u64) {
        if let Some(run) = self.run.as_mut().filter(|run| run.id == id) {
            run.next = run.next.max(sent);
            run.finished = true;
        }
    }

    /// What came of all of them.
    pub fn totals(&self) -> Totals {
        let Sum { sent, received } = self.sum();
        Totals {
            runs: self.runs,
            sent,
            received,
            lost: sent.saturating_sub(received),
            finished: self.run.as_ref().is_some_and(|run| run.finished),
        }
    }

    fn sum(&self) -> Sum {
        self.run.as_ref().map_or(self.past, |run| Sum {
            sent: self.past.sent + run.next,
            received: self.past.received + run.received,
        })
    }
}

#[cfg(test)]
mod tests;
