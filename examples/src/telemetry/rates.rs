//! From counters that only grow to rates.

use std::collections::VecDeque;

use crate::messages::{CpuShare, CpuTimes};

/// Rates are taken over this long, in microseconds. The kernel counts CPU time in ticks of 10 ms, so from one
/// sample to the next, 50 ms later, a rate could only be 0, 20, 40 .. percent.
pub const SPAN_US: u64 = 1_000_000;

/// The samples of the last [`SPAN_US`].
#[derive(Debug)]
pub struct Window<T> {
    samples: VecDeque<(u64, T)>,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self {
            samples: VecDeque::new(),
        }
    }
}

impl<T: Copy> Window<T> {
    /// Adds a sample taken at `at_us`. Time that does not go forward begins the window anew.
    pub fn push(&mut self, at_us: u64, value: T) {
        if self.samples.back().is_some_and(|&(last, _)| last >= at_us) {
            self.samples.clear();
        }
        self.samples.push_back((at_us, value));
        // The oldest sample goes when the next one is old enough to take its place.
        while self
            .samples
            .get(1)
            .is_some_and(|&(second, _)| second + SPAN_US <= at_us)
        {
            self.samples.pop_front();
        }
    }

    /// The oldest and the newest sample; none while there are fewer than two.
    pub fn ends(&self) -> Option<((u64, T), (u64, T))> {
        match (self.samples.front(), self.samples.back()) {
            (Some(&old), Some(&new)) if self.samples.len() > 1 => Some((old, new)),
            _ => None,
        }
    }
}

impl Window<CpuTimes> {
    /// How busy the CPU was.
    pub fn share(&self) -> CpuShare {
        self.ends()
            .map_or_else(CpuShare::default, |((_, old), (_, new))| share(old, new))
    }
}

/// All CPUs.
#[derive(Debug, Default)]
pub struct Cpus(Vec<Window<CpuTimes>>);

impl Cpus {
    /// Adds a sample taken at `at_us`.
    pub fn push(&mut self, at_us: u64, cpus: impl ExactSizeIterator<Item = CpuTimes>) {
        self.0.resize_with(cpus.len(), Window::default);
        for (window, times) in self.0.iter_mut().zip(cpus) {
            window.push(at_us, times);
        }
    }

    /// How busy they are; all 0 while there is a single sample.
    pub fn shares(&self) -> Vec<CpuShare> {
        self.0.iter().map(Window::share).collect()
    }

    /// Whether there are two samples to compare.
    pub fn is_known(&self) -> bool {
        self.0.iter().any(|window| window.ends().is_some())
    }
}

impl Window<u64> {
    /// For CPU time in milliseconds: percent of one CPU.
    pub fn percent(&self) -> f32 {
        self.ends().map_or(0.0, |((from, old), (to, new))| {
            (new.saturating_sub(old) as f64 * 100_000.0 / (to - from) as f64) as f32
        })
    }
}

/// How a CPU spent its time between two samples. The kernel's idle time can go back a little, so every
/// difference is at least 0.
pub fn share(old: CpuTimes, new: CpuTimes) -> CpuShare {
    let user = new.user.saturating_sub(old.user);
    let system = new.system.saturating_sub(old.system);
    let steal = new.steal.saturating_sub(old.steal);
    let total = user + system + steal + new.idle.saturating_sub(old.idle);
    let percent = |part: u64| {
        if total == 0 {
            0.0
        } else {
            (part as f64 * 100.0 / total as f64) as f32
        }
    };
    CpuShare {
        user: percent(user),
        system: percent(system),
        steal: percent(steal),
    }
}

impl CpuShare {
    /// All of it that was not idle.
    pub fn busy(&self) -> f32 {
        self.user + self.system + self.steal
    }
}

#[cfg(test)]
mod tests;
