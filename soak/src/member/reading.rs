//! Subscriptions of this process.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use shmbus::{error::TopicError, prelude::*};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{Member, fault, publishing::SHARED};
use crate::{
    dice::Dice,
    identity::{Realm, TopicId, Who},
    ledger::{Entry, Line, Policy, got, topic},
    messages::{Digest, Tick},
};

const OPEN: u64 = 1;
const CLOSING: u64 = 2;
/// All topics of one publisher each.
const OWN: &str = "own.>";

/// Where each topic of the processes that ran stood at some time.
#[derive(Default)]
struct Marks {
    ran: HashSet<Who>,
    /// So much was published, at most so much, and so much of it is kept.
    topics: HashMap<(Who, TopicId), [u64; 3]>,
}

impl Marks {
    fn now(member: &Member) -> Self {
        let books = member.place.books();
        let mut marks = Marks::default();
        for who in books.running() {
            let Some(topics) = books.topics(who) else { continue };
            marks.ran.insert(who);
            for (entry, counts) in topics {
                if let Entry::Topic { topic } = entry {
                    let mark = [counts[topic::DONE], counts[topic::BEGUN], counts[topic::HISTORY]];
                    marks.topics.insert((who, topic), mark);
                }
            }
        }
        marks
    }
}

enum Order {
    /// Writes down what was lost.
    Sum(oneshot::Sender<()>),
}

struct Open {
    orders: mpsc::UnboundedSender<Order>,
    reader: JoinHandle<()>,
}

/// Those that are open.
#[derive(Default)]
pub struct Readers(Vec<Open>);

impl Readers {
    pub async fn sum(&self, _: &Member) {
        for open in &self.0 {
            let (done, is_done) = oneshot::channel();
            if open.orders.send(Order::Sum(done)).is_ok() {
                let _ = is_done.await;
            }
        }
    }

    pub async fn close(self, _: &Member) {
        for open in self.0 {
            open.close().await;
        }
    }
}

impl Open {
    async fn close(self) {
        drop(self.orders);
        let _ = self.reader.await;
    }
}

/// A subscription and what it has got.
struct Reader {
    member: Arc<Member>,
    number: u64,
    policy: Policy,
    line: Line,
    got: HashMap<(Who, TopicId), Line>,
    before: Marks,
    after: Marks,
    dice: Dice,
    /// Takes its time.
    slow: bool,
}

impl Reader {
    async fn run(mut self, mut subscriber: Subscriber<Tick>, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Sum(done)) => {
                        self.sum(&subscriber);
                        let _ = done.send(());
                    }
                    None => {
                        self.line.set(0, CLOSING);
                        return;
                    }
                },
                tick = subscriber.recv() => match tick {
                    Some(tick) => self.take(tick, &subscriber),
                    // The bus was left.
                    None => {
                        self.line.set(0, CLOSING);
                        return;
                    }
                },
            }
            if self.slow && self.member.is_busy() && self.dice.one_in(3) {
                let pause = self.dice.millis(0, 10);
                self.member.pause(pause).await;
            }
        }
    }

    fn take(&mut self, tick: Received<Tick>, subscriber: &Subscriber<Tick>) {
        let (from, topic) = (Who(tick.from.to_native()), TopicId(tick.topic.to_native()));
        let seq = tick.seq.to_native();
        let number = self.number;
        let is_whole = |tick: &Received<Tick>| {
            Digest::of(&[
                tick.from.to_native(),
                tick.topic.to_native(),
                tick.seq.to_native(),
            ])
            .bytes(&tick.data)
                == tick.digest.to_native()
        };
        if !is_whole(&tick) {
            fault(format_args!(
                "subscription {number} got message {seq} of {from} corrupted"
            ));
        }
        let Some(origin) = tick.origin() else {
            return fault("a topic's message has no origin");
        };
        let said = (origin.publisher(), origin.topic(), origin.sequence());
        if said != (&from.to_string(), &topic.name(from), seq) {
            fault(format_args!("message {seq} of {from} is said to be {origin:?}"));
        }
        let again = origin.is_redelivered();
        if self.policy == Policy::Group {
            self.member.ledger.job(from, topic, seq, again);
        } else {
            self.count(from, topic, seq, subscriber);
            if again {
                fault(format_args!(
                    "message {seq} of {from} is given again, outside of a group"
                ));
            }
        }
        self.member.held.maybe(&mut self.dice, move || is_whole(&tick));
    }

    fn count(&mut self, from: Who, topic: TopicId, seq: u64, subscriber: &Subscriber<Tick>) {
        let key = (from, topic);
        let (number, books) = (self.number, self.member.place.books());
        let line = self.got.entry(key).or_insert_with(|| {
            let entry = Entry::Got { number, from, topic };
            // It keeps some for those that come late.
            let least = self
                .before
                .topics
                .get(&key)
                .map_or(0, |[done, _, history]| done.saturating_sub(*history));
            let most = match self.after.topics.get(&key) {
                Some([_, begun, _]) => *begun,
                // It began later.
                None if self.after.ran.contains(&from) || books.topics(from).is_some() => 0,
                // Its process had ended by then, and nobody knows how far it had got.
                None => u64::MAX,
            };
            self.member
                .ledger
                .line(entry, [seq, seq, 0, 0, 0, least, most, 0])
        });
        let next = line.get(got::NEXT);
        if seq < next {
            let name = topic.name(from);
            return fault(format_args!(
                "subscription {number} got {seq} of {name} after {}",
                next - 1
            ));
        }
        if seq > next {
            line.add(got::GAPS, seq - next);
            if self.policy == Policy::Wait {
                let name = topic.name(from);
                fault(format_args!(
                    "subscription {number} is waited for, and got {seq} of {name} instead of {next}; lost: {:?}",
                    subscriber.losses()
                ));
            }
        }
        line.set(got::NEXT, seq + 1);
        line.add(got::COUNT, 1);
    }

    fn sum(&self, subscriber: &Subscriber<Tick>) {
        let losses = subscriber.losses();
        for ((from, topic), line) in &self.got {
            let (publisher, name) = (from.to_string(), topic.name(*from));
            let mut of_it = losses
                .iter()
                .filter(|lost| lost.publisher == publisher && lost.topic == name);
            if let Some(lost) = of_it.next() {
                line.set(got::LOST, lost.messages + 1);
            }
            if of_it.next().is_some() {
                fault(format_args!("{name} of {publisher} is counted twice"));
            }
        }
        let gaps: u64 = self.got.values().map(|line| line.get(got::GAPS)).sum();
        let lost = subscriber.lost();
        if lost < gaps {
            fault(format_args!(
                "subscription {} misses {gaps} messages, and {lost} are said to be lost",
                self.number
            ));
        }
    }
}

async fn open(
    member: &Arc<Member>,
    policy: Policy,
    pattern: &str,
    lasts: bool,
    dice: &mut Dice,
) -> Option<Open> {
    let number = member.number();
    let entry = Entry::Subscription { number };
    let line = member.ledger.line(
        entry,
        [
            OPEN,
            policy as u64,
            u64::from(lasts && pattern == OWN),
            0,
            0,
            0,
            0,
            0,
        ],
    );
    let before = Marks::now(member);
    let wish = member.bus.subscriber::<Tick>(pattern);
    let wish = match policy {
        Policy::Drop => wish.depth(dice.pick(&[1, 8, 300])),
        Policy::Keep => {
            let keep = dice.pick(&[1, 4, 60]);
            wish.when_full(WhenFull::KeepLast(keep)).depth(keep * 2 + 1)
        }
        Policy::Wait => wish.when_full(WhenFull::Wait).depth(dice.pick(&[1, 16, 300])),
        Policy::Group => wish.when_full(WhenFull::Wait).depth(16).group("crew"),
    };
    let subscriber = match wish.await {
        Ok(subscriber) => subscriber,
        Err(error) => {
            line.set(0, CLOSING);
            if !matches!(error, TopicError::Closed | TopicError::Schema { .. }) {
                fault(format_args!("a subscription to {pattern}: {error}"));
            }
            return None;
        }
    };
    let reader = Reader {
        member: member.clone(),
        number,
        policy,
        line,
        got: HashMap::new(),
        before,
        after: Marks::now(member),
        dice: member.dice(0x2000_0000 + number),
        slow: dice.one_in(3),
    };
    let (orders, heard) = mpsc::unbounded_channel();
    Some(Open {
        orders,
        reader: actix::spawn(reader.run(subscriber, heard)),
    })
}

/// Subscribes and unsubscribes, until there is to be peace. `ready` is told when what lasts is subscribed.
pub async fn run(member: Arc<Member>, ready: oneshot::Sender<()>) -> Readers {
    let mut dice = member.dice(4);
    let mut readers = Readers::default();
    let mut lasting = Vec::new();
    if member.place.is_steady() {
        // Of every kind one. A group without members would hold up its publishers.
        for (policy, pattern) in [
            (Policy::Group, "jobs.>"),
            (Policy::Drop, OWN),
            (Policy::Keep, OWN),
            (Policy::Drop, "shared.*"),
            (Policy::Wait, "shared.0"),
        ] {
            lasting.extend(open(&member, policy, pattern, true, &mut dice).await);
        }
    }
    let _ = ready.send(());
    let mut pause = Duration::ZERO;
    while member.is_busy() {
        member.pause(pause).await;
        pause = dice.millis(10, 400);
        if readers.0.len() > 3 || (!readers.0.is_empty() && dice.one_in(3)) {
            let at = dice.below(readers.0.len() as u64) as usize;
            readers.0.swap_remove(at).close().await;
            continue;
        }
        let (policy, realm) = match dice.below(4) {
            0 => (Policy::Group, Realm::Jobs),
            1 => (Policy::Wait, dice.pick(&[Realm::Own, Realm::Shared])),
            2 => (Policy::Keep, dice.pick(&[Realm::Own, Realm::Shared])),
            _ => (Policy::Drop, dice.pick(&[Realm::Own, Realm::Shared])),
        };
        let pattern = match realm {
            Realm::Jobs => "jobs.*.*".to_owned(),
            Realm::Own => "own.*.*".to_owned(),
            Realm::Shared => match dice.one_in(2) {
                true => "shared.>".to_owned(),
                false => format!("shared.{}", dice.below(SHARED)),
            },
        };
        readers
            .0
            .extend(open(&member, policy, &pattern, false, &mut dice).await);
    }
    readers.0.append(&mut lasting);
    readers
}
