//! Within one process: actors on one thread and on several, running ones, and the end of an arbiter.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::prelude::*;
use shmbus::{
    error::{AskError, BindError, LookupError, SendError},
    prelude::*,
};

use crate::{
    service::{Blob, Digest, Note, Panic, Ping, bytes, digest, pinged},
    support::{Place, eventually, settled, soon, system, threads},
};

/// Knows which thread it runs on.
#[derive(ShmMessage, Debug)]
#[shm(reply = String)]
struct Where;

#[derive(Default)]
pub struct Local {
    pub notes: Arc<Mutex<Vec<u64>>>,
}

impl Actor for Local {
    type Context = Context<Self>;
}

impl Handler<Received<Ping>> for Local {
    type Result = u64;
    fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
        ping.n.to_native() + 1
    }
}

impl Handler<Received<Note>> for Local {
    type Result = ();
    fn handle(&mut self, note: Received<Note>, _: &mut Context<Self>) {
        self.notes.lock().unwrap().push(note.seq.to_native());
    }
}

impl Handler<Received<Blob>> for Local {
    type Result = MessageResult<Received<Blob>>;
    fn handle(&mut self, blob: Received<Blob>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(digest(blob.seq.to_native(), &blob.data))
    }
}

impl Handler<Received<Where>> for Local {
    type Result = String;
    fn handle(&mut self, _: Received<Where>, _: &mut Context<Self>) -> String {
        format!("{:?}", std::thread::current().id())
    }
}

impl Handler<Received<Panic>> for Local {
    type Result = u64;
    fn handle(&mut self, _: Received<Panic>, ctx: &mut Context<Self>) -> u64 {
        ctx.stop();
        0
    }
}

#[test]
fn an_actor_is_asked_from_its_own_thread() {
    let place = Place::new();
    system(async {
        let bus = place.config("alone").join().await.unwrap();
        let notes = Arc::default();
        let actor = Local {
            notes: Arc::clone(&notes),
        };
        let bound = bus
            .bind("local", actor)
            .handles::<Ping>()
            .handles::<Note>()
            .handles::<Blob>();
        let bound = bound.start().await.unwrap();
        let local = bus.address::<(Ping, Note, Blob)>("local").await.unwrap();
        for n in 0..1000 {
            pinged(&local, n).await;
        }
        for len in [0, 30, 100, 70_000, 9 << 20] {
            let blob = Blob {
                seq: 1,
                data: bytes(1, len),
            };
            let reply: Digest = soon("an answer", local.ask(&blob)).await.unwrap().to_owned();
            assert_eq!(reply, digest(1, &blob.data));
        }
        // More than the window holds: the tells give way to the actor.
        for seq in 0..5000 {
            soon("room", local.tell(&Note { from: 0, seq })).await.unwrap();
        }
        eventually("all are handled", || notes.lock().unwrap().len() == 5000).await;
        assert!(notes.lock().unwrap().is_sorted());
        settled(&bus).await;
        bound.unbind();
        let failed = local.ask(&Ping { n: 1 }).await.map(|_| ());
        assert_eq!(
            failed,
            Err(AskError::Send(SendError::Stopped { name: "local".into() }))
        );
    });
}

#[test]
fn actors_on_several_arbiters_are_each_served_on_their_own_thread() {
    let place = Place::new();
    system(async {
        let server = place.config("server").join().await.unwrap();
        let client = place.config("client").join().await.unwrap();
        let arbiters: Vec<_> = (0..3).map(|_| Arbiter::new()).collect();
        let mut bound = Vec::new();
        for (n, arbiter) in arbiters.iter().enumerate() {
            for k in 0..2 {
                let bind = server.bind(format!("actor/{n}/{k}"), Local::default());
                let bind = bind.handles::<Ping>().handles::<Where>().handles::<Note>();
                bound.push(bind.start_on(&arbiter.handle()).await.unwrap());
            }
        }
        let mut threads = Vec::new();
        // By the other bus, and by the same one.
        for bus in [&client, &server] {
            for n in 0..3 {
                for k in 0..2 {
                    let actor = bus
                        .address::<(Ping, Where)>(format!("actor/{n}/{k}"))
                        .await
                        .unwrap();
                    pinged(&actor, n).await;
                    threads.push(actor.ask(&Where).await.unwrap().as_str().to_owned());
                }
            }
        }
        for (a, b) in threads
            .iter()
            .enumerate()
            .flat_map(|(a, _)| (0..threads.len()).map(move |b| (a, b)))
        {
            assert_eq!(threads[a] == threads[b], a / 2 % 3 == b / 2 % 3, "{threads:?}");
        }
        // One is unbound; its neighbours on other threads, whose mailbox has the same number, are not.
        let others: Vec<_> = [(&client, 1), (&client, 2), (&server, 1), (&server, 2)].into();
        let mut addresses = Vec::new();
        for (bus, n) in others {
            addresses.push(bus.address::<Ping>(format!("actor/{n}/0")).await.unwrap());
        }
        let gone = [
            client.address::<Ping>("actor/0/0").await.unwrap(),
            server.address::<Ping>("actor/0/0").await.unwrap(),
        ];
        bound[0].unbind();
        for address in gone {
            let failed = soon("a refusal", address.ask(&Ping { n: 1 })).await.unwrap_err();
            assert!(matches!(
                failed,
                AskError::Stopped { .. } | AskError::Send(SendError::Stopped { .. })
            ));
        }
        for address in addresses {
            pinged(&address, 1).await;
        }
        settled(&client).await;
        settled(&server).await;
        for arbiter in arbiters {
            arbiter.stop();
            arbiter.join().unwrap();
        }
    });
}

#[test]
fn with_an_arbiter_end_its_actors_and_nothing_else() {
    let place = Place::new();
    system(async {
        let server = place.config("server").join().await.unwrap();
        let client = place.config("client").join().await.unwrap();
        let (ending, lasting) = (Arbiter::new(), Arbiter::new());
        server
            .bind("ending", Local::default())
            .handles::<Ping>()
            .start_on(&ending.handle())
            .await
            .unwrap();
        server
            .bind("lasting", Local::default())
            .handles::<Ping>()
            .start_on(&lasting.handle())
            .await
            .unwrap();
        let mut watch = client.watch("ending");
        assert_eq!(soon("up", watch.next()).await, Some(Presence::Up));
        let gone = client.address::<Ping>("ending").await.unwrap();
        let lives = client.address::<Ping>("lasting").await.unwrap();
        gone.ask(&Ping { n: 1 }).await.unwrap();
        ending.stop();
        ending.join().unwrap();
        assert_eq!(soon("down", watch.next()).await, Some(Presence::Down));
        let failed = soon("a failure", gone.ask(&Ping { n: 1 })).await;
        assert!(failed.is_err(), "{failed:?}");
        pinged(&lives, 1).await;
        // The name is free again.
        server
            .bind("ending", Local::default())
            .handles::<Ping>()
            .start()
            .await
            .unwrap();
        let again = client.address::<Ping>("ending").await.unwrap();
        pinged(&again, 1).await;
        let nowhere = {
            let ended = Arbiter::new();
            let handle = ended.handle();
            ended.stop();
            ended.join().unwrap();
            handle
        };
        let nowhere = server
            .bind("nowhere", Local::default())
            .handles::<Ping>()
            .start_on(&nowhere)
            .await;
        assert!(matches!(nowhere, Err(BindError::NoArbiter)));
        settled(&client).await;
        settled(&server).await;
    });
}

#[test]
fn an_actor_is_not_started_where_there_is_no_arbiter() {
    let place = Place::new();
    threads(async {
        let bus = place.config("node").join().await.unwrap();
        let failed = bus
            .bind("local", Local::default())
            .handles::<Ping>()
            .start()
            .await;
        assert!(matches!(failed, Err(BindError::NoArbiter)), "{failed:?}");
        // Nor does it keep the name.
        assert!(bus.bind("local", Local::default()).start().await.is_err());
        let lookup = bus
            .address::<Ping>("local")
            .deadline(Duration::from_millis(20))
            .await;
        assert!(matches!(lookup, Err(LookupError::Unknown { .. })), "{lookup:?}");
    });
}

#[test]
fn a_running_actor_is_bound_by_its_address() {
    let place = Place::new();
    system(async {
        let bus = place.config("server").join().await.unwrap();
        let client = place.config("client").join().await.unwrap();
        let notes = Arc::default();
        let running = Local {
            notes: Arc::clone(&notes),
        }
        .start();
        let bind = bus
            .bind_addr("running", running)
            .handles::<Ping>()
            .handles::<Note>();
        let bound = bind.handles::<Blob>().handles::<Panic>().start().await.unwrap();
        assert_eq!(bound.name(), "running");
        for bus in [&client, &bus] {
            let actor = bus.address::<(Ping, Note, Blob)>("running").await.unwrap();
            for n in 0..300 {
                actor.tell(&Note { from: 0, seq: n }).await.unwrap();
                if n % 10 == 0 {
                    pinged(&actor, n).await;
                }
            }
            let blob = Blob {
                seq: 1,
                data: bytes(1, 100_000),
            };
            assert_eq!(actor.ask(&blob).await.unwrap().to_owned(), digest(1, &blob.data));
            assert_eq!(
                *std::mem::take(&mut *notes.lock().unwrap()),
                (0..300).collect::<Vec<_>>()
            );
        }
        settled(&client).await;
        settled(&bus).await;
        // The actor stops: its name goes.
        let mut watch = client.watch("running");
        assert_eq!(soon("up", watch.next()).await, Some(Presence::Up));
        let actor = client.address::<(Panic, Ping)>("running").await.unwrap();
        actor.ask(&Panic).await.unwrap();
        assert!(soon("a failure", actor.ask(&Ping { n: 1 })).await.is_err());
        assert_eq!(soon("down", watch.next()).await, Some(Presence::Down));
        settled(&client).await;
    });
}
