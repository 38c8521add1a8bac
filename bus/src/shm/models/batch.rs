//! Models of batches: one buffer with many messages, each of which has its own place in the window and is released by
//! whoever read it, in whatever order. The accounting is that of `Link` (`Sending::count`, `settle`, `Link::try_batch`) and
//! of `Unbatch` and `Lease`, in the same order and under the same locks.

use std::sync::Arc;

use loom::thread;

use super::{Bytes, explore, read_next, returns, ring};
use crate::shm::{
    descriptor::{BufferRef, Descriptor, SlotKind},
    ledger::{BufferId, LEAST_BLOCK, Ledger},
    returns::{Return, ReturnReader, ReturnWriter},
    ring::{Consumer, Producer},
    sync::{Mutex, lock},
};

/// Messages of a batch.
const MESSAGES: u32 = 2;
/// Entries of the return ring: one batch, and no second one before the first is released.
const ENTRIES: u32 = 4;
const ROUTE: u16 = 3;

struct Sender {
    books: Ledger,
    producer: Producer,
    returns: ReturnReader,
    tokens: Vec<Option<BufferId>>,
    bytes: Arc<Vec<Bytes>>,
    window: u32,
    /// Unreleased messages.
    held: u32,
    /// What the return ring still has to account for: those, and batches as such.
    unreturned: u32,
}

impl Sender {
    /// A batch, each message of which says `value`, if there is room.
    fn try_batch(&mut self, value: u64) -> bool {
        let fits =
            |sender: &Self| sender.held + MESSAGES <= sender.window && sender.unreturned + MESSAGES < ENTRIES;
        if !fits(self) {
            self.take_returns();
        }
        if !fits(self) || !self.producer.has_room(1).unwrap() {
            return false;
        }
        let Some(id) = self.books.take_block() else {
            self.take_returns();
            return false;
        };
        let at = self.books.locate(id);
        self.bytes[at.offset / LEAST_BLOCK].write(value);
        self.tokens.push(Some(id));
        let mut descriptor = Descriptor::new(SlotKind::Tell, 0, 0, ROUTE, value);
        descriptor.set_buffer(BufferRef {
            segment: at.segment,
            token: self.tokens.len() as u32 - 1,
            offset: at.offset as u64,
            len: 8,
        });
        self.producer.push(&descriptor);
        self.held += MESSAGES;
        self.unreturned += MESSAGES + 1;
        true
    }

    fn take_returns(&mut self) {
        while let Some(what) = self.returns.pop().unwrap() {
            let less = match what {
                Return::Token(token) => {
                    let id = self.tokens[token as usize].take().expect("given back twice");
                    assert!(self.books.release(id));
                    1
                }
                Return::Credit { route: ROUTE, count } => {
                    let count = u32::from(count);
                    self.held = self.held.checked_sub(count).expect("given back twice");
                    count
                }
                other => panic!("nobody gave that back: {other:?}"),
            };
            self.unreturned = self.unreturned.checked_sub(less).expect("given back twice");
        }
    }

    fn settle(&mut self) {
        self.take_returns();
        assert_eq!((self.held, self.unreturned), (0, 0), "lost on its way back");
        assert!(self.tokens.iter().all(Option::is_none) && self.books.used() == 0);
    }
}

/// `Lease` of a batch as a whole, which its parts share: the last of them gives the buffer back.
struct Whole {
    token: u32,
    writer: Arc<Mutex<ReturnWriter>>,
}

impl Drop for Whole {
    fn drop(&mut self) {
        lock(&self.writer).push(Return::Token(self.token));
    }
}

/// One message of it.
struct Part {
    whole: loom::sync::Arc<Whole>,
    bytes: Arc<Vec<Bytes>>,
    at: usize,
    value: u64,
}

impl Part {
    fn read(&self) {
        assert_eq!(
            self.bytes[self.at].read(),
            self.value,
            "written while it was read"
        );
    }

    /// Its place in the window first, then its hold on the batch: the order of `Lease::drop` and of what drops after it.
    fn release(self) {
        lock(&self.whole.writer).push(Return::Credit {
            route: ROUTE,
            count: 1,
        });
    }
}

struct Receiver {
    consumer: Consumer,
    writer: Arc<Mutex<ReturnWriter>>,
    bytes: Arc<Vec<Bytes>>,
}

impl Receiver {
    /// The messages of the next batch.
    fn batch(&mut self) -> [Part; MESSAGES as usize] {
        let descriptor = loop {
            match read_next(&mut self.consumer) {
                Some(descriptor) => break descriptor,
                None => thread::yield_now(),
            }
        };
        self.consumer.pass(descriptor.head);
        self.consumer.publish();
        let buffer = descriptor.buffer().unwrap();
        let whole = loom::sync::Arc::new(Whole {
            token: buffer.token,
            writer: self.writer.clone(),
        });
        [0; MESSAGES as usize].map(|_| Part {
            whole: whole.clone(),
            bytes: self.bytes.clone(),
            at: buffer.offset as usize / LEAST_BLOCK,
            value: descriptor.correlation(),
        })
    }
}

/// A window of so many messages, and so many buffers.
fn pair(window: u32, buffers: usize) -> (Sender, Receiver) {
    let (producer, consumer) = ring(2);
    let (writer, returns) = returns(ENTRIES as usize);
    let mut books = Ledger::new(LEAST_BLOCK);
    assert_eq!(books.add_segment(0, buffers * LEAST_BLOCK), buffers);
    let bytes = Arc::new(Bytes::some(buffers));
    let receiver = Receiver {
        consumer,
        writer: Arc::new(Mutex::new(writer)),
        bytes: bytes.clone(),
    };
    let sender = Sender {
        books,
        producer,
        returns,
        tokens: Vec::new(),
        bytes,
        window,
        held: 0,
        unreturned: 0,
    };
    (sender, receiver)
}

/// Tries to send another batch, so often, and gives whether it was sent.
fn try_another(mut sender: Sender, tries: usize) -> (Sender, bool) {
    let sent = (0..tries).any(|_| sender.try_batch(2));
    (sender, sent)
}

#[test]
fn a_batchs_memory_is_written_again_only_after_its_last_reader_in_whatever_thread() {
    explore(4, || {
        let (mut sender, mut receiver) = pair(2 * MESSAGES, 1);
        assert!(sender.try_batch(1));
        let [here, there] = receiver.batch();
        let sending = thread::spawn(move || try_another(sender, 2));
        let elsewhere = thread::spawn(move || {
            there.read();
            there.release();
        });
        here.read();
        here.release();
        elsewhere.join().unwrap();
        let (mut sender, sent) = sending.join().unwrap();
        if sent {
            for part in receiver.batch() {
                part.read();
                part.release();
            }
        }
        sender.settle();
    });
}

#[test]
fn each_message_of_a_batch_gives_back_its_place_once_and_the_batch_its_own() {
    explore(4, || {
        // No second batch before every message of the first is released.
        let (mut sender, mut receiver) = pair(MESSAGES, 2);
        assert!(sender.try_batch(1));
        let sending = thread::spawn(move || try_another(sender, 2));
        let [first, second] = receiver.batch();
        second.release();
        first.read();
        first.release();
        let (mut sender, sent) = sending.join().unwrap();
        if sent {
            for part in receiver.batch() {
                part.read();
                part.release();
            }
        }
        sender.settle();
    });
}

#[test]
fn the_return_ring_has_an_entry_for_each_message_of_a_batch_and_one_for_the_batch() {
    explore(4, || {
        // Room for both in the window, and memory, but not in the return ring.
        let (mut sender, mut receiver) = pair(2 * MESSAGES, 2);
        assert!(sender.try_batch(1));
        let sending = thread::spawn(move || try_another(sender, 2));
        for part in receiver.batch() {
            part.release();
        }
        let (mut sender, sent) = sending.join().unwrap();
        if sent {
            for part in receiver.batch() {
                part.release();
            }
        }
        sender.settle();
    });
}
