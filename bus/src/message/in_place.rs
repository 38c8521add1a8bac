//! Messages of a fixed size, written where they are sent from.

use std::{fmt, marker::PhantomData};

use super::{
    archive::{ArchiveError, archive_into},
    traits::{FixedSize, ShmMessage},
};
use crate::shm::pool::Buffer;

/// A message that lies in its buffer, complete at all times, and is not sent yet. Dropped, it goes back to
/// the pool.
pub(crate) struct InPlace<M> {
    /// Its first `len` bytes are an archive of `M`, which [`InPlace::new`] wrote there and which has changed through
    /// `&mut M::Archived` only.
    buffer: Buffer,
    len: usize,
    message: PhantomData<fn() -> M>,
}

impl<M: FixedSize> InPlace<M> {
    /// What the archive takes, in bytes.
    pub(crate) const LEN: usize = size_of::<M::Archived>();

    /// Archives `initial` into `buffer`.
    pub(crate) fn new(initial: &M, mut buffer: Buffer) -> Result<Self, ArchiveError> {
        const { assert_fixed::<M>() }
        let len = archive_into(initial, buffer.bytes_mut())?;
        Ok(Self {
            buffer,
            len,
            message: PhantomData,
        })
    }
}

impl<M: ShmMessage> InPlace<M> {
    /// Where the root is, as `archive_into` says: at the end.
    fn root(&self) -> usize {
        self.len - size_of::<M::Archived>()
    }

    pub(crate) fn get(&self) -> &M::Archived {
        let root = self.root();
        // SAFETY: by the invariant of `buffer` a valid root of `M` lies there, aligned as the archiver left it. The
        // buffer is this process's alone until it is sent, which takes `self`.
        unsafe { &*self.buffer.bytes().as_ptr().add(root).cast() }
    }

    pub(crate) fn get_mut(&mut self) -> &mut M::Archived {
        let root = self.root();
        // SAFETY: as in `get`, and borrowed mutably. What is written through it is a valid `M::Archived`, so the
        // invariant holds on. To move it, or to put another in its place, takes nothing away that it points to: there
        // is no relative pointer in it. rkyv's are not `Unpin`, which `FixedSize` wants of the whole; should somebody
        // have said `Unpin` of a type that has some, `assert_fixed` has seen them in its schema's `POINTS`. Padding
        // that is written carelessly is read by nobody: archives are checked and read field by field.
        unsafe { &mut *self.buffer.bytes_mut().as_mut_ptr().add(root).cast() }
    }

    /// The buffer and the length of the archive.
    pub(crate) fn into_parts(self) -> (Buffer, usize) {
        (self.buffer, self.len)
    }

    /// Hands the buffer over to be sent. One that is refused comes back with the reason, as it was.
    pub(crate) fn send<E>(
        self,
        send: impl FnOnce(Buffer, usize) -> Result<(), (Buffer, E)>,
    ) -> Result<(), (Self, E)> {
        let (at, len) = (self.buffer.bytes().as_ptr(), self.len);
        send(self.buffer, len).map_err(|(buffer, error)| {
            // A buffer belongs to one owner at a time, so this is the one that was given away.
            assert_eq!(
                buffer.bytes().as_ptr(),
                at,
                "a refused buffer stays with its sender"
            );
            let this = Self {
                buffer,
                len,
                message: PhantomData,
            };
            (this, error)
        })
    }
}

/// Refuses, at compile time, types whose archived form was declared `Unpin` although it may point to something.
const fn assert_fixed<M: ShmMessage>() {
    assert!(
        !M::POINTS,
        "this message may hold data elsewhere in its archive (text, a list, a box, an opaque field): it cannot be \
         written in place"
    );
}

impl<M> fmt::Debug for InPlace<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InPlace")
            .field("bytes", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
