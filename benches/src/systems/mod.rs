//! What carries messages: one file per system, and the list of them.

use std::path::Path;

use crate::{
    Result,
    case::{Case, Point, Run},
    report::Driven,
    wire,
};

mod eventfd;
#[cfg(feature = "peers")]
mod iceoryx2;
mod rights;
mod ring;
mod shmbus;
#[cfg(feature = "peers")]
mod shmipc;
mod unix;
mod unix_buffered;
mod unix_tokio;

/// One way to get messages into another process.
#[derive(Debug)]
pub struct System {
    /// As on the command line.
    pub name: &'static str,
    /// What it is.
    pub system: &'static str,
    /// The way it is used.
    pub mode: &'static str,
    /// How it is set up, for those who read the numbers.
    pub tuning: &'static str,
    /// Whether it is measured at this point.
    pub measures: fn(Point) -> bool,
    /// The server's life: calls the function when clients may connect, then serves until it is
    /// [dismissed](crate::launch::dismissed). It prints a report at the end of the warm-up and one at the end of
    /// the measurement.
    pub serve: fn(&Run, fn()) -> Result<()>,
    /// The client's life.
    pub drive: fn(&Run) -> Result<Driven>,
}

fn everything(_: Point) -> bool {
    true
}

macro_rules! shmbus {
    ($name:literal, $mode:literal, $tuning:literal, $spin:expr) => {
        System {
            name: $name,
            system: "shmbus",
            mode: $mode,
            tuning: $tuning,
            measures: everything,
            serve: |run, ready| shmbus::serve(run, ready, $spin),
            drive: |run| shmbus::drive(run, $spin),
        }
    };
}

#[cfg(feature = "peers")]
macro_rules! pubsub {
    ($name:literal, $mode:literal, $tuning:literal, $events:literal) => {
        System {
            name: $name,
            system: "iceoryx2",
            mode: $mode,
            tuning: $tuning,
            measures: everything,
            serve: |run, ready| {
                let wire = iceoryx2::PubSub::new(run, $events)?;
                ready();
                wire::block_on(wire::serve(run, wire))
            },
            drive: |run| wire::block_on(wire::drive(run, iceoryx2::PubSub::new(run, $events)?)),
        }
    };
}

#[cfg(feature = "peers")]
macro_rules! shmipc {
    ($name:literal, $mode:literal, $tuning:literal, $how:expr) => {
        System {
            name: $name,
            system: "shmipc",
            mode: $mode,
            tuning: $tuning,
            measures: everything,
            serve: |run, ready| {
                wire::block_on(async {
                    let wire = shmipc::Shmipc::new(run, $how, ready).await?;
                    wire::serve(run, wire).await
                })
            },
            drive: |run| {
                wire::block_on(async {
                    let wire = shmipc::Shmipc::new(run, $how, || {}).await?;
                    wire::drive(run, wire).await
                })
            },
        }
    };
}

/// All there are; each table has this order.
pub static ALL: &[System] = &[
    shmbus!(
        "shmbus-spin",
        "spin",
        "actix actors, defaults but Spin::Always; fanout by a topic with WhenFull::Wait",
        ::shmbus::Spin::Always
    ),
    shmbus!(
        "shmbus-adaptive",
        "adaptive",
        "the same with all defaults",
        ::shmbus::Spin::default()
    ),
    shmbus!(
        "shmbus-park",
        "park",
        "the same with Spin::Never",
        ::shmbus::Spin::Never
    ),
    System {
        name: "shmbus-batch",
        system: "shmbus",
        mode: "batch",
        tuning: "as shmbus-spin, 128 messages told by one call of tell_all, 1,024 asked by one of ask_all",
        measures: |point| matches!(point.case, Case::Ask64 | Case::Tell) && point.payload <= 1 << 10,
        serve: |run, ready| shmbus::serve(run, ready, ::shmbus::Spin::Always),
        drive: |run| shmbus::drive_batches(run, ::shmbus::Spin::Always),
    },
    System {
        name: "shmbus-loan",
        system: "shmbus",
        mode: "loan",
        tuning: "as shmbus-spin, messages and replies written where they are sent from",
        measures: |point| matches!(point.case, Case::Ask | Case::Tell) && point.payload >= 1 << 10,
        serve: |run, ready| shmbus::serve(run, ready, ::shmbus::Spin::Always),
        drive: |run| shmbus::drive_loans(run, ::shmbus::Spin::Always),
    },
    #[cfg(feature = "peers")]
    pubsub!(
        "iceoryx2-poll",
        "polling",
        "0.10 publish-subscribe, static slices of the payload's length written and read in place, no overflow, \
         RetryUntilDelivered, buffers as deep as the case needs (2 to 1024, at most 1 MiB where that is 4)",
        false
    ),
    #[cfg(feature = "peers")]
    pubsub!(
        "iceoryx2-event",
        "event",
        "the same, and an event per message to a listener that waits in the kernel",
        true
    ),
    #[cfg(feature = "peers")]
    System {
        name: "iceoryx2-request",
        system: "iceoryx2",
        mode: "request-response",
        tuning: "0.10 request-response, polling, otherwise the same",
        measures: |point| point.case.is_round_trip(),
        serve: |run, ready| {
            let wire = iceoryx2::Requests::new(run)?;
            ready();
            wire::block_on(wire::serve(run, wire))
        },
        drive: |run| wire::block_on(wire::drive(run, iceoryx2::Requests::new(run)?)),
    },
    #[cfg(feature = "peers")]
    shmipc!(
        "shmipc-socket",
        "v3",
        "0.2, its benches' settings: 256 MiB by memfd, slices of the payload's length, queue of 65,536, runtime of \
         one thread; one-way messages acknowledged per half window of at most 1,024 and 64 MiB",
        shmipc::Mode::Socket
    ),
    #[cfg(feature = "peers")]
    shmipc!(
        "shmipc-eventfd",
        "v4-eventfd",
        "the same, woken by eventfds as its README recommends for small messages",
        shmipc::Mode::Eventfd
    ),
    System {
        name: "unix",
        system: "unix",
        mode: "blocking",
        tuning: "stream socket of std, one call per message",
        measures: everything,
        serve: |run, ready| {
            let socket = unix::accept(run, ready)?;
            wire::block_on(wire::serve(run, unix::Unix::new(run, vec![socket])))
        },
        drive: |run| wire::block_on(wire::drive(run, unix::Unix::new(run, unix::connect(run)?))),
    },
    System {
        name: "unix-tokio",
        system: "unix",
        mode: "tokio",
        tuning: "stream socket, one call per message, runtime of one thread",
        measures: everything,
        serve: |run, ready| {
            let socket = unix::accept(run, ready)?;
            wire::block_on(async { wire::serve(run, unix_tokio::UnixTokio::new(run, vec![socket])?).await })
        },
        drive: |run| {
            wire::block_on(async {
                wire::drive(run, unix_tokio::UnixTokio::new(run, unix::connect(run)?)?).await
            })
        },
    },
    System {
        name: "unix-buffered",
        system: "unix",
        mode: "buffered",
        tuning: "stream socket of std, 64 KiB buffers on both sides, flushed before waiting",
        // With one message in flight there is nothing to gather.
        measures: |point| matches!(point.case, Case::Ask64 | Case::Tell | Case::Fanout),
        serve: |run, ready| {
            let socket = unix::accept(run, ready)?;
            wire::block_on(wire::serve(run, unix_buffered::Buffered::new(run, vec![socket])?))
        },
        drive: |run| {
            wire::block_on(wire::drive(
                run,
                unix_buffered::Buffered::new(run, unix::connect(run)?)?,
            ))
        },
    },
    System {
        name: "eventfd",
        system: "eventfd",
        mode: "tokio",
        tuning: "wakes only, carries no bytes; runtime of one thread",
        // Shown beside the smallest messages, as what a wake-up costs.
        measures: |point| matches!(point.case, Case::Ask | Case::IdleWake | Case::Cpu) && point.payload <= 64,
        serve: |run, ready| {
            let socket = unix::accept(run, ready)?;
            wire::block_on(async { wire::serve(run, eventfd::Bells::server(run, socket)?).await })
        },
        drive: |run| {
            let socket = unix::connect(run)?.pop().ok_or("no server")?;
            wire::block_on(async { wire::drive(run, eventfd::Bells::client(run, socket)?).await })
        },
    },
    System {
        name: "ring",
        system: "ring",
        mode: "spin",
        tuning: "a limit, not a transport: sequence word in the slot, payload behind it, both ends spinning, \
                 nothing checked",
        measures: everything,
        serve: |run, ready| {
            let socket = unix::accept(run, ready)?;
            wire::block_on(wire::serve(run, ring::Ring::server(run, &socket)?))
        },
        drive: |run| {
            let sockets = unix::connect(run)?;
            wire::block_on(wire::drive(run, ring::Ring::client(run, &sockets)?))
        },
    },
];

/// A loop that looks again and again. After a thousand looks it lets other processes of this core run, should
/// there be more of them than cores.
#[derive(Debug, Default)]
struct Polling(u32);

impl Polling {
    const PATIENCE: u32 = 1024;

    #[inline]
    fn again(&mut self) {
        self.0 += 1;
        if self.0 >= Self::PATIENCE && self.0.is_multiple_of(16) {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// A system by its name.
///
/// # Errors
/// If there is none; the message has all names.
pub fn named(name: &str) -> Result<&'static System, String> {
    if let Some(system) = ALL.iter().find(|system| system.name == name) {
        return Ok(system);
    }
    let names = ALL
        .iter()
        .map(|system| system.name)
        .collect::<Vec<_>>()
        .join(", ");
    let peer = ["iceoryx2", "shmipc"].iter().any(|peer| name.starts_with(peer));
    Err(if peer && cfg!(not(feature = "peers")) {
        format!("it is measured with `--features peers` only; without: {names}")
    } else {
        format!("the systems are {names}")
    })
}

/// Removes what the systems leave behind of a measurement that used this directory.
pub fn forget(dir: &Path) {
    #[cfg(feature = "peers")]
    iceoryx2::forget(dir);
    #[cfg(not(feature = "peers"))]
    let _ = dir;
}

/// What each system is and how it is tuned, a line or two each.
#[must_use]
pub fn listing() -> String {
    let line = |system: &System| format!("{:<17} {}\n", system.name, system.tuning);
    ALL.iter().map(line).collect()
}
