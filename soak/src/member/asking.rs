//! Many asks by one call: each has its own outcome, and they come in the order of the asks.

use std::time::Duration;

use shmbus::{AskAll, error::AskError, message::ShmMessage, prelude::*};

use super::{
    PATIENCE,
    calls::{Caller, Everything, Goes, LATE, Target, check, count},
    fault,
};
use crate::{
    clock::Span,
    dice::Dice,
    identity::{LANES, Who},
    ledger::asked,
    messages::{Answer, Call, Later, wish},
};

/// How the asks of one stream are made and taken.
struct Plan {
    lane: u64,
    count: u64,
    within: Duration,
    in_flight: Option<usize>,
    /// Dropped after so many outcomes, with others under way.
    taken: u64,
    /// The next outcome is waited for in turns of this length, each of them dropped.
    turns: Option<Duration>,
    dice: Dice,
}

impl Caller {
    fn plan(&mut self, lane: u64) -> Plan {
        let count = self.dice.pick(&[1, 7, 9, 100, 400]);
        let count = 1 + self.dice.below(count);
        Plan {
            lane,
            count,
            within: Duration::from_millis(self.dice.pick(&[5, 200, 2000])),
            in_flight: self.dice.pick(&[None, None, Some(1), Some(5), Some(1000)]),
            taken: match self.dice.one_in(6) {
                true => self.dice.below(count),
                false => u64::MAX,
            },
            turns: self.dice.one_in(4).then(|| self.dice.millis(0, 3)),
            dice: Dice::part(self.dice.word(), lane, 0),
        }
    }

    /// One number of bytes for most, so that they share buffers, and any for some.
    fn lens(&mut self, count: u64, most: &[usize]) -> Vec<usize> {
        let len = self.dice.pick(most);
        (0..count)
            .map(|_| match self.dice.one_in(50) {
                true => self.len(),
                false => len,
            })
            .collect()
    }

    /// Asks that are answered at once, in small replies and others; a panic may be among them.
    fn calls(&mut self, target: &Target, plan: &Plan) -> Vec<Call> {
        let lens = self.lens(plan.count, &[0, 40, 300, 900, 5000]);
        let replies = self.lens(plan.count, &[0, 0, 40, 300, 5000]);
        let panics = self.dice.one_in(10).then(|| self.dice.below(plan.count));
        let first = target.asked[plan.lane as usize].get(asked::BEGUN);
        (0..plan.count)
            .zip(lens.into_iter().zip(replies))
            .map(|(at, (len, reply))| Call {
                wish: match panics == Some(at) {
                    true => wish::PANIC,
                    false => wish::NOTHING,
                },
                reply: reply as u32,
                ..self.call(first + at, plan.lane, len)
            })
            .collect()
    }

    pub(super) async fn ask_all(&mut self, address: &Address<Everything>, target: &Target) -> Goes {
        let plan = self.plan(LANES);
        let calls = self.calls(target, &plan);
        all(address, target, plan, &calls, address.ask_all(&calls)).await
    }

    /// Two streams at a time, of which one is answered in any order, and told in its own.
    pub(super) async fn ask_all_twice(&mut self, address: &Address<Everything>, target: &Target) -> Goes {
        let (plan, other) = (self.plan(LANES), self.plan(LANES + 1));
        let calls = self.calls(target, &plan);
        let laters: Vec<Later> = self
            .calls(target, &other)
            .into_iter()
            .map(|call| Later {
                from: call.from,
                flow: call.flow,
                seq: call.seq,
                digest: call.digest,
                after_ms: self.dice.below(8) as u32,
                reply: call.reply,
                data: call.data,
            })
            .collect();
        let (a, b) = tokio::join!(
            all(address, target, plan, &calls, address.ask_all(&calls)),
            all(address, target, other, &laters, address.ask_all(&laters)),
        );
        a && b
    }
}

/// Takes the outcomes, and counts each.
async fn all<'m, M, I>(
    address: &Address<Everything>,
    target: &Target,
    mut plan: Plan,
    messages: &'m [M],
    replies: AskAll<'_, 'm, M, I>,
) -> Goes
where
    M: ShmMessage<Reply = Answer>,
    I: Iterator<Item = &'m M>,
{
    let line = &target.asked[plan.lane as usize];
    let count_of = messages.len() as u64;
    let first = line.get(asked::BEGUN);
    line.add(asked::BEGUN, count_of);
    let mut replies = replies.deadline(plan.within);
    if let Some(in_flight) = plan.in_flight {
        replies = replies.in_flight(in_flight);
    }
    let (mut goes, mut outcomes) = (true, 0);
    let who = |at: u64| {
        format!(
            "{} of {count_of} asks of {} to {}",
            at + 1,
            Who(target.owner.0),
            address.name()
        )
    };
    while outcomes < plan.taken {
        let span = Span::new();
        let outcome = match tokio::time::timeout(PATIENCE, next(&mut replies, plan.turns)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                fault(format_args!("{} had no outcome", who(outcomes)));
                break;
            }
        };
        if let Some(late) = span.excess(plan.within + LATE).await {
            fault(format_args!("{} ended {:?} late", who(outcomes), late + LATE));
        }
        let Some(outcome) = outcome else { break };
        if outcomes == count_of {
            fault(format_args!("{} has an outcome too many", who(outcomes - 1)));
            return false;
        }
        if let Ok(answer) = &outcome {
            check(target, first + outcomes, answer);
        }
        // Those after an error still come.
        goes &= count(line, outcome.map(|_| ()));
        outcomes += 1;
        if plan.dice.one_in(100) {
            let pause = plan.dice.millis(0, 10);
            tokio::time::sleep(pause).await;
        }
    }
    if plan.taken >= count_of && outcomes != count_of {
        fault(format_args!("{outcomes} outcomes came of {}", who(count_of - 1)));
    }
    drop(replies);
    // What is dropped may have been sent.
    line.add(asked::DROPPED, count_of - outcomes);
    goes
}

/// The next outcome; by many futures that are dropped in between, if there are to be turns.
async fn next<'m, M, I>(
    replies: &mut AskAll<'_, 'm, M, I>,
    turns: Option<Duration>,
) -> Option<Result<Received<M::Reply>, AskError>>
where
    M: ShmMessage,
    I: Iterator<Item = &'m M>,
{
    let Some(turn) = turns else {
        return replies.next().await;
    };
    loop {
        if let Ok(outcome) = tokio::time::timeout(turn, replies.next()).await {
            return outcome;
        }
    }
}
