//! An actor for many tests, in a process of its own, and what a test says to it.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use actix::prelude::*;
use shmbus::{Accepts, Protocol, Stats, prelude::*};
use tokio::{runtime::Runtime, sync::Semaphore};

use crate::support::{Child, PATIENCE, Place, Stage, soon, system};

/// Small: travels in its slot.
#[derive(ShmMessage, Debug, Clone, PartialEq)]
pub struct Note {
    pub from: u32,
    pub seq: u64,
}

/// Small, with a reply.
#[derive(ShmMessage, Debug)]
#[shm(reply = u64)]
pub struct Ping {
    pub n: u64,
}

/// Any size; travels in a buffer.
#[derive(ShmMessage, Debug)]
#[shm(reply = Digest)]
pub struct Blob {
    pub seq: u64,
    pub data: Vec<u8>,
}

/// What came of a [`Blob`].
#[derive(ShmMessage, Debug, PartialEq)]
pub struct Digest {
    pub seq: u64,
    pub len: u64,
    pub sum: u64,
}

/// Kept by its handler until the test says `release`.
#[derive(ShmMessage, Debug)]
pub struct Keep {
    pub seq: u64,
    pub data: Vec<u8>,
}

/// Answered when the test says `permit`, with so many bytes.
#[derive(ShmMessage, Debug)]
#[shm(reply = Vec<u8>)]
pub struct Later {
    pub bytes: u64,
}

/// Panics.
#[derive(ShmMessage, Debug)]
#[shm(reply = u64)]
pub struct Panic;

pub fn digest(seq: u64, data: &[u8]) -> Digest {
    let sum = data.iter().fold(0u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    });
    Digest {
        seq,
        len: data.len() as u64,
        sum,
    }
}

/// Bytes that differ by place and by `seed`.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    // By words, because there are megabytes of them, and a debug build takes its time for each.
    let first = u64::from_ne_bytes(std::array::from_fn(|at| at as u8 * 31));
    let all = u64::from_ne_bytes([1; 8]);
    let words = (0..len.div_ceil(8) as u64).map(|word| {
        let place = (word.wrapping_mul(8 * 31) ^ seed ^ (word >> 5)) & 0xff;
        (first ^ (place * all)).to_ne_bytes()
    });
    let mut bytes: Vec<u8> = Vec::with_capacity(len + 8);
    words.for_each(|word| bytes.extend_from_slice(&word));
    bytes.truncate(len);
    bytes
}

#[derive(Default)]
struct Seen {
    notes: Vec<(u32, u64)>,
    kept: Vec<Received<Keep>>,
    blobs: u64,
}

struct Service {
    seen: Arc<Mutex<Seen>>,
    permits: Arc<Semaphore>,
}

impl Actor for Service {
    type Context = Context<Self>;
}

impl Handler<Received<Note>> for Service {
    type Result = ();
    fn handle(&mut self, note: Received<Note>, _: &mut Context<Self>) {
        self.seen
            .lock()
            .unwrap()
            .notes
            .push((note.from.to_native(), note.seq.to_native()));
    }
}

impl Handler<Received<Ping>> for Service {
    type Result = u64;
    fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
        ping.n.to_native() + 1
    }
}

impl Handler<Received<Blob>> for Service {
    type Result = MessageResult<Received<Blob>>;
    fn handle(&mut self, blob: Received<Blob>, _: &mut Context<Self>) -> Self::Result {
        let mut seen = self.seen.lock().unwrap();
        seen.blobs += 1;
        seen.notes.push((u32::MAX, blob.seq.to_native()));
        MessageResult(digest(blob.seq.to_native(), &blob.data))
    }
}

impl Handler<Received<Keep>> for Service {
    type Result = ();
    fn handle(&mut self, keep: Received<Keep>, _: &mut Context<Self>) {
        self.seen.lock().unwrap().kept.push(keep);
    }
}

impl Handler<Received<Later>> for Service {
    type Result = ResponseFuture<Vec<u8>>;
    fn handle(&mut self, later: Received<Later>, _: &mut Context<Self>) -> Self::Result {
        let permits = self.permits.clone();
        Box::pin(async move {
            permits.acquire().await.expect("never closed").forget();
            bytes(0, later.bytes.to_native() as usize)
        })
    }
}

impl Handler<Received<Panic>> for Service {
    type Result = u64;
    fn handle(&mut self, _: Received<Panic>, _: &mut Context<Self>) -> u64 {
        panic!("as the test wants it");
    }
}

/// Applies `setting=value` to a node's settings.
pub fn set(config: Config, setting: &str) -> Config {
    let Some((key, value)) = setting.split_once('=') else {
        return config;
    };
    let number = || value.parse::<u64>().expect("a number");
    match key {
        "window" => config.window(number() as u32),
        "ring" => config.ring_slots(number() as u32).returns(number() as u32 * 2),
        "pool" => config.segment_bytes(4 << 20).pool_bytes(number()),
        "message" => config.message_bytes(number() as usize),
        "handshake" => config.handshake_deadline(Duration::from_millis(number())),
        "handshakes" => config.handshakes(number() as usize),
        "peers" => config.peers(number() as usize),
        "mailboxes" => config.mailboxes(number() as usize),
        "spin" if value == "never" => config.spin(Spin::Never),
        "spin" if value == "always" => config.spin(Spin::Always),
        _ => config,
    }
}

/// The settings of a role's node, of which its arguments say some.
pub fn configured(stage: &Stage, node: &str) -> Config {
    let settings = stage.args.iter();
    settings.fold(stage.config(node), |config, arg| set(config, arg))
}

/// Role: `node actor setting=value..` (and `two`, `quiet`, `continue`); says `ready`, then does what the test says.
pub fn service(mut stage: Stage) {
    if stage.args.iter().any(|arg| arg == "quiet") {
        // The panics of this role are wanted; their reports would only disturb.
        std::panic::set_hook(Box::new(|_| ()));
    }
    system(async move {
        let config = configured(&stage, stage.arg(0));
        let on_panic = if stage.args.iter().any(|arg| arg == "continue") {
            OnPanic::Continue
        } else {
            OnPanic::Stop
        };
        let bus = config.join().await.expect("join");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let permits = Arc::new(Semaphore::new(0));
        let actor = || Service {
            seen: seen.clone(),
            permits: permits.clone(),
        };
        let _second = match stage.args.iter().any(|arg| arg == "two") {
            true => Some(
                bus.bind("second", actor())
                    .handles::<Ping>()
                    .start()
                    .await
                    .expect("bind"),
            ),
            false => None,
        };
        let bound = bus
            .bind(stage.arg(1), actor())
            .handles::<Note>()
            .handles::<Ping>()
            .handles::<Blob>()
            .handles::<Keep>()
            .handles::<Later>()
            .handles::<Panic>()
            .on_panic(on_panic)
            .start()
            .await
            .expect("bind");
        stage.say("ready");
        loop {
            let line = stage.hear().await;
            let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let number = || rest.parse::<usize>().expect("a number");
            match command {
                "count" => stage.say(seen.lock().unwrap().notes.len()),
                "kept" => stage.say(seen.lock().unwrap().kept.len()),
                // From the oldest on, as a handler would.
                "release" => {
                    let kept: Vec<_> = seen.lock().unwrap().kept.drain(..number()).collect();
                    stage.say(kept.len());
                }
                "read" => {
                    let seen = seen.lock().unwrap();
                    let good =
                        |keep: &Received<Keep>| *keep.data == *bytes(keep.seq.to_native(), keep.data.len());
                    stage.say(seen.kept.iter().filter(|keep| good(keep)).count());
                }
                "permit" => permits.add_permits(number()),
                "log" => {
                    let seen = seen.lock().unwrap();
                    let log: Vec<_> = seen
                        .notes
                        .iter()
                        .map(|(from, seq)| format!("{from}:{seq}"))
                        .collect();
                    stage.say(log.join(" "));
                }
                "stats" => stage.say(stats(&bus.stats())),
                "peers" => stage.say(bus.peers().len()),
                "unbind" => {
                    bound.unbind();
                    stage.say("unbound");
                }
                "leave" => {
                    // What it keeps it goes on keeping.
                    bus.clone().leave().await;
                    stage.say("left");
                }
                // Holds this thread, and with it the actor, until the test says anything else.
                "block" => {
                    stage.say("blocked");
                    stage.hear_blocking();
                    stage.say("unblocked");
                }
                other => panic!("unknown command {other}"),
            }
        }
    });
}

/// All counts, as `name=value`.
fn stats(stats: &Stats) -> String {
    let text = format!("{stats:?}");
    text.trim_start_matches("Stats { ")
        .trim_end_matches(" }")
        .replace(": ", "=")
        .replace(", ", " ")
}

/// Joins on a runtime of its own with so many threads, and has the address of `actor`.
pub async fn join_on<P: Protocol + 'static>(threads: usize, config: Config) -> (Runtime, Bus, Address<P>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("a runtime");
    let joined = runtime.spawn(async move {
        let bus = config.join().await.expect("join");
        let actor = bus.address::<P>("actor").await.expect("lookup");
        (bus, actor)
    });
    let (bus, actor) = soon("joined", joined).await.expect("no panic");
    (runtime, bus, actor)
}

/// Starts a [`service`] and waits until it is bound.
pub async fn start(place: &Place, args: &[&str]) -> Child {
    place.ready("service::service", args).await
}

/// Asks an actor that answers with one more.
pub async fn pinged<P: Accepts<Ping, At>, At>(actor: &Address<P>, n: u64) {
    let answer = soon("an answer", actor.ask(&Ping { n })).await;
    assert_eq!(answer.unwrap().to_native(), n + 1, "{actor:?}");
}

impl Child {
    /// A number of its `Bus::stats`.
    pub async fn stat(&mut self, name: &str) -> u64 {
        let stats = self.ask("stats").await;
        let value = stats
            .split(' ')
            .find_map(|stat| stat.strip_prefix(name)?.strip_prefix('='));
        value
            .unwrap_or_else(|| panic!("no {name} in {stats}"))
            .parse()
            .expect("a number")
    }

    /// Waits until a number of its `Bus::stats` is this one.
    pub async fn until_stat(&mut self, name: &str, wanted: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.stat(name).await != wanted {
            assert!(
                Instant::now() < deadline,
                "{name} is not {wanted}: {}",
                self.ask("stats").await
            );
        }
    }

    /// Messages it has logged.
    pub async fn count(&mut self) -> usize {
        self.ask("count").await.parse().expect("a number")
    }

    /// Waits until it has logged so many.
    pub async fn until_count(&mut self, wanted: usize) {
        self.until("count", &wanted.to_string()).await;
    }

    /// What it has logged: who, and which of his.
    pub async fn log(&mut self) -> Vec<(u32, u64)> {
        let log = self.ask("log").await;
        let entry = |entry: &str| {
            let (from, seq) = entry.split_once(':').expect("from:seq");
            (from.parse().expect("a number"), seq.parse().expect("a number"))
        };
        log.split(' ')
            .filter(|entry| !entry.is_empty())
            .map(entry)
            .collect()
    }

    /// Waits until it keeps so many messages.
    pub async fn until_kept(&mut self, wanted: usize) {
        self.until("kept", &wanted.to_string()).await;
    }
}
