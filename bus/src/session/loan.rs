//! Memory for what is produced in place: a payload, or a whole message of a fixed size.
//!
//! A payload lies at the start of a buffer, the rest of the message behind it: the archive begins with
//! the payload. How much that rest takes is known only when the message is made, so a loan keeps some room for it,
//! and where that does not do, the payload is copied once, into a buffer that does, and the copy is counted.

use std::{alloc::Layout, sync::Arc};

use super::{
    link::Parcel,
    node::Node,
    parcel::{Packing, buffer, with_memory},
};
use crate::{
    error::SendError,
    message::{ArchiveError, Bulk, FixedSize, InPlace, Mark, Memory, ShmMessage, ShmRoot, archive_behind},
    shm::pool::{Buffer, Pool},
};

/// Room kept for what a message holds besides its payload and its root (text, lists), in bytes.
const SLACK: usize = 256;

/// A payload's memory, not sent yet. Dropped, it goes back to the pool.
#[derive(Debug)]
pub(crate) struct Lent(Memory);

/// Where the memory comes from, and how much there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) pool: &'a Arc<Pool>,
    /// Largest message, in bytes.
    pub(crate) limit: usize,
}

/// Who asks for memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lender<'a> {
    pub(crate) node: &'a Node,
    /// What the message is for, for errors.
    pub(crate) name: &'a str,
    pub(crate) from: Source<'a>,
}

impl Lender<'_> {
    /// As [`Lent::take`], once more with what any peer has released if need be.
    pub(crate) fn lend<T: ShmRoot>(self, len: usize, mut warm: impl FnMut(usize)) -> Result<Lent, SendError> {
        let root = Layout::new::<T::Archived>();
        let take = |()| Lent::take(len, root, self.from, &mut warm).map_err(|why| ((), why));
        with_memory(self.node, self.name, (), take).map_err(|((), error)| error)
    }

    /// As [`Lent::pack`], once more with what any peer has released if need be.
    pub(crate) fn seal<T: ShmRoot>(self, lent: Lent, value: &T) -> Result<Sealed, (Lent, SendError)> {
        let copied = || self.node.counters.loans_copied.add(1);
        with_memory(self.node, self.name, lent, |lent| {
            lent.pack(value, self.from, copied)
        })
    }

    /// Memory for a message of a fixed size, with `initial` in it; once more with what any peer has released if need
    /// be. `warm` as in [`Lent::take`].
    pub(crate) fn place<M: FixedSize>(
        self,
        initial: &M,
        mut warm: impl FnMut(usize),
    ) -> Result<InPlace<M>, SendError> {
        let Source { pool, limit } = self.from;
        let mut place = || {
            let bytes = InPlace::<M>::LEN;
            if bytes > limit {
                return Err(Packing::TooLarge { bytes, limit });
            }
            warm(bytes);
            InPlace::new(initial, buffer(pool, bytes)?).map_err(|error| match error {
                ArchiveError::Failed(problem) => Packing::Archive(problem),
                ArchiveError::TooSmall { needed } => {
                    Packing::Archive(format!("it says that it takes {bytes} bytes, and takes {needed}"))
                }
            })
        };
        let place = |()| place().map_err(|why| ((), why));
        with_memory(self.node, self.name, (), place).map_err(|((), error)| error)
    }
}

/// A message and the loan that holds its payload.
#[derive(Debug)]
pub(crate) struct Filled<T> {
    value: T,
    /// Taken when it is packed.
    lent: Option<Lent>,
}

impl<T: ShmRoot> Filled<T> {
    pub(crate) fn new(value: T, lent: Lent) -> Self {
        Self {
            value,
            lent: Some(lent),
        }
    }

    /// Its archive. Called again if it failed for want of memory.
    pub(crate) fn pack(&mut self, lender: Lender<'_>) -> Result<Parcel, SendError> {
        let lent = self.lent.take().expect("packed once");
        let sealed = lender.seal(lent, &self.value);
        sealed.map(Sealed::into_parcel).map_err(|(lent, why)| {
            self.lent = Some(lent);
            why
        })
    }
}

/// What was written in place, as it is sent: its type is no longer needed, and may be large. Taken when it is sent.
#[derive(Debug)]
pub(crate) struct Written(Option<Parcel>);

impl Written {
    pub(crate) fn new<M: ShmMessage>(written: InPlace<M>) -> Self {
        let (buffer, len) = written.into_parts();
        Self(Some(Parcel::Buffer(buffer, len)))
    }

    pub(crate) fn take(&mut self) -> Parcel {
        self.0.take().expect("packed once")
    }
}

/// Sends what was written in place. A refused parcel stays where it is, and comes back.
pub(crate) fn send_in_place<M: ShmMessage, E>(
    written: InPlace<M>,
    send: impl FnOnce(&mut Option<Parcel>) -> Result<(), E>,
) -> Result<(), (InPlace<M>, E)> {
    written.send(|buffer, len| send_buffer(buffer, len, send))
}

fn send_buffer<E>(
    buffer: Buffer,
    len: usize,
    send: impl FnOnce(&mut Option<Parcel>) -> Result<(), E>,
) -> Result<(), (Buffer, E)> {
    let mut parcel = Some(Parcel::Buffer(buffer, len));
    send(&mut parcel).map_err(|error| {
        let Some(Parcel::Buffer(buffer, _)) = parcel else {
            unreachable!("a refused parcel stays with its sender");
        };
        (buffer, error)
    })
}

/// Memory for `len` bytes and a root behind them; see [`Lent::take`].
pub(crate) fn room(
    len: usize,
    root: Layout,
    from: Source<'_>,
    warm: impl FnOnce(usize),
) -> Result<Buffer, Packing> {
    let least = len.saturating_add(root.size());
    if least > from.limit {
        return Err(Packing::TooLarge {
            bytes: least,
            limit: from.limit,
        });
    }
    // The root may have to be aligned. The slack alone is no reason for a segment of its own.
    let least = least + root.align() - 1;
    let bytes = (least + SLACK).min(from.pool.largest()).max(least);
    warm(bytes);
    buffer(from.pool, bytes)
}

impl Lent {
    /// Memory for `len` bytes of payload and the rest of a message whose root has this layout. `warm` is called with the
    /// size before memory is taken from the pool.
    pub(crate) fn take(
        len: usize,
        root: Layout,
        from: Source<'_>,
        warm: impl FnOnce(usize),
    ) -> Result<Self, Packing> {
        room(len, root, from, warm).map(|buffer| Self(Memory::new(buffer, len)))
    }

    /// The memory that a reply was written in, if it was in memory of this pool.
    pub(crate) fn of_reply<T: ShmRoot>(reply: &mut T, pool: &Arc<Pool>) -> Option<Self> {
        let memory = reply
            .bulk_mut()?
            .take_memory(|memory| memory.buffer.is_of(pool))?;
        Some(Self(memory))
    }

    /// The payload.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.payload()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.payload_mut()
    }

    /// What stands for the payload in the message.
    pub(crate) fn bulk(&self) -> Bulk {
        Bulk::lent(self.0.mark)
    }

    /// Archives the message behind the payload. `copied` is called if the payload had to be moved to a larger
    /// buffer for that. On failure the loan is still there, its payload unchanged.
    pub(crate) fn pack<T: ShmRoot>(
        mut self,
        value: &T,
        from: Source<'_>,
        copied: impl FnOnce(),
    ) -> Result<Sealed, (Self, Packing)> {
        let (limit, mark) = (from.limit, self.0.mark);
        let needed = match archive_behind(value, self.0.buffer.bytes_mut(), mark) {
            Ok(len) => return self.seal(len, limit),
            Err(ArchiveError::TooSmall { needed }) => needed,
            Err(ArchiveError::Failed(problem)) => return Err((self, Packing::Archive(problem))),
        };
        if needed > limit {
            return Err((self, Packing::TooLarge { bytes: needed, limit }));
        }
        let mut larger = match buffer(from.pool, needed) {
            Ok(larger) => larger,
            Err(error) => return Err((self, error)),
        };
        larger.bytes_mut()[..mark.len()].copy_from_slice(self.bytes());
        self.0.buffer = larger;
        copied();
        match archive_behind(value, self.0.buffer.bytes_mut(), mark) {
            Ok(len) => self.seal(len, limit),
            Err(ArchiveError::Failed(problem)) => Err((self, Packing::Archive(problem))),
            Err(ArchiveError::TooSmall { .. }) => {
                let problem = "its size changed while it was archived".to_owned();
                Err((self, Packing::Archive(problem)))
            }
        }
    }

    fn seal(self, len: usize, limit: usize) -> Result<Sealed, (Self, Packing)> {
        if len > limit {
            return Err((self, Packing::TooLarge { bytes: len, limit }));
        }
        let Memory { buffer, mark } = self.0;
        Ok(Sealed { buffer, len, mark })
    }
}

/// A loan with its message.
#[derive(Debug)]
pub(crate) struct Sealed {
    buffer: Buffer,
    len: usize,
    mark: Mark,
}

impl Sealed {
    pub(crate) fn into_parcel(self) -> Parcel {
        Parcel::Buffer(self.buffer, self.len)
    }

    /// Hands the parcel over to be sent. A refused one stays where it is, and the loan comes back.
    pub(crate) fn send<E>(
        self,
        send: impl FnOnce(&mut Option<Parcel>) -> Result<(), E>,
    ) -> Result<(), (Lent, E)> {
        let Self { buffer, len, mark } = self;
        send_buffer(buffer, len, send).map_err(|(buffer, error)| (Lent(Memory { buffer, mark }), error))
    }
}

#[cfg(test)]
mod tests;
