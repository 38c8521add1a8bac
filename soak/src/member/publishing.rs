//! Topics of this process.

use std::{sync::Arc, time::Duration};

use shmbus::{
    error::{SendError, TopicError},
    prelude::*,
};

use super::{Member, fault};
use crate::{
    dice::Dice,
    identity::{Realm, TopicId, Who},
    ledger::{Entry, Line, topic},
    messages::{Digest, Tick, data, fill},
};

const OPEN: u64 = 1;
const CLOSING: u64 = 2;

/// How many shared topics there are.
pub const SHARED: u64 = 3;

struct Topic {
    id: TopicId,
    publisher: Publisher<Tick>,
    line: Line,
}

impl Drop for Topic {
    fn drop(&mut self) {
        self.line.set(topic::STATE, CLOSING);
    }
}

/// Those that are open.
#[derive(Default)]
pub struct Topics(Vec<Topic>);

impl Topics {
    /// What the bus counts is what was published.
    pub fn check(&self, member: &Member) {
        for Topic { publisher, line, id } in &self.0 {
            let (stats, done) = (publisher.stats(), line.get(topic::DONE));
            if stats.published != done || publisher.next_sequence() != done {
                let name = id.name(member.who());
                fault(format_args!(
                    "{done} messages were published to {name}, and it says {stats:?}"
                ));
            }
        }
    }
}

fn tick(from: Who, id: TopicId, seq: u64, bytes: Vec<u8>) -> Tick {
    Tick {
        from: from.0,
        topic: id.0,
        seq,
        digest: Digest::of(&[from.0, id.0, seq]).bytes(&bytes),
        data: bytes.into(),
    }
}

async fn open(member: &Member, id: TopicId, history: usize) -> Option<Topic> {
    let entry = Entry::Topic { topic: id };
    let line = member
        .ledger
        .line(entry, [0, 0, OPEN, history as u64, 0, 0, 0, 0]);
    let name = id.name(member.who());
    match member.bus.publisher::<Tick>(name).history(history).await {
        Ok(publisher) => Some(Topic { id, publisher, line }),
        Err(error) => {
            line.set(topic::STATE, CLOSING);
            // `Schema`: somebody tries with other fields just now.
            if !matches!(error, TopicError::Closed | TopicError::Schema { .. }) {
                fault(format_args!("a publisher: {error}"));
            }
            None
        }
    }
}

/// Publishes, until there is to be peace.
pub async fn run(member: Arc<Member>) -> Topics {
    let mut dice = member.dice(3);
    let mut topics = Topics::default();
    // Each at most once per process, so that what is lost of it is that of one topic.
    let mut shared: Vec<u64> = (0..SHARED).collect();
    while member.is_busy() {
        member.pause(dice.millis(2, 40)).await;
        let full = topics.0.len() >= 4;
        if topics.0.is_empty() || (!full && dice.one_in(20)) {
            let id = match dice.below(4) {
                0 if !shared.is_empty() => {
                    let at = dice.below(shared.len() as u64) as usize;
                    TopicId::new(Realm::Shared, shared.swap_remove(at))
                }
                1 => TopicId::new(Realm::Jobs, member.number()),
                _ => TopicId::new(Realm::Own, member.number()),
            };
            let history = match id.realm() {
                Some(Realm::Jobs) => 0,
                _ => dice.pick(&[0, 0, 1, 8]),
            };
            topics.0.extend(open(&member, id, history).await);
            continue;
        }
        let at = dice.below(topics.0.len() as u64) as usize;
        if dice.one_in(60) && topics.0[at].id.realm() != Some(Realm::Jobs) {
            topics.0.swap_remove(at);
            continue;
        }
        for _ in 0..1 + dice.below(12) {
            if !publish(&member, &topics.0[at], &mut dice).await {
                break;
            }
        }
    }
    topics
}

/// Whether it makes sense to go on at once.
async fn publish(member: &Member, topic: &Topic, dice: &mut Dice) -> bool {
    let Topic { id, publisher, line } = topic;
    let seq = line.get(topic::DONE);
    let len = match dice.below(300) {
        0 => (4 << 20) + dice.below(1 << 20),
        1..=10 => dice.below(200_000),
        11..=100 => dice.below(5000),
        _ => dice.below(64),
    } as usize;
    let within = dice.millis(1, 100);
    let (who, id) = (member.who(), *id);
    line.set(topic::BEGUN, seq + 1);
    let sent = match dice.below(3) {
        0 => Some(publisher.publish(&tick(who, id, seq, data(who.0 ^ seq, len)))),
        1 => {
            let tick = tick(who, id, seq, data(who.0 ^ seq, len));
            tokio::time::timeout(within, publisher.publish_wait(&tick))
                .await
                .ok()
        }
        _ => lend(who, topic, seq, len, within).await,
    };
    match sent {
        Some(Ok(())) => {
            line.set(topic::DONE, seq + 1);
            return true;
        }
        None | Some(Err(SendError::Full { .. } | SendError::Memory { .. } | SendError::Closed { .. })) => {}
        Some(Err(error)) => fault(format_args!("a publish: {error}")),
    }
    line.set(topic::BEGUN, seq);
    false
}

async fn lend(
    who: Who,
    topic: &Topic,
    seq: u64,
    len: usize,
    within: Duration,
) -> Option<Result<(), SendError>> {
    let mut loan = match tokio::time::timeout(within, topic.publisher.loan(len))
        .await
        .ok()?
    {
        Ok(loan) => loan,
        Err(error) => return Some(Err(error)),
    };
    fill(who.0 ^ seq, &mut loan);
    let head = [who.0, topic.id.0, seq];
    let digest = Digest::of(&head).bytes(&loan);
    let send = loan.send(|data| Tick {
        from: who.0,
        topic: topic.id.0,
        seq,
        digest,
        data,
    });
    tokio::time::timeout(within, send).await.ok()
}
