//! A node that does what its test says, under the limits that its test wants.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use actix::prelude::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use shmbus::prelude::*;

use crate::support::{Child, Place, Stage, system};

/// Travels in its slot.
#[derive(ShmMessage, Debug)]
#[shm(reply = u64)]
pub struct Ping {
    pub n: u64,
}

/// Travels in a buffer of the pool, or in a segment of its own; answered with its length.
#[derive(ShmMessage, Debug)]
#[shm(reply = u64)]
pub struct Blob {
    pub data: Vec<u8>,
}

/// Kept by the actor.
#[derive(ShmMessage, Debug)]
pub struct Keep {
    pub data: Vec<u8>,
}

#[derive(Default)]
struct Service {
    kept: Rc<RefCell<Vec<Received<Keep>>>>,
}

impl Actor for Service {
    type Context = Context<Self>;
}

impl Handler<Received<Ping>> for Service {
    type Result = u64;
    fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
        ping.n.to_native() + 1
    }
}

impl Handler<Received<Blob>> for Service {
    type Result = u64;
    fn handle(&mut self, blob: Received<Blob>, _: &mut Context<Self>) -> u64 {
        blob.data.len() as u64
    }
}

impl Handler<Received<Keep>> for Service {
    type Result = ();
    fn handle(&mut self, keep: Received<Keep>, _: &mut Context<Self>) {
        self.kept.borrow_mut().push(keep);
    }
}

/// Sets this process's soft limit; `None`: as high as it may be.
fn limit(resource: Resource, soft: Option<u64>) {
    let (_, hard) = getrlimit(resource).expect("a limit");
    setrlimit(resource, soft.unwrap_or(hard), hard).expect("a limit");
}

/// Address space of this process, in bytes.
fn address_space() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    let pages: u64 = statm
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    pages * 4096
}

fn said<T>(result: Result<T, impl std::fmt::Display>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Role: `node [ring slots]`; says `ready`, then does what the test says.
pub fn party(mut stage: Stage) {
    system(async move {
        let mut bus: Option<Bus> = None;
        let kept = Rc::default();
        let mut addresses = HashMap::new();
        stage.say("ready");
        loop {
            let line = stage.hear().await;
            let mut words = line.split(' ');
            let command = words.next().unwrap_or_default();
            let name = words.next().unwrap_or_default().to_owned();
            let number = words.next().and_then(|n| n.parse().ok()).unwrap_or(0usize);
            let on = || bus.as_ref().expect("joined");
            let answer = match command {
                // So much more address space, in MiB.
                "space" => {
                    let more = name.parse::<u64>().ok();
                    limit(Resource::RLIMIT_AS, more.map(|mib| address_space() + (mib << 20)));
                    "ok".to_owned()
                }
                // So many processes and threads of this user.
                "threads" => {
                    limit(Resource::RLIMIT_NPROC, name.parse().ok());
                    "ok".to_owned()
                }
                // Whether this process gets a thread, to see that the limit holds.
                "thread" => said(std::thread::Builder::new().spawn(|| ()).map(|t| t.join())),
                "join" => {
                    let mut config = stage
                        .config(stage.arg(0))
                        .announce_deadline(Duration::from_secs(1));
                    if stage.args.len() > 1 {
                        let slots = stage.number(1) as u32;
                        config = config.ring_slots(slots).returns(slots * 2);
                    }
                    match config.join().await {
                        Ok(joined) => {
                            bus = Some(joined);
                            "ok".to_owned()
                        }
                        Err(error) => error.to_string(),
                    }
                }
                "leave" => {
                    addresses.clear();
                    bus.take().expect("joined").leave().await;
                    "ok".to_owned()
                }
                "bind" => {
                    let service = Service {
                        kept: Rc::clone(&kept),
                    };
                    let bind = on().bind(name, service).handles::<Ping>().handles::<Blob>();
                    said(bind.handles::<Keep>().start().await)
                }
                "open" => {
                    let opening = on().address::<(Ping, Blob, Keep)>(name.clone());
                    match opening.deadline(Duration::from_secs(5)).await {
                        Ok(address) => {
                            addresses.insert(name, address);
                            "ok".to_owned()
                        }
                        Err(error) => error.to_string(),
                    }
                }
                "ping" => said(addresses[&name].ask(&Ping { n: 1 }).await),
                "blob" => {
                    let data = vec![7; number];
                    said(addresses[&name].ask(&Blob { data }).await)
                }
                "keep" => {
                    let data = vec![7; number];
                    said(addresses[&name].tell(&Keep { data }).await)
                }
                // Sends buffers that are kept until something stops it.
                "fill" => loop {
                    let data = vec![7; number];
                    if let Err(error) = addresses[&name].tell(&Keep { data }).await {
                        break error.to_string();
                    }
                },
                "kept" => kept.borrow().len().to_string(),
                "right" => {
                    let right =
                        |keep: &Received<Keep>| !keep.data.is_empty() && keep.data.iter().all(|b| *b == 7);
                    kept.borrow().iter().all(right).to_string()
                }
                "release" => {
                    kept.borrow_mut().clear();
                    "ok".to_owned()
                }
                "peers" => {
                    let mut peers = on().peers();
                    peers.sort();
                    peers.join(" ")
                }
                "violations" => on().stats().violations.to_string(),
                other => panic!("unknown command {other}"),
            };
            stage.say(answer);
        }
    });
}

/// Starts a party and joins.
pub async fn join(place: &Place, args: &[&str]) -> Child {
    let mut child = place.spawn("party::party", args);
    child.expect("ready").await;
    child.expect_after("join", "ok").await;
    child
}

/// Starts a party that has bound an actor of its own name.
pub async fn serve(place: &Place, args: &[&str]) -> Child {
    let mut child = join(place, args).await;
    child.expect_after(&format!("bind {}", args[0]), "ok").await;
    child
}

/// Says why a test does not run here.
pub fn skipped(test: &str, why: impl std::fmt::Display) {
    eprintln!("{test}: skipped, because {why}");
}
