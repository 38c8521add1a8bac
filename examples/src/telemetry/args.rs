//! The command line.

use std::{ffi::OsString, path::PathBuf};

use clap::{Parser, Subcommand};

use crate::processes::RANKED;

/// A live view of this machine over a shared-memory bus: a sampler, an analyst and a viewer, one process each.
#[derive(Debug, Parser)]
#[command(name = "telemetry", version)]
pub struct Args {
    /// Without a role, all three are started, on a bus of their own.
    #[command(subcommand)]
    pub role: Option<Role>,
    #[command(flatten)]
    pub options: Options,
}

/// One of the three processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Role {
    /// Reads /proc and tells the analyst.
    Sampler,
    /// Keeps rates and the busiest processes, and answers the viewer.
    Analyst,
    /// Asks the analyst and draws.
    Viewer,
}

impl Role {
    /// The subcommand.
    pub fn name(self) -> &'static str {
        match self {
            Role::Sampler => "sampler",
            Role::Analyst => "analyst",
            Role::Viewer => "viewer",
        }
    }
}

/// What can be set, for every role alike.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Options {
    /// Name of the bus (default: `telemetry` for a role, `telemetry-PID` for all three)
    #[arg(long, global = true, value_name = "NAME")]
    pub bus: Option<String>,
    /// Runtime directory of the bus (default: as every program on the bus, see SHMBUS_DIR)
    #[arg(long, global = true, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// How long to run, in seconds; 0: until Ctrl-C (default: 10 for all three, 0 for a role)
    #[arg(long, global = true, value_name = "N")]
    pub seconds: Option<u64>,
    /// Samples of CPUs, memory and load, per second
    #[arg(long, global = true, value_name = "HZ", default_value_t = 20.0, value_parser = frequency)]
    pub rate: f64,
    /// Samples of the process list, per second
    #[arg(long, global = true, value_name = "HZ", default_value_t = 5.0, value_parser = frequency)]
    pub process_rate: f64,
    /// Asks of the viewer, per second
    #[arg(long, global = true, value_name = "HZ", default_value_t = 50.0, value_parser = frequency)]
    pub asks: f64,
    /// Drawings of the live table, per second
    #[arg(long, global = true, value_name = "HZ", default_value_t = 5.0, value_parser = frequency)]
    pub draws: f64,
    /// Processes to show, the busiest first
    #[arg(long, global = true, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(0..=RANKED as i64))]
    pub top: u32,
    /// The process id of the `telemetry` that started this role. It decides when to end, so Ctrl-C is for it alone.
    #[arg(long, global = true, hide = true, value_name = "PID")]
    pub launched_by: Option<i32>,
}

impl Options {
    /// The bus of a role that was started by hand.
    pub fn bus_name(&self) -> &str {
        self.bus.as_deref().unwrap_or("telemetry")
    }

    /// The command line that starts `role` with these options on `bus`, as a child of process `parent`.
    pub fn command_line(&self, role: Role, bus: &str, parent: u32) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec![role.name().into(), "--bus".into(), bus.into()];
        line.extend(["--launched-by".into(), parent.to_string().into()]);
        if let Some(dir) = &self.dir {
            line.extend(["--dir".into(), dir.into()]);
        }
        let numbers = [
            ("--rate", self.rate),
            ("--process-rate", self.process_rate),
            ("--asks", self.asks),
            ("--draws", self.draws),
            ("--top", self.top.into()),
        ];
        for (name, value) in numbers {
            line.extend([name.into(), value.to_string().into()]);
        }
        line
    }
}

fn frequency(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(hz) if (0.1..=10_000.0).contains(&hz) => Ok(hz),
        _ => Err("must be a number from 0.1 to 10000".into()),
    }
}

#[cfg(test)]
mod tests;
