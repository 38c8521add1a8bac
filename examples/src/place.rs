//! Where the processes of a program that starts its own roles meet.

use std::{ffi::OsString, path::PathBuf};

use shmbus::{error::JoinError, prelude::*};

/// The part of the command line that says on which bus.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Place {
    /// Name of the bus (default: the program's, with the process id)
    #[arg(long, global = true, value_name = "NAME")]
    pub bus: Option<String>,
    /// Runtime directory of the bus (default: as every program on the bus, see SHMBUS_DIR)
    #[arg(long, global = true, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// The process id of the program that started this role. It decides when to end.
    #[arg(long, global = true, hide = true, value_name = "PID")]
    pub launched_by: Option<i32>,
}

impl Place {
    /// The bus. Two of these programs at once shall not meet, so it is named after the process that started all.
    #[must_use]
    pub fn bus_name(&self, program: &str) -> String {
        let launcher = self.launched_by.map_or(std::process::id(), |pid| pid as u32);
        self.bus
            .clone()
            .unwrap_or_else(|| format!("{program}-{launcher}"))
    }

    /// Joins as the node of that name.
    ///
    /// # Errors
    /// Those of [`Bus::join`].
    pub async fn join(&self, program: &str, node: &str) -> Result<Bus, JoinError> {
        let mut config = Config::new(node).bus(self.bus_name(program));
        if let Some(dir) = &self.dir {
            config = config.dir(dir);
        }
        config.join().await
    }

    /// The beginning of the command line that starts a role (its words) on the same bus.
    #[must_use]
    pub fn command_line(&self, program: &str, role: &[&str]) -> Vec<OsString> {
        let mut line: Vec<OsString> = role.iter().map(OsString::from).collect();
        line.extend(["--bus".into(), self.bus_name(program).into()]);
        if let Some(dir) = &self.dir {
            line.extend(["--dir".into(), dir.into()]);
        }
        line
    }
}
