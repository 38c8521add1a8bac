//! Payloads produced in place, from nothing to far above the largest class of the pool. Here: who receives them.

mod large;
mod payloads;
pub mod replies;
mod room;
mod topics;

use std::sync::{Arc, Mutex};

use actix::prelude::*;
use bytes::Bytes;
use futures_util::StreamExt;
use shmbus::prelude::*;

use crate::{
    service::{Digest, Ping, bytes, configured, digest},
    support::{Child, Place, Stage, system},
};

#[derive(ShmMessage, Debug)]
#[shm(reply = Digest)]
struct Frame {
    seq: u64,
    data: Bulk,
    note: String,
}

/// Kept by its handler until the test says `release`.
#[derive(ShmMessage, Debug)]
struct Hold {
    data: Bulk,
}

/// Answered with so many bytes.
#[derive(ShmMessage, Debug)]
#[shm(reply = Hold)]
struct Fetch {
    len: u32,
}

#[derive(Clone, Default)]
struct Sink {
    held: Arc<Mutex<Vec<Bytes>>>,
}

impl Actor for Sink {
    type Context = Context<Self>;
}

impl Handler<Received<Frame>> for Sink {
    type Result = MessageResult<Received<Frame>>;
    fn handle(&mut self, frame: Received<Frame>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(digest(
            frame.seq.to_native() + frame.note.len() as u64,
            &frame.data,
        ))
    }
}

impl Handler<Received<Hold>> for Sink {
    type Result = ();
    fn handle(&mut self, hold: Received<Hold>, _: &mut Context<Self>) {
        let held = hold.into_bytes(|hold| &hold.data);
        self.held.lock().unwrap().push(held);
    }
}

impl Handler<Received<Fetch>> for Sink {
    type Result = MessageResult<Received<Fetch>>;
    fn handle(&mut self, fetch: Received<Fetch>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(Hold {
            data: bytes(1, fetch.len.to_native() as usize).into(),
        })
    }
}

impl Handler<Received<Ping>> for Sink {
    type Result = u64;
    fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
        ping.n.to_native()
    }
}

/// Role: `setting=value..`; says `ready`, then does what the test says.
pub fn sink(mut stage: Stage) {
    system(async move {
        let bus = configured(&stage, "server").join().await.expect("join");
        let sink = Sink::default();
        let _bound = bus
            .bind("sink", sink.clone())
            .handles::<Frame>()
            .handles::<Hold>()
            .handles::<Fetch>()
            .handles::<Ping>()
            .start()
            .await
            .expect("bind");
        stage.say("ready");
        loop {
            match stage.hear().await.as_str() {
                "held" => stage.say(sink.held.lock().unwrap().len()),
                // Cuts the payload in two, and lets the message go with the second half.
                "halve" => {
                    let mut held = sink.held.lock().unwrap();
                    let last = held.last_mut().expect("something is held");
                    *last = last.split_off(last.len() / 2);
                    stage.say(digest(0, last).sum);
                }
                "release" => {
                    sink.held.lock().unwrap().clear();
                    stage.say("released");
                }
                // Whether each page begins with its number.
                "pages" => {
                    let held = sink.held.lock().unwrap();
                    let mut pages = held.last().expect("something is held").chunks(4096).enumerate();
                    stage.say(pages.all(|(n, page)| page[..8] == n.to_le_bytes()));
                }
                "shared" => stage.say(shared_memory()),
                other => panic!("unknown command {other}"),
            }
        }
    });
}

/// Role: `node depth`; subscribes `frames`, and says what it got each time the test says `next`.
pub fn watcher(mut stage: Stage) {
    system(async move {
        let bus = stage.config(stage.arg(0)).join().await.expect("join");
        let depth = stage.number(1) as u32;
        let frames = bus
            .subscriber::<Frame>("frames")
            .depth(depth)
            .when_full(WhenFull::Wait);
        let mut frames = frames.await.expect("subscribe");
        stage.say("ready");
        loop {
            stage.hear().await;
            let frame = frames.next().await.expect("a frame");
            stage.say(digest(frame.seq.to_native(), &frame.data).sum);
        }
    });
}

async fn sink_of(place: &Place, args: &[&str]) -> Child {
    place.ready("loans::sink", args).await
}

/// Shared memory that this process has touched and still maps, in bytes.
fn shared_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssShmem:"))
        .expect("RssShmem");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}
