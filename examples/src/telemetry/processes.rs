//! CPU use per process, and which are the busiest.

use std::collections::HashMap;

use crate::{messages::Busy, rates::Window};

/// How many of the busiest are kept.
pub const RANKED: usize = 100;

/// One process of a sample. It borrows its name: most processes were seen before, so that most names need
/// not be copied out of shared memory.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub pid: i32,
    pub started: u64,
    pub name: &'a str,
    pub state: u8,
    pub cpu_ms: u64,
    pub rss: u64,
}

/// The processes of the last sample.
#[derive(Debug, Default)]
pub struct ProcessTable {
    entries: HashMap<i32, Entry>,
    ranking: Vec<Busy>,
    /// Counts samples, to find who was not in the last.
    sample: u64,
}

#[derive(Debug, Default)]
struct Entry {
    started: u64,
    name: String,
    state: u8,
    rss: u64,
    cpu_ms: Window<u64>,
    sample: u64,
}

impl ProcessTable {
    /// Takes in one sample: all processes there were at `at_us`.
    pub fn update<'a>(&mut self, at_us: u64, list: impl Iterator<Item = Seen<'a>>) {
        self.sample += 1;
        for seen in list {
            let entry = self.entries.entry(seen.pid).or_default();
            if entry.started != seen.started {
                // The pid is new, or was given to another process.
                *entry = Entry {
                    started: seen.started,
                    ..Entry::default()
                };
            }
            if entry.name != seen.name {
                seen.name.clone_into(&mut entry.name);
            }
            entry.state = seen.state;
            entry.rss = seen.rss;
            entry.cpu_ms.push(at_us, seen.cpu_ms);
            entry.sample = self.sample;
        }
        self.entries.retain(|_, entry| entry.sample == self.sample);
        self.rank();
    }

    /// The busiest `top`, the busiest first.
    pub fn busiest(&self, top: usize) -> &[Busy] {
        &self.ranking[..top.min(self.ranking.len())]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn rank(&mut self) {
        let mut order: Vec<_> = self
            .entries
            .iter()
            .map(|(pid, entry)| (entry.cpu_ms.percent(), *pid, entry))
            .collect();
        let by_use = |a: &(f32, i32, &Entry), b: &(f32, i32, &Entry)| {
            b.0.total_cmp(&a.0)
                .then(b.2.rss.cmp(&a.2.rss))
                .then(a.1.cmp(&b.1))
        };
        if order.len() > RANKED {
            order.select_nth_unstable_by(RANKED, by_use);
            order.truncate(RANKED);
        }
        order.sort_unstable_by(by_use);
        self.ranking.clear();
        self.ranking
            .extend(order.into_iter().map(|(cpu, pid, entry)| Busy {
                pid,
                name: entry.name.clone(),
                state: entry.state,
                cpu,
                rss: entry.rss,
            }));
    }
}

#[cfg(test)]
mod tests;
