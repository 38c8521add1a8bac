//! Messages of another user, who may change them at any time.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::*;
use crate::{
    message::Refused,
    shm::{
        bell::Bell,
        descriptor::{BufferRef, Descriptor, SlotKind},
        doorbell::Ringer,
        inbound::Inbound,
        memory::PeerMemory,
        pool::{Buffer, Pool},
        returns::{Return, ReturnReader, ReturnWriter},
        room::Room,
        segment::{LinkParts, Mapping},
    },
};

const TOKEN: u32 = 5;

/// A sender that keeps its buffer writable after it has sent it, and the receiving end.
struct Hostile {
    buffer: Buffer,
    len: usize,
    inbound: Arc<Inbound>,
    returned: ReturnReader,
    violations: Arc<AtomicU32>,
}

impl Hostile {
    fn sends(bytes: &[u8]) -> Self {
        let pool = Pool::new(4 << 20, 4 << 20);
        let mut buffer = pool.take(bytes.len()).unwrap();
        buffer.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        let segment = pool.segment(0).unwrap();
        let fd = segment.fd().try_clone_to_owned().unwrap();
        let memory = PeerMemory::new(8, true);
        memory.add(0, Mapping::import(&fd, 4 << 20).unwrap()).unwrap();
        let (_, parts) = LinkParts::create(16, 32).unwrap();
        let violations = Arc::new(AtomicU32::new(0));
        let inbound = Inbound::new(
            ReturnWriter::new(parts.returns.clone()),
            memory,
            Ringer::new(parts.waiting),
            Bell::new().unwrap(),
            1 << 20,
            Arc::new(Room::new(1)),
            {
                let violations = violations.clone();
                move |_| {
                    violations.fetch_add(1, Ordering::Relaxed);
                }
            },
        );
        Self {
            buffer,
            len: bytes.len(),
            inbound,
            returned: ReturnReader::new(parts.returns),
            violations,
        }
    }

    fn open<T: ShmType>(&self, trust: Trust) -> Result<Received<T>, Refused> {
        let mut descriptor = Descriptor::new(SlotKind::Tell, 0, 0, 0, 0);
        descriptor.set_buffer(BufferRef {
            segment: 0,
            token: TOKEN,
            offset: self.buffer.offset() as u64,
            len: self.len as u64,
        });
        Received::open(self.inbound.clone(), &descriptor, trust, |message| message)
    }
}

#[test]
fn what_its_sender_changes_later_is_not_seen() {
    for len in [1usize, 7, 8, 9, 1000] {
        let text: String = "abcdefgh".chars().cycle().take(len).collect();
        let value = (text.clone(), vec![len as u64; len]);
        let mut hostile = Hostile::sends(&archived(&value));
        let received = hostile.open::<(String, Vec<u64>)>(Trust::Checked).unwrap();
        hostile.buffer.bytes_mut().fill(0xff);
        assert_eq!(received.to_owned(), value);
        // What is kept counts as kept; it is given back once.
        assert_eq!(hostile.returned.pop().unwrap(), None);
        drop(received);
        assert_eq!(hostile.returned.pop().unwrap(), Some(Return::Token(TOKEN)));
        assert_eq!(hostile.returned.pop().unwrap(), None);
        assert_eq!(hostile.violations.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn malformed_messages_are_refused_and_reported_whatever_is_promised() {
    // SAFETY: nothing of another user is read through it.
    let unchecked = unsafe { Trust::unchecked() };
    for trust in [Trust::Checked, unchecked] {
        let mut bytes = archived(&vec![1u32, 2, 3]);
        let last = bytes.len() - 4;
        bytes[last] = 200;
        let hostile = Hostile::sends(&bytes);
        match hostile.open::<Vec<u32>>(trust) {
            Err(Refused::Archive(refused)) => refused.0.violated(crate::shm::checked::Violation::Archive),
            other => panic!("{:?}", other.map(|_| ())),
        }
        assert_eq!(hostile.violations.load(Ordering::Relaxed), 1);
    }
}
