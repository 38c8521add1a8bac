//! One publisher and its subscribers, which say by an actor of the publisher's that a mark has come.

use std::time::Duration;

use actix::prelude::*;
use shmbus::prelude::*;
use tokio::sync::mpsc;

use super::{
    config,
    messages::{Numbered, Seen},
};
use crate::{
    Result,
    case::Run,
    launch,
    meter::{Meter, Tally, phases},
    report::Driven,
    wire::{BEGIN, END},
};

const TOPIC: &str = "bench.fanout";
const ACKS: &str = "acks";

/// Tells the client who has seen a mark.
struct Acks(mpsc::UnboundedSender<u64>);

impl Actor for Acks {
    type Context = Context<Self>;
}

impl Handler<Received<Seen>> for Acks {
    type Result = ();
    fn handle(&mut self, seen: Received<Seen>, _: &mut Context<Self>) {
        // A client that no longer listens has failed.
        let _ = self.0.send(seen.mark.to_native());
    }
}

/// See [`crate::systems::System::serve`].
pub(super) async fn serve<M: Numbered>(run: &Run, ready: fn(), spin: Spin) -> Result<()> {
    let bus = config(run, "server", spin).join().await?;
    let mut messages = bus.subscriber::<M>(TOPIC).when_full(WhenFull::Wait).await?;
    ready();
    let acks = bus.address::<Seen>(ACKS).await?;
    let (mut tally, mut ended) = (Tally::default(), 0);
    while ended < phases(run).len() {
        let message = messages.recv().await.ok_or("the bus was left")?;
        match M::number(&message) {
            mark @ (BEGIN | END) => {
                if mark == BEGIN {
                    tally.begin();
                } else {
                    tally.end();
                    ended += 1;
                }
                acks.tell(&Seen { mark }).await?;
            }
            _ => tally.add(M::read(&message)),
        }
    }
    launch::dismissed().await;
    bus.leave().await;
    Ok(())
}

/// See [`crate::systems::System::drive`].
pub(super) async fn drive<M: Numbered>(run: &Run, spin: Spin) -> Result<Driven> {
    let bus = config(run, "client", spin).join().await?;
    let (seen, mut acks) = mpsc::unbounded_channel();
    bus.bind(ACKS, Acks(seen)).handles::<Seen>().start().await?;
    let publisher = bus.publisher::<M>(TOPIC).await?;
    // Those that are known have answered; the others' sessions are about to be made.
    while publisher.stats().subscribers < run.point.receivers as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut message = M::new(run.payload());
    let mut driven = None;
    for lasts in phases(run) {
        mark(run, &publisher, &mut message, &mut acks, BEGIN).await?;
        let mut meter = Meter::start(run, lasts);
        while !meter.is_over() {
            message.write(meter.send_as(M::expected));
            publisher.publish_wait(&message).await?;
        }
        mark(run, &publisher, &mut message, &mut acks, END).await?;
        meter.stop();
        driven = Some(Meter::report([meter]));
    }
    bus.leave().await;
    driven.ok_or_else(|| "nothing was measured".into())
}

/// Publishes a mark and waits until every subscriber has seen it, and with it all messages before.
async fn mark<M: Numbered>(
    run: &Run,
    publisher: &Publisher<M>,
    message: &mut M,
    acks: &mut mpsc::UnboundedReceiver<u64>,
    which: u64,
) -> Result<()> {
    message.write(which);
    publisher.publish_wait(message).await?;
    for _ in 0..run.point.receivers {
        if acks.recv().await != Some(which) {
            return Err("another mark was seen than the one published".into());
        }
    }
    Ok(())
}
