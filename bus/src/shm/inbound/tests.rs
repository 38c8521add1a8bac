//! What threads gather of a link's releases, and the handles that they keep of it.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::shm::{cells::Cells, returns::ReturnReader, sync::AtomicU64};

const LINKS: usize = 2;

#[derive(Debug, Clone)]
enum Step {
    Begin,
    /// The batch ends; another one follows soon, or none does.
    GoOn,
    End,
    /// A message of this link gets its handle.
    Share(usize),
    /// The message that came last on this link is released: it was in a buffer of so many bytes,
    Token(usize, usize),
    /// or inline, of this route.
    Credit(usize, u16),
    /// It goes back unhandled.
    Nack(usize),
    /// The handle goes with nothing given back: a reply.
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let link = || 0..LINKS;
    prop_oneof![
        2 => Just(Step::Begin),
        1 => Just(Step::GoOn),
        1 => Just(Step::End),
        12 => link().prop_map(Step::Share),
        4 => (link(), prop_oneof![Just(100usize), Just(TELL_FROM)]).prop_map(|(link, bytes)| Step::Token(link, bytes)),
        6 => (link(), 0u16..2).prop_map(|(link, route)| Step::Credit(link, route)),
        1 => link().prop_map(Step::Nack),
        1 => link().prop_map(Step::Drop),
    ]
}

/// A link's receiving end, what its sender reads of it, and what both should say.
struct Link {
    inbound: Arc<Inbound>,
    returns: ReturnReader,
    /// The handles of messages that are not released.
    handles: Vec<Arc<Inbound>>,
    given: Given,
    told: Given,
}

/// Messages by what they were given back as.
#[derive(Debug, Default, Clone, PartialEq)]
struct Given {
    tokens: Vec<u32>,
    nacks: Vec<u32>,
    credits: HashMap<u16, u64>,
}

impl Given {
    fn add(&mut self, what: Return) {
        match what {
            Return::Token(token) => self.tokens.push(token),
            Return::Nack(token) => self.nacks.push(token),
            Return::Credit { route, count } => *self.credits.entry(route).or_default() += u64::from(count),
        }
    }

    fn messages(&self) -> u64 {
        (self.tokens.len() + self.nacks.len()) as u64 + self.credits.values().sum::<u64>()
    }

    /// In any order: what is given back at once overtakes what is gathered.
    fn sorted(&self) -> Self {
        let mut sorted = self.clone();
        sorted.tokens.sort_unstable();
        sorted
    }
}

impl Link {
    fn new() -> Self {
        let words = |count| Cells::private((0..count).map(|_| AtomicU64::new(0)).collect());
        let entries: Cells<AtomicU64> = words(1024);
        let inbound = Inbound::new(
            ReturnWriter::new(entries.clone()),
            PeerMemory::new(1, false),
            Ringer::new(words(1)),
            Bell::new().unwrap(),
            1 << 20,
            Arc::new(Room::new(1)),
            |violation| panic!("{violation}"),
        );
        Self {
            inbound,
            returns: ReturnReader::new(entries),
            handles: Vec::new(),
            given: Given::default(),
            told: Given::default(),
        }
    }

    fn give_back(&mut self, what: Return, bytes: usize) {
        if let Some(handle) = self.handles.pop() {
            self.given.add(what);
            handle.give_back(what, bytes);
        }
    }

    /// The sender reads what there is.
    fn read(&mut self) {
        while let Some(what) = self.returns.pop().unwrap() {
            self.told.add(what);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// However messages of several links are released in batches or without: each release is told once, to its own link, when
    /// the batch is over at the latest, and no handle of a link is left or used for another.
    #[test]
    fn each_release_is_told_once_and_no_spare_handle_is_left(steps in prop::collection::vec(step(), 1..400)) {
        ReleaseBatch::settle();
        let mut links = [(); LINKS].map(|()| Link::new());
        let (mut batch, mut next) = (None, 0);
        for step in steps {
            match step {
                Step::Begin => {
                    let begun = ReleaseBatch::begin();
                    prop_assert_eq!(begun.is_some(), batch.is_none());
                    batch = batch.or(begun);
                }
                Step::GoOn => if let Some(batch) = batch.take() {
                    batch.go_on();
                },
                Step::End => drop(batch.take()),
                Step::Share(link) => {
                    let handle = links[link].inbound.share();
                    prop_assert!(Arc::ptr_eq(&handle, &links[link].inbound), "another link's handle");
                    links[link].handles.push(handle);
                }
                Step::Token(link, bytes) => {
                    next += 1;
                    links[link].give_back(Return::Token(next), bytes);
                }
                Step::Credit(link, route) => links[link].give_back(Return::Credit { route, count: 1 }, 0),
                Step::Nack(link) => {
                    next += 1;
                    links[link].give_back(Return::Nack(next), 0);
                }
                Step::Drop(link) => drop(links[link].handles.pop()),
            }
            let mut pending = 0;
            for link in &mut links {
                link.read();
                prop_assert_eq!(link.inbound.released(), link.told.messages());
                pending += link.given.messages() - link.told.messages();
                let spare = Arc::strong_count(&link.inbound) - 1 - link.handles.len();
                prop_assert!(spare <= SPARE_MOST + 1, "{spare} handles are kept");
            }
            prop_assert!(pending < PENDING_MOST as u64 && (batch.is_some() || pending == 0), "{pending} are not told");
        }
        drop(batch);
        ReleaseBatch::settle();
        for link in &mut links {
            link.read();
            prop_assert_eq!(link.told.sorted(), link.given.sorted());
            prop_assert_eq!(Arc::strong_count(&link.inbound), 1 + link.handles.len(), "a handle is left");
        }
    }
}

/// The account is a thread's: what came to one and is released by another goes with the other one's.
#[test]
fn a_handle_of_one_thread_may_be_given_back_by_another_in_its_own_batch() {
    let mut link = Link::new();
    let batch = ReleaseBatch::begin();
    let handles: Vec<_> = (0..100).map(|_| link.inbound.share()).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _batch = ReleaseBatch::begin();
            for (token, handle) in handles.into_iter().enumerate() {
                handle.give_back(Return::Token(token as u32), 0);
            }
        });
    });
    link.read();
    assert_eq!(link.told.tokens, (0..100).collect::<Vec<_>>());
    drop(batch);
    assert_eq!(Arc::strong_count(&link.inbound), 1);
}
