//! What else happens in the life of a process: it executes others, leaves without a word, loses its runtime.

use std::process::{Command, Stdio};

use actix::prelude::*;
use futures_util::future::join_all;
use shmbus::{
    error::{AskError, SendError},
    prelude::*,
};

use crate::{
    service::{Blob, Keep, Later, Note, Ping, bytes, join_on, start},
    support::{Place, Stage, eventually, settled, soon, system, threads},
};

/// The number that makes a [`Leaver`] go.
const GO: u64 = 99;

/// Keeps what it gets, and ends its process in the middle of a handler.
struct Leaver(Vec<Received<Keep>>);

impl Actor for Leaver {
    type Context = Context<Self>;
}

impl Handler<Received<Keep>> for Leaver {
    type Result = ();
    fn handle(&mut self, keep: Received<Keep>, _: &mut Context<Self>) {
        self.0.push(keep);
    }
}

impl Handler<Received<Ping>> for Leaver {
    type Result = u64;
    fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
        if ping.n.to_native() == GO {
            // Nothing of the bus is dropped but what the thread itself keeps.
            std::process::exit(0);
        }
        self.0.len() as u64
    }
}

/// Role: binds a [`Leaver`] as `actor`, says `ready`.
pub fn leaver(mut stage: Stage) {
    system(async move {
        let bus = stage.config("leaver").join().await.expect("join");
        let bind = bus.bind("actor", Leaver(Vec::new()));
        let _bound = bind
            .handles::<Keep>()
            .handles::<Ping>()
            .start()
            .await
            .expect("bind");
        stage.say("ready");
        stage.wait().await;
    });
}

#[test]
fn a_process_that_exits_in_a_handler_is_lost_like_one_that_was_killed() {
    let place = Place::new();
    system(async {
        let _leaver = place.ready("life::leaver", &[]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<(Keep, Ping)>("actor").await.unwrap();
        let mut watch = bus.watch("actor");
        assert_eq!(soon("up", watch.next()).await, Some(Presence::Up));
        for seq in 0..5 {
            let data = bytes(seq, 20_000);
            actor.tell(&Keep { seq, data }).await.unwrap();
        }
        assert_eq!(actor.ask(&Ping { n: 0 }).await.unwrap().to_native(), 5);
        let asks = (GO..GO + 4).map(|n| {
            let actor = actor.clone();
            async move { actor.ask(&Ping { n }).await.map(|_| ()) }
        });
        for asked in soon("the asks fail", join_all(asks)).await {
            assert!(
                matches!(
                    asked,
                    Err(AskError::PeerLost { .. } | AskError::Send(SendError::PeerLost { .. }))
                ),
                "{asked:?}"
            );
        }
        assert_eq!(soon("down", watch.next()).await, Some(Presence::Down));
        settled(&bus).await;
    });
}

#[test]
fn what_a_process_executes_inherits_nothing_of_the_bus() {
    let place = Place::new();
    threads(async {
        let _server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<(Blob, Ping)>("actor").await.unwrap();
        // Sockets, eventfds, link segments, a pool segment.
        let data = bytes(1, 50_000);
        actor.ask(&Blob { seq: 1, data }).await.unwrap();
        let open = |of: &str| {
            let fds = std::fs::read_dir(of).unwrap();
            let names = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
            names
                .map(|name| name.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        let ours = open("/proc/self/fd");
        assert!(
            ours.iter().any(|name| name.contains("memfd:shmbus-pool")),
            "{ours:?}"
        );
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // `spawn` returns when the child has executed.
        let inherited = open(&format!("/proc/{}/fd", child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!inherited.is_empty());
        for name in &inherited {
            let of_the_bus = ["memfd", "socket", "eventfd", "eventpoll", ".sock"];
            assert!(
                of_the_bus.iter().all(|kind| !name.contains(kind)),
                "{inherited:?}"
            );
        }
    });
}

#[test]
fn a_runtime_that_is_shut_down_fails_what_others_wait_for() {
    let place = Place::new();
    threads(async {
        let mut server = start(&place, &["server", "actor"]).await;
        let (runtime, bus, actor) = join_on::<(Later, Note, Blob)>(2, place.config("client")).await;
        let asks: Vec<_> = (0..20)
            .map(|n| {
                let actor = actor.clone();
                tokio::spawn(async move { actor.ask(&Later { bytes: n }).await.map(|_| ()) })
            })
            .collect();
        // And one that goes on sending meanwhile.
        let teller = actor.clone();
        let telling = tokio::spawn(async move {
            let mut seq = 0;
            loop {
                let data = bytes(seq, 5000);
                let told = match seq % 2 {
                    0 => teller.tell(&Note { from: 1, seq }).await,
                    _ => teller.tell(&Blob { seq, data }).await,
                };
                match told {
                    Ok(()) => seq += 1,
                    Err(error) => return (seq, error),
                }
            }
        });
        eventually("all are sent", || bus.stats().sent > 60).await;
        // Not on a thread of a runtime, where a runtime must not be dropped.
        std::thread::spawn(move || drop(runtime)).join().unwrap();
        for ask in soon("the asks end", join_all(asks)).await {
            assert!(ask.unwrap().is_err());
        }
        let (told, error) = soon("the tells end", telling).await.unwrap();
        println!("told {told}, then: {error}");
        server.until("peers", "0").await;
        // What was told before is handled, in order.
        soon("all that was told is handled", async {
            while (server.count().await as u64) < told {}
        })
        .await;
        let log = server.log().await;
        let handled: Vec<_> = log.iter().map(|(_, seq)| *seq).collect();
        assert!(handled.iter().copied().eq(0..handled.len() as u64));
        drop((actor, bus));
    });
}
