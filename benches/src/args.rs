//! What can be chosen on the command lines.

use std::path::PathBuf;

use clap::{Args, Parser};

use crate::{
    Result,
    case::{Case, FANOUTS, Kind, Point, Shape},
    systems::{self, System},
};

/// Payload sizes of a run without `--payload`, in bytes.
pub const SIZES: [usize; 11] = [
    64,
    512,
    1 << 10,
    4 << 10,
    16 << 10,
    32 << 10,
    64 << 10,
    256 << 10,
    512 << 10,
    1 << 20,
    4 << 20,
];

/// The same of the cases in which the size says less.
const FEW_SIZES: [usize; 4] = [64, 4 << 10, 64 << 10, 1 << 20];

/// What is measured, and how long.
#[derive(Debug, Clone, Args)]
pub struct Choice {
    /// What is measured; may be given several times.
    #[arg(long = "case", value_enum, value_delimiter = ',')]
    pub cases: Vec<Case>,

    /// Bytes per message, at least 8, with an optional K or M; may be given several times.
    #[arg(long = "payload", visible_alias = "size", value_parser = bytes, value_delimiter = ',')]
    pub payloads: Vec<usize>,

    /// What carries the messages; may be given several times.
    #[arg(long = "system", value_parser = systems::named, value_delimiter = ',')]
    pub systems: Vec<&'static System>,

    /// How long each measurement lasts, after a warm-up of a quarter of it.
    #[arg(long, default_value_t = 0.5, value_parser = positive)]
    pub seconds: f64,

    /// How often each measurement is repeated; what is shown are medians. Default 5, and 1 with `--senders`,
    /// `--mailboxes` or `--clients`.
    #[arg(long, visible_alias = "repeat", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeats: Option<u32>,

    /// Put servers on core 0 and clients on core 1.
    #[arg(long)]
    pub pin: bool,
}

impl Choice {
    /// The cases chosen, or these.
    #[must_use]
    pub fn cases_or(&self, others: &[Case]) -> Vec<Case> {
        if self.cases.is_empty() {
            others.to_vec()
        } else {
            self.cases.clone()
        }
    }

    /// Everything that is to be measured of these cases.
    #[must_use]
    pub fn points(&self, cases: &[Case]) -> Vec<Point> {
        let mut points = Vec::new();
        for case in cases {
            let sizes: &[usize] = match case {
                _ if !self.payloads.is_empty() => &self.payloads,
                Case::Fanout => &FEW_SIZES,
                Case::IdleWake | Case::Cpu => &FEW_SIZES[..2],
                _ => &SIZES,
            };
            let receivers: &[usize] = if *case == Case::Fanout { &FANOUTS } else { &[1] };
            for payload in sizes {
                points.extend(receivers.iter().map(|receivers| Point {
                    case: *case,
                    payload: *payload,
                    receivers: *receivers,
                }));
            }
        }
        points
    }
}

/// Round trips and one-way messages between two processes, in a table: shmbus, Unix sockets and a bare eventfd, or a
/// case of one's own with shmbus alone (`--senders`, `--mailboxes`, `--clients`, `--kind`).
#[derive(Debug, Clone, Parser)]
#[command(name = "pingpong", version)]
pub struct PingPong {
    #[command(flatten)]
    choice: Choice,

    /// Sending threads in each client process (shmbus; ask, ask64 and tell).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    senders: u32,

    /// Actors in the server, which each sender takes in turn (shmbus; ask, ask64 and tell).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4000))]
    mailboxes: u32,

    /// Client processes (shmbus; ask, ask64 and tell).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    clients: u32,

    /// What messages are made of (`mixed`: shmbus, tell).
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,

    /// Messages that a receiving mailbox may hold unreleased (shmbus; its default if not given).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    window: Option<u32>,
}

/// A choice that fits together.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Who is compared; not everybody at each point.
    pub systems: Vec<&'static System>,
    /// At what.
    pub points: Vec<Point>,
    /// How many take part.
    pub shape: Shape,
    /// How long one measurement lasts.
    pub seconds: f64,
    /// How often each is taken.
    pub repeats: u32,
    /// Whether processes keep to a core.
    pub pin: bool,
}

impl PingPong {
    /// What is to be measured.
    ///
    /// # Errors
    /// If options do not go together.
    pub fn selection(&self) -> Result<Selection> {
        let shape = Shape {
            kind: self.kind,
            senders: self.senders,
            mailboxes: self.mailboxes,
            clients: self.clients,
            held: 0,
            window: self.window,
        };
        let mixed = self.kind == Kind::Mixed;
        let cases = self.choice.cases_or(if mixed {
            &[Case::Tell]
        } else {
            &[Case::Ask, Case::Ask64, Case::Tell]
        });
        for case in &cases {
            if mixed && *case != Case::Tell {
                return Err(format!("`--kind mixed` goes with `--case tell`, not with `{case}`").into());
            }
            let of_one_sender = matches!(case, Case::Fanout | Case::IdleWake | Case::Cpu);
            if of_one_sender && !shape.is_plain() {
                return Err(format!(
                    "`--case {case}` does not go with `--senders`, `--mailboxes` or `--clients`"
                )
                .into());
            }
        }
        let plain = shape.is_plain();
        let suits = |system: &System| system.system == "shmbus" && (!mixed || system.mode != "loan");
        let systems = if self.choice.systems.is_empty() {
            let all = systems::ALL.iter();
            if plain {
                let here = ["shmbus", "unix", "eventfd"];
                all.filter(|system| here.contains(&system.system)).collect()
            } else {
                all.filter(|system| suits(system) && system.mode != "loan")
                    .collect()
            }
        } else {
            self.choice.systems.clone()
        };
        if let Some(system) = systems.iter().find(|system| !plain && !suits(system)) {
            return Err(format!(
                "`--senders`, `--mailboxes`, `--clients` and `--kind` do not go with `--system {}`",
                system.name
            )
            .into());
        }
        Ok(Selection {
            systems,
            points: self.choice.points(&cases),
            shape,
            seconds: self.choice.seconds,
            repeats: self.choice.repeats.unwrap_or(if plain || mixed { 5 } else { 1 }),
            pin: self.choice.pin,
        })
    }
}

/// shmbus beside other ways to get messages into another process, in one run.
///
/// Other libraries are measured where this program was built with `--features peers`.
#[derive(Debug, Clone, Parser)]
#[command(name = "compare", version)]
pub struct Compare {
    #[command(flatten)]
    choice: Choice,

    /// Print one JSON object per line instead of tables.
    #[arg(long)]
    pub json: bool,

    /// Draw charts into this directory: round trip and throughput over payload, as SVG.
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,

    /// Say what each system is and how it is tuned, and measure nothing.
    #[arg(long = "systems")]
    pub listing: bool,
}

impl Compare {
    /// What is to be measured.
    #[must_use]
    pub fn selection(&self) -> Selection {
        let all = [
            Case::Ask,
            Case::Ask64,
            Case::Tell,
            Case::Fanout,
            Case::IdleWake,
            Case::Cpu,
        ];
        Selection {
            systems: if self.choice.systems.is_empty() {
                systems::ALL.iter().collect()
            } else {
                self.choice.systems.clone()
            },
            points: self.choice.points(&self.choice.cases_or(&all)),
            shape: Shape::default(),
            seconds: self.choice.seconds,
            repeats: self.choice.repeats.unwrap_or(5),
            pin: self.choice.pin,
        }
    }
}

/// Bytes with an optional K or M.
///
/// # Errors
/// What is wrong with the text.
pub fn bytes(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 1 << 10),
        None => match text.strip_suffix(['M', 'm']) {
            Some(digits) => (digits, 1 << 20),
            None => (text, 1),
        },
    };
    let bytes = digits.parse::<usize>().map(|count| count.saturating_mul(unit));
    match bytes {
        Ok(bytes) if (8..=MOST).contains(&bytes) => Ok(bytes),
        _ => Err("a size is 8 bytes to 16M: a number, with an optional K or M".into()),
    }
}

/// With 64 of them in flight both ways, some systems map a hundred times as much.
const MOST: usize = 16 << 20;

/// A number of seconds.
///
/// # Errors
/// If it is not one, or none that can be waited for.
pub fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("a number of seconds, above 0 and at most 3600".into()),
    }
}

#[cfg(test)]
mod tests;
