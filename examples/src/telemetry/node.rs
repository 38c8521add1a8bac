//! A role's place on the bus.

use std::time::Duration;

use shmbus::{
    error::{JoinError, LookupError, SendError},
    prelude::*,
};

use crate::args::{Options, Role};

/// The name of the analyst's actor.
pub const ANALYST: &str = "analyst";

/// How long to wait before a failed lookup is tried again.
pub const PAUSE: Duration = Duration::from_millis(50);

/// Joins as the node of this role. There may be any number of viewers on one bus, but a second sampler or analyst
/// is told that the name is taken, and by which process.
pub async fn join(options: &Options, role: Role) -> Result<Bus, JoinError> {
    let node = match role {
        Role::Viewer => format!("{}-{}", role.name(), std::process::id()),
        Role::Sampler | Role::Analyst => role.name().into(),
    };
    let mut config = Config::new(node).bus(options.bus_name());
    if let Some(dir) = &options.dir {
        config = config.dir(dir);
    }
    config.join().await
}

/// Whether the same lookup may succeed later: the actor is not there yet, or died while it was looked up.
pub fn is_absent(error: &LookupError) -> bool {
    matches!(
        error,
        LookupError::Unknown { .. } | LookupError::PeerLost { .. } | LookupError::Refused { .. }
    )
}

/// Whether the actor behind an address is gone for good. Another may take its name: look it up again.
pub fn is_gone(error: &SendError) -> bool {
    matches!(error, SendError::PeerLost { .. } | SendError::Stopped { .. })
}

/// Tells the user how things are going, unless `telemetry` started this role: then the viewer has the terminal.
pub fn say(options: &Options, role: Role, text: impl std::fmt::Display) {
    if options.launched_by.is_none() {
        eprintln!("{}: {text}", role.name());
    }
}
