//! What carries messages: one file per system, and the list of them.

use crate::{
    Result,
    case::{Case, Run},
    report::Driven,
};

mod eventfd;
mod shmbus;
mod unix;
mod unix_buffered;
mod unix_tokio;

/// One way to get messages into another process.
#[derive(Debug)]
pub struct System {
    /// As on the command line.
    pub name: &'static str,
    /// Whether this case and size are measured with it.
    pub measures: fn(Case, usize) -> bool,
    /// The server's life: calls the function when clients may connect, then serves one until it leaves. It
    /// prints a report at the end of the warm-up and one at the end of the measurement.
    pub serve: fn(&Run, fn()) -> Result<()>,
    /// The client's life.
    pub drive: fn(&Run) -> Result<Driven>,
}

fn everything(_: Case, _: usize) -> bool {
    true
}

/// All there are; each table has this order.
pub static ALL: &[System] = &[
    System {
        name: "shmbus-spin",
        measures: everything,
        serve: |run, ready| shmbus::serve(run, ready, ::shmbus::Spin::Always),
        drive: |run| shmbus::drive(run, ::shmbus::Spin::Always),
    },
    System {
        name: "shmbus-adaptive",
        measures: everything,
        serve: |run, ready| shmbus::serve(run, ready, ::shmbus::Spin::default()),
        drive: |run| shmbus::drive(run, ::shmbus::Spin::default()),
    },
    System {
        name: "shmbus-park",
        measures: everything,
        serve: |run, ready| shmbus::serve(run, ready, ::shmbus::Spin::Never),
        drive: |run| shmbus::drive(run, ::shmbus::Spin::Never),
    },
    System {
        name: "unix",
        measures: everything,
        serve: unix::serve,
        drive: unix::drive,
    },
    System {
        name: "unix-tokio",
        measures: everything,
        serve: unix_tokio::serve,
        drive: unix_tokio::drive,
    },
    System {
        name: "unix-buffered",
        // With one message in flight there is nothing to gather.
        measures: |case, _| case != Case::Ask,
        serve: unix_buffered::serve,
        drive: unix_buffered::drive,
    },
    System {
        name: "eventfd",
        // It carries no bytes: shown beside the smallest messages, as what a wake-up costs.
        measures: |case, payload| case == Case::Ask && payload <= 64,
        serve: eventfd::serve,
        drive: eventfd::drive,
    },
];

/// The names of all systems.
#[must_use]
pub fn names() -> clap::builder::PossibleValuesParser {
    ALL.iter().map(|system| system.name).collect::<Vec<_>>().into()
}

/// The systems of these names; all if there are none.
pub fn chosen(names: &[String]) -> impl Iterator<Item = &'static System> {
    ALL.iter()
        .filter(move |system| names.is_empty() || names.iter().any(|name| name == system.name))
}
