//! Models of the IO queue.

use std::sync::Arc;

use loom::thread;

use super::{Bytes, explore, long, message, read_next, ring, said};
use crate::shm::{
    layout::{INLINE_BYTES, SLOT_BYTES},
    sync::{Mutex, lock},
};

#[test]
fn a_published_slot_is_never_seen_torn_or_early() {
    explore(6, || {
        let (mut producer, mut consumer) = ring(4);
        let bytes = Arc::new(Bytes::some(2));
        let sender = thread::spawn({
            let bytes = bytes.clone();
            move || {
                for n in 0..2 {
                    bytes[usize::from(n)].write(u64::from(n) + 7);
                    assert!(producer.has_room(1).unwrap());
                    producer.push(&message(n));
                }
            }
        });
        let mut read = 0;
        let mut look = |looks: usize| {
            for _ in 0..looks {
                let Some(descriptor) = read_next(&mut consumer) else {
                    continue;
                };
                assert_eq!(said(&descriptor), read, "out of turn");
                assert_eq!(
                    bytes[usize::from(read)].read(),
                    u64::from(read) + 7,
                    "published before it was written"
                );
                consumer.pass(descriptor.head);
                read += 1;
            }
        };
        look(3);
        sender.join().unwrap();
        look(2);
        assert_eq!(read, 2, "a message was lost");
    });
}

/// Two slots and `messages`; the reader tells its position after every `tell_every` of them.
fn two_slots(messages: u8, tell_every: u8) {
    let (mut producer, mut consumer) = ring(2);
    // What a slot's words carry: the consumer may use it until it has passed the slot and said so.
    let bytes = Arc::new(Bytes::some(2));
    let sender = thread::spawn({
        let bytes = bytes.clone();
        move || {
            for n in 0..messages {
                while !producer.has_room(1).unwrap() {
                    thread::yield_now();
                }
                bytes[usize::from(n % 2)].write(u64::from(n));
                producer.push(&message(n));
            }
        }
    });
    for n in 0..messages {
        let descriptor = loop {
            match read_next(&mut consumer) {
                Some(descriptor) => break descriptor,
                None => thread::yield_now(),
            }
        };
        assert_eq!(said(&descriptor), n);
        assert_eq!(
            bytes[usize::from(n % 2)].read(),
            u64::from(n),
            "overwritten while it was read"
        );
        consumer.pass(descriptor.head);
        if (n + 1) % tell_every == 0 {
            assert!(consumer.publish());
            assert!(!consumer.publish(), "nothing new to tell");
        }
    }
    sender.join().unwrap();
    assert!(read_next(&mut consumer).is_none());
}

#[test]
fn a_slot_is_never_overwritten_while_it_is_read() {
    explore(4, || two_slots(4, 1));
}

#[test]
fn a_position_told_late_is_as_good() {
    explore(5, || two_slots(4, 2));
}

#[test]
fn two_producer_threads_lose_and_duplicate_nothing() {
    explore(3, || {
        let (producer, mut consumer) = ring(2);
        let producer = Arc::new(Mutex::new(producer));
        let bytes = Arc::new(Bytes::some(2));
        // One thread says 0x10, 0x11, the other one 0x20, into two slots.
        let senders = [(0x10, 2), (0x20, 1)].map(|(first, count)| {
            let (producer, bytes) = (producer.clone(), bytes.clone());
            thread::spawn(move || {
                for n in first..first + count {
                    loop {
                        let mut producer = lock(&producer);
                        if producer.has_room(1).unwrap() {
                            bytes[usize::from(n == 0x20)].write(u64::from(n));
                            producer.push(&message(n));
                            break;
                        }
                        drop(producer);
                        thread::yield_now();
                    }
                }
            })
        });
        let mut next = [0x10, 0x20];
        for _ in 0..3 {
            let descriptor = loop {
                match read_next(&mut consumer) {
                    Some(descriptor) => break descriptor,
                    None => thread::yield_now(),
                }
            };
            let n = said(&descriptor);
            let sender = usize::from(n >= 0x20);
            assert_eq!(n, next[sender], "lost, repeated or out of order");
            next[sender] += 1;
            consumer.pass(descriptor.head);
            consumer.publish();
        }
        for sender in senders {
            sender.join().unwrap();
        }
        assert_eq!(next, [0x12, 0x21]);
        assert!(read_next(&mut consumer).is_none(), "one message too many");
    });
}

#[test]
fn a_message_of_two_slots_is_seen_whole_or_not_at_all() {
    explore(4, || {
        // One slot, then two that go round the end of the ring, and two that overwrite the first ones.
        let (mut producer, mut consumer) = ring(2);
        let lengths = [SLOT_BYTES, INLINE_BYTES, INLINE_BYTES];
        let sender = thread::spawn(move || {
            for (n, len) in (0..).zip(lengths) {
                let message = long(n, len);
                while !producer.has_room(message.slots()).unwrap() {
                    thread::yield_now();
                }
                producer.push(&message);
            }
        });
        for (n, len) in (0..).zip(lengths) {
            let descriptor = loop {
                match read_next(&mut consumer) {
                    Some(descriptor) => break descriptor,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(said(&descriptor), n);
            assert_eq!(descriptor.inline().unwrap().len(), len);
            consumer.pass(descriptor.head);
            consumer.publish();
        }
        sender.join().unwrap();
        assert!(read_next(&mut consumer).is_none());
    });
}
