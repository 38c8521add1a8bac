//! What the two processes of a measurement say of it, each in one line of numbers on its standard output.

use std::time::Duration;

use crate::{Result, usage::Usage};

/// What the server received between the two marks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Messages.
    pub messages: u64,
    /// Sum of all they held.
    pub sum: u64,
    /// What it cost.
    pub usage: Usage,
}

/// What the client sent, and how fast.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Driven {
    /// Messages.
    pub messages: u64,
    /// Sum of all they held.
    pub sum: u64,
    /// What it cost.
    pub usage: Usage,
    /// From the first message to the last one's arrival.
    pub elapsed: Duration,
    /// Round trips at the 50th, 99th and 99.9th of a hundred, in nanoseconds; zero where there are none.
    pub percentiles: [u64; 3],
}

impl Served {
    /// Counts so many messages, which held this in sum.
    #[inline]
    pub fn add(&mut self, messages: u64, sum: u64) {
        self.messages += messages;
        self.sum = self.sum.wrapping_add(sum);
    }

    /// What all receivers of the same messages did together: each has them all.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            sum: self.sum.wrapping_add(other.sum),
            usage: self.usage.plus(other.usage),
        }
    }

    /// Says it.
    pub fn print(&self) {
        let Usage {
            cpu_ns,
            sleeps,
            faults,
        } = self.usage;
        println!("{} {} {cpu_ns} {sleeps} {faults}", self.messages, self.sum);
    }

    /// Reads what was said.
    ///
    /// # Errors
    /// If the line is anything else.
    pub fn parse(line: &str) -> Result<Self> {
        let [messages, sum, cpu_ns, sleeps, faults] = numbers(line)?;
        Ok(Self {
            messages,
            sum,
            usage: Usage {
                cpu_ns,
                sleeps,
                faults,
            },
        })
    }
}

impl Driven {
    /// Says it.
    pub fn print(&self) {
        let Usage {
            cpu_ns,
            sleeps,
            faults,
        } = self.usage;
        let ([p50, p99, p999], ns) = (self.percentiles, self.elapsed.as_nanos());
        println!(
            "{} {} {cpu_ns} {sleeps} {faults} {ns} {p50} {p99} {p999}",
            self.messages, self.sum
        );
    }

    /// Several clients of one measurement: their messages together, the longest time, and of the percentiles the
    /// worst, because theirs cannot be told from each one's.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let worst = |at: usize| self.percentiles[at].max(other.percentiles[at]);
        Self {
            messages: self.messages + other.messages,
            sum: self.sum.wrapping_add(other.sum),
            usage: self.usage.plus(other.usage),
            elapsed: self.elapsed.max(other.elapsed),
            percentiles: [worst(0), worst(1), worst(2)],
        }
    }

    /// Reads what was said.
    ///
    /// # Errors
    /// If the line is anything else.
    pub fn parse(line: &str) -> Result<Self> {
        let [messages, sum, cpu_ns, sleeps, faults, ns, p50, p99, p999] = numbers(line)?;
        Ok(Self {
            messages,
            sum,
            usage: Usage {
                cpu_ns,
                sleeps,
                faults,
            },
            elapsed: Duration::from_nanos(ns),
            percentiles: [p50, p99, p999],
        })
    }
}

fn numbers<const N: usize>(line: &str) -> Result<[u64; N]> {
    let numbers = line
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<Vec<u64>, _>>()?;
    numbers
        .try_into()
        .map_err(|_| format!("not a report of {N} numbers: {line:?}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_lines_are_refused() {
        assert!(Served::parse("1 2 3 4 5").is_ok());
        for line in ["", "1 2 3 4", "1 2 3 4 5 6", "1 2 3 4 x"] {
            assert!(Served::parse(line).is_err(), "{line:?}");
        }
        assert!(Driven::parse("1 2 3 4 5 6 7 8 9").is_ok());
        for line in ["1 2 3 4 5", "1 2 3 4 5 6 7 8 -9", "thread 'main' panicked"] {
            assert!(Driven::parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn clients_add_up() {
        let one = Driven::parse("10 7 100 1 0 2000 5 6 7").unwrap();
        let other = Driven::parse("20 8 50 0 3 1000 4 9 9").unwrap();
        assert_eq!(
            one.plus(other),
            Driven::parse("30 15 150 1 3 2000 5 9 9").unwrap()
        );
    }
}
