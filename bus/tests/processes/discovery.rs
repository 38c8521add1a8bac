//! Names and nodes: who starts first, what is taken, unknown or not allowed, and what differs.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use actix::prelude::*;
use futures_util::future::join_all;
use shmbus::{
    error::{BindError, JoinError, LookupError},
    prelude::*,
};

use crate::{
    service::{Note, Ping, start},
    support::{Place, Stage, soon, system, threads},
};

struct Counter;

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Received<Ping>> for Counter {
    type Result = u64;
    fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
        ping.n.to_native()
    }
}

#[test]
fn a_client_may_start_before_its_service() {
    let place = Place::new();
    threads(async {
        let bus = place.config("client").join().await.unwrap();
        let lookup = tokio::spawn(bus.address::<Ping>("actor").into_future());
        let mut watch = bus.watch("actor");
        assert_eq!(watch.next().await, Some(Presence::Down));
        assert!(!lookup.is_finished());
        // A node that joins without the name does not end the wait.
        let _other = start(&place, &["first", "something-else"]).await;
        assert!(!lookup.is_finished());
        let _server = start(&place, &["server", "actor"]).await;
        let actor = soon("the lookup", lookup).await.unwrap().unwrap();
        assert_eq!((actor.name(), actor.node()), ("actor", "server"));
        assert_eq!(actor.ask(&Ping { n: 1 }).await.unwrap().to_native(), 2);
        assert_eq!(soon("up", watch.next()).await, Some(Presence::Up));
    });
}

#[test]
fn a_name_that_nobody_binds_is_unknown_at_the_deadline() {
    let place = Place::new();
    threads(async {
        let _server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let (begun, within) = (Instant::now(), Duration::from_millis(60));
        let lookup = bus.address::<Ping>("nobody").deadline(within).await;
        assert!(begun.elapsed() >= within);
        match lookup {
            Err(LookupError::Unknown { name, waited }) => {
                assert_eq!((name.as_str(), waited), ("nobody", within))
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_name_is_bound_once_on_the_whole_bus() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let bind = || bus.bind("actor", Counter).handles::<Ping>().start();
        match bind().await {
            Err(BindError::NameTaken { name, node }) => {
                assert_eq!((name.as_str(), node.as_str()), ("actor", "server"))
            }
            other => panic!("{other:?}"),
        }
        let mut watch = bus.watch("actor");
        assert_eq!(watch.next().await, Some(Presence::Up));
        server.expect_after("unbind", "unbound").await;
        assert_eq!(soon("down", watch.next()).await, Some(Presence::Down));
        let mine = bind().await.unwrap();
        match bind().await {
            Err(BindError::NameTaken { node, .. }) => assert_eq!(node, "client"),
            other => panic!("{other:?}"),
        }
        mine.unbind();
        bind().await.unwrap();
    });
}

#[test]
fn a_node_name_is_taken_while_its_process_lives() {
    let place = Place::new();
    threads(async {
        let mut server = start(&place, &["server", "actor"]).await;
        match place.config("server").join().await {
            Err(JoinError::NameTaken { name, pid, socket }) => {
                assert_eq!((name.as_str(), pid), ("server", server.pid() as i32));
                assert_eq!(socket, place.socket("server"));
            }
            other => panic!("{other:?}"),
        }
        // Nobody was disturbed by the attempt.
        let client = place.config("client").join().await.unwrap();
        let actor = client.address::<Ping>("actor").await.unwrap();
        assert_eq!(actor.ask(&Ping { n: 1 }).await.unwrap().to_native(), 2);
        server.kill();
        place.config("server").join().await.unwrap();
    });
}

#[test]
fn names_that_are_not_valid_are_refused_with_the_place() {
    let place = Place::new();
    system(async {
        let long = "n".repeat(65);
        for bad in ["", ".hidden", "a/b", "a b", "ä", "a\0b", "..", long.as_str()] {
            for config in [place.config(bad), place.config("good").bus(bad)] {
                assert!(matches!(config.join().await, Err(JoinError::Name(_))), "{bad}");
            }
        }
        let bus = place.config("node").join().await.unwrap();
        let long = "n".repeat(129);
        for bad in ["", ".hidden", "a b", "ä", "a\nb", long.as_str()] {
            let bind = bus.bind(bad, Counter).handles::<Ping>().start().await;
            assert!(matches!(bind, Err(BindError::Name(_))), "{bad}");
            let lookup = bus.address::<Ping>(bad).await;
            assert!(matches!(lookup, Err(LookupError::Name(_))), "{bad}");
        }
        let bind = bus.bind("none", Counter).start().await;
        assert!(matches!(bind, Err(BindError::NoMessages { .. })));
    });
}

#[test]
fn a_runtime_directory_that_is_not_safe_or_not_usable_is_refused() {
    let place = Place::new();
    threads(async {
        let dir = |name: &str| place.dir().join(name);
        let join = |name| place.config("node").dir(dir(name)).join();
        fs::create_dir(dir("open")).unwrap();
        fs::set_permissions(dir("open"), Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(join("open").await, Err(JoinError::DirUnsafe { .. })));
        fs::write(dir("file"), "").unwrap();
        assert!(matches!(join("file").await, Err(JoinError::DirUnsafe { .. })));
        fs::create_dir(dir("real")).unwrap();
        std::os::unix::fs::symlink(dir("real"), dir("link")).unwrap();
        assert!(matches!(join("link").await, Err(JoinError::DirUnsafe { .. })));
        // Its parent is missing; it is not made behind the user's back.
        assert!(matches!(join("no/such").await, Err(JoinError::Dir { .. })));
        // Root may write anywhere but there.
        let unwritable = place.config("node").dir("/proc/self/shmbus").join().await;
        assert!(matches!(unwritable, Err(JoinError::Dir { .. })), "{unwritable:?}");
        let deep = format!("{}/{}", place.dir().display(), "d".repeat(60));
        match place.config(&"n".repeat(60)).dir(deep).join().await {
            Err(JoinError::PathTooLong { len, limit, .. }) => assert!(len > limit),
            other => panic!("{other:?}"),
        }
        assert!(!dir(&"d".repeat(60)).exists());
    });
}

#[test]
fn settings_out_of_range_are_named() {
    let place = Place::new();
    threads(async {
        let config = || place.config("node");
        for (bad, name) in [
            (config().window(0), "window"),
            (config().window(70_000), "window"),
            (config().ring_slots(100), "ring_slots"),
            (config().returns(100), "returns"),
            (config().segment_bytes(5), "segment_bytes"),
            (config().pool_bytes(5), "pool_bytes"),
            (config().message_bytes(0), "message_bytes"),
            (config().mailboxes(0), "mailboxes"),
            (config().peers(0), "peers"),
            (config().handshakes(0), "handshakes"),
            (config().ask_deadline(Duration::ZERO), "ask_deadline"),
        ] {
            match bad.join().await {
                Err(JoinError::Config { setting, .. }) => assert_eq!(setting, name),
                other => panic!("{name}: {other:?}"),
            }
        }
    });
}

mod theirs {
    /// The same stable names as this test's own types, and other fields.
    #[derive(shmbus::ShmMessage, Debug)]
    #[shm(name = "tests.order", reply = u32)]
    pub struct Order {
        pub sku: String,
        pub qty: u64,
    }

    #[derive(shmbus::ShmMessage, Debug)]
    #[shm(name = "tests.answer", reply = Option<u32>)]
    pub struct Answer {
        pub n: u32,
    }
}

#[derive(ShmMessage, Debug)]
#[shm(name = "tests.order", reply = u32)]
struct Order {
    sku: String,
    qty: u32,
}

#[derive(ShmMessage, Debug)]
#[shm(name = "tests.answer", reply = u32)]
struct Answer {
    n: u32,
}

struct Other;

impl Actor for Other {
    type Context = Context<Self>;
}

impl Handler<Received<theirs::Order>> for Other {
    type Result = u32;
    fn handle(&mut self, _: Received<theirs::Order>, _: &mut Context<Self>) -> u32 {
        0
    }
}

impl Handler<Received<theirs::Answer>> for Other {
    type Result = Option<u32>;
    fn handle(&mut self, _: Received<theirs::Answer>, _: &mut Context<Self>) -> Option<u32> {
        None
    }
}

/// Role: an actor that knows other types by the same names.
pub fn other_types(mut stage: Stage) {
    system(async move {
        let bus = stage.config("other").join().await.expect("join");
        let bind = bus
            .bind("other", Other)
            .handles::<theirs::Order>()
            .handles::<theirs::Answer>();
        bind.start().await.expect("bind");
        stage.say("ready");
        stage.wait().await;
    });
}

#[test]
fn types_that_differ_are_told_with_the_field_when_the_address_is_opened() {
    let place = Place::new();
    threads(async {
        let _other = place.ready("discovery::other_types", &[]).await;
        let bus = place.config("client").join().await.unwrap();
        match bus.address::<Order>("other").await {
            Err(LookupError::Schema {
                name,
                node,
                message,
                difference,
            }) => {
                assert_eq!(
                    (name.as_str(), node.as_str(), message.as_str()),
                    ("other", "other", "tests.order")
                );
                assert!(
                    ["qty", "u32", "u64"].iter().all(|part| difference.contains(part)),
                    "{difference}"
                );
            }
            other => panic!("{other:?}"),
        }
        // The message is the same, its reply is not.
        match bus.address::<Answer>("other").await {
            Err(LookupError::Schema { difference, .. }) => {
                assert!(
                    difference.contains("reply") && difference.contains("Option"),
                    "{difference}"
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(
            bus.address::<(theirs::Order, theirs::Answer)>("other")
                .await
                .is_ok()
        );
        match bus.address::<(theirs::Order, Note)>("other").await {
            Err(LookupError::NotHandled {
                name,
                message,
                handled,
            }) => {
                assert_eq!(name, "other");
                assert!(message.contains("Note"), "{message}");
                assert!(
                    handled.contains("tests.order") && handled.contains("tests.answer"),
                    "{handled}"
                );
            }
            other => panic!("{other:?}"),
        }
    });
}

/// Role `index of`: binds `all/index`, then asks every other one when told to.
pub fn one_of_many(mut stage: Stage) {
    system(async move {
        let (index, of) = (stage.number(0), stage.number(1));
        let bus = stage.config(&format!("node-{index}")).join().await.expect("join");
        bus.bind(format!("all/{index}"), Counter)
            .handles::<Ping>()
            .start()
            .await
            .expect("bind");
        // Those that were not there yet are waited for.
        let mut others = Vec::new();
        for other in (0..of).filter(|other| *other != index) {
            others.push(bus.address::<Ping>(format!("all/{other}")).await.expect("lookup"));
        }
        stage.say("ready");
        stage.hear().await;
        let mut wrong = 0;
        for n in 0..200 {
            let ping = Ping { n };
            for reply in join_all(others.iter().map(|other| other.ask(&ping))).await {
                wrong += u64::from(reply.map(|reply| reply.to_native()) != Ok(n));
            }
        }
        stage.say(format!("{wrong} wrong, {} peers", bus.peers().len()));
        stage.wait().await;
    });
}

#[test]
fn eight_processes_that_start_together_ask_each_other() {
    let place = Place::new();
    threads(async {
        let start = |index: u32| place.spawn("discovery::one_of_many", &[&index.to_string(), "8"]);
        let mut all: Vec<_> = (0..8).map(start).collect();
        for child in &mut all {
            child.expect("ready").await;
        }
        for child in &mut all {
            child.say("go");
        }
        for child in &mut all {
            child.expect("0 wrong, 7 peers").await;
        }
    });
}
