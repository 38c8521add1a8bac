//! The parts that `shmbus-benches` measures by themselves. Not part of the public interface.

use std::{io, os::fd::AsFd, sync::Arc};

use crate::{
    message::{ShmType, archive_into, check},
    shm::{
        descriptor::{Descriptor, SlotKind},
        pool::{Buffer, Pool},
        returns::{Return, ReturnReader, ReturnWriter},
        ring::{Consumer, Producer},
        segment::{LinkParts, Segment},
    },
};

/// Archives a value at the start of `into`. Returns the archive's length, if it fits.
pub fn archive<T: ShmType>(value: &T, into: &mut [u8]) -> Option<usize> {
    archive_into(value, into).ok()
}

/// Whether these bytes are an archive of `T`: the check at each delivery.
#[must_use]
pub fn check<T: ShmType>(bytes: &[u8]) -> bool {
    check::check::<T>(bytes).is_ok()
}

/// Both rings of a link, over two segments that each end maps as it does between processes.
///
/// # Errors
/// Where the kernel gives no memory.
pub fn link(slots: u32, returns: u32) -> io::Result<(Sender, Receiver)> {
    let end = || LinkParts::create(slots, returns).map_err(|error| error.source);
    let foreign = |segment: &Segment| {
        let fd = segment.fd().as_fd().try_clone_to_owned()?;
        LinkParts::import(&fd, segment.bytes() as u64, slots, returns)
    };
    let ((sending, ours), (receiving, theirs)) = (end()?, end()?);
    let (seen, peer) = (foreign(&sending)?, foreign(&receiving)?);
    let sender = Sender {
        producer: Producer::new(ours.slots, peer.head),
        returns: ReturnReader::new(peer.returns),
    };
    let receiver = Receiver {
        consumer: Consumer::new(seen.slots, theirs.head),
        returns: ReturnWriter::new(theirs.returns),
    };
    Ok((sender, receiver))
}

/// Writes slots, reads returns.
#[derive(Debug)]
pub struct Sender {
    producer: Producer,
    returns: ReturnReader,
}

/// Reads slots, writes returns.
#[derive(Debug)]
pub struct Receiver {
    consumer: Consumer,
    returns: ReturnWriter,
}

impl Sender {
    /// Writes a slot with this payload, if there is room.
    pub fn push(&mut self, payload: &[u8; 40]) -> bool {
        if !self.producer.has_room(1).is_ok_and(|room| room) {
            return false;
        }
        let mut descriptor = Descriptor::new(SlotKind::Tell, 0, 0, 0, 0);
        descriptor.inline_mut()[..40].copy_from_slice(payload);
        descriptor.set_inline_len(40);
        self.producer.push(&descriptor);
        true
    }

    /// The token of a buffer that was given back.
    pub fn returned(&mut self) -> Option<u32> {
        match self.returns.pop() {
            Ok(Some(Return::Token(token))) => Some(token),
            _ => None,
        }
    }
}

impl Receiver {
    /// The first word of the next slot's payload, if there is one.
    pub fn pop(&mut self) -> Option<u64> {
        let head = self.consumer.peek().ok()??;
        let mut descriptor = Descriptor::EMPTY;
        self.consumer.read(head, &mut descriptor).ok()?;
        self.consumer.pass(head);
        Some(descriptor.word(0))
    }

    /// Tells the sender how far this end has read.
    pub fn publish(&mut self) {
        self.consumer.publish();
    }

    /// Gives a buffer back.
    pub fn give_back(&mut self, token: u32) {
        self.returns.push(Return::Token(token));
    }
}

/// A node's pool.
#[derive(Debug)]
pub struct Memory(Arc<Pool>);

/// One of its buffers, given back when dropped.
#[derive(Debug)]
pub struct Piece(Buffer);

impl Memory {
    /// A pool of at most so many bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self(Pool::new(limit.min(64 << 20), limit))
    }

    /// A buffer of at least so many bytes, if there is one.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Option<Piece> {
        self.0.take(bytes).ok().map(Piece)
    }
}

impl Piece {
    /// Its memory.
    pub fn bytes(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
}
