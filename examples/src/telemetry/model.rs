//! What the viewer shows.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::{
    messages::{CpuShare, CpuTimes, View},
    rates::Cpus,
};

/// After this long without a message, the sampler is called silent.
const SILENT_MS: u64 = 2_000;

/// Everything the live table and the final one are drawn from.
#[derive(Debug)]
pub struct Model {
    pub bus: String,
    pub running: Duration,
    pub view: View,
    pub bars: Bars,
    pub link: Link,
    pub answered: u64,
    pub failed: u64,
    /// Round trips of the answered asks, in nanoseconds.
    pub round_trips: Histogram<u64>,
}

/// The CPUs as the viewer sees them itself, from the sampler's topic.
#[derive(Debug, Default)]
pub struct Bars {
    cpus: Cpus,
    run: u64,
    pub received: u64,
    pub lost: u64,
    /// How long the viewer had to wait for the first sample.
    pub first: Option<Duration>,
}

impl Bars {
    /// A sample of this run, taken at this time of its clock, came when the viewer had been running for `after`.
    pub fn sampled(
        &mut self,
        (run, at_us): (u64, u64),
        cpus: impl ExactSizeIterator<Item = CpuTimes>,
        after: Duration,
    ) {
        if run != self.run {
            self.run = run;
            self.cpus = Cpus::default();
        }
        self.cpus.push(at_us, cpus);
        self.received += 1;
        self.first.get_or_insert(after);
    }
}

/// How it stands between the viewer and the analyst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Not found yet.
    Waiting,
    /// The last ask was answered.
    Live,
    /// It was there, and is being looked for again.
    Lost(String),
    /// It is there, but did not answer the last ask.
    Trouble(String),
}

impl Model {
    pub fn new(bus: &str) -> Self {
        Self {
            bus: bus.into(),
            running: Duration::ZERO,
            view: View::default(),
            bars: Bars::default(),
            link: Link::Waiting,
            answered: 0,
            failed: 0,
            // A nanosecond to a minute, to three digits: all valid, so this can't fail.
            round_trips: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("valid bounds"),
        }
    }

    /// How busy the CPUs are: by the viewer's own samples, or as long as there is only one, as the analyst sees it.
    pub fn cpus(&self) -> Vec<CpuShare> {
        if self.bars.cpus.is_known() || self.view.cpus.is_empty() {
            self.bars.cpus.shares()
        } else {
            self.view.cpus.clone()
        }
    }

    /// An ask was answered after this long.
    pub fn answered(&mut self, after: Duration) {
        self.answered += 1;
        self.link = Link::Live;
        self.round_trips.saturating_record(after.as_nanos() as u64);
    }

    /// The state of things in one line, and whether all is well.
    pub fn status(&self) -> (String, bool) {
        match &self.link {
            Link::Waiting => ("waiting for the analyst".into(), false),
            Link::Lost(error) => (format!("{error}; looking for the analyst again"), false),
            Link::Trouble(error) => (error.clone(), false),
            Link::Live => match self.view.silent_ms {
                None => ("waiting for the sampler".into(), false),
                Some(_) if self.view.totals.finished => ("the sampler has ended".into(), true),
                Some(silent) if silent >= SILENT_MS => {
                    (format!("nothing from the sampler for {} s", silent / 1000), false)
                }
                Some(_) => ("live".into(), true),
            },
        }
    }
}

#[cfg(test)]
mod tests;
