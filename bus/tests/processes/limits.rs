//! The kernel's limits and this process's own: named where they are met, and lifted when they are raised.

use std::{fs::File, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use shmbus::error::LookupError;

use crate::{
    service::{Blob, Ping, bytes, start},
    support::{Place, Stage, eventually, settled, soon, system, threads},
};

/// Takes descriptors away from this process.
#[derive(Default)]
struct Scarcity(Vec<File>);

impl Scarcity {
    /// Leaves room for exactly so many more; `None`: for as many as there may be.
    fn allow(&mut self, more: Option<usize>) {
        self.0.clear();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a limit");
        let Some(more) = more else { return };
        // The limit is on the number, not on the count, so gaps between the numbers are filled.
        let open = std::fs::read_dir("/proc/self/fd").expect("/proc");
        let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
        let limit = numbers.max().unwrap_or(0) + 1 + more as u64;
        setrlimit(Resource::RLIMIT_NOFILE, limit, hard).expect("a limit");
        self.0.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
        self.0.truncate(self.0.len() - more);
    }
}

/// Role `first`: does what the test says, and says how it went. `first` is opened before any limit.
pub fn narrow(mut stage: Stage) {
    threads(async move {
        let mut scarcity = Scarcity::default();
        let mut bus = None;
        let mut first = None;
        stage.say("ready");
        loop {
            let line = stage.hear().await;
            let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let said = match command {
                "allow" => {
                    scarcity.allow(rest.parse().ok());
                    "ok".to_owned()
                }
                "join" => match stage.config("narrow").join().await {
                    Ok(joined) => {
                        bus = Some(joined);
                        "ok".to_owned()
                    }
                    Err(error) => error.to_string(),
                },
                "open" => {
                    let bus = bus.as_ref().expect("joined");
                    match bus
                        .address::<(Ping, Blob)>(rest)
                        .deadline(Duration::from_secs(5))
                        .await
                    {
                        Ok(address) => match address.ask(&Ping { n: 1 }).await {
                            Ok(_) => {
                                first.get_or_insert(address);
                                "ok".to_owned()
                            }
                            Err(error) => error.to_string(),
                        },
                        Err(error) => error.to_string(),
                    }
                }
                "ping" => match first.as_ref().expect("opened").ask(&Ping { n: 1 }).await {
                    Ok(_) => "ok".to_owned(),
                    Err(error) => error.to_string(),
                },
                "blob" => {
                    let blob = Blob {
                        seq: 0,
                        data: bytes(0, rest.parse().expect("a number")),
                    };
                    match first.as_ref().expect("opened").ask(&blob).await {
                        Ok(_) => "ok".to_owned(),
                        Err(error) => error.to_string(),
                    }
                }
                other => panic!("unknown command {other}"),
            };
            stage.say(said);
        }
    });
}

#[test]
fn a_node_at_its_limit_of_descriptors_says_so_and_works_again_when_it_is_raised() {
    let place = Place::new();
    threads(async {
        let _first = start(&place, &["first", "first"]).await;
        let mut narrow = place.ready("limits::narrow", &[]).await;
        // Not enough to join.
        for few in 0..2 {
            narrow.expect_after(&format!("allow {few}"), "ok").await;
            let said = narrow.ask("join").await;
            assert!(
                said.contains("RLIMIT_NOFILE") || said.contains("Too many open files"),
                "{said}"
            );
        }
        narrow.expect_after("allow all", "ok").await;
        narrow.expect_after("join", "ok").await;
        narrow.expect_after("open first", "ok").await;
        // Not enough to open a link to another one.
        let mut second = start(&place, &["second", "second"]).await;
        second.until("peers", "2").await;
        narrow.expect_after("allow 0", "ok").await;
        let said = narrow.ask("open second").await;
        assert!(said.contains("RLIMIT_NOFILE"), "{said}");
        // What is open works; what needs a further segment says what it lacks.
        narrow.expect_after("ping", "ok").await;
        let said = narrow.ask("blob 6000000").await;
        assert!(said.contains("RLIMIT_NOFILE"), "{said}");
        narrow.expect_after("ping", "ok").await;
        narrow.expect_after("allow all", "ok").await;
        narrow.expect_after("open second", "ok").await;
        narrow.expect_after("blob 6000000", "ok").await;
        narrow.expect_after("ping", "ok").await;
    });
}

/// The other end is at its limit: it cannot take what is sent to it.
#[test]
fn a_peer_at_its_limit_of_descriptors_is_met_again_when_it_is_raised() {
    let place = Place::new();
    threads(async {
        let mut narrow = place.ready("limits::narrow", &[]).await;
        let server = start(&place, &["first", "first"]).await;
        narrow.expect_after("join", "ok").await;
        narrow.expect_after("open first", "ok").await;
        narrow.expect_after("allow 0", "ok").await;
        // A node that joins now is not met, but it is there, and it does not wait for ever.
        let joining = {
            let config = place
                .config("late")
                .handshake_deadline(Duration::from_millis(300));
            tokio::spawn(config.join())
        };
        let late = soon("a join", joining).await.unwrap().unwrap();
        narrow.expect_after("ping", "ok").await;
        assert_eq!(late.peers(), ["first"]);
        narrow.expect_after("allow all", "ok").await;
        eventually("they meet", || late.peers().len() == 2).await;
        drop(server);
    });
}

#[test]
fn mailboxes_and_what_is_not_there_are_named() {
    let place = Place::new();
    system(async {
        let _server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let lookup = bus
            .address::<Ping>("nobody")
            .deadline(Duration::from_millis(10))
            .await;
        match lookup {
            Err(error @ LookupError::Unknown { .. }) => {
                assert!(error.to_string().contains("lookup_deadline"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        settled(&bus).await;
    });
}
