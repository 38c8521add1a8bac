//! Medians in a table.

use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};

use crate::{
    args::Args,
    case::Case,
    launch::{Row, Sample},
    usage::Usage,
};

/// What all others are compared with, where it was measured.
const REFERENCE: &str = "shmbus-spin";

/// What the numbers mean, and where they were taken.
#[must_use]
pub fn head(args: &Args) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    format!(
        "Two processes on {cores} cores (load before: {load}), {}; {} s per measurement, medians of {}.\n\
         GB/s counts one direction. CPU, sleeps and page faults are those of both processes, per message.\n\
         x: time per round trip (ask) or per message, as a multiple of {REFERENCE}'s in the same repeat.",
        if args.pin { "one each" } else { "not pinned" },
        args.seconds,
        args.repeats,
    )
}

/// The table of one case and size.
#[must_use]
pub fn of(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY);
    let title = format!("{} {}", rows[0].case, size(rows[0].payload));
    table.set_header([
        title.as_str(),
        "p50",
        "p99",
        "p99.9",
        "msg/s",
        "GB/s",
        "x",
        "CPU/msg",
        "sleeps/msg",
        "faults/msg",
    ]);
    let reference = rows.iter().find(|row| row.system == REFERENCE);
    for row in rows {
        let percentile = |index: usize| match row.case {
            Case::Tell => "-".to_owned(),
            _ => time(median(
                row.samples
                    .iter()
                    .map(|sample| sample.driven.percentiles[index] as f64),
            )),
        };
        let used = |of: fn(Usage) -> u64| {
            median(row.samples.iter().map(|sample| {
                of(sample.driven.usage.plus(sample.served.usage)) as f64 / sample.driven.messages as f64
            }))
        };
        let rate = median(row.samples.iter().map(rate));
        table.add_row([
            row.system.to_owned(),
            percentile(0),
            percentile(1),
            percentile(2),
            count(rate),
            format!("{:.2}", rate * row.payload as f64 / 1e9),
            reference.map_or("-".into(), |reference| format!("{:.2}", ratio(row, reference))),
            time(used(|usage| usage.cpu_ns)),
            format!("{:.4}", used(|usage| usage.sleeps)),
            format!("{:.4}", used(|usage| usage.faults)),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn rate(sample: &Sample) -> f64 {
    sample.driven.messages as f64 / sample.driven.elapsed.as_secs_f64()
}

fn ratio(row: &Row, reference: &Row) -> f64 {
    let cost = |sample: &Sample| match row.case {
        Case::Ask => sample.driven.percentiles[0] as f64,
        Case::Ask64 | Case::Tell => 1.0 / rate(sample),
    };
    median(
        row.samples
            .iter()
            .zip(&reference.samples)
            .map(|(one, other)| cost(one) / cost(other)),
    )
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

fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e5 => format!("{:.2} us", ns / 1e3),
        ns if ns < 1e6 => format!("{:.0} us", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

fn count(per_second: f64) -> String {
    match per_second {
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e4 => format!("{:.0} k", n / 1e3),
        n if n >= 1e3 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }
}
