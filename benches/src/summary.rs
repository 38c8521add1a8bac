//! What the repeats of one measurement come to, and how it is written.

use serde::Serialize;

use crate::{
    case::Case,
    launch::{Row, Sample},
    usage::Usage,
};

/// Medians over all repeats; nothing where a case has no such number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Times of single messages, in nanoseconds, at the 50th, 99th and 99.9th of a hundred.
    pub percentiles: Option<[f64; 3]>,
    /// Messages per second.
    pub rate: Option<f64>,
    /// Payload bytes per second in one direction, to one receiver.
    pub bytes: Option<f64>,
    /// CPU time of all processes per message, in nanoseconds.
    pub cpu_ns: f64,
    /// How often they slept, per message.
    pub sleeps: f64,
    /// Pages they touched for the first time, per message.
    pub faults: f64,
}

impl Summary {
    /// Of all samples of a row.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        let case = row.point.case;
        let over = |value: &dyn Fn(&Sample) -> f64| median(row.samples.iter().map(value));
        let at = |index: usize| over(&|sample| sample.driven.percentiles[index] as f64);
        let used = |of: fn(Usage) -> u64| {
            over(&|sample| {
                of(sample.driven.usage.plus(sample.served.usage)) as f64 / sample.driven.messages as f64
            })
        };
        // After a silence there is no rate to speak of.
        let rate = (case != Case::IdleWake).then(|| over(&rate));
        Self {
            percentiles: case.is_timed().then(|| [at(0), at(1), at(2)]),
            rate,
            bytes: rate.map(|rate| rate * row.point.payload as f64),
            cpu_ns: used(|usage| usage.cpu_ns),
            sleeps: used(|usage| usage.sleeps),
            faults: used(|usage| usage.faults),
        }
    }
}

/// Messages per second of one sample.
#[must_use]
pub fn rate(sample: &Sample) -> f64 {
    sample.driven.messages as f64 / sample.driven.elapsed.as_secs_f64()
}

/// The cost of one row as a multiple of another's, repeat by repeat: of a single message where those are timed, of CPU
/// time at a fixed rate, else of time per message.
#[must_use]
pub fn ratio(row: &Row, reference: &Row) -> f64 {
    let cost = |sample: &Sample| match row.point.case {
        Case::Ask | Case::IdleWake => sample.driven.percentiles[0] as f64,
        Case::Ask64 | Case::Tell | Case::Fanout => 1.0 / rate(sample),
        Case::Cpu => sample.driven.usage.plus(sample.served.usage).cpu_ns as f64,
    };
    let both = row.samples.iter().zip(&reference.samples);
    median(both.map(|(one, other)| cost(one) / cost(other)))
}

/// A row as one JSON object.
#[derive(Debug, Serialize)]
struct Line<'a> {
    system: &'a str,
    mode: &'a str,
    case: String,
    payload: usize,
    p50_ns: Option<f64>,
    p99_ns: Option<f64>,
    msgs_per_s: Option<f64>,
    bytes_per_s: Option<f64>,
    cpu_ns_per_msg: Option<f64>,
}

/// A row as one line of JSON.
///
/// # Errors
/// Never, as far as is known.
pub fn json(row: &Row) -> serde_json::Result<String> {
    let summary = Summary::of(row);
    let at = |index: usize| summary.percentiles.map(|percentiles| percentiles[index]);
    serde_json::to_string(&Line {
        system: row.system.system,
        mode: row.system.mode,
        case: row.point.label(),
        payload: row.point.payload,
        p50_ns: at(0),
        p99_ns: at(1),
        msgs_per_s: summary.rate,
        bytes_per_s: summary.bytes,
        cpu_ns_per_msg: Some(summary.cpu_ns),
    })
}

/// The middle of some numbers; of an even count, the mean of the middle two.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        (values[middle - 1] + values[middle]) / 2.0
    } else {
        values[middle]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        case::Point,
        report::{Driven, Served},
        systems,
    };

    fn row(case: Case, receivers: usize) -> Row {
        let sample = Sample {
            driven: Driven::parse("1000 5 3000000 10 0 1000000000 700 900 1500").unwrap(),
            served: Served::parse("1000 5 2000000 10 4").unwrap(),
        };
        Row {
            system: systems::named("shmbus-spin").unwrap(),
            point: Point {
                case,
                payload: 64,
                receivers,
            },
            samples: vec![sample; 3],
        }
    }

    #[test]
    fn the_middle_is_found() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }

    #[test]
    fn a_line_has_exactly_the_fields_that_were_promised() {
        assert_eq!(
            json(&row(Case::Ask, 1)).unwrap(),
            r#"{"system":"shmbus","mode":"spin","case":"ask","payload":64,"p50_ns":700.0,"p99_ns":900.0,"msgs_per_s":1000.0,"bytes_per_s":64000.0,"cpu_ns_per_msg":5000.0}"#
        );
        assert_eq!(
            json(&row(Case::Fanout, 4)).unwrap(),
            r#"{"system":"shmbus","mode":"spin","case":"fanout-4","payload":64,"p50_ns":null,"p99_ns":null,"msgs_per_s":1000.0,"bytes_per_s":64000.0,"cpu_ns_per_msg":5000.0}"#
        );
        assert_eq!(
            json(&row(Case::IdleWake, 1)).unwrap(),
            r#"{"system":"shmbus","mode":"spin","case":"idle-wake","payload":64,"p50_ns":700.0,"p99_ns":900.0,"msgs_per_s":null,"bytes_per_s":null,"cpu_ns_per_msg":5000.0}"#
        );
    }

    #[test]
    fn a_row_costs_once_what_it_costs() {
        for case in [Case::Ask, Case::Tell, Case::Cpu] {
            assert_eq!(ratio(&row(case, 1), &row(case, 1)), 1.0, "{case}");
        }
    }
}
