//! Topics against a plain model: one publisher, subscriptions of any policy, every step in any order.
//!
//! Two nodes of one process, on a runtime of one thread: while nothing is awaited none of their tasks runs,
//! so each step (the publisher's, the reader's port's, the reader's) happens when the model does it too.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{outlet::Policy, publishing::Topic, subscription::Subscription};
use crate::{
    config::{Config, Spin},
    message::Received,
    session::{
        frame::{KindInfo, SubscriptionInfo},
        link::Parcel,
        mailbox::{Kind, Mailbox},
        node::{Node, PortKey},
        parcel::pack_with,
    },
    shm::layout::TOPIC_INLINE_BYTES,
};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(crate::ShmMessage, Debug)]
struct Numbered {
    n: u64,
    data: Vec<u8>,
}

/// What a step does. Subscriptions and messages are chosen among those that are there.
#[derive(Debug, Clone)]
enum Step {
    Publish,
    /// The reader's port takes in what has been sent.
    Drain,
    /// The publisher sends what waits, as far as there is room.
    Flush,
    Read(Index),
    Release(Index, Index),
    Join(Policy, u32),
    Leave(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let policy = prop_oneof![
        Just(Policy::Wait),
        Just(Policy::DropNewest),
        (1usize..4).prop_map(Policy::KeepLast),
    ];
    prop_oneof![
        8 => Just(Step::Publish),
        3 => Just(Step::Drain),
        2 => Just(Step::Flush),
        5 => any::<Index>().prop_map(Step::Read),
        4 => any::<(Index, Index)>().prop_map(|(of, which)| Step::Release(of, which)),
        2 => (policy, 1u32..5).prop_map(|(policy, depth)| Step::Join(policy, depth)),
        1 => any::<Index>().prop_map(Step::Leave),
    ]
}

/// One subscription, as it should be. Messages are their sequence numbers.
#[derive(Debug)]
struct Expected {
    policy: Policy,
    /// Most messages sent and not released.
    window: usize,
    /// What waits at the publisher.
    backlog: VecDeque<u64>,
    sent: VecDeque<u64>,
    queue: VecDeque<u64>,
    /// What was read and not released.
    held: Vec<u64>,
    delivered: u64,
    dropped: u64,
    overwritten: u64,
}

impl Expected {
    fn unreleased(&self) -> usize {
        self.sent.len() + self.queue.len() + self.held.len()
    }

    fn flush(&mut self) {
        while self.unreleased() < self.window {
            let Some(next) = self.backlog.pop_front() else {
                return;
            };
            self.delivered += 1;
            self.sent.push_back(next);
        }
    }

    /// Whether something published now would be sent at once.
    fn has_room(&mut self) -> bool {
        self.flush();
        self.backlog.is_empty() && self.unreleased() < self.window
    }

    fn offer(&mut self, seq: u64) {
        let at_once = self.has_room();
        match self.policy {
            Policy::DropNewest if !at_once => self.dropped += 1,
            Policy::KeepLast(keep) if !at_once => {
                self.backlog.push_back(seq);
                while self.backlog.len() > keep {
                    self.backlog.pop_front();
                    self.dropped += 1;
                }
            }
            _ => self.backlog.push_back(seq),
        }
        self.flush();
    }

    fn drain(&mut self) {
        for seq in std::mem::take(&mut self.sent) {
            self.queue.push_back(seq);
            if let Policy::KeepLast(keep) = self.policy
                && self.queue.len() > keep
            {
                self.queue.pop_front();
                self.overwritten += 1;
            }
        }
    }

    /// Everything that uses a buffer.
    fn uses(&self) -> impl Iterator<Item = u64> {
        let at_the_reader = self.queue.iter().chain(&self.held);
        self.backlog
            .iter()
            .chain(&self.sent)
            .chain(at_the_reader)
            .copied()
    }
}

/// One subscription, as it is.
struct Actual {
    mailbox: Arc<Mailbox>,
    held: Vec<Received<Numbered>>,
}

struct World {
    origin: Arc<Node>,
    reader: Arc<Node>,
    topic: Arc<Topic>,
    history: u64,
    /// Bytes besides the number: without any, messages travel in their slots.
    bytes: usize,
    published: u64,
    /// In the order in which they joined.
    pairs: Vec<(Expected, Actual)>,
    /// What is still held of subscriptions that have ended.
    kept: Vec<(u64, Received<Numbered>)>,
    /// What was delivered to subscriptions that have ended, and dropped for them.
    before: (u64, u64),
    _dir: tempfile::TempDir,
}

impl World {
    async fn new(history: usize, bytes: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = |name: &str| Config::new(name).dir(dir.path()).spin(Spin::Never);
        let reader = Node::join(config("reader")).await.expect("join");
        let origin = Node::join(config("origin")).await.expect("join");
        let port = origin.port_of(PortKey::Shared).expect("a port");
        let topic = origin.publish_topic(port, "feed", Kind::of::<Numbered>(), history);
        let topic = topic.await.expect("a topic");
        let mut world = Self {
            origin,
            reader,
            topic,
            history: history as u64,
            bytes,
            published: 0,
            pairs: Vec::new(),
            kept: Vec::new(),
            before: (0, 0),
            _dir: dir,
        };
        world.warm_up().await;
        world
    }

    /// The first message in a buffer waits for the frame that brings its segment: let that be over.
    async fn warm_up(&mut self) {
        self.join(Policy::Wait, 1).await;
        self.publish();
        let (expected, actual) = &mut self.pairs[0];
        let arrived = async {
            while !actual.mailbox.is_ready(None) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, arrived).await.expect("it arrives");
        expected.drain();
        self.read(0);
        self.leave(0).await;
        self.kept.clear();
        self.check();
    }

    async fn step(&mut self, step: Step) {
        let some = |index: Index, len: usize| (len > 0).then(|| index.index(len));
        match step {
            Step::Publish => self.publish(),
            Step::Drain => self.port_drains(),
            Step::Flush => self.publisher_flushes(),
            Step::Read(of) => {
                if let Some(at) = some(of, self.pairs.len()) {
                    self.read(at);
                }
            }
            Step::Release(of, which) => {
                if let Some(at) = some(of, self.pairs.len())
                    && let (expected, actual) = &mut self.pairs[at]
                    && let Some(which) = some(which, expected.held.len())
                {
                    expected.held.remove(which);
                    drop(actual.held.remove(which));
                }
            }
            Step::Join(policy, depth) => self.join(policy, depth).await,
            Step::Leave(of) => {
                if let Some(at) = some(of, self.pairs.len()) {
                    self.leave(at).await;
                }
            }
        }
        self.check();
    }

    fn oldest_kept(&self) -> u64 {
        self.published.saturating_sub(self.history)
    }

    fn parcel(&self) -> Parcel {
        let message = Numbered {
            n: self.published,
            data: vec![self.published as u8; self.bytes],
        };
        pack_with(&message, &self.origin.pool, 1 << 20, TOPIC_INLINE_BYTES, |_| {}).expect("a parcel")
    }

    fn port_drains(&mut self) {
        for (expected, _) in &mut self.pairs {
            expected.drain();
        }
        if let Some((_, actual)) = self.pairs.first() {
            actual.mailbox.port.catch_up();
        }
    }

    fn publisher_flushes(&mut self) {
        for (expected, _) in &mut self.pairs {
            expected.flush();
        }
        self.topic.flush();
    }

    /// Until nothing moves by itself any more: what the tasks do whenever they run, in whatever order.
    fn settle(&mut self) {
        let moves =
            |of: &Expected| !of.sent.is_empty() || !of.backlog.is_empty() && of.unreleased() < of.window;
        loop {
            self.port_drains();
            self.publisher_flushes();
            if !self.pairs.iter().any(|(expected, _)| moves(expected)) {
                return;
            }
        }
    }

    fn publish(&mut self) {
        // One without room is enough, and those behind it are not looked at.
        let waited_for = self.pairs.iter_mut().filter(|(of, _)| of.policy == Policy::Wait);
        let full = waited_for.map(|(expected, _)| expected).any(|of| !of.has_room());
        let outcome = self.topic.publish(&mut Some(self.parcel()));
        assert_eq!(outcome.is_err(), full, "{outcome:?}");
        if full {
            return;
        }
        for (expected, _) in &mut self.pairs {
            expected.offer(self.published);
        }
        self.published += 1;
    }

    fn read(&mut self, at: usize) {
        let (expected, actual) = &mut self.pairs[at];
        let delivery = actual.mailbox.pop();
        let sequence = delivery.as_ref().map(|delivery| delivery.published().0);
        let wanted = expected.queue.pop_front();
        assert_eq!(sequence, wanted);
        if let (Some(mut delivery), Some(wanted)) = (delivery, wanted) {
            let opened = delivery.open::<Numbered>(self.reader.config.trust);
            let message = opened.expect("a valid archive");
            assert_eq!(message.n.to_native(), wanted);
            assert!(message.data.iter().all(|byte| *byte == wanted as u8));
            expected.held.push(wanted);
            actual.held.push(message);
        }
    }

    async fn join(&mut self, policy: Policy, depth: u32) {
        // The tasks run while it is awaited.
        self.settle();
        let keep = match policy {
            Policy::KeepLast(keep) => keep as u32,
            _ => 0,
        };
        let wanted = SubscriptionInfo {
            port: 0,
            mailbox: 0,
            pattern: "feed".into(),
            kind: KindInfo {
                name: String::new(),
                schema: 0,
                reply: 0,
            },
            depth: depth + keep,
            wait: policy == Policy::Wait,
            keep,
            group: None,
        };
        let port = self.reader.port_of(PortKey::Shared).expect("a port");
        let kind = Kind::of::<Numbered>();
        let mailbox = self.reader.subscribe(&port, kind, wanted, PATIENCE).await;
        let mut expected = Expected {
            policy,
            window: depth as usize,
            backlog: (self.oldest_kept()..self.published).collect(),
            sent: VecDeque::new(),
            queue: VecDeque::new(),
            held: Vec::new(),
            delivered: 0,
            dropped: 0,
            overwritten: 0,
        };
        expected.flush();
        let actual = Actual {
            mailbox: mailbox.expect("a subscription"),
            held: Vec::new(),
        };
        self.pairs.push((expected, actual));
        self.settle();
    }

    async fn leave(&mut self, at: usize) {
        self.settle();
        let (expected, actual) = self.pairs.remove(at);
        actual.mailbox.close();
        let gone = async {
            while self.topic.counts().subscribers > self.pairs.len() as u64 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone)
            .await
            .expect("it is known to have left");
        // The mailbox gave back what it had, so some of what waited was sent before the end was heard of.
        let others: u64 = self.pairs.iter().map(|(other, _)| other.delivered).sum();
        let delivered = self.topic.counts().flow.delivered - others;
        let least = self.before.0 + expected.delivered;
        let most = least + expected.backlog.len() as u64;
        assert!(
            (least..=most).contains(&delivered),
            "{delivered} of {least} to {most}"
        );
        self.before.0 = delivered;
        self.before.1 += expected.dropped;
        self.kept.extend(expected.held.into_iter().zip(actual.held));
        self.settle();
    }

    fn check(&self) {
        let counts = self.topic.counts();
        let each =
            |of: fn(&Expected) -> u64| self.pairs.iter().map(|(expected, _)| of(expected)).sum::<u64>();
        assert_eq!(counts.published, self.published);
        assert_eq!(counts.subscribers, self.pairs.len() as u64);
        assert_eq!(counts.flow.delivered, self.before.0 + each(|of| of.delivered));
        assert_eq!(counts.flow.dropped, self.before.1 + each(|of| of.dropped));
        for (expected, actual) in &self.pairs {
            let lost = actual.mailbox.subscription.as_ref().map_or(0, Subscription::lost);
            assert_eq!(lost, expected.dropped + expected.overwritten, "{expected:?}");
        }
        // This takes back what was released.
        let unreleased = self.origin.traffic().unreleased;
        let kept = self.kept.len() as u64;
        assert_eq!(unreleased, each(|of| of.unreleased() as u64) + kept);
        let mut used: Vec<u64> = self
            .pairs
            .iter()
            .flat_map(|(expected, _)| expected.uses())
            .collect();
        used.extend(self.kept.iter().map(|(seq, _)| *seq));
        used.extend(self.oldest_kept()..self.published);
        used.sort_unstable();
        used.dedup();
        let buffers = if self.bytes == 0 { 0 } else { used.len() };
        assert_eq!(self.origin.pool.usage().0, buffers, "one buffer per message");
    }

    /// Everything that was not lost is read in the end, and all memory comes back.
    async fn end(mut self) {
        loop {
            for (expected, actual) in &mut self.pairs {
                expected.held.clear();
                actual.held.clear();
            }
            self.settle();
            let with_something = self
                .pairs
                .iter()
                .position(|(expected, _)| !expected.queue.is_empty());
            let Some(at) = with_something else { break };
            self.read(at);
            self.check();
        }
        for (expected, _) in &self.pairs {
            assert_eq!(expected.uses().count(), 0, "{expected:?}");
        }
        self.check();
        self.kept.clear();
        self.check();
        for (_, actual) in self.pairs.drain(..) {
            actual.mailbox.close();
        }
        self.origin.unpublish(&self.topic);
        let clean = async {
            // In this order: the counting takes back what was released.
            while self.origin.traffic().unreleased > 0 || self.origin.pool.usage().0 > 0 {
                tokio::task::yield_now().await;
            }
        };
        let clean = tokio::time::timeout(PATIENCE, clean).await;
        assert!(
            clean.is_ok(),
            "used {:?}, unreleased {}",
            self.origin.pool.usage(),
            self.origin.traffic().unreleased
        );
        assert_eq!(self.origin.counters.violations.get(), 0);
        assert_eq!(self.reader.counters.violations.get(), 0);
        self.reader.leave().await;
        self.origin.leave().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn subscriptions_get_and_lose_what_the_model_says(
        history in 0usize..6,
        bytes in prop::sample::select(vec![0, 100]),
        first in step().prop_filter("a subscription", |step| matches!(step, Step::Join(..))),
        steps in vec(step(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new(history, bytes).await;
            // Some history for the first, in most runs.
            for _ in 0..history {
                world.step(Step::Publish).await;
            }
            world.step(first).await;
            for step in steps {
                world.step(step).await;
            }
            world.end().await;
        });
    }
}
