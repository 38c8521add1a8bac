//! The kill matrix: processes that die or stop at the worst moments, point by point, signal by signal, role by role.
//!
//! ```sh
//! RUSTFLAGS="--cfg shmbus_faults" cargo test -p shmbus --release --test faults --target-dir target/faults -- --nocapture
//! ```
//! prints it. Each cell is a process of its own that is struck at one point (`bus/src/shm/faults.rs`) while it does
//! its role's work with a *survivor*; a *bystander* works with the survivor all the time. In each cell:
//!
//! - who waited for the dead learns it at once (`PeerLost`; `Down` for watchers),
//! - what a sender was told to be sent is delivered, in order, and nothing twice (to members of a group: not
//!   without a mark),
//! - a process that goes on after a stop has lost nothing,
//! - survivor and bystander talk as before, also while the victim stands still,
//! - all memory is back: buffers, asks, unreleased messages, and the bystander's descriptors and mappings.
//!
//! Rows that begin with `large` or `batch` strike among messages that have a segment each, and among those of
//! `tell_all` and `ask_all`; `unbatching` is between two messages of a batch. There, a call that had not returned may have sent any
//! number of its messages.
//!
//! Rows that begin with `refusal` or `unlink`, and those of a link's refusal, have traffic of their own
//! (`links.rs`): who opens a link that is refused, or uses one that ends, is told so, and the session goes on.
//!
//! `FAULTS=claimed` or `FAULTS='claimed KILL sender'` tries only cells that have all these words.
#![cfg(shmbus_faults)]
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod cell;
mod links;
mod outcome;
mod party;
mod row;
mod traffic;
mod world;

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, Instant},
};

use cell::{Cell, play};
use row::{REASONS, Role, Row, Strike, not_applicable};
use world::World;

roles![party::party];

/// How long a cell may take; far more than it takes.
const LIMIT: Duration = Duration::from_secs(60);
/// Roles that are tried at the same time.
const AT_A_TIME: usize = 3;

#[derive(Debug, Clone)]
enum Outcome {
    Pass(Option<Duration>),
    Fail(String),
    NotApplicable(char),
    NotTried,
}

impl Outcome {
    fn text(&self) -> String {
        match self {
            Outcome::Pass(_) => "pass".to_owned(),
            Outcome::Fail(_) => "FAIL".to_owned(),
            Outcome::NotApplicable(reason) => format!("- {reason}"),
            Outcome::NotTried => "not tried".to_owned(),
        }
    }
}

fn is_wanted(cell: &Cell) -> bool {
    let name = name(cell);
    std::env::var("FAULTS").map_or(true, |words| {
        words.split_whitespace().all(|word| name.contains(word))
    })
}

fn name(cell: &Cell) -> String {
    let Cell { row, strike, role } = cell;
    format!("{} | {} | {}", row.name(), strike.name(), role.name())
}

/// All cells of one role, with one survivor and one bystander as long as none fails.
async fn column(role: Role) -> Vec<(Cell, Outcome)> {
    let mut outcomes = Vec::new();
    let mut world = None;
    for row in Row::all() {
        for strike in Strike::ALL {
            let cell = Cell { row, strike, role };
            let outcome = if let Some(reason) = not_applicable(row, role) {
                Outcome::NotApplicable(reason)
            } else if !is_wanted(&cell) {
                Outcome::NotTried
            } else {
                let used = world.take();
                let task = actix::spawn(async move {
                    let mut world = match used {
                        Some(world) => world,
                        None => World::new().await,
                    };
                    let played = play(cell, &mut world).await;
                    (world, played)
                });
                let abort = task.abort_handle();
                match tokio::time::timeout(LIMIT, task).await {
                    Ok(Ok((used, played))) => {
                        world = Some(used);
                        Outcome::Pass(played)
                    }
                    Ok(Err(error)) => {
                        let panic = error.into_panic();
                        let text = panic.downcast_ref::<String>().cloned();
                        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
                        Outcome::Fail(text.unwrap_or_default())
                    }
                    Err(_) => {
                        abort.abort();
                        Outcome::Fail(format!("not over after {LIMIT:?}"))
                    }
                }
            };
            if let Outcome::Fail(why) = &outcome {
                eprintln!("FAILED {}: {why}", name(&cell));
            }
            outcomes.push((cell, outcome));
        }
    }
    outcomes
}

#[test]
fn matrix() {
    let began = Instant::now();
    let waiting: Mutex<VecDeque<Role>> = Mutex::new(Role::ALL.into());
    let all: Mutex<Vec<(Cell, Outcome)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(role) = { waiting.lock().unwrap().pop_front() } {
                    let column = actix::System::new().block_on(column(role));
                    all.lock().unwrap().extend(column);
                }
            });
        }
    });
    let all = all.into_inner().unwrap();
    print(&all);
    let count = |wanted: fn(&Outcome) -> bool| all.iter().filter(|(_, outcome)| wanted(outcome)).count();
    let failed: Vec<_> = all
        .iter()
        .filter_map(|(cell, outcome)| match outcome {
            Outcome::Fail(why) => Some(format!("{}: {why}", name(cell))),
            _ => None,
        })
        .collect();
    let passed = count(|outcome| matches!(outcome, Outcome::Pass(_)));
    println!(
        "{passed} passed, {} failed, {} not applicable, {} not tried; {:.0} s",
        failed.len(),
        count(|outcome| matches!(outcome, Outcome::NotApplicable(_))),
        count(|outcome| matches!(outcome, Outcome::NotTried)),
        began.elapsed().as_secs_f64()
    );
    assert_eq!(
        all.len(),
        Row::all().count() * Strike::ALL.len() * Role::ALL.len()
    );
    assert!(passed > 0 && failed.is_empty(), "{}", failed.join("\n"));
}

fn print(all: &[(Cell, Outcome)]) {
    print!("\n{:<18}{:<12}", "point", "signal");
    for role in Role::ALL {
        print!("{:<12}", role.name());
    }
    println!();
    for row in Row::all() {
        for strike in Strike::ALL {
            print!("{:<18}{:<12}", row.name(), strike.name());
            for role in Role::ALL {
                let cell = Cell { row, strike, role };
                let (_, outcome) = all
                    .iter()
                    .find(|(known, _)| *known == cell)
                    .expect("no empty cell");
                print!("{:<12}", outcome.text());
            }
            println!();
        }
    }
    println!("\n-: this role never comes to this point");
    for (letter, reason) in REASONS {
        println!("  {letter}  {reason}");
    }
    let slowest = all.iter().filter_map(|(_, outcome)| match outcome {
        Outcome::Pass(after) => *after,
        _ => None,
    });
    if let Some(slowest) = slowest.max() {
        println!("slowest end of tells and asks after a death: {slowest:?}");
    }
}
