//! shmbus over its public interface: actix actors on one arbiter, clients on others; default trust. Fan-out is by a
//! topic, whose subscribers are streams.

mod client;
mod messages;
mod server;
mod topic;

use shmbus::prelude::*;

use crate::{
    Result,
    case::{Case, Run},
    report::Driven,
};

pub(super) use client::drive_loans;

/// The name of the actor of this number.
fn actor(number: u32) -> String {
    format!("bench-{number}")
}

fn config(run: &Run, node: &str, spin: Spin) -> Config {
    let shape = &run.shape;
    let defaults = Config::new(format!("{node}-{}", run.index()))
        .dir(&run.dir)
        .spin(spin)
        .ask_deadline(std::time::Duration::from_secs(15));
    let mut config = defaults;
    if shape.held > 0 {
        // What the actors keep is unreleased, and there must be room for what is on its way besides.
        let kept = shape.held.saturating_mul(shape.mailboxes);
        config = config
            .window(shape.held.saturating_add(1024).min(65_535))
            .returns((kept + 32_768).next_power_of_two());
    }
    match shape.window {
        Some(window) => config.window(window),
        None => config,
    }
}

/// See [`super::System::drive`].
pub(super) fn drive_batches(run: &Run, spin: Spin) -> Result<Driven> {
    actix::System::new().block_on(client::drive_batches(run, spin))
}

/// See [`super::System::serve`].
pub(super) fn serve(run: &Run, ready: fn(), spin: Spin) -> Result<()> {
    actix::System::new().block_on(async {
        match (run.case(), run.payload()) {
            (Case::Fanout, 32) => topic::serve::<messages::Tell32>(run, ready, spin).await,
            (Case::Fanout, 64) => topic::serve::<messages::Tell64>(run, ready, spin).await,
            (Case::Fanout, _) => topic::serve::<messages::Tell>(run, ready, spin).await,
            _ => server::serve(run, ready, spin).await,
        }
    })
}

/// See [`super::System::drive`].
pub(super) fn drive(run: &Run, spin: Spin) -> Result<Driven> {
    actix::System::new().block_on(async {
        match (run.case(), run.payload()) {
            (Case::Fanout, 32) => topic::drive::<messages::Tell32>(run, spin).await,
            (Case::Fanout, 64) => topic::drive::<messages::Tell64>(run, spin).await,
            (Case::Fanout, _) => topic::drive::<messages::Tell>(run, spin).await,
            _ => client::drive(run, spin).await,
        }
    })
}
