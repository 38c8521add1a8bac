//! Medians in a table.

use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};

use crate::{
    args::Selection,
    launch::Row,
    summary::{Summary, ratio},
};

/// What all others are compared with, where it was measured.
const REFERENCE: &str = "shmbus-spin";

/// What the numbers mean, and where they were taken.
#[must_use]
pub fn head(selection: &Selection) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    let shape = &selection.shape;
    let shape = if shape.is_plain() {
        String::new()
    } else {
        format!(
            "{} client processes of {} senders, {} mailboxes, {:?} payload. ",
            shape.clients, shape.senders, shape.mailboxes, shape.kind
        )
    };
    format!(
        "{shape}Processes on {cores} cores (load before: {load}), {}; {} s per measurement, medians of {}.\n\
         GB/s counts one direction and one receiver. CPU, sleeps (voluntary context switches) and page faults are \
         those of all processes, per message.\n\
         idle-wake: half of a round trip after 10 ms of silence. cpu: 10,000 messages/s, the sender woken by a timer \
         for each.\n\
         x: time per round trip (ask, idle-wake), CPU time (cpu), else time per message, as a multiple of \
         {REFERENCE}'s in the same repeat.",
        if selection.pin { "pinned" } else { "not pinned" },
        selection.seconds,
        selection.repeats,
    )
}

/// How the systems of these rows are tuned.
#[must_use]
pub fn foot(selection: &Selection) -> String {
    let line = |system: &&crate::systems::System| format!("{:<17} {}\n", system.name, system.tuning);
    selection.systems.iter().map(line).collect()
}

/// An empty table with these titles, numbers to the right of the first column.
#[must_use]
pub fn numbers(titles: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY);
    table.set_header(titles);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The table of one case and size.
#[must_use]
pub fn of(rows: &[Row]) -> String {
    let title = format!("{} {}", rows[0].point.label(), size(rows[0].point.payload));
    let mut table = numbers(&[
        &title,
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
    let reference = rows.iter().find(|row| row.system.name == REFERENCE);
    let none = || "-".to_owned();
    for row in rows {
        let summary = Summary::of(row);
        let at = |index: usize| {
            summary
                .percentiles
                .map_or_else(none, |percentiles| time(percentiles[index]))
        };
        table.add_row([
            row.system.name.to_owned(),
            at(0),
            at(1),
            at(2),
            summary.rate.map_or_else(none, count),
            summary
                .bytes
                .map_or_else(none, |bytes| format!("{:.2}", bytes / 1e9)),
            reference.map_or_else(none, |reference| format!("{:.2}", ratio(row, reference))),
            time(summary.cpu_ns),
            format!("{:.4}", summary.sleeps),
            format!("{:.4}", summary.faults),
        ]);
    }
    table.to_string()
}

/// Bytes, with a unit where it divides them.
#[must_use]
pub fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

/// A time, given in nanoseconds.
#[must_use]
pub fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e5 => format!("{:.2} us", ns / 1e3),
        ns if ns < 1e6 => format!("{:.0} us", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

/// How many per second.
#[must_use]
pub fn count(per_second: f64) -> String {
    match per_second {
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e4 => format!("{:.0} k", n / 1e3),
        n if n >= 1e3 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}
