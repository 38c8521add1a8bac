//! The node that the hostile peer speaks to.

use std::sync::{Arc, Mutex};

use actix::prelude::*;
use shmbus::{Permit, prelude::*};

use crate::support::{PATIENCE, Stage, peers, system};

#[derive(ShmMessage, Debug)]
#[shm(reply = u64)]
pub struct Ping {
    pub n: u64,
}

struct Answers;

impl Actor for Answers {
    type Context = Context<Self>;
}

impl Handler<Received<Ping>> for Answers {
    type Result = u64;
    fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
        ping.n.to_native().wrapping_add(1)
    }
}

/// Role: `[uid]`, of the user whom it lets in for a few things; does what its test says, a line each.
pub fn victim(mut stage: Stage) {
    let panics: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = panics.clone();
    std::panic::set_hook(Box::new(move |info| {
        noted.lock().unwrap().push(info.to_string().replace('\n', " "));
    }));
    system(async move {
        let mut config = stage.config("victim").ring_slots(16).returns(32).window(64);
        if !stage.args.is_empty() {
            let uid = stage.number(0) as u32;
            let permit = Permit::uid(uid).call("actor").bind("wild").bind("echo");
            let permit = permit.publish("in.*").subscribe("out");
            config = config.allow_uids([uid]).permit(permit);
        }
        let bus = config.join().await.unwrap();
        let bound = bus
            .bind("actor", Answers)
            .handles::<Ping>()
            .start()
            .await
            .unwrap();
        // Next to the other one by its number, and nobody of another user may call it.
        let vault = bus
            .bind("vault", Answers)
            .handles::<Ping>()
            .start()
            .await
            .unwrap();
        // Its mailbox's number goes on to the subscription, in another generation.
        let gone = bus.bind("gone", Answers).handles::<Ping>().start().await.unwrap();
        gone.unbind();
        let mut wild = bus.subscriber::<Ping>("in.*").await.unwrap();
        let feed = bus.publisher::<Ping>("out").await.unwrap();
        stage.say("ready");
        loop {
            let line = stage.hear().await;
            let (command, number) = line.split_once(' ').unwrap_or((&line, "1"));
            let number: u64 = number.parse().unwrap();
            match command {
                // What of so many was accepted says nothing: the session may end meanwhile.
                "tell" => {
                    let to = bus.address::<Ping>("wild").deadline(PATIENCE).await;
                    if let Ok(to) = &to {
                        for n in 0..number {
                            let _ = to.try_tell(&Ping { n });
                        }
                    }
                    stage.say(format_args!("told {number}"));
                }
                "ask" => {
                    let bus = bus.clone();
                    actix::spawn(async move {
                        if let Ok(to) = bus.address::<Ping>("wild").await {
                            let _ = to.ask(&Ping { n: 1 }).deadline(PATIENCE).await;
                        }
                    });
                    stage.say("asking");
                }
                "publish" => {
                    for n in 0..number {
                        let _ = feed.publish(&Ping { n });
                    }
                    stage.say("published");
                }
                "lost" => {
                    // Whatever came meanwhile.
                    while wild.try_recv().is_some() {}
                    stage.say(wild.lost());
                }
                "violations" => stage.say(bus.stats().violations),
                "sessions" => stage.say(peers(&bus).join(" ")),
                // Who answers by this name: what it says is more by so much than what it is asked.
                "call" => {
                    let to = bus.address::<Ping>("echo").deadline(PATIENCE).await;
                    let answer = to.unwrap().ask(&Ping { n: number }).await;
                    stage.say(answer.map_or_else(|error| error.to_string(), |n| n.to_native().to_string()));
                }
                "refused" => stage.say(bus.stats().handshakes_refused),
                "peers" => stage.say(bus.stats().peers),
                "panics" => stage.say(panics.lock().unwrap().join("; ")),
                "fds" => stage.say(std::fs::read_dir("/proc/self/fd").unwrap().count()),
                "rss" => stage.say(resident()),
                other => panic!("unknown command {other}"),
            }
            let _ = (bound.name(), vault.name());
        }
    });
}

/// Private memory in use, in kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.unwrap_or_default().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}
