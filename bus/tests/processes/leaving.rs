//! Several buses in one process, and how they end.

use std::time::{Duration, Instant};

use shmbus::{
    error::{AskError, BindError, LookupError, SendError},
    prelude::*,
};

use crate::{
    inside::Local,
    service::{Note, Ping, join_on, start},
    support::{Place, eventually, soon, system, threads},
};

#[test]
fn several_buses_in_one_process() {
    let place = Place::new();
    threads(async {
        let mut server = start(&place, &["server", "actor"]).await;
        let mut buses = Vec::new();
        for n in 0..5 {
            buses.push(place.config(&format!("node-{n}")).join().await.unwrap());
        }
        // A bus of the same directory and another name does not see them.
        let apart = place.config("apart").bus("other").join().await.unwrap();
        assert_eq!(apart.peers(), Vec::<String>::new());
        for bus in &buses {
            assert_eq!(bus.peers().len(), 5, "four here and one there");
            let actor = bus.address::<Ping>("actor").await.unwrap();
            assert_eq!(actor.ask(&Ping { n: 1 }).await.unwrap().to_native(), 2);
        }
        server.until("peers", "5").await;
        buses.pop().unwrap().leave().await;
        server.until("peers", "4").await;
        // Dropped, the others leave by themselves.
        drop(buses);
        server.until("peers", "0").await;
        let left = || std::fs::read_dir(place.folder()).unwrap().count() == 1;
        eventually("only the server's socket is there", left).await;
    });
}

#[test]
fn a_bus_that_was_left_says_so() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        bus.bind("mine", Local::default())
            .handles::<Ping>()
            .start()
            .await
            .unwrap();
        let (actor, mine) = (
            bus.address::<(Ping, Note)>("actor").await.unwrap(),
            bus.address::<Ping>("mine").await.unwrap(),
        );
        let mut watch = bus.watch("nobody");
        assert_eq!(watch.next().await, Some(Presence::Down));
        let pending = actix::spawn(async move { watch.next().await });
        let lookup = bus.address::<Ping>("nobody");
        let lookup = actix::spawn(lookup.into_future());
        let again = bus.clone();
        assert!(place.socket("client").exists());
        let begun = Instant::now();
        bus.leave().await;
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "leaving took {:?}",
            begun.elapsed()
        );
        assert!(!place.socket("client").exists());
        let closed = SendError::Closed { name: "actor".into() };
        assert_eq!(actor.try_tell(&Note { from: 0, seq: 0 }), Err(closed.clone()));
        assert_eq!(actor.tell(&Note { from: 0, seq: 0 }).await, Err(closed.clone()));
        assert_eq!(
            actor.ask(&Ping { n: 0 }).await.map(|_| ()),
            Err(AskError::Send(closed))
        );
        assert!(soon("an end", mine.ask(&Ping { n: 0 })).await.is_err());
        assert_eq!(soon("an end", pending).await.unwrap(), None);
        assert!(matches!(
            soon("an end", lookup).await.unwrap(),
            Err(LookupError::Closed)
        ));
        assert!(matches!(
            again.address::<Ping>("actor").await,
            Err(LookupError::Closed)
        ));
        let bind = again
            .bind("more", Local::default())
            .handles::<Ping>()
            .start()
            .await;
        assert!(matches!(bind, Err(BindError::Closed)), "{bind:?}");
        server.until("peers", "0").await;
        // The name is free at once.
        place.config("client").join().await.unwrap();
    });
}

#[test]
fn an_ask_under_way_ends_when_its_bus_is_left() {
    use crate::service::Later;
    let place = Place::new();
    threads(async {
        let _server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<Later>("actor").await.unwrap();
        let ask = tokio::spawn(async move { actor.ask(&Later { bytes: 1 }).await.map(|_| ()) });
        eventually("it is sent", || bus.stats().sent == 1).await;
        bus.leave().await;
        let ended = soon("an end", ask).await.unwrap();
        assert_eq!(
            ended,
            Err(AskError::Send(SendError::Closed { name: "actor".into() }))
        );
    });
}

#[test]
fn a_runtime_with_a_joined_bus_shuts_down_at_once() {
    let place = Place::new();
    for dropped_first in [true, false] {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let kept = runtime.block_on(async {
            let _server = start(&place, &["server", "actor"]).await;
            let bus = place.config("client").join().await.unwrap();
            let actor = bus.address::<Ping>("actor").await.unwrap();
            actor.ask(&Ping { n: 1 }).await.unwrap();
            (!dropped_first).then_some((bus, actor))
        });
        let begun = Instant::now();
        drop(runtime);
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "it took {:?}",
            begun.elapsed()
        );
        drop(kept);
        assert!(!place.socket("client").exists());
    }
}

/// Another thread goes on sending while the bus is left: what it was told to be sent is handled, and the rest refused.
#[test]
fn what_is_told_until_the_very_end_of_a_bus_is_handled() {
    let place = Place::new();
    threads(async {
        let mut server = start(&place, &["server", "actor", "window=65535"]).await;
        let mut all = 0;
        for round in 0..60 {
            let (runtime, bus, actor) = join_on::<Note>(1, place.config("client")).await;
            let teller = std::thread::spawn(move || {
                for seq in 0.. {
                    match actor.try_tell(&Note { from: round, seq }) {
                        Ok(()) => {}
                        Err(SendError::Full { .. }) => return (seq, None),
                        Err(error) => return (seq, Some(error)),
                    }
                }
                unreachable!("it ends with its bus");
            });
            eventually("it sends", || bus.stats().sent > 100).await;
            if round % 2 == 0 {
                bus.leave().await;
            }
            // Not on a thread of a runtime, where a runtime must not be dropped.
            std::thread::spawn(move || drop(runtime)).join().unwrap();
            let (told, refused) = teller.join().unwrap();
            all += told as usize;
            server.until("peers", "0").await;
            let handled = server.count().await;
            assert!(handled <= all, "{handled} of {all} in round {round}");
            server.until_count(all).await;
            println!("round {round}: told {told}, then {refused:?}");
        }
    });
}
