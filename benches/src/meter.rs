//! The clock and the counters of a client, and those of a server.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::{
    case::{Case, Run},
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

/// What a client, or a thread of it, counts.
#[derive(Debug)]
pub struct Meter {
    payload: usize,
    stride: u64,
    /// 2 where half of a round trip is what counts.
    parts: u64,
    start: (Instant, Usage),
    end: Option<(Instant, Usage)>,
    until: Instant,
    /// Messages to be sent however long it takes: one, or as many as the server's actors keep.
    least: u64,
    next: u64,
    sum: u64,
    answered: u64,
    answers: u64,
    times: Histogram<u64>,
}

/// The phases of a measurement, each with its length: the warm-up, whose counts nobody looks at, and the
/// measurement itself.
#[must_use]
pub fn phases(run: &Run) -> [Duration; 2] {
    [run.duration() / WARM_UP, run.duration()]
}

impl Meter {
    /// The clock starts.
    #[must_use]
    pub fn start(run: &Run, lasts: Duration) -> Self {
        let sparse = run.payload() >= LARGE || run.case().is_paced();
        let usage = Usage::now();
        let start = Instant::now();
        Self {
            payload: run.payload(),
            stride: if sparse { 1 } else { STRIDE },
            parts: if run.case() == Case::IdleWake { 2 } else { 1 },
            start: (start, usage),
            end: None,
            until: start + lasts,
            least: u64::from(run.shape.held * run.shape.mailboxes).max(1),
            next: 0,
            sum: 0,
            answered: 0,
            answers: 0,
            times: Histogram::new_with_bounds(1, LONGEST, 3).expect("these bounds are allowed"),
        }
    }

    /// The number of the next message, which is about to be written and sent.
    #[inline]
    pub fn send(&mut self) -> u64 {
        self.send_as(payload::expected)
    }

    /// The same, for payloads whose sum is another than [`payload::expected`].
    #[inline]
    pub fn send_as(&mut self, expected: impl Fn(usize, u64) -> u64) -> u64 {
        let seq = self.next;
        self.next += 1;
        self.sum = self.sum.wrapping_add(expected(self.payload, seq));
        seq
    }

    /// A reply was read, to the message that was begun at `begun`. Gives the time.
    #[inline]
    pub fn reply(&mut self, begun: Instant, sum: u64) -> Instant {
        let now = Instant::now();
        self.answered += 1;
        self.answers = self.answers.wrapping_add(sum);
        self.times
            .saturating_record((now - begun).as_nanos() as u64 / self.parts);
        now
    }

    /// Whether the time is up, for those who know it; not before there were messages.
    #[inline]
    #[must_use]
    pub fn is_over_at(&self, now: Instant) -> bool {
        now >= self.until && self.next >= self.least
    }

    /// Whether the time is up, for those who send without pause: looks at the clock now and then.
    #[inline]
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.next.is_multiple_of(self.stride) && self.is_over_at(Instant::now())
    }

    /// Messages sent and not yet answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        (self.next - self.answered) as usize
    }

    /// Everything has arrived: the clock stops.
    pub fn stop(&mut self) {
        self.end = Some((Instant::now(), Usage::now()));
    }

    /// What was counted by the threads of one process, from the first one's start to the last one's end.
    ///
    /// # Panics
    /// If there are none, one was not stopped, replies are missing or held something else than what was sent.
    #[must_use]
    pub fn report(meters: impl IntoIterator<Item = Meter>) -> Driven {
        let mut meters = meters.into_iter();
        let first = meters.next().expect("somebody measured");
        let mut end = first.end.expect("the clock was stopped");
        let (mut start, mut times) = (first.start, first.times.clone());
        let mut driven = Driven::default();
        let mut count = |meter: &Meter| {
            if meter.answered > 0 {
                assert_eq!(meter.answered, meter.next, "replies are missing");
                assert_eq!(
                    meter.answers, meter.sum,
                    "replies hold something else than what was sent"
                );
            }
            driven.messages += meter.next;
            driven.sum = driven.sum.wrapping_add(meter.sum);
        };
        count(&first);
        for meter in meters {
            count(&meter);
            start = start.min(meter.start);
            end = end.max(meter.end.expect("the clock was stopped"));
            times.add(&meter.times).expect("the same bounds");
        }
        let at = |quantile| times.value_at_quantile(quantile);
        Driven {
            usage: end.1.since(start.1),
            elapsed: end.0 - start.0,
            percentiles: [at(0.5), at(0.99), at(0.999)],
            ..driven
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
        self.served.add(1, sum);
    }

    /// The same, for several.
    pub fn take(&mut self, served: &mut Served) {
        let Served { messages, sum, .. } = std::mem::take(served);
        self.served.add(messages, sum);
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
