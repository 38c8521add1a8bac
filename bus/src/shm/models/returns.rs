//! Models of the return ring.

use std::sync::Arc;

use loom::thread;

use super::{Bytes, explore, returns, words};
use crate::shm::{returns::Return, sync::Ordering};

/// What the receiver gives back for message `n`: of both kinds, and each of them different.
fn nth(n: u32) -> Return {
    if n.is_multiple_of(2) {
        Return::Token(n)
    } else {
        Return::Credit {
            route: n as u16,
            count: 1,
        }
    }
}

#[test]
fn the_return_ring_neither_loses_nor_repeats_across_wraps() {
    const MESSAGES: u32 = 5;
    explore(4, || {
        let (mut writer, mut reader) = returns(2);
        // Stands for the IO queue: how many messages were sent.
        let sent = words(1);
        let bytes = Arc::new(Bytes::some(2));
        let receiver = thread::spawn({
            let (sent, bytes) = (sent.clone(), bytes.clone());
            move || {
                for n in 0..MESSAGES {
                    while sent[0].load(Ordering::Acquire) <= u64::from(n) {
                        thread::yield_now();
                    }
                    assert_eq!(bytes[n as usize % 2].read(), u64::from(n));
                    writer.push(nth(n));
                }
            }
        });
        let mut back = 0;
        for n in 0..MESSAGES {
            // The sender counts, so that the ring always has room: two entries, two messages.
            while n - back == 2 {
                match reader.pop().unwrap() {
                    Some(what) => {
                        assert_eq!(what, nth(back), "lost, repeated or out of order");
                        back += 1;
                    }
                    None => thread::yield_now(),
                }
            }
            bytes[n as usize % 2].write(u64::from(n));
            sent[0].store(u64::from(n) + 1, Ordering::Release);
        }
        receiver.join().unwrap();
        while let Some(what) = reader.pop().unwrap() {
            assert_eq!(what, nth(back));
            back += 1;
        }
        assert_eq!(back, MESSAGES);
    });
}
