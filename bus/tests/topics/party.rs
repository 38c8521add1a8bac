//! A process with any number of publishers and subscribers, and what a test says to it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use shmbus::{TopicStats, error::SendError, prelude::*};
use tokio::task::JoinHandle;

use crate::{
    listener::{Entry, Listener, Tick},
    support::{Child, Place, Stage, system, threads},
};

struct Flood {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

struct Publishing {
    publisher: Publisher<Tick>,
    flood: Option<Flood>,
}

#[derive(Default)]
struct Party {
    bus: Option<Bus>,
    listeners: HashMap<String, Listener>,
    publishers: HashMap<String, Publishing>,
}

/// Role: `node` (and `threads`); says `ready`, then does what the test says, and answers each line.
pub fn party(stage: Stage) {
    match stage.args.iter().any(|arg| arg == "threads") {
        true => threads(run(stage)),
        false => system(run(stage)),
    }
}

async fn run(mut stage: Stage) {
    let bus = stage.config(stage.arg(0)).join().await.expect("join");
    let mut party = Party {
        bus: Some(bus),
        ..Party::default()
    };
    stage.say("ready");
    loop {
        let line = stage.hear().await;
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (command, id, argument, rest) = (word(), word(), word(), word());
        let answer = party.obey(command, id, argument, rest).await;
        stage.say(answer);
    }
}

impl Party {
    async fn obey(&mut self, command: &str, id: &str, argument: &str, rest: &str) -> String {
        let number = || argument.parse::<u64>().expect("a number");
        let bytes = || rest.parse::<usize>().unwrap_or(0);
        let told = |done: Result<(), String>| done.map_or_else(|error| error, |()| "ok".to_owned());
        match command {
            "stream" | "actor" => {
                let bus = self.bus.clone().expect("joined");
                let made = match command {
                    "stream" => Listener::stream(&bus, argument, rest).await,
                    _ => Listener::actor(&bus, argument, rest).await,
                };
                told(made.map_err(|error| error.to_string()).map(|listener| {
                    self.listeners.insert(id.to_owned(), listener);
                }))
            }
            "end" => {
                // The test may want to know what it got before.
                self.listeners[id].end().await;
                "ok".to_owned()
            }
            "stop" => {
                self.listeners[id].stop();
                "ok".to_owned()
            }
            "forget" => {
                if let Some(listener) = self.listeners.remove(id) {
                    // Dropped alone it would end in its task, some time after the answer.
                    listener.end().await;
                }
                "ok".to_owned()
            }
            "count" => self.listeners[id].count().to_string(),
            // How many of one publisher.
            "got" => {
                let log = self.listeners[id].log();
                log.iter()
                    .filter(|entry| entry.publisher == argument)
                    .count()
                    .to_string()
            }
            "ended" => self.listeners[id].has_ended().to_string(),
            "lost" => self.listeners[id].lost().await.to_string(),
            "losses" => {
                let (_, losses) = self.listeners[id].losses().await;
                let mut losses: Vec<_> = losses
                    .iter()
                    .map(|lost| format!("{}|{}|{}", lost.publisher, lost.topic, lost.messages))
                    .collect();
                losses.sort();
                losses.join(" ")
            }
            "permit" => {
                self.listeners[id].permit(number() as usize);
                "ok".to_owned()
            }
            "hold" => {
                self.listeners[id].hold();
                "ok".to_owned()
            }
            "release" => self.listeners[id].release(number() as usize).to_string(),
            "log" | "handled" => {
                let mut log = self.listeners[id].log();
                if command == "handled" {
                    log.truncate(log.len() - self.listeners[id].held());
                }
                log.iter().map(Entry::to_string).collect::<Vec<_>>().join(" ")
            }
            "publish" => {
                let bus = self.bus.clone().expect("joined");
                let history = rest.parse().unwrap_or(0);
                let made = bus.publisher::<Tick>(argument).history(history).await;
                told(made.map_err(|error| error.to_string()).map(|publisher| {
                    let flood = None;
                    self.publishers
                        .insert(id.to_owned(), Publishing { publisher, flood });
                }))
            }
            "unpublish" => {
                self.publishers.remove(id);
                "ok".to_owned()
            }
            "send" => {
                let publisher = &self.publishers[id].publisher;
                told(
                    send(publisher, number(), bytes())
                        .await
                        .map_err(|error| error.to_string()),
                )
            }
            // As many as there is room for.
            "try" => {
                let publisher = &self.publishers[id].publisher;
                let mut sent = 0;
                while sent < number()
                    && publisher
                        .publish(&Tick::new(publisher.next_sequence(), bytes()))
                        .is_ok()
                {
                    sent += 1;
                }
                sent.to_string()
            }
            "flood" => {
                let publishing = self.publishers.get_mut(id).expect("a publisher");
                let (publisher, stop) = (publishing.publisher.clone(), Arc::new(AtomicBool::new(false)));
                let (until, len) = (stop.clone(), number() as usize);
                let task = tokio::spawn(async move {
                    while !until.load(Ordering::Relaxed) && send(&publisher, 1, len).await.is_ok() {
                        tokio::task::consume_budget().await;
                    }
                });
                publishing.flood = Some(Flood { stop, task });
                "ok".to_owned()
            }
            "calm" => {
                let publishing = self.publishers.get_mut(id).expect("a publisher");
                if let Some(flood) = publishing.flood.take() {
                    flood.stop.store(true, Ordering::Relaxed);
                    flood.task.await.expect("no panic");
                }
                publishing.publisher.next_sequence().to_string()
            }
            "topic" => topic_stats(&self.publishers[id].publisher.stats()),
            "buffers" => self
                .bus
                .as_ref()
                .expect("joined")
                .stats()
                .pool_buffers
                .to_string(),
            "peers" => self.bus.as_ref().expect("joined").peers().len().to_string(),
            "leave" => {
                if let Some(bus) = self.bus.take() {
                    bus.leave().await;
                }
                "left".to_owned()
            }
            other => panic!("unknown command {other}"),
        }
    }
}

/// Publishes so many, numbered as the bus numbers them; waits where that is needed.
pub async fn send(publisher: &Publisher<Tick>, count: u64, bytes: usize) -> Result<(), SendError> {
    for _ in 0..count {
        let tick = Tick::new(publisher.next_sequence(), bytes);
        publisher.publish_wait(&tick).await?;
    }
    Ok(())
}

/// Publishes without waiting, until this is refused or so many are gone.
pub fn fill(publisher: &Publisher<Tick>, most: u64, bytes: usize) -> u64 {
    (0..most)
        .take_while(|_| {
            publisher
                .publish(&Tick::new(publisher.next_sequence(), bytes))
                .is_ok()
        })
        .count() as u64
}

fn topic_stats(stats: &TopicStats) -> String {
    let TopicStats {
        published,
        bytes,
        delivered,
        dropped,
        subscribers,
        ..
    } = stats;
    format!("{published} {bytes} {delivered} {dropped} {subscribers}")
}

/// Starts a [`party`] and waits until it has joined.
pub async fn join(place: &Place, node: &str) -> Child {
    start(place, &[node]).await
}

/// The same, on several threads.
pub async fn join_threads(place: &Place, node: &str) -> Child {
    start(place, &[node, "threads"]).await
}

async fn start(place: &Place, args: &[&str]) -> Child {
    place.ready("party::party", args).await
}

impl Child {
    /// Says something that must work.
    pub async fn ok(&mut self, line: &str) {
        self.expect_after(line, "ok").await;
    }

    pub async fn number_of(&mut self, line: &str) -> u64 {
        let answer = self.ask(line).await;
        answer
            .parse()
            .unwrap_or_else(|_| panic!("{line} says {answer}, which is no number"))
    }

    /// What a listener has got.
    pub async fn log(&mut self, id: &str) -> Vec<Entry> {
        self.entries(format!("log {id}")).await
    }

    /// What a listener that was told to hold at some time, and releases nothing since, got before.
    pub async fn handled(&mut self, id: &str) -> Vec<Entry> {
        self.entries(format!("handled {id}")).await
    }

    async fn entries(&mut self, line: String) -> Vec<Entry> {
        let log = self.ask(line).await;
        log.split(' ')
            .filter(|entry| !entry.is_empty())
            .map(|entry| entry.parse().expect("an entry"))
            .collect()
    }

    /// Waits until a listener has got so many.
    pub async fn until_count(&mut self, id: &str, wanted: u64) {
        self.until(&format!("count {id}"), &wanted.to_string()).await;
    }

    /// Waits until a listener has got more than so many.
    pub async fn until_more(&mut self, id: &str, than: u64) {
        while self.count(id).await <= than {}
    }

    /// How many messages it has handled.
    pub async fn count(&mut self, id: &str) -> u64 {
        self.number_of(&format!("count {id}")).await
    }

    /// Published, bytes, delivered, dropped, subscribers.
    pub async fn topic(&mut self, id: &str) -> [u64; 5] {
        let stats = self.ask(format!("topic {id}")).await;
        let stats: Vec<u64> = stats.split(' ').map(|n| n.parse().expect("a number")).collect();
        stats.try_into().expect("five numbers")
    }
}
