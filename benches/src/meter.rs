//! The clock and the counters of a client, and those of a server.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::{
    case::Run,
    payload,
    report::{Driven, Served},
    usage::Usage,
};

/// How much of a measurement's time is spent before it, to warm up.
const WARM_UP: u32 = 4;
/// Between two looks at the clock a sender of small messages sends so many.
const STRIDE: u64 = 64;
/// Messages from this size on are counted one by one.
const LARGE: usize = 16 << 10;

/// Longer round trips count as this long, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// What a client counts. Made by [`phases`].
#[derive(Debug)]
pub struct Meter {
    payload: usize,
    stride: u64,
    start: Instant,
    until: Instant,
    usage: Usage,
    next: u64,
    sum: u64,
    answered: u64,
    answers: u64,
    round_trips: Histogram<u64>,
}

/// The two phases of a measurement: `true` for the warm-up, whose counts nobody looks at.
#[must_use]
pub fn phases(run: &Run) -> [(bool, Duration); 2] {
    [(true, run.duration / WARM_UP), (false, run.duration)]
}

impl Meter {
    /// The clock starts.
    #[must_use]
    pub fn start(run: &Run, lasts: Duration) -> Self {
        let stride = if run.payload >= LARGE { 1 } else { STRIDE };
        let usage = Usage::now();
        let start = Instant::now();
        Self {
            payload: run.payload,
            stride,
            start,
            until: start + lasts,
            usage,
            next: 0,
            sum: 0,
            answered: 0,
            answers: 0,
            round_trips: Histogram::new_with_bounds(1, LONGEST, 3).expect("these bounds are allowed"),
        }
    }

    /// The number of the next message, which is about to be written and sent.
    #[inline]
    pub fn send(&mut self) -> u64 {
        let seq = self.next;
        self.next += 1;
        self.sum = self.sum.wrapping_add(payload::expected(self.payload, seq));
        seq
    }

    /// A reply was read, to the message that was begun at `begun`. Gives the time.
    #[inline]
    pub fn reply(&mut self, begun: Instant, sum: u64) -> Instant {
        let now = Instant::now();
        self.answered += 1;
        self.answers = self.answers.wrapping_add(sum);
        self.round_trips
            .saturating_record((now - begun).as_nanos() as u64);
        now
    }

    /// Whether the time is up, for those who know it.
    #[inline]
    #[must_use]
    pub fn is_over_at(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Whether the time is up, for those who send without pause: looks at the clock now and then.
    #[inline]
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.next.is_multiple_of(self.stride) && Instant::now() >= self.until
    }

    /// Messages sent and not yet answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        (self.next - self.answered) as usize
    }

    /// Everything has arrived: the clock stops.
    ///
    /// # Panics
    /// If replies are missing or held something else than what was sent.
    #[must_use]
    pub fn stop(self) -> Driven {
        let elapsed = self.start.elapsed();
        let usage = Usage::now().since(self.usage);
        if self.answered > 0 {
            assert_eq!(self.answered, self.next, "replies are missing");
            assert_eq!(
                self.answers, self.sum,
                "replies hold something else than what was sent"
            );
        }
        let at = |quantile| self.round_trips.value_at_quantile(quantile);
        Driven {
            messages: self.next,
            sum: self.sum,
            usage,
            elapsed,
            percentiles: [at(0.5), at(0.99), at(0.999)],
        }
    }
}

/// What a server counts.
#[derive(Debug, Default)]
pub struct Tally {
    served: Served,
    from: Usage,
}

impl Tally {
    /// A message was read.
    #[inline]
    pub fn add(&mut self, sum: u64) {
        self.served.messages += 1;
        self.served.sum = self.served.sum.wrapping_add(sum);
    }

    /// The client's clock is about to start.
    pub fn begin(&mut self) {
        *self = Self {
            served: Served::default(),
            from: Usage::now(),
        };
    }

    /// The client has sent everything; what arrived is printed.
    pub fn end(&mut self) {
        self.served.usage = Usage::now().since(self.from);
        self.served.print();
    }
}
