//! What a sending end counts, against a plain model. All of it is under the lock of its link, so the order of things is
//! all there is to explore; what the other process does meanwhile is in `shm/models`.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use proptest::prelude::*;

use super::*;
use crate::{
    session::{budget::Budget, link::NO_ROUTE},
    shm::{cells::Cells, pool::Pool, sync::AtomicU64},
};

const LIMIT: u64 = 64 << 20;
const WINDOWS: u16 = 3;

#[derive(Debug, Clone)]
enum Step {
    Inline(u16),
    /// A message of so many bytes, in a buffer.
    Buffer(u16, u64),
    /// A batch of so many messages.
    Batch(u16, u32),
    /// In a buffer, of so many bytes.
    Reply(u64),
    /// A return of this token, which the peer may hold or not.
    Token(u32),
    Nack(u32),
    Credit(u16, u16),
}

fn step() -> impl Strategy<Value = Step> {
    let (route, token) = (0..WINDOWS, 0u32..16);
    prop_oneof![
        2 => route.clone().prop_map(Step::Inline),
        2 => (route.clone(), 1u64..5000).prop_map(|(route, len)| Step::Buffer(route, len)),
        2 => (route.clone(), 1u32..9).prop_map(|(route, count)| Step::Batch(route, count)),
        1 => (1u64..5000).prop_map(Step::Reply),
        4 => token.clone().prop_map(Step::Token),
        1 => token.prop_map(Step::Nack),
        4 => (0..WINDOWS + 2, 0u16..6).prop_map(|(route, count)| Step::Credit(route, count)),
        1 => Just(Step::Credit(BATCH_ROUTE, 1)),
    ]
}

fn sending(budget: &Arc<Budget>) -> Sending {
    let words = |count| Cells::private((0..count).map(|_| AtomicU64::new(0)).collect());
    let slots = (0..2).map(|_| crate::shm::layout::Slot::new()).collect();
    let mut sending = Sending {
        producer: Producer::new(Cells::private(slots), words(1)),
        returns: ReturnReader::new(words(2)),
        tokens: Tokens::default(),
        share: budget.share(),
        windows: Vec::new(),
        by_mailbox: HashMap::new(),
        unreturned: 0,
        returns_limit: u32::MAX,
        waiting: Parker::new(words(1)),
        since_collect: 0,
        redeemed: Vec::new(),
        regained: false,
        told_head: 0,
        unhandled: Vec::new(),
        reused_last: 0,
        shut: false,
        lost: false,
        sent: 0,
    };
    for mailbox in 0..WINDOWS {
        assert_eq!(
            sending.open_window(mailbox.into(), 1000, None, usize::from(WINDOWS)),
            Some(mailbox)
        );
    }
    sending
}

/// What the peer holds, as it should be counted.
#[derive(Debug, Default)]
struct Model {
    /// Per window: messages in a slot or in a batch, and those with a buffer of their own.
    inline: [u32; WINDOWS as usize],
    buffered: [u32; WINDOWS as usize],
    /// The buffers, by token, with the route of each.
    tokens: BTreeMap<u32, u16>,
}

impl Model {
    fn count(&self, which: impl Fn(u16) -> bool) -> u32 {
        self.tokens.values().filter(|route| which(**route)).count() as u32
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Of messages in slots, buffers and batches, whatever the peer gives back, rightly or wrongly: nothing is lost, nothing
    /// comes back twice, and a wrong return changes nothing.
    #[test]
    fn what_is_given_back_is_what_was_sent_once(steps in prop::collection::vec(step(), 1..150)) {
        let pool = Pool::new(LIMIT, LIMIT);
        let budget = Budget::new(LIMIT, pool.largest());
        let (mut sending, mut model) = (sending(&budget), Model::default());
        for step in steps {
            let mut issue = |sending: &mut Sending, route: u16, len: u64| {
                assert!(sending.share.take(len));
                let held = pool.take(len as usize).unwrap().into_held();
                let token = sending.tokens.issue(held, route, len);
                assert_eq!(model.tokens.insert(token, route), None, "a token that the peer holds");
            };
            match step {
                Step::Inline(route) => {
                    sending.count(route, true, 1);
                    model.inline[usize::from(route)] += 1;
                }
                Step::Buffer(route, len) => {
                    issue(&mut sending, route, len);
                    sending.count(route, false, 1);
                    model.buffered[usize::from(route)] += 1;
                }
                // As in `Link::try_batch`.
                Step::Batch(route, count) => {
                    issue(&mut sending, BATCH_ROUTE, 4096);
                    sending.count(route, true, count);
                    sending.unreturned += 1;
                    model.inline[usize::from(route)] += count;
                }
                // As in `Link::try_reply`.
                Step::Reply(len) => {
                    issue(&mut sending, NO_ROUTE, len);
                    sending.unreturned += 1;
                }
                Step::Token(token) | Step::Nack(token) => {
                    let what = if matches!(step, Step::Nack(_)) { Return::Nack(token) } else { Return::Token(token) };
                    let settled = sending.settle(what);
                    match model.tokens.remove(&token) {
                        None => prop_assert_eq!(settled, Err(Violation::Token(token))),
                        Some(route) => {
                            prop_assert_eq!(settled, Ok(1));
                            if let Some(buffered) = model.buffered.get_mut(usize::from(route)) {
                                *buffered -= 1;
                            }
                        }
                    }
                }
                Step::Credit(route, count) => {
                    let settled = sending.settle(Return::Credit { route, count });
                    let messages = u32::from(count);
                    match model.inline.get_mut(usize::from(route)) {
                        Some(inline) if (1..=*inline).contains(&messages) => {
                            *inline -= messages;
                            prop_assert_eq!(settled, Ok(messages));
                        }
                        inline => {
                            let held = inline.map_or(0, |inline| *inline);
                            prop_assert_eq!(settled, Err(Violation::Credit { route, count, held }));
                        }
                    }
                }
            }
            pool.release(sending.redeemed.drain(..));
            for (window, (inline, buffered)) in sending.windows.iter().zip(model.inline.iter().zip(&model.buffered)) {
                prop_assert_eq!((window.held, window.held_inline), (inline + buffered, *inline));
            }
            let messages: u32 = model.inline.iter().sum();
            let tokens = model.tokens.len();
            prop_assert_eq!(sending.unreturned, messages + tokens as u32);
            prop_assert_eq!(sending.unreleased(), messages + model.count(|route| route != BATCH_ROUTE));
            prop_assert_eq!(sending.tokens.are_out(), tokens > 0);
            prop_assert_eq!(pool.usage().0, tokens, "a buffer is lost, or came back while it is held");
        }
        // The peer is gone, with what it held.
        let held: Vec<_> = sending.tokens.held.iter().flatten().map(|(held, ..)| *held).collect();
        prop_assert_eq!(held.iter().collect::<HashSet<_>>().len(), model.tokens.len());
        sending.abandon_tokens();
        pool.release(sending.redeemed.drain(..));
        prop_assert_eq!(pool.usage().0, 0);
        prop_assert!(budget.share().take(LIMIT), "the peer's part of the pool is free again");
    }
}
