//! A node that does what its test says, under the limits that its test wants.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    node::{Node, keep, said},
    support::{Child, Place, Stage, system},
};

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

/// Role: `node [ring slots]`; says `ready`, then does what the test says.
pub fn party(mut stage: Stage) {
    system(async move {
        let config = stage.config(stage.arg(0));
        let mut config = config
            .announce_deadline(Duration::from_secs(1))
            .lookup_deadline(Duration::from_secs(5));
        if stage.args.len() > 1 {
            let slots = stage.number(1) as u32;
            config = config.ring_slots(slots).returns(slots * 2);
        }
        let mut node = Node::new(config);
        stage.say("ready");
        loop {
            let line = stage.hear().await;
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap_or_default();
            let (command, name, number) = (word(), word(), word().parse().unwrap_or(0));
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
                // Sends buffers that are kept until something stops it.
                "fill" => loop {
                    if let Err(error) = node.addresses[name].tell(&keep(number)).await {
                        break error.to_string();
                    }
                },
                _ => node.obey(command, name, number).await,
            };
            stage.say(answer);
        }
    });
}

/// Starts a party and joins.
pub async fn join(place: &Place, args: &[&str]) -> Child {
    let mut child = place.ready("party::party", args).await;
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
