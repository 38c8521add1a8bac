//! Models of what a peer keeps after its link has ended (`session/link/left.rs`): the tokens stay on the link's table until
//! the return ring brings them, or the kernel says that nobody is there. The steps are those of `Link::lose`,
//! `Left::collect`, `Left::abandon` and `Node::close`, under the same locks.

use std::sync::Arc;

use loom::thread;

use super::{Bytes, explore, returns};
use crate::shm::{
    ledger::{BufferId, LEAST_BLOCK, Ledger},
    returns::{Return, ReturnReader, ReturnWriter},
    sync::{AtomicBool, Mutex, Ordering, lock},
};

/// Messages that were sent before the link ended.
const SENT: usize = 2;

struct Node {
    books: Mutex<Books>,
    sending: Mutex<Sending>,
    bytes: Arc<Vec<Bytes>>,
    /// The kernel's word that the other end of the socket is closed. Release and Acquire: that it is has happened after
    /// everything that the peer did.
    hung_up: AtomicBool,
}

struct Books {
    ledger: Ledger,
    retired: bool,
}

struct Sending {
    returns: ReturnReader,
    tokens: Vec<Option<BufferId>>,
    lost: bool,
    abandoned: bool,
}

/// The peer holds all the buffers there are; their bytes say 1.
fn pair() -> (Arc<Node>, ReturnWriter) {
    let (writer, returns) = returns(SENT);
    let mut ledger = Ledger::new(LEAST_BLOCK);
    assert_eq!(ledger.add_segment(0, SENT * LEAST_BLOCK), SENT);
    let bytes = Arc::new(Bytes::some(SENT));
    let tokens = (0..SENT).map(|token| {
        let id = ledger.take_block().unwrap();
        // Each token has the buffer of its number.
        assert_eq!(ledger.locate(id).offset / LEAST_BLOCK, token);
        bytes[token].write(1);
        Some(id)
    });
    let sending = Sending {
        returns,
        tokens: tokens.collect(),
        lost: false,
        abandoned: false,
    };
    let books = Books {
        ledger,
        retired: false,
    };
    let node = Node {
        books: Mutex::new(books),
        sending: Mutex::new(sending),
        bytes,
        hung_up: AtomicBool::new(false),
    };
    (Arc::new(node), writer)
}

impl Node {
    /// `Pool::release`.
    fn release(&self, id: BufferId) {
        let mut books = lock(&self.books);
        if !books.retired {
            assert!(books.ledger.release(id));
        }
    }

    /// `Link::take_returns`.
    fn take_returns(&self, sending: &mut Sending) {
        while let Some(what) = sending.returns.pop().unwrap() {
            let Return::Token(token) = what else {
                panic!("{what:?}")
            };
            match sending.tokens[token as usize].take() {
                Some(id) => self.release(id),
                // It was believed gone with its reader: a return that makes no sense any more, and changes nothing.
                None => assert!(sending.abandoned, "given back twice"),
            }
        }
    }

    /// `Sending::abandon_tokens`.
    fn abandon_tokens(&self, sending: &mut Sending) {
        sending.abandoned = true;
        for id in sending.tokens.iter_mut().filter_map(Option::take) {
            self.release(id);
        }
    }

    /// `Link::lose`.
    fn lose(&self) {
        let is_gone = self.hung_up.load(Ordering::Acquire);
        let mut sending = lock(&self.sending);
        self.take_returns(&mut sending);
        sending.lost = true;
        if is_gone {
            self.abandon_tokens(&mut sending);
        }
    }

    /// `Left::collect`, which looks at links that have ended only.
    fn collect(&self) {
        let mut sending = lock(&self.sending);
        if sending.lost {
            self.take_returns(&mut sending);
        }
    }

    /// `Left::abandon`, when the session's task has seen the socket closed.
    fn abandon(&self) {
        if self.hung_up.load(Ordering::Acquire) {
            self.abandon_tokens(&mut lock(&self.sending));
        }
    }

    /// A message for somebody else, into any buffer that can be had. Whether there was one.
    fn write_another(&self) -> bool {
        let Some(id) = lock(&self.books).ledger.take_block() else {
            return false;
        };
        let at = lock(&self.books).ledger.locate(id);
        self.bytes[at.offset / LEAST_BLOCK].write(2);
        true
    }

    fn are_all_back(&self) -> bool {
        let sending = lock(&self.sending);
        sending.tokens.iter().all(Option::is_none)
    }
}

/// The peer: reads what it keeps, releases `released` messages of it, and closes its socket when it has read the rest.
fn keep(node: &Node, mut writer: ReturnWriter, released: usize) {
    for token in 0..SENT {
        assert_eq!(node.bytes[token].read(), 1, "written while it was kept");
        if token < released {
            writer.push(Return::Token(token as u32));
        }
    }
    for token in released..SENT {
        assert_eq!(node.bytes[token].read(), 1, "written while it was kept");
    }
    node.hung_up.store(true, Ordering::Release);
}

#[test]
fn what_is_kept_after_a_links_end_is_not_written_before_it_is_released_or_its_reader_gone() {
    for released in 0..=SENT {
        explore(4, move || {
            let (node, writer) = pair();
            let peer = thread::spawn({
                let node = node.clone();
                move || keep(&node, writer, released)
            });
            node.lose();
            node.write_another();
            node.collect();
            node.write_another();
            node.abandon();
            node.write_another();
            peer.join().unwrap();
            node.collect();
            if released < SENT {
                node.abandon();
            }
            assert!(node.are_all_back());
        });
    }
}

#[test]
fn what_comes_back_while_its_reader_goes_comes_back_once() {
    explore(4, || {
        let (node, writer) = pair();
        let peer = thread::spawn({
            let node = node.clone();
            move || keep(&node, writer, SENT)
        });
        let watching = thread::spawn({
            let node = node.clone();
            move || node.abandon()
        });
        node.lose();
        node.collect();
        for thread in [peer, watching] {
            thread.join().unwrap();
        }
        node.abandon();
        assert!(node.are_all_back());
        assert_eq!(lock(&node.books).ledger.used(), 0);
    });
}

#[test]
fn a_retired_pool_writes_nothing_that_was_sent_even_if_its_return_comes_meanwhile() {
    explore(4, || {
        let (node, writer) = pair();
        let peer = thread::spawn({
            let node = node.clone();
            move || keep(&node, writer, 1)
        });
        let other = thread::spawn({
            let node = node.clone();
            move || node.lose()
        });
        lock(&node.books).retired = true;
        let before = lock(&node.books).ledger.used();
        node.collect();
        node.abandon();
        assert_eq!(lock(&node.books).ledger.used(), before, "given out again");
        node.write_another();
        for thread in [peer, other] {
            thread.join().unwrap();
        }
    });
}
