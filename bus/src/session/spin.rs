//! When looking for messages pays.

use std::time::{Duration, Instant};

use crate::config::Spin;

/// One look within a poll lasts at most this long; then other tasks get their turn.
pub(crate) const BURST: Duration = Duration::from_micros(5);

/// A wait that has lasted so long gives way after each look, so that several that wait on one thread do not hold up each
/// other, nor what else runs there.
const LONG: Duration = Duration::from_micros(20);

/// While looking does not pay, every so many-th wait tries it again.
const TRIAL: u32 = 32;
const BEST: u32 = 16;
/// A wait in vain costs more than a hit gains.
const MISS: u32 = 4;

/// Attempts for the length of a burst, if the setting allows to look at all.
pub(crate) fn look<R>(spin: Spin, mut attempt: impl FnMut() -> Option<R>) -> Option<R> {
    if spin == Spin::Never {
        return None;
    }
    let until = Instant::now() + BURST;
    while Instant::now() < until {
        for _ in 0..16 {
            std::hint::spin_loop();
        }
        if let Some(done) = attempt() {
            return Some(done);
        }
    }
    None
}

/// Decides, by what happened lately, whether a wait begins with looking.
#[derive(Debug)]
pub(crate) struct Policy {
    spin: Spin,
    score: u32,
    waits: u32,
}

impl Policy {
    pub(crate) fn new(spin: Spin) -> Self {
        Self {
            spin,
            score: BEST / 2,
            waits: 0,
        }
    }

    /// How long the wait that begins now may look: `None` not at all, `Duration::MAX` without end.
    pub(crate) fn begin(&mut self) -> Option<Duration> {
        match self.spin {
            Spin::Never => None,
            Spin::For(window) => Some(window),
            Spin::Always => Some(Duration::MAX),
            Spin::Adaptive(window) => {
                self.waits = self.waits.wrapping_add(1);
                (self.score > 0 || self.waits.is_multiple_of(TRIAL)).then_some(window)
            }
        }
    }

    /// Whether a wait that begins now would look, as far as is known without a trial.
    pub(crate) fn pays(&self) -> bool {
        match self.spin {
            Spin::Never => false,
            Spin::For(_) | Spin::Always => true,
            Spin::Adaptive(_) => self.score > 0,
        }
    }

    /// A wait ended while it was looking.
    pub(crate) fn hit(&mut self) {
        self.score = (self.score + 1).min(BEST);
    }

    /// A wait looked for its whole window in vain.
    pub(crate) fn miss(&mut self) {
        self.score = self.score.saturating_sub(MISS);
    }
}

/// One wait: from the first look that found nothing to what ends it.
#[derive(Debug, Default)]
pub(crate) struct Wait {
    /// `None` before the first look; then until when looking goes on, if it does.
    until: Option<Option<Instant>>,
    /// When it is long.
    long_from: Option<Instant>,
}

impl Wait {
    /// Whether it has not looked yet.
    pub(crate) fn is_new(&self) -> bool {
        self.until.is_none()
    }

    /// Until when it may look without giving way, from now on.
    pub(crate) fn burst(&mut self, now: Instant) -> Instant {
        let long_from = *self.long_from.get_or_insert_with(|| now + LONG);
        if now < long_from { now + BURST } else { now }
    }

    /// Whether this wait may look on now. Begins the wait if it has not begun.
    pub(crate) fn may_look(&mut self, policy: &mut Policy, now: Instant) -> bool {
        let until = *self.until.get_or_insert_with(|| {
            // `Duration::MAX` overflows an Instant; a year is without end here.
            policy
                .begin()
                .map(|window| now + window.min(Duration::from_secs(31_536_000)))
        });
        match until {
            Some(until) if now < until => true,
            Some(_) => {
                policy.miss();
                self.until = Some(None);
                false
            }
            None => false,
        }
    }

    /// What was waited for has come.
    pub(crate) fn end(&mut self, policy: &mut Policy) {
        self.long_from = None;
        if let Some(Some(_)) = self.until.take() {
            policy.hit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(policy: &mut Policy, found: bool) -> bool {
        let (mut wait, now) = (Wait::default(), Instant::now());
        let looked = wait.may_look(policy, now);
        if found {
            wait.end(policy);
        } else {
            wait.may_look(policy, now + Duration::from_secs(1));
        }
        looked
    }

    #[test]
    fn never_and_always_mean_what_they_say() {
        let (mut never, mut always) = (Policy::new(Spin::Never), Policy::new(Spin::Always));
        for _ in 0..100 {
            assert!(!looks(&mut never, true));
            let (mut wait, now) = (Wait::default(), Instant::now());
            assert!(wait.may_look(&mut always, now));
            assert!(wait.may_look(&mut always, now + Duration::from_secs(3600)));
        }
    }

    #[test]
    fn adaptive_stops_when_it_does_not_pay_and_starts_again_when_it_does() {
        let mut policy = Policy::new(Spin::default());
        let first: usize = (0..64).map(|_| usize::from(looks(&mut policy, false))).sum();
        assert!(first <= 5, "{first} vain looks in 64 waits");
        let tries: usize = (0..640).map(|_| usize::from(looks(&mut policy, false))).sum();
        assert_eq!(tries, 640 / TRIAL as usize, "it tries again now and then");
        // Now every look finds something: after the next try it looks every time.
        let hits: usize = (0..100).map(|_| usize::from(looks(&mut policy, true))).sum();
        assert!(hits > 100 - TRIAL as usize);
    }

    #[test]
    fn a_long_wait_gives_way_after_each_look_until_the_next_one_begins() {
        let mut policy = Policy::new(Spin::Always);
        let (mut wait, now) = (Wait::default(), Instant::now());
        assert_eq!(wait.burst(now), now + BURST);
        assert_eq!(wait.burst(now + LONG), now + LONG);
        wait.end(&mut policy);
        assert_eq!(wait.burst(now + LONG), now + LONG + BURST);
    }
}
