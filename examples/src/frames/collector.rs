//! The actor that counts, and keeps a result of each picture.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix::prelude::*;
use shmbus::prelude::*;
use tokio::sync::watch;

use crate::{
    ledger::Ledger,
    messages::{Edges, Ready, Summary},
};

/// Its name on the bus.
pub const COLLECTOR: &str = "collector";

/// How far things are.
#[derive(Debug, Default, Clone, Copy)]
pub struct Progress {
    /// Workers that take frames.
    pub ready: u32,
    /// Frames done.
    pub frames: u64,
    /// Processes that have ended in order.
    pub summaries: u32,
}

/// What is there at the end.
#[derive(Debug, Default)]
pub struct Collection {
    pub ledger: Ledger,
    /// The first result of each picture, as it was received: it stays in the memory that the worker wrote it to.
    pub results: BTreeMap<u32, Received<Edges>>,
    /// From the publication of the first frame to the last result.
    pub took: Duration,
    pub copies: u64,
}

/// Collects.
#[derive(Debug, Default)]
pub struct Collector {
    collection: Collection,
    began: Option<Duration>,
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

impl Handler<Received<Edges>> for Collector {
    type Result = ();

    fn handle(&mut self, msg: Received<Edges>, _: &mut Context<Self>) {
        let Collection {
            ledger,
            results,
            took,
            ..
        } = &mut self.collection;
        if !ledger.enter(
            msg.number.to_native(),
            msg.worker.to_native(),
            msg.bytes.to_native(),
        ) {
            return;
        }
        let published = Duration::from_micros(msg.published_us.to_native());
        let began = *self.began.get_or_insert(published);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Results come in another order than frames were published.
        self.began = Some(began.min(published));
        *took = now.saturating_sub(began.min(published));
        let frames = ledger.frames();
        results.entry(msg.picture.to_native()).or_insert(msg);
        self.progress.send_modify(|progress| progress.frames = frames);
    }
}

impl Handler<Received<Summary>> for Collector {
    type Result = ();

    fn handle(&mut self, msg: Received<Summary>, _: &mut Context<Self>) {
        self.collection.copies += msg.copies.to_native();
        self.progress.send_modify(|progress| progress.summaries += 1);
    }
}

/// From the same process, by actix alone: hand over what is there.
#[derive(Debug, Message)]
#[rtype(result = "Collection")]
pub struct Close;

impl Handler<Close> for Collector {
    type Result = MessageResult<Close>;

    fn handle(&mut self, _: Close, _: &mut Context<Self>) -> Self::Result {
        MessageResult(std::mem::take(&mut self.collection))
    }
}
