//! Which of the sampler's messages arrived.

use crate::messages::Totals;

/// Which topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Cpu,
    Memory,
    Processes,
}

/// Counts numbered messages of three topics, run by run.
#[derive(Debug, Default)]
pub struct Tally {
    streams: [Counts; 3],
    runs: u32,
    newest: Option<u64>,
    end: Option<End>,
}

/// A run that is over: how many messages each topic had.
#[derive(Debug, Clone, Copy)]
struct End {
    run: u64,
    published: [u64; 3],
}

/// One topic. Between topics there is no order, so each has its own idea of what the current run is.
#[derive(Debug, Default)]
struct Counts {
    /// Sent in the runs before the current one.
    past: u64,
    /// Received in all runs.
    received: u64,
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    id: u64,
    /// The number that was received first. Nobody owes us those before it: they were published before we subscribed.
    first: u64,
    /// The number that comes next if none is lost.
    next: u64,
}

impl Run {
    /// How many have been sent at least, given that so many were `published` in all, if that is known.
    fn sent(&self, published: Option<u64>) -> u64 {
        self.next.max(published.unwrap_or(0)) - self.first
    }
}

impl Tally {
    /// Message `number` of run `id` arrived. True if it begins a run of its topic: nothing measured before it can
    /// be compared with it.
    pub fn received(&mut self, stream: Stream, id: u64, number: u64) -> bool {
        if self.newest.is_none_or(|newest| newest < id) {
            self.newest = Some(id);
            self.runs += 1;
        }
        let (end, at) = (self.end, stream as usize);
        let counts = &mut self.streams[at];
        counts.received += 1;
        match &mut counts.run {
            Some(run) if run.id == id => {
                run.next = run.next.max(number + 1);
                false
            }
            _ => {
                counts.past = counts.sent(end, at);
                counts.run = Some(Run {
                    id,
                    first: number,
                    next: number + 1,
                });
                true
            }
        }
    }

    /// The sampler says that run `run` had `published` messages in all, by topic.
    pub fn finished(&mut self, run: u64, published: [u64; 3]) {
        self.end = Some(End { run, published });
    }

    /// What came of all of them, given how many the subscriptions have lost.
    pub fn totals(&self, lost: u64) -> Totals {
        let sent = (0..)
            .zip(&self.streams)
            .map(|(at, counts)| counts.sent(self.end, at))
            .sum();
        let received = self.streams.iter().map(|counts| counts.received).sum();
        let over = self.end.is_some_and(|end| {
            self.streams.iter().zip(end.published).all(|(counts, published)| {
                published == 0 || counts.run.as_ref().is_some_and(|run| run.id == end.run)
            })
        });
        Totals {
            runs: self.runs,
            sent,
            received,
            lost,
            finished: over && sent == received + lost,
        }
    }
}

impl Counts {
    fn sent(&self, end: Option<End>, at: usize) -> u64 {
        let current = self.run.as_ref().map_or(0, |run| {
            run.sent(end.filter(|end| end.run == run.id).map(|end| end.published[at]))
        });
        self.past + current
    }
}

#[cfg(test)]
mod tests;
