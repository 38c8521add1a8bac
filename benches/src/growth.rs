//! The cost of a message from few to many mailboxes, client processes, sending threads and live buffers.

use std::io::{Write, stdout};

use clap::{Parser, ValueEnum};

use crate::{
    Result,
    args::{Selection, bytes, positive},
    case::{Case, Point, Shape},
    launch::{self, Row},
    summary::{Summary, rate, ratio},
    systems::{self, System},
    table::{count, numbers, time},
};

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Curve {
    /// Actors in the server, from 1 to 1,000.
    Mailboxes,
    /// Client processes, from 1 to 32.
    Clients,
    /// Sending threads of one client process, from 1 to 8.
    Senders,
    /// Messages that the server's actors keep, each a buffer of the client's, from 10 to 100,000.
    Buffers,
}

/// Actors among which live buffers are spread: one window has room for 65,535.
const KEEPERS: u32 = 4;

impl Curve {
    fn steps(self) -> &'static [u32] {
        match self {
            Curve::Mailboxes => &[1, 10, 100, 1000],
            Curve::Clients => &[1, 2, 4, 8, 16, 32],
            Curve::Senders => &[1, 2, 4, 8],
            Curve::Buffers => &[10, 100, 1_000, 10_000, 100_000],
        }
    }

    fn shape(self, step: u32) -> Shape {
        let mut shape = Shape::default();
        match self {
            Curve::Mailboxes => shape.mailboxes = step,
            Curve::Clients => shape.clients = step,
            Curve::Senders => shape.senders = step,
            Curve::Buffers => {
                shape.mailboxes = KEEPERS;
                shape.held = step.div_ceil(KEEPERS);
            }
        }
        shape
    }

    fn title(self) -> &'static str {
        match self {
            Curve::Mailboxes => "mailboxes",
            Curve::Clients => "client processes",
            Curve::Senders => "sender threads",
            Curve::Buffers => "live buffers",
        }
    }
}

/// What a one-way message costs with shmbus as a bus grows, in a table per curve.
#[derive(Debug, Clone, Parser)]
#[command(name = "growth", version)]
pub struct Growth {
    /// What grows; may be given several times. All if none is given.
    #[arg(long = "curve", value_enum, value_delimiter = ',')]
    curves: Vec<Curve>,

    /// Bytes per message, at least 8, with an optional K or M.
    #[arg(long, visible_alias = "size", default_value = "300", value_parser = bytes)]
    payload: usize,

    /// Which of shmbus's modes.
    #[arg(long, default_value = "shmbus-adaptive", value_parser = systems::named)]
    system: &'static System,

    /// How long each measurement lasts, after a warm-up of a quarter of it.
    #[arg(long, default_value_t = 0.5, value_parser = positive)]
    seconds: f64,

    /// How often each measurement is repeated; the table shows medians.
    #[arg(long, visible_alias = "repeat", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
}

impl Growth {
    /// Measures and prints.
    ///
    /// # Errors
    /// As [`launch::measure_all`], and if the system has no actors.
    pub fn run(&self) -> Result<()> {
        if self.system.system != "shmbus" {
            return Err(format!("`{}` has no mailboxes; only shmbus is measured", self.system.name).into());
        }
        let curves = if self.curves.is_empty() {
            Curve::value_variants()
        } else {
            &self.curves
        };
        writeln!(
            stdout(),
            "{}, tell of {} B, {} s per measurement, medians of {}; CPU and sleeps of all processes together.\n\
             x: time per message as a multiple of the first line's.",
            self.system.name,
            self.payload,
            self.seconds,
            self.repeats
        )?;
        for curve in curves {
            writeln!(stdout(), "{}", self.curve(*curve)?)?;
        }
        Ok(())
    }

    /// The lines of one curve are taken in turn within each repeat, as all that is compared.
    fn curve(&self, curve: Curve) -> Result<String> {
        let point = Point {
            case: Case::Tell,
            payload: self.payload,
            receivers: 1,
        };
        let mut rows: Vec<_> = curve
            .steps()
            .iter()
            .map(|_| Row {
                system: self.system,
                point,
                samples: Vec::new(),
            })
            .collect();
        for _ in 0..self.repeats {
            for (row, step) in rows.iter_mut().zip(curve.steps()) {
                let plan = launch::Plan::of(&Selection {
                    systems: vec![self.system],
                    points: vec![point],
                    shape: curve.shape(*step),
                    seconds: self.seconds,
                    repeats: 1,
                    pin: false,
                })?;
                row.samples.push(launch::measure(&plan, self.system, point)?);
            }
        }
        let mut table = numbers(&[curve.title(), "time/msg", "msg/s", "x", "CPU/msg", "sleeps/msg"]);
        for (row, step) in rows.iter().zip(curve.steps()) {
            let summary = Summary::of(row);
            let per_second = crate::summary::median(row.samples.iter().map(rate));
            table.add_row([
                step.to_string(),
                time(1e9 / per_second),
                count(per_second),
                format!("{:.2}", ratio(row, &rows[0])),
                time(summary.cpu_ns),
                format!("{:.4}", summary.sleeps),
            ]);
        }
        Ok(table.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_of_one_kind() {
        for curve in Curve::value_variants() {
            for step in curve.steps() {
                let shape = curve.shape(*step);
                let Shape {
                    senders,
                    mailboxes,
                    clients,
                    held,
                    ..
                } = shape;
                let grown = match curve {
                    Curve::Mailboxes => mailboxes,
                    Curve::Clients => clients,
                    Curve::Senders => senders,
                    Curve::Buffers => held * mailboxes,
                };
                assert!(
                    grown >= *step && grown <= step + KEEPERS,
                    "{curve:?} {step}: {shape:?}"
                );
                assert!(held + 1024 <= 65_535, "{curve:?} {step}: more than a window");
            }
        }
    }

    #[test]
    fn only_what_has_mailboxes_grows() {
        let error = Growth::try_parse_from(["growth", "--system", "unix"])
            .unwrap()
            .run()
            .unwrap_err();
        assert!(error.to_string().contains("mailboxes"), "{error}");
    }
}
