//! What takes part in the matrix: one kind of process for victims and bystanders, and the actor of all of them.

use std::{
    rc::Rc,
    sync::{Arc, Mutex},
};

use actix::prelude::*;
use futures_util::StreamExt;
use shmbus::{
    error::SendError,
    faults::{Action, Point, arm},
    prelude::*,
};

use crate::{
    links::{To, on},
    row::Load,
    support::{Stage, eventually, settled, system},
};

/// Asks under way at once: more than the window, so that some wait for room too.
pub const ASKS: usize = 12;

#[derive(ShmMessage, Debug)]
pub struct Item {
    /// Place in [`Load::ALL`].
    pub load: u8,
    pub seq: u64,
    pub data: Vec<u8>,
}

/// The same, with the same as its reply.
#[derive(ShmMessage, Debug)]
#[shm(reply = Item)]
pub struct Question {
    /// As of [`Item`].
    pub load: u8,
    pub seq: u64,
    pub data: Vec<u8>,
}

pub fn data(load: Load, seq: u64) -> Vec<u8> {
    let sizes = load.sizes();
    let len = sizes[(seq % sizes.len() as u64) as usize];
    (0..len).map(|at| ((at as u64 * 29) ^ seq) as u8).collect()
}

pub fn item(load: Load, seq: u64) -> Item {
    let data = data(load, seq);
    let load = load as u8;
    Item { load, seq, data }
}

pub fn question(load: Load, seq: u64) -> Question {
    let Item { load, seq, data } = item(load, seq);
    Question { load, seq, data }
}

/// The load of a message, whose bytes must be those that were sent.
#[track_caller]
fn checked(load: u8, seq: u64, bytes: &[u8]) -> Load {
    let load = Load::ALL[usize::from(load)];
    // Not by `assert_eq`: its report would be megabytes.
    assert!(bytes == data(load, seq), "the bytes of {seq}");
    load
}

/// Told of each message before its handler ends.
pub type Note = Rc<dyn Fn(u64)>;

/// Notes what it gets, and answers.
pub struct Sink(pub Note);

impl Actor for Sink {
    type Context = Context<Self>;
}

impl Handler<Received<Item>> for Sink {
    type Result = ();
    fn handle(&mut self, item: Received<Item>, _: &mut Context<Self>) {
        let seq = item.seq.to_native();
        checked(item.load, seq, &item.data);
        (self.0)(seq);
    }
}

impl Handler<Received<Question>> for Sink {
    type Result = MessageResult<Received<Question>>;
    fn handle(&mut self, question: Received<Question>, _: &mut Context<Self>) -> Self::Result {
        let seq = question.seq.to_native();
        let load = checked(question.load, seq, &question.data);
        (self.0)(seq);
        MessageResult(item(load, seq))
    }
}

/// Binds a [`Sink`].
pub async fn bind(bus: &Bus, name: &str, window: u32, note: Note) {
    let bound = bus
        .bind(name, Sink(note))
        .window(window)
        .handles::<Item>()
        .handles::<Question>();
    // It stays bound as long as its bus.
    std::mem::forget(bound.start().await.expect("bind"));
}

/// Asks once and looks at the answer.
pub async fn ask(address: &Address<Question>, load: Load, seq: u64) -> Result<(), shmbus::error::AskError> {
    let reply = address.ask(&question(load, seq)).await?;
    assert_answers(&reply, load, seq);
    Ok(())
}

#[track_caller]
fn assert_answers(reply: &Received<Item>, load: Load, seq: u64) {
    assert_eq!(reply.seq.to_native(), seq, "the reply");
    assert_eq!(checked(reply.load, seq, &reply.data), load, "the reply");
}

/// Asks all of a load, and hands on what came of each.
pub async fn ask_all_of(
    address: &Address<Question>,
    load: Load,
    messages: u64,
    mut answered: impl FnMut(u64, Result<(), shmbus::error::AskError>),
) {
    if load == Load::Batch {
        let questions: Vec<_> = (0..messages).map(|seq| question(load, seq)).collect();
        let mut replies = address.ask_all(&questions);
        for seq in 0..messages {
            let reply = replies.next().await.expect("an outcome of each");
            answered(seq, reply.map(|reply| assert_answers(&reply, load, seq)));
        }
        assert!(replies.next().await.is_none(), "more outcomes than asks");
        return;
    }
    let asks = (0..messages).map(|seq| async move { (seq, ask(address, load, seq).await) });
    let mut asks = futures_util::stream::iter(asks).buffer_unordered(ASKS);
    while let Some((seq, asked)) = asks.next().await {
        answered(seq, asked);
    }
}

/// Tells from message `from` on, as many as go by one call. Returns how many were sent, also with an error.
pub async fn tell_run(address: &Address<Item>, load: Load, from: u64) -> Result<u64, (u64, SendError)> {
    if load != Load::Batch {
        let told = address.tell(&item(load, from)).await;
        return told.map(|()| 1).map_err(|error| (0, error));
    }
    let items: Vec<Item> = (from..from + load.run()).map(|seq| item(load, seq)).collect();
    let told = address.tell_all(&items).await;
    told.map(|()| load.run())
        .map_err(|failed| (failed.sent as u64, failed.error))
}

/// Sequence number and whether it was given to another before.
pub type Log = Arc<Mutex<Vec<(u64, bool)>>>;

/// A subscription that is read as long as this lives.
pub struct Listener {
    log: Log,
    task: tokio::task::JoinHandle<()>,
    lost: Arc<Mutex<u64>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    /// `group`: empty for none. `idle`: reads nothing.
    pub async fn new(bus: &Bus, group: &str, idle: bool, note: impl Fn(u64, bool) + 'static) -> Self {
        let mut open = bus
            .subscriber::<Item>("feed")
            .when_full(WhenFull::Wait)
            .depth(Load::Usual.window());
        if !group.is_empty() {
            open = open.group(group);
        }
        let mut subscriber = open.await.expect("subscribe");
        let (log, lost) = (Log::default(), Arc::new(Mutex::new(0)));
        let (seen, count) = (log.clone(), lost.clone());
        let task = actix::spawn(async move {
            if idle {
                std::future::pending::<()>().await;
            }
            while let Some(item) = subscriber.recv().await {
                let (seq, again) = (
                    item.seq.to_native(),
                    item.origin().is_some_and(|o| o.is_redelivered()),
                );
                checked(item.load, seq, &item.data);
                seen.lock().unwrap().push((seq, again));
                *count.lock().unwrap() = subscriber.lost();
                note(seq, again);
            }
        });
        Self { log, task, lost }
    }

    pub fn log(&self) -> Vec<(u64, bool)> {
        self.log.lock().unwrap().clone()
    }

    pub fn lost(&self) -> u64 {
        *self.lost.lock().unwrap()
    }

    /// Ends the subscription; what it had not read is given back.
    pub async fn end(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

/// The settings of all nodes: a port sleeps whenever it has nothing to do, and the pool grows with each size class.
pub fn settings(config: Config) -> Config {
    config
        .spin(Spin::Never)
        .segment_bytes(4 << 20)
        .pool_bytes(128 << 20)
        .window(Load::Usual.window())
}

/// Descriptors and shared mappings of this process, but for pools.
fn resources() -> usize {
    let fds = std::fs::read_dir("/proc/self/fd").expect("proc");
    let names = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    let fds = names
        .filter(|name| !name.to_string_lossy().contains(POOL))
        .count();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("proc");
    let maps = maps
        .lines()
        .filter(|line| line.contains("shmbus") && !line.contains(POOL));
    fds + maps.count()
}

const POOL: &str = "shmbus-pool";

/// How much of other processes' pools is mapped here, in bytes. A pool grows by and by, and stays.
fn foreign_pools() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("proc");
    let foreign = maps
        .lines()
        .filter(|line| line.contains(POOL) && line.contains(" r--s "));
    let bytes = |line: &str| {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let at = |end| u64::from_str_radix(end, 16).ok();
        Some(at(to)? - at(from)?)
    };
    foreign.map(|line| bytes(line).expect("a mapping")).sum()
}

/// Role: `node`; says `up`, then does what the test says. Each command is answered; what it sends it tells by
/// `ok <n>` as soon as the bus has taken it, and what it gets by `got <n>`.
pub fn party(mut stage: Stage) {
    system(async move {
        stage.say("up");
        let mut bus = None;
        let mut publisher: Option<Publisher<Item>> = None;
        let mut listener: Option<Listener> = None;
        let mut sink: Option<Address<Question>> = None;
        let speaker = Rc::new(stage.speaker());
        let mut thread: Option<Arbiter> = None;
        let mut used: Option<To> = None;
        loop {
            let line = stage.hear().await;
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().expect("a number");
            let joined = || bus.clone().expect("joined");
            let answer = match words[0] {
                "arm" => {
                    let point = Point::ALL[number(1) as usize];
                    let action = match words[3] {
                        "kill" => Action::Kill,
                        _ => Action::Stop,
                    };
                    arm(point, number(2) as u32, action);
                    "armed".to_owned()
                }
                "join" => {
                    let mut config = settings(stage.config(stage.arg(0)));
                    if words.get(1) == Some(&"narrow") {
                        config = config.peer_links(1);
                    }
                    bus = Some(config.join().await.expect("join"));
                    "joined".to_owned()
                }
                // Asks or tells, and whom.
                "open" => match To::open(&joined(), words[1] == "ask", words[2]).await {
                    Ok(_) => "opened".to_owned(),
                    Err(error) => error,
                },
                // The same, and so many messages.
                "use" => {
                    let to = To::open(&joined(), words[1] == "ask", words[2])
                        .await
                        .expect("lookup");
                    to.send(0..number(3)).await.expect("sent");
                    used = Some(to);
                    "used".to_owned()
                }
                // Uses it until it fails.
                "again" => {
                    let to = used.as_ref().expect("used");
                    to.fail().await
                }
                // The same on a thread of its own.
                "spread" => {
                    let (bus, asks, name) = (joined(), words[1] == "ask", words[2].to_owned());
                    let count = number(3);
                    let arbiter = Arbiter::new();
                    on(&arbiter, move || async move {
                        let to = To::open(&bus, asks, &name).await.expect("lookup");
                        to.send(0..count).await.expect("sent");
                        to
                    })
                    .await;
                    thread = Some(arbiter);
                    "spread".to_owned()
                }
                "bind_apart" => {
                    let (bus, name) = (joined(), words[1].to_owned());
                    let stream = stage.speaker_anywhere();
                    let arbiter = Arbiter::new();
                    on(&arbiter, move || async move {
                        let note = move |seq| stream(&format!("got {seq} false"));
                        bind(&bus, &name, Load::Usual.window(), Rc::new(note)).await;
                    })
                    .await;
                    thread = Some(arbiter);
                    "bound".to_owned()
                }
                // Ends that thread.
                "retire" => {
                    let arbiter = thread.take().expect("a thread");
                    arbiter.stop();
                    arbiter.join().expect("no panic");
                    "retired".to_owned()
                }
                "bind" => {
                    let speaker = speaker.clone();
                    let quiet = words.get(3) == Some(&"quiet");
                    let note = move |seq| {
                        if !quiet {
                            speaker(&format!("got {seq} false"));
                        }
                    };
                    bind(&joined(), words[1], number(2) as u32, Rc::new(note)).await;
                    "bound".to_owned()
                }
                "tell" => {
                    let load = Load::named(words[1]);
                    let name = if load == Load::Batch { "many" } else { "sink" };
                    let address = joined().address::<Item>(name).await.expect("lookup");
                    let mut done = 0;
                    while done < number(2) {
                        let from = done;
                        done += tell_run(&address, load, from).await.expect("tell");
                        for seq in from..done {
                            stage.say(format!("ok {seq}"));
                        }
                    }
                    "done".to_owned()
                }
                "ask" => {
                    let load = Load::named(words[1]);
                    let name = if load == Load::Batch { "many" } else { "sink" };
                    let address = joined().address::<Question>(name).await.expect("lookup");
                    let tell = |seq, answer: Result<(), _>| {
                        answer.expect("an answer");
                        stage.say(format!("ok {seq}"));
                    };
                    ask_all_of(&address, load, number(2), tell).await;
                    "done".to_owned()
                }
                "publish" => {
                    let load = Load::named(words[1]);
                    if publisher.is_none() {
                        let open = joined().publisher("feed").history(number(3) as usize);
                        publisher = Some(open.await.expect("publisher"));
                    }
                    let publisher = publisher.as_ref().expect("opened");
                    for _ in 0..number(2) {
                        let seq = publisher.next_sequence();
                        publisher.publish_wait(&item(load, seq)).await.expect("publish");
                        stage.say(format!("ok {seq}"));
                    }
                    "done".to_owned()
                }
                "unpublish" => {
                    publisher = None;
                    "unpublished".to_owned()
                }
                // Group or `-`, and whether it is idle.
                "subscribe" => {
                    let speaker = speaker.clone();
                    let note = move |seq, again| speaker(&format!("got {seq} {again}"));
                    let group = words[1].trim_matches('-');
                    listener = Some(Listener::new(&joined(), group, words[2] == "idle", note).await);
                    "subscribed".to_owned()
                }
                "end" => {
                    if let Some(listener) = listener.take() {
                        listener.end().await;
                    }
                    "ended".to_owned()
                }
                "lost" => listener.as_ref().map_or(0, Listener::lost).to_string(),
                // A round trip with the survivor.
                "check" => {
                    if sink.is_none() {
                        sink = Some(joined().address("check").await.expect("lookup"));
                    }
                    let answer = ask(sink.as_ref().expect("opened"), Load::Usual, number(1)).await;
                    answer.map_or_else(|error| error.to_string(), |()| "checked".to_owned())
                }
                "settle" => {
                    let bus = joined();
                    settled(&bus).await;
                    let most = number(1) as usize;
                    eventually("the victim is forgotten", || bus.peers() == ["survivor"]).await;
                    eventually("descriptors and mappings are gone", || resources() <= most).await;
                    let pools = "of pools the survivor's is mapped and no other";
                    eventually(pools, || foreign_pools() <= number(2)).await;
                    assert_eq!(bus.stats().violations, 0);
                    "settled".to_owned()
                }
                "resources" => resources().to_string(),
                other => panic!("unknown command {other}"),
            };
            stage.say(answer);
        }
    });
}
