//! What takes part in the matrix: one kind of process for victims and bystanders, and the actor of all of them.

use std::{
    rc::Rc,
    sync::{Arc, Mutex},
};

use actix::prelude::*;
use futures_util::StreamExt;
use shmbus::{
    faults::{Action, Point, arm},
    prelude::*,
};

use crate::support::{Stage, eventually, system};

/// How many messages a cell sends.
pub const MESSAGES: u64 = 40;
/// Unreleased messages that a receiver allows: senders wait for room.
pub const WINDOW: u32 = 8;
/// Asks under way at once: more than the window, so that some wait for room too.
pub const ASKS: usize = 12;

/// In its slot, in buffers of several classes.
const SIZES: [usize; 5] = [0, 3000, 200, 100_000, 8];

#[derive(ShmMessage, Debug)]
pub struct Item {
    pub seq: u64,
    pub data: Vec<u8>,
}

/// The same, with the same as its reply.
#[derive(ShmMessage, Debug)]
#[shm(reply = Item)]
pub struct Question {
    pub seq: u64,
    pub data: Vec<u8>,
}

pub fn data(seq: u64) -> Vec<u8> {
    let len = SIZES[(seq % SIZES.len() as u64) as usize];
    (0..len).map(|at| (at as u64 * 29 ^ seq) as u8).collect()
}

pub fn item(seq: u64) -> Item {
    Item { seq, data: data(seq) }
}

pub fn question(seq: u64) -> Question {
    Question { seq, data: data(seq) }
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
        assert_eq!(*item.data, *data(seq), "the bytes of {seq}");
        (self.0)(seq);
    }
}

impl Handler<Received<Question>> for Sink {
    type Result = MessageResult<Received<Question>>;
    fn handle(&mut self, question: Received<Question>, _: &mut Context<Self>) -> Self::Result {
        let seq = question.seq.to_native();
        assert_eq!(*question.data, *data(seq), "the bytes of {seq}");
        (self.0)(seq);
        MessageResult(item(seq))
    }
}

/// Binds a [`Sink`].
pub async fn bind(bus: &Bus, name: &str, note: Note) {
    let bound = bus.bind(name, Sink(note)).handles::<Item>().handles::<Question>();
    // It stays bound as long as its bus.
    std::mem::forget(bound.start().await.expect("bind"));
}

/// Asks once and looks at the answer.
pub async fn ask(address: &Address<Question>, seq: u64) -> Result<(), shmbus::error::AskError> {
    let reply = address.ask(&question(seq)).await?;
    assert_eq!(
        (reply.seq.to_native(), &*reply.data),
        (seq, &*data(seq)),
        "the reply"
    );
    Ok(())
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
            .depth(WINDOW);
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
                assert_eq!(*item.data, *data(seq), "the bytes of {seq}");
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
        .pool_bytes(64 << 20)
        .window(WINDOW)
}

/// Waits until nothing of this node is under way.
pub async fn settled(bus: &Bus) {
    let idle = || {
        let s = bus.stats();
        (s.open_asks, s.pool_buffers, s.pool_used_bytes, s.unreleased) == (0, 0, 0, 0)
    };
    eventually("asks, buffers and messages are released", idle).await;
}

/// Descriptors and shared mappings of this process.
fn resources() -> usize {
    let fds = std::fs::read_dir("/proc/self/fd").expect("proc").count();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("proc");
    fds + maps.lines().filter(|line| line.contains("shmbus")).count()
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
                    let config = settings(stage.config(stage.arg(0)));
                    bus = Some(config.join().await.expect("join"));
                    "joined".to_owned()
                }
                "bind" => {
                    let speaker = speaker.clone();
                    let quiet = words.get(2) == Some(&"quiet");
                    let note = move |seq| {
                        if !quiet {
                            speaker(&format!("got {seq} false"));
                        }
                    };
                    bind(&joined(), words[1], Rc::new(note)).await;
                    "bound".to_owned()
                }
                "tell" => {
                    let address = joined().address::<Item>("sink").await.expect("lookup");
                    for seq in 0..number(1) {
                        address.tell(&item(seq)).await.expect("tell");
                        stage.say(format!("ok {seq}"));
                    }
                    "done".to_owned()
                }
                "ask" => {
                    let address = joined().address::<Question>("sink").await.expect("lookup");
                    let asks = (0..number(1)).map(|seq| {
                        let address = address.clone();
                        async move { ask(&address, seq).await.map(|()| seq) }
                    });
                    let mut asks = futures_util::stream::iter(asks).buffer_unordered(ASKS);
                    while let Some(answer) = asks.next().await {
                        stage.say(format!("ok {}", answer.expect("an answer")));
                    }
                    "done".to_owned()
                }
                "publish" => {
                    if publisher.is_none() {
                        let open = joined().publisher("feed").history(number(2) as usize);
                        publisher = Some(open.await.expect("publisher"));
                    }
                    let publisher = publisher.as_ref().expect("opened");
                    for _ in 0..number(1) {
                        let seq = publisher.next_sequence();
                        publisher.publish_wait(&item(seq)).await.expect("publish");
                        stage.say(format!("ok {seq}"));
                    }
                    "done".to_owned()
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
                    let answer = ask(sink.as_ref().expect("opened"), number(1)).await;
                    answer.map_or_else(|error| error.to_string(), |()| "checked".to_owned())
                }
                "settle" => {
                    let bus = joined();
                    settled(&bus).await;
                    let most = number(1) as usize;
                    eventually("the victim is forgotten", || bus.peers() == ["survivor"]).await;
                    eventually("descriptors and mappings are gone", || resources() <= most).await;
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
