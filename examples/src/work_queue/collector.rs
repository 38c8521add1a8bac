//! The actor that adds up.

use actix::prelude::*;
use shmbus::prelude::*;
use tokio::sync::watch;

use crate::{
    ledger::Ledger,
    messages::{Done, Ready},
};

/// Its name on the bus.
pub const COLLECTOR: &str = "collector";

/// How far things are.
#[derive(Debug, Default, Clone, Copy)]
pub struct Progress {
    /// Workers that take jobs.
    pub ready: u32,
    /// Jobs done.
    pub jobs: u64,
}

/// Keeps the ledger.
#[derive(Debug, Default)]
pub struct Collector {
    ledger: Ledger,
    progress: watch::Sender<Progress>,
}

impl Collector {
    /// Follows how far things are.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
}

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<Received<Ready>> for Collector {
    type Result = ();

    fn handle(&mut self, _: Received<Ready>, _: &mut Context<Self>) {
        self.progress.send_modify(|progress| progress.ready += 1);
    }
}

impl Handler<Received<Done>> for Collector {
    type Result = ();

    fn handle(&mut self, msg: Received<Done>, _: &mut Context<Self>) {
        self.ledger.enter(&msg.to_owned());
        let jobs = self.ledger.jobs();
        self.progress.send_modify(|progress| progress.jobs = jobs);
    }
}

/// From the same process, by actix alone: hand over the ledger.
#[derive(Debug, Message)]
#[rtype(result = "Ledger")]
pub struct Close;

impl Handler<Close> for Collector {
    type Result = MessageResult<Close>;

    fn handle(&mut self, _: Close, _: &mut Context<Self>) -> Self::Result {
        MessageResult(std::mem::take(&mut self.ledger))
    }
}
