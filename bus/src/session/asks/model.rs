//! The table of asks against a plain model. All of it is under the lock of its port, so what matters is the order in which
//! a reply, a deadline, a lost link and an asker that goes away come, and not which threads bring them.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// What happens to the table; `usize` picks one of the asks opened so far.
#[derive(Debug, Clone)]
enum Step {
    /// On this link, with this deadline in ms.
    Open(u32, Option<u64>),
    /// It was sent, or (`false`) not after all.
    Sent(usize, bool),
    /// The answering end says so, rightly or again.
    Answer(usize),
    /// The asker looks.
    Poll(usize),
    /// The asker goes away.
    Abandon(usize),
    /// So much time is over.
    Expire(u64),
    Lose(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0usize..12;
    prop_oneof![
        4 => (0u32..3, prop::option::of(0u64..100)).prop_map(|(link, at)| Step::Open(link, at)),
        3 => (which(), prop::bool::weighted(0.8)).prop_map(|(at, sent)| Step::Sent(at, sent)),
        4 => which().prop_map(Step::Answer),
        4 => which().prop_map(Step::Poll),
        2 => which().prop_map(Step::Abandon),
        2 => (0u64..100).prop_map(Step::Expire),
        1 => (0u32..3).prop_map(Step::Lose),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Failed,
    PeerLost,
    Deadline,
}

fn kind(outcome: &Outcome) -> Ended {
    match outcome {
        Outcome::Failed(_) => Ended::Failed,
        Outcome::PeerLost => Ended::PeerLost,
        Outcome::Deadline => Ended::Deadline,
        Outcome::Reply(_) | Outcome::Malformed => panic!("nobody replied: {outcome:?}"),
    }
}

/// One ask as it should be.
#[derive(Debug, Clone)]
struct Ask {
    ticket: Ticket,
    link: u32,
    deadline: Option<u64>,
    /// A reply may come.
    expected: bool,
    ended: Option<Ended>,
    /// Its asker has the outcome, or has gone.
    taken: bool,
}

impl Ask {
    /// Whether it has a place in the table.
    fn has_place(&self) -> bool {
        !self.taken || self.expected
    }

    /// The first ending counts.
    fn end(&mut self, how: Ended) {
        if !self.taken {
            self.ended.get_or_insert(how);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Each ask ends once, by whatever came first, and its place is free once, when nobody waits and nothing can come any more.
    #[test]
    fn of_reply_deadline_loss_and_leaving_one_wins_and_the_place_is_freed_once(steps in prop::collection::vec(step(), 1..120)) {
        let (mut asks, mut wakers, start) = (Asks::default(), Vec::new(), Instant::now());
        let (mut model, mut now): (Vec<Ask>, u64) = (Vec::new(), 0);
        let at = |ms: u64| start + Duration::from_millis(ms);
        for step in steps {
            // The last ones, so that most steps meet asks that are still there.
            let first = model.len().saturating_sub(12);
            let pick = |which: usize| Some(first + which).filter(|at| *at < model.len());
            match step {
                Step::Open(link, after) => {
                    let ticket = asks.open(link);
                    prop_assert!(model.iter().all(|ask| ask.ticket != ticket), "a ticket was given twice");
                    let deadline = after.map(|after| now + after);
                    if let Some(deadline) = deadline {
                        asks.limit(ticket, at(deadline));
                    }
                    model.push(Ask { ticket, link, deadline, expected: false, ended: None, taken: false });
                }
                Step::Sent(which, sent) => if let Some(ask) = pick(which).map(|at| &mut model[at])
                    // As `Ask` does it: only the asker says so, before it has an outcome of what was sent.
                    && !ask.taken && ask.ended.is_none_or(|ended| ended == Ended::Deadline) {
                    asks.sent(ask.ticket, sent);
                    ask.expected = sent;
                },
                Step::Answer(which) => if let Some(ask) = pick(which).map(|at| &mut model[at]) {
                    let wrong = asks.failed(ask.link + 1, ask.ticket.correlation(), Failure::Stopped, &mut wakers);
                    prop_assert!(wrong.is_err(), "an answer from another link");
                    let answered = asks.failed(ask.link, ask.ticket.correlation(), Failure::Stopped, &mut wakers);
                    prop_assert_eq!(answered.is_ok(), ask.expected, "answered twice, or never asked");
                    if std::mem::take(&mut ask.expected) {
                        ask.end(Ended::Failed);
                    }
                },
                Step::Poll(which) => if let Some(ask) = pick(which).map(|at| &mut model[at]) {
                    let outcome = asks.poll(ask.ticket, None);
                    let expected = ask.ended.filter(|_| !ask.taken);
                    prop_assert_eq!(outcome.as_ref().map(kind), expected);
                    ask.taken |= outcome.is_some();
                },
                Step::Abandon(which) => if let Some(ask) = pick(which).map(|at| &mut model[at])
                    // An asker that has its outcome has no ticket any more.
                    && !ask.taken {
                    let outcome = asks.abandon(ask.ticket);
                    prop_assert_eq!(outcome.as_ref().map(kind), ask.ended);
                    ask.taken = true;
                },
                Step::Expire(after) => {
                    now += after;
                    asks.expire(at(now), &mut wakers);
                    for ask in model.iter_mut().filter(|ask| ask.deadline.is_some_and(|deadline| deadline <= now)) {
                        if !ask.taken {
                            ask.end(Ended::Deadline);
                        }
                    }
                }
                Step::Lose(link) => {
                    let waiting = model.iter().filter(|ask| ask.link == link && !ask.taken && ask.ended.is_none());
                    let waiting = waiting.count() as u32;
                    prop_assert_eq!(asks.lose(link, &mut wakers), waiting);
                    for ask in model.iter_mut().filter(|ask| ask.link == link) {
                        ask.expected = false;
                        ask.end(Ended::PeerLost);
                    }
                }
            }
            prop_assert_eq!(asks.open_count(), model.iter().filter(|ask| ask.has_place()).count());
            let completed = model.iter().any(|ask| !ask.taken && ask.ended.is_some());
            prop_assert_eq!(asks.has_completed(), completed);
            let mut free = asks.free.clone();
            free.sort_unstable();
            free.dedup();
            prop_assert_eq!(free.len(), asks.free.len(), "a place is free twice");
        }
        for link in 0..3 {
            asks.lose(link, &mut wakers);
        }
        for ask in &model {
            prop_assert_eq!(asks.poll(ask.ticket, None).is_some(), !ask.taken, "an ask without an end");
        }
        prop_assert_eq!(asks.open_count(), 0);
    }
}
