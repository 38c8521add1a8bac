//! Starts all processes, kills a worker, and ends the others.

use std::{path::Path, pin::pin, time::Instant};

use nix::sys::signal::Signal;
use shmbus_examples::{child::Family, stop};
use tokio::{select, sync::watch};

use crate::{
    Failure,
    args::{Kill, Options},
    blocks::{Blocks, Hash, Total, hash},
    collector::{COLLECTOR, Close, Collector, Progress},
    report::Report,
};

/// The worker that dies.
const VICTIM: u32 = 1;

/// Runs it all and prints the report. True if the total is exact.
pub async fn run(options: &Options) -> Result<bool, Failure> {
    let mut stop = pin!(stop::requested(None, 0)?);
    let path = options.path()?;
    let size = std::fs::metadata(&path)
        .map_err(|error| format!("{}: {error}", path.display()))?
        .len();
    let began = Instant::now();
    let expected = select! {
        () = &mut stop => return Err("ended before it began".into()),
        total = alone(&path, size, options.block) => total.map_err(|error| format!("{}: {error}", path.display()))?,
    };
    let alone = began.elapsed();

    let bus = options.join("launcher").await?;
    let collector = Collector::default();
    let progress = collector.progress();
    let collector = bus
        .bind(COLLECTOR, collector)
        .handles::<crate::messages::Ready>()
        .handles::<crate::messages::Done>()
        .start()
        .await?;
    let mut queue = Queue {
        options,
        progress,
        family: Family::default(),
        bytes: expected.0,
        killed_after: None,
    };
    let began = Instant::now();
    let ended = select! {
        () = &mut stop => Err("ended early".into()),
        ended = queue.work() => ended,
    };
    let took = began.elapsed();
    let family = queue.family.end().await;
    let killed_after = queue.killed_after;
    let ledger = collector.addr().send(Close).await?;
    bus.leave().await;
    let report = Report {
        options,
        path,
        expected,
        ledger,
        killed_after,
        alone,
        took,
    };
    print!("{report}");
    ended?;
    family?;
    Ok(report.is_exact())
}

/// The same computation without the bus.
async fn alone(path: &Path, size: u64, block: u32) -> std::io::Result<(u64, Hash)> {
    let mut blocks = Blocks::open(path, size, block)?;
    let (mut total, mut data) = (Total::default(), Vec::new());
    while let Some(len) = blocks.next_len() {
        data.resize(len, 0);
        blocks.read(&mut data)?;
        total.add(len as u64, &hash(&data));
        // Ctrl-C may have come.
        tokio::task::yield_now().await;
    }
    Ok(total.finish())
}

struct Queue<'a> {
    options: &'a Options,
    progress: watch::Receiver<Progress>,
    family: Family,
    bytes: u64,
    /// How many jobs were done when the victim died.
    killed_after: Option<u64>,
}

impl Queue<'_> {
    /// From the first process to the last result.
    async fn work(&mut self) -> Result<(), Failure> {
        let jobs = self.bytes.div_ceil(self.options.block.into());
        let workers = self.options.workers;
        for number in 1..=workers {
            let role = ["worker", &number.to_string()];
            self.family
                .start(worker(number), self.options.command_line(&role, self.bytes))?;
        }
        self.until(|progress| progress.ready == workers).await?;
        self.family
            .start("producer", self.options.command_line(&["producer"], self.bytes))?;
        // A single worker has nobody to take over.
        if workers > 1 && self.options.kill != Kill::Never {
            self.until(|progress| progress.jobs >= jobs / 3).await?;
            if self.options.kill == Kill::Hung {
                self.family.signal(&worker(VICTIM), Signal::SIGSTOP);
                // What it has it keeps, so the others can't do more than the rest.
                let reachable = jobs.saturating_sub(self.options.depth.into());
                self.until(|progress| progress.jobs >= (jobs * 2 / 3).min(reachable))
                    .await?;
            }
            self.killed_after = Some(self.progress.borrow().jobs);
            self.family.kill(&worker(VICTIM)).await?;
        }
        self.until(|progress| progress.jobs == jobs).await
    }

    /// Waits until things are that far. Nobody may end before; the victim is no member any more when it is killed.
    async fn until(&mut self, far: impl Fn(&Progress) -> bool) -> Result<(), Failure> {
        select! {
            reached = self.progress.wait_for(&far) => Ok(reached.map(drop)?),
            ended = self.family.one_ended() => {
                let (name, status) = ended?;
                Err(format!("the {name} ended early ({status})").into())
            }
        }
    }
}

fn worker(number: u32) -> String {
    format!("worker {number}")
}
