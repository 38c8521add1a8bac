//! Models of the life of a buffer: ledger, IO queue and return ring together.

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

/// The sending process: what `Pool` and `Link` do with these parts, in the same order and under the same locks.
struct Sender {
    books: Mutex<Ledger>,
    sending: Mutex<Sending>,
    /// The bytes of each buffer.
    bytes: Arc<Vec<Bytes>>,
}

struct Sending {
    producer: Producer,
    returns: ReturnReader,
    /// Which buffers the receiver holds, by token.
    tokens: Vec<Option<BufferId>>,
}

/// The largest class has one buffer per block, so the books hold exactly so many.
fn pair(buffers: usize) -> (Arc<Sender>, Consumer, ReturnWriter, Arc<Vec<Bytes>>) {
    let (producer, consumer) = ring(2);
    let (writer, reader) = returns(4);
    let mut ledger = Ledger::new(LEAST_BLOCK);
    assert_eq!(ledger.add_segment(0, buffers * LEAST_BLOCK), buffers);
    let bytes = Arc::new(Bytes::some(buffers));
    let sending = Sending {
        producer,
        returns: reader,
        tokens: Vec::new(),
    };
    let sender = Sender {
        books: Mutex::new(ledger),
        sending: Mutex::new(sending),
        bytes: bytes.clone(),
    };
    (Arc::new(sender), consumer, writer, bytes)
}

impl Sender {
    fn take(&self) -> Option<BufferId> {
        lock(&self.books).take_block()
    }

    /// Sends `value` if a buffer and a slot can be had.
    fn try_send(&self, value: u64) -> bool {
        let mut taken = self.take();
        if taken.is_none() {
            self.take_returns(&mut lock(&self.sending));
            taken = self.take();
        }
        let Some(id) = taken else { return false };
        let at = lock(&self.books).locate(id);
        // Written under no lock, as a message is archived.
        self.bytes[at.offset / LEAST_BLOCK].write(value);
        let mut sending = lock(&self.sending);
        if !sending.producer.has_room(1).unwrap() {
            lock(&self.books).release(id);
            return false;
        }
        sending.tokens.push(Some(id));
        let token = sending.tokens.len() as u32 - 1;
        let mut descriptor = Descriptor::new(SlotKind::Tell, 0, 0, 0, value);
        descriptor.set_buffer(BufferRef {
            segment: at.segment,
            token,
            offset: at.offset as u64,
            len: 8,
        });
        sending.producer.push(&descriptor);
        true
    }

    fn send(&self, value: u64) {
        while !self.try_send(value) {
            thread::yield_now();
        }
    }

    fn take_returns(&self, sending: &mut Sending) {
        while let Some(what) = sending.returns.pop().unwrap() {
            let Return::Token(token) = what else {
                panic!("nobody gave that back: {what:?}")
            };
            let id = sending.tokens[token as usize].take().expect("given back twice");
            assert!(lock(&self.books).release(id));
        }
    }

    /// Everything is back, and nothing more than that.
    fn settle(&self) {
        let mut sending = lock(&self.sending);
        self.take_returns(&mut sending);
        assert!(sending.tokens.iter().all(Option::is_none), "a buffer was lost");
        assert_eq!(lock(&self.books).used(), 0);
    }
}

/// The next message's buffer.
fn receive(consumer: &mut Consumer) -> (u64, BufferRef) {
    let descriptor = loop {
        match read_next(consumer) {
            Some(descriptor) => break descriptor,
            None => thread::yield_now(),
        }
    };
    consumer.pass(descriptor.head);
    consumer.publish();
    (descriptor.correlation(), descriptor.buffer().unwrap())
}

#[test]
fn a_buffer_is_written_again_only_after_its_reader_has_finished() {
    explore(4, || {
        let (sender, mut consumer, mut writer, bytes) = pair(1);
        let sending = thread::spawn({
            let sender = sender.clone();
            move || {
                for value in 1..=3 {
                    sender.send(value);
                }
            }
        });
        for value in 1..=3 {
            let (said, buffer) = receive(&mut consumer);
            assert_eq!(said, value);
            assert_eq!(
                bytes[buffer.offset as usize / LEAST_BLOCK].read(),
                value,
                "written while it was read"
            );
            writer.push(Return::Token(buffer.token));
        }
        sending.join().unwrap();
        sender.settle();
    });
}

#[test]
fn two_sending_threads_never_share_a_buffer() {
    explore(3, || {
        let (sender, mut consumer, mut writer, bytes) = pair(1);
        // Both want the one buffer; who does not get it goes without.
        let threads = [[10, 11], [20, 21]].map(|values| {
            let sender = sender.clone();
            thread::spawn(move || values.iter().filter(|value| sender.try_send(**value)).count())
        });
        let mut received = 0;
        let mut look = || {
            let Some(descriptor) = read_next(&mut consumer) else {
                return false;
            };
            let buffer = descriptor.buffer().unwrap();
            consumer.pass(descriptor.head);
            consumer.publish();
            let found = bytes[buffer.offset as usize / LEAST_BLOCK].read();
            assert_eq!(found, descriptor.correlation(), "another message's bytes");
            writer.push(Return::Token(buffer.token));
            received += 1;
            true
        };
        for _ in 0..3 {
            look();
        }
        let sent: usize = threads.map(|thread| thread.join().unwrap()).iter().sum();
        while look() {}
        assert_eq!(received, sent, "lost or repeated");
        assert!(sent >= 1);
        sender.settle();
    });
}

#[test]
fn a_message_may_be_released_by_another_thread_than_it_came_to() {
    explore(3, || {
        let (sender, mut consumer, writer, bytes) = pair(2);
        let writer = Arc::new(Mutex::new(writer));
        let sending = thread::spawn({
            let sender = sender.clone();
            move || {
                for value in 1..=3 {
                    sender.send(value);
                }
            }
        });
        let release = |writer: &Mutex<ReturnWriter>, bytes: &[Bytes], value, buffer: BufferRef| {
            assert_eq!(
                bytes[buffer.offset as usize / LEAST_BLOCK].read(),
                value,
                "written while it was read"
            );
            lock(writer).push(Return::Token(buffer.token));
        };
        let (value, buffer) = receive(&mut consumer);
        let elsewhere = thread::spawn({
            let (writer, bytes) = (writer.clone(), bytes.clone());
            move || release(&writer, &bytes, value, buffer)
        });
        for _ in 0..2 {
            let (value, buffer) = receive(&mut consumer);
            release(&writer, &bytes, value, buffer);
        }
        elsewhere.join().unwrap();
        sending.join().unwrap();
        sender.settle();
    });
}
