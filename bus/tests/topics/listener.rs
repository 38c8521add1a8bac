//! A subscription that is read by a task, as fast as its test permits, and what it has got so far.

use std::{
    collections::VecDeque,
    fmt::{self, Display},
    str::FromStr,
    sync::{Arc, Mutex},
    time::UNIX_EPOCH,
};

use actix::prelude::*;
use shmbus::{Delivered, Lost, error::TopicError, prelude::*};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// The message of these tests: without data it travels in its slot, with more than 8 bytes in a buffer.
#[derive(ShmMessage, Debug, Clone, PartialEq)]
pub struct Tick {
    pub n: u64,
    pub data: Vec<u8>,
}

impl Tick {
    pub fn new(n: u64, len: usize) -> Self {
        let data = (0..len as u64)
            .map(|at| (at.wrapping_mul(37) ^ n) as u8)
            .collect();
        Self { n, data }
    }
}

/// One message as a subscriber has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub publisher: String,
    pub topic: String,
    pub seq: u64,
    pub n: u64,
    pub again: bool,
    pub time_ns: u64,
}

impl Entry {
    fn of(tick: &Received<Tick>) -> Self {
        let origin = tick.origin().expect("a topic's message knows its origin");
        let n = tick.n.to_native();
        assert_eq!(
            *tick.data,
            *Tick::new(n, tick.data.len()).data,
            "the bytes of {origin:?}"
        );
        Self {
            publisher: origin.publisher().to_owned(),
            topic: origin.topic().to_owned(),
            seq: origin.sequence(),
            n,
            again: origin.is_redelivered(),
            time_ns: origin
                .time()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_nanos() as u64,
        }
    }
}

impl Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            publisher,
            topic,
            seq,
            n,
            again,
            time_ns,
        } = self;
        write!(f, "{publisher}|{topic}|{seq}|{n}|{again}|{time_ns}")
    }
}

impl FromStr for Entry {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('|').collect();
        let [publisher, topic, seq, n, again, time_ns] = parts[..] else {
            return Err(format!("no entry: {text}"));
        };
        Ok(Self {
            publisher: publisher.to_owned(),
            topic: topic.to_owned(),
            seq: seq.parse().map_err(|_| "sequence")?,
            n: n.parse().map_err(|_| "n")?,
            again: again == "true",
            time_ns: time_ns.parse().map_err(|_| "time")?,
        })
    }
}

/// `depth=8 full=wait|drop|keep:4 group=name hold idle`, in any order.
#[derive(Debug, Clone, Default)]
pub struct Options {
    depth: Option<u32>,
    full: WhenFull,
    group: Option<String>,
    /// Keeps what it gets, until it is released.
    hold: bool,
    /// Reads only what is permitted.
    idle: bool,
}

impl Options {
    pub fn parse(text: &str) -> Self {
        let mut options = Self::default();
        for word in text.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match (key, value.split_once(':')) {
                ("depth", _) => options.depth = Some(value.parse().expect("a depth")),
                ("full", Some(("keep", n))) => options.full = WhenFull::KeepLast(n.parse().expect("a count")),
                ("full", _) if value == "wait" => options.full = WhenFull::Wait,
                ("full", _) => options.full = WhenFull::DropNewest,
                ("group", _) => options.group = Some(value.to_owned()),
                ("hold", _) => options.hold = true,
                ("idle", _) => options.idle = true,
                other => panic!("no option of a subscription: {other:?}"),
            }
        }
        options
    }
}

#[derive(Default)]
struct Seen {
    log: Vec<Entry>,
    kept: VecDeque<Received<Tick>>,
    hold: bool,
    ended: bool,
}

impl Seen {
    fn see(&mut self, tick: Received<Tick>) {
        self.log.push(Entry::of(&tick));
        if self.hold {
            self.kept.push_back(tick);
        }
    }
}

enum Question {
    Lost(oneshot::Sender<(u64, Vec<Lost>)>),
    End(oneshot::Sender<()>),
}

enum Source {
    Stream(mpsc::UnboundedSender<Question>),
    Actor(Delivered, Addr<Keeper>),
}

/// A subscription under way.
pub struct Listener {
    seen: Arc<Mutex<Seen>>,
    permits: Arc<Semaphore>,
    source: Source,
}

impl Listener {
    /// Subscribes a stream.
    pub async fn stream(bus: &Bus, pattern: &str, options: &str) -> Result<Self, TopicError> {
        let options = Options::parse(options);
        let mut open = bus.subscriber::<Tick>(pattern).when_full(options.full);
        if let Some(depth) = options.depth {
            open = open.depth(depth);
        }
        if let Some(group) = &options.group {
            open = open.group(group);
        }
        let subscriber = open.await?;
        assert_eq!(subscriber.pattern(), pattern);
        let permits = if options.idle { 0 } else { Semaphore::MAX_PERMITS };
        let permits = Arc::new(Semaphore::new(permits));
        let seen = Arc::new(Mutex::new(Seen {
            hold: options.hold,
            ..Seen::default()
        }));
        let (asker, questions) = mpsc::unbounded_channel();
        tokio::spawn(read(subscriber, questions, permits.clone(), seen.clone()));
        Ok(Self {
            seen,
            permits,
            source: Source::Stream(asker),
        })
    }

    /// Subscribes an actor; on a thread with an arbiter.
    pub async fn actor(bus: &Bus, pattern: &str, options: &str) -> Result<Self, TopicError> {
        let options = Options::parse(options);
        let seen = Arc::new(Mutex::new(Seen {
            hold: options.hold,
            ..Seen::default()
        }));
        let addr = Keeper { seen: seen.clone() }.start();
        let mut open = bus.subscribe(pattern, addr.clone()).when_full(options.full);
        if let Some(depth) = options.depth {
            open = open.depth(depth);
        }
        if let Some(group) = &options.group {
            open = open.group(group);
        }
        let delivered = open.start::<Tick>().await?;
        assert_eq!(delivered.pattern(), pattern);
        Ok(Self {
            seen,
            permits: Arc::new(Semaphore::new(0)),
            source: Source::Actor(delivered, addr),
        })
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().log.len()
    }

    pub fn log(&self) -> Vec<Entry> {
        self.seen.lock().unwrap().log.clone()
    }

    /// Whether the stream has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.seen.lock().unwrap().ended
    }

    /// Lets an idle one read so many more.
    pub fn permit(&self, count: usize) {
        self.permits.add_permits(count);
    }

    /// Keeps from now on what it gets.
    pub fn hold(&self) {
        self.seen.lock().unwrap().hold = true;
    }

    pub fn held(&self) -> usize {
        self.seen.lock().unwrap().kept.len()
    }

    /// Releases the oldest of what is held; returns how many that were.
    pub fn release(&self, count: usize) -> usize {
        let mut seen = self.seen.lock().unwrap();
        let count = count.min(seen.kept.len());
        let released: Vec<_> = seen.kept.drain(..count).collect();
        drop(seen);
        released.len()
    }

    pub async fn lost(&self) -> u64 {
        self.losses().await.0
    }

    /// What was lost in all, and of whom.
    pub async fn losses(&self) -> (u64, Vec<Lost>) {
        match &self.source {
            Source::Actor(delivered, _) => (delivered.lost(), delivered.losses()),
            Source::Stream(asker) => {
                let (answer, answered) = oneshot::channel();
                assert!(asker.send(Question::Lost(answer)).is_ok(), "it still reads");
                answered.await.expect("an answer")
            }
        }
    }

    /// Ends the subscription; what is held stays held.
    pub async fn end(&self) {
        match &self.source {
            Source::Actor(delivered, _) => delivered.unsubscribe(),
            Source::Stream(asker) => {
                let (answer, answered) = oneshot::channel();
                if asker.send(Question::End(answer)).is_ok() {
                    let _ = answered.await;
                }
            }
        }
    }

    /// Stops the actor and lets its subscription find out.
    pub fn stop(&self) {
        if let Source::Actor(_, addr) = &self.source {
            addr.do_send(Stop);
        }
    }
}

async fn read(
    mut subscriber: Subscriber<Tick>,
    mut questions: mpsc::UnboundedReceiver<Question>,
    permits: Arc<Semaphore>,
    seen: Arc<Mutex<Seen>>,
) {
    loop {
        let next = async {
            let permit = permits.acquire().await.expect("never closed");
            (subscriber.recv().await, permit)
        };
        tokio::select! {
            biased;
            question = questions.recv() => match question {
                Some(Question::Lost(answer)) => {
                    let _ = answer.send((subscriber.lost(), subscriber.losses()));
                }
                Some(Question::End(answer)) => {
                    drop(subscriber);
                    let _ = answer.send(());
                    return;
                }
                None => return,
            },
            (tick, permit) = next => {
                permit.forget();
                match tick {
                    Some(tick) => seen.lock().unwrap().see(tick),
                    None => {
                        seen.lock().unwrap().ended = true;
                        return;
                    }
                }
            }
        }
    }
}

/// Subscribed by its address.
struct Keeper {
    seen: Arc<Mutex<Seen>>,
}

impl Actor for Keeper {
    type Context = Context<Self>;
}

impl Handler<Received<Tick>> for Keeper {
    type Result = ();
    fn handle(&mut self, tick: Received<Tick>, _: &mut Context<Self>) {
        self.seen.lock().unwrap().see(tick);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Keeper {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// The publisher's numbers of one publisher's messages, in the order they came.
pub fn numbers(log: &[Entry], publisher: &str, topic: &str) -> Vec<u64> {
    log.iter()
        .filter(|entry| entry.publisher == publisher && entry.topic == topic)
        .map(|entry| entry.seq)
        .collect()
}

/// Every message from the first to before `end`, once, in order.
#[track_caller]
pub fn gapless(numbers: &[u64], from: u64, end: u64) {
    let wanted: Vec<u64> = (from..end).collect();
    if numbers != wanted {
        let at = numbers.iter().zip(&wanted).position(|(a, b)| a != b);
        panic!(
            "{} messages instead of {from}..{end}; they differ first at {at:?}: {:?}..",
            numbers.len(),
            numbers.iter().skip(at.unwrap_or(0)).take(5).collect::<Vec<_>>()
        );
    }
}
