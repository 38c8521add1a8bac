//! The command line.

use std::{ffi::OsString, io, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use shmbus::{Bus, error::JoinError};
use shmbus_examples::place::Place;

/// What the bus is called, if nothing else is said.
const PROGRAM: &str = "work-queue";

/// Hashes a file in worker processes that share one queue, kills one of them, and still gets every block once.
#[derive(Debug, Parser)]
#[command(name = "work-queue", version)]
pub struct Args {
    /// Without a role: all of them, on a bus of their own.
    #[command(subcommand)]
    pub role: Option<Role>,
    #[command(flatten)]
    pub options: Options,
}

/// One of the processes. They are started by `work-queue` itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
#[command(hide = true)]
pub enum Role {
    #[command(hide = true)]
    Producer,
    #[command(hide = true)]
    Worker { number: u32 },
}

/// What happens to worker 1 on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kill {
    /// It is killed while it works.
    Running,
    /// It hangs (SIGSTOP) until its share of the queue is full, then it is killed.
    Hung,
    /// Nothing.
    Never,
}

/// What can be set, for every role alike.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Options {
    /// The file whose blocks are hashed (default: this program)
    #[arg(long, global = true, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Size of a block, in bytes: each is one job
    #[arg(long, global = true, value_name = "BYTES", default_value_t = 64 << 10,
          value_parser = clap::value_parser!(u32).range(1..=2 << 20))]
    pub block: u32,
    /// Worker processes
    #[arg(long, global = true, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,
    /// Jobs that one worker may have at a time; the others wait in no queue, the producer waits with them
    #[arg(long, global = true, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub depth: u32,
    /// What happens to worker 1 after a third of the jobs
    #[arg(long, global = true, value_enum, default_value_t = Kill::Running)]
    pub kill: Kill,
    #[command(flatten)]
    pub place: Place,
    /// How many bytes of the file, if it grows meanwhile.
    #[arg(long, global = true, hide = true, default_value_t = 0)]
    pub bytes: u64,
}

impl Options {
    /// The file to hash.
    pub fn path(&self) -> io::Result<PathBuf> {
        self.file.clone().map_or_else(std::env::current_exe, Ok)
    }

    /// The bus.
    pub fn bus_name(&self) -> String {
        self.place.bus_name(PROGRAM)
    }

    /// Joins as the node of that name.
    pub async fn join(&self, node: &str) -> Result<Bus, JoinError> {
        self.place.join(PROGRAM, node).await
    }

    /// The command line that starts a role (its words) on the same bus, for the first `bytes` bytes of the file.
    pub fn command_line(&self, role: &[&str], bytes: u64) -> Vec<OsString> {
        let mut line = self.place.command_line(PROGRAM, role);
        if let Some(file) = &self.file {
            line.extend(["--file".into(), file.into()]);
        }
        let numbers = [
            ("--block", u64::from(self.block)),
            ("--depth", self.depth.into()),
            ("--bytes", bytes),
        ];
        for (name, value) in numbers {
            line.extend([name.into(), value.to_string().into()]);
        }
        line
    }
}

#[cfg(test)]
mod tests;
