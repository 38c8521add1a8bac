//! Archiving a value in place, into memory that its reader already has.
//!
//! rkyv writes what a value points to first and the value itself (the *root*) last. The writer here
//! copies into the destination as long as it fits and only counts after that, so that a destination
//! that was too small tells exactly how much is needed. The root is resolved straight into the
//! destination.

use std::{alloc::Layout, fmt, marker::PhantomData, ptr::NonNull};

use rkyv::{
    Archive, Place,
    rancor::{self, Source, Strategy, fail},
    ser::{Allocator, Positional, Sharing, Writer, WriterExt, sharing::SharingState},
};

use super::{
    bulk::Mark,
    check,
    private::assert_align,
    scratch::Scratch,
    traits::{MAX_ALIGN, ShmRoot},
};
use crate::shm::faults::fault;

/// The serializer that messages are written with, as rkyv wants it.
pub type Sink<'a> = Strategy<Archiver<'a>, rancor::Error>;

/// Relative pointers of an archive have 32 bits with a sign: a longer archive cannot point to its own start.
const MAX_BYTES: usize = i32::MAX as usize;

/// Why a value was not archived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ArchiveError {
    /// The destination is too small.
    TooSmall {
        /// How many bytes this value takes.
        needed: usize,
    },
    /// The value cannot be archived at all.
    Failed(String),
}

/// Archives `value` at the start of `dst`, which must be aligned to 16 bytes or empty. Returns the length of the
/// archive in bytes; its root is the last thing in it.
///
/// # Errors
/// [`ArchiveError::TooSmall`] with the exact need, after which `dst` holds rubbish.
pub(crate) fn archive_into<T: ShmRoot>(value: &T, dst: &mut [u8]) -> Result<usize, ArchiveError> {
    archive(value, dst, None)
}

/// As [`archive_into`], behind the payload of a loan, with which `dst` begins. The payload is part of
/// the archive; it is not written to, and is still there if this fails.
pub(crate) fn archive_behind<T: ShmRoot>(
    value: &T,
    dst: &mut [u8],
    payload: Mark,
) -> Result<usize, ArchiveError> {
    archive(value, dst, Some(payload))
}

#[inline]
fn archive<T: ShmRoot>(value: &T, dst: &mut [u8], payload: Option<Mark>) -> Result<usize, ArchiveError> {
    const { assert_align::<T::Archived>() }
    let mut archiver = Archiver::new(dst);
    if let Some(payload) = payload {
        if payload.len() > MAX_BYTES {
            return Err(ArchiveError::Failed(TooLong.to_string()));
        }
        archiver.pos = payload.len();
        archiver.payload = Some(payload);
    }
    let sink: &mut Sink<'_> = Strategy::wrap(&mut archiver);
    let failed = |error: rancor::Error| ArchiveError::Failed(error.to_string());
    let resolver = value.serialize(sink).map_err(failed)?;
    fault!(Archiving);
    sink.align_for::<T::Archived>().map_err(failed)?;
    archiver.root(value, resolver).map_err(failed)?;

    let needed = archiver.pos;
    drop(archiver);
    let Some(archive) = dst.get(..needed) else {
        return Err(ArchiveError::TooSmall { needed });
    };
    if T::nests() {
        // A receiver refuses archives that are nested too deeply and takes their sender for broken; so
        // say it here, with the very check that the receiver makes.
        check::check::<T>(archive).map_err(|error| ArchiveError::Failed(error.to_string()))?;
    }
    Ok(needed)
}

/// Writes one archive into the memory it was made for, and counts on when that is full.
pub struct Archiver<'a> {
    /// The destination: a multiple of 16, and writable for `room` bytes from here, for as long as `'a`.
    start: NonNull<u8>,
    room: usize,
    /// Bytes written or, past `room`, counted.
    pos: usize,
    /// Taken when the first list or map asks for it: most messages have none.
    scratch: Option<Scratch>,
    /// The loan that the destination begins with.
    payload: Option<Mark>,
    dst: PhantomData<&'a mut [u8]>,
}

impl<'a> Archiver<'a> {
    #[inline]
    fn new(dst: &'a mut [u8]) -> Self {
        let room = dst.len();
        // An empty destination, to learn the size, may come from anywhere; a root of no bytes fits even there.
        let start = if room == 0 {
            NonNull::<u128>::dangling().cast()
        } else {
            NonNull::from(dst).cast::<u8>()
        };
        assert!(
            start.addr().get().is_multiple_of(MAX_ALIGN),
            "messages start at multiples of 16 bytes"
        );
        Archiver {
            start,
            room,
            pos: 0,
            scratch: None,
            payload: None,
            dst: PhantomData,
        }
    }

    /// Moves on by `len` bytes. Returns where they go, or `None` if they do not fit.
    #[inline]
    fn advance(&mut self, len: usize) -> Result<Option<NonNull<u8>>, rancor::Error> {
        let at = self.pos;
        // Neither side can overflow: `at` is at most `MAX_BYTES`.
        if len > MAX_BYTES - at {
            fail!(TooLong);
        }
        self.pos = at + len;
        if self.pos > self.room {
            return Ok(None);
        }
        // SAFETY: `at <= self.pos <= self.room`, so this stays within the destination.
        Ok(Some(unsafe { self.start.add(at) }))
    }

    /// Writes bytes that need no alignment. Returns where.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<usize, rancor::Error> {
        let pos = self.pos;
        self.write(bytes)?;
        Ok(pos)
    }

    /// Where the payload of this loan is, which must be the one that the destination begins with.
    pub(super) fn lent(&mut self, mark: Mark) -> Result<usize, rancor::Error> {
        if self.payload != Some(mark) {
            fail!(Elsewhere);
        }
        // A receiver wants what is elsewhere in the archive in the order of the fields. The derive refuses other
        // orders; this is for archived forms made by hand.
        if self.pos != mark.len() {
            fail!(NotFirst);
        }
        // One message cannot have it twice.
        self.payload = None;
        Ok(0)
    }

    /// Resolves the root at the current position, which is aligned for it.
    fn root<T: Archive>(&mut self, value: &T, resolver: T::Resolver) -> Result<(), rancor::Error> {
        let pos = self.pos;
        let Some(at) = self.advance(size_of::<T::Archived>())? else {
            return Ok(());
        };
        let at = at.as_ptr().cast::<T::Archived>();
        // SAFETY: `advance` gave `size_of::<T::Archived>()` writable bytes. They are aligned, because `pos`
        // is (the caller's word), `start` is a multiple of 16, and no archived type
        // is aligned to more (asserted in `archive_into`). Zeroed first, so that padding carries nothing
        // of this process's memory and every byte of the place is initialised.
        let out = unsafe {
            at.write_bytes(0, 1);
            Place::new_unchecked(pos, at)
        };
        value.resolve(resolver, out);
        Ok(())
    }
}

impl Drop for Archiver<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(scratch) = self.scratch.take() {
            scratch.keep();
        }
    }
}

impl fmt::Debug for Archiver<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archiver")
            .field("room", &self.room)
            .field("pos", &self.pos)
            .finish_non_exhaustive()
    }
}

impl Positional for Archiver<'_> {
    #[inline]
    fn pos(&self) -> usize {
        self.pos
    }
}

impl Writer<rancor::Error> for Archiver<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), rancor::Error> {
        // rkyv pads by zero bytes before nearly everything; a call of memcpy for nothing is what costs there.
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(at) = self.advance(bytes.len())? {
            // SAFETY: `advance` gave `bytes.len()` writable bytes of the destination, which nobody else
            // can refer to while it is mutably borrowed.
            unsafe { at.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        }
        Ok(())
    }
}

// SAFETY: `Scratch` returns memory of the layout asked for that stays valid and unaliased until popped: a block
// is never moved or freed before the scratch is kept or dropped, which is when the archiver is.
unsafe impl Allocator<rancor::Error> for Archiver<'_> {
    unsafe fn push_alloc(&mut self, layout: Layout) -> Result<NonNull<[u8]>, rancor::Error> {
        Ok(self.scratch.get_or_insert_with(Scratch::take).push(layout))
    }

    unsafe fn pop_alloc(&mut self, ptr: NonNull<u8>, _: Layout) -> Result<(), rancor::Error> {
        if let Some(scratch) = &mut self.scratch {
            scratch.pop(ptr);
        }
        Ok(())
    }
}

impl Sharing<rancor::Error> for Archiver<'_> {
    fn start_sharing(&mut self, _: usize) -> SharingState {
        SharingState::Started
    }

    /// rkyv 0.8.18 has open soundness reports on checking archives with shared pointers, so none is sent. The
    /// derive refuses them where it sees them; this is for those inside opaque types.
    fn finish_sharing(&mut self, _: usize, _: usize) -> Result<(), rancor::Error> {
        Err(rancor::Error::new(Shared))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a message cannot contain shared pointers (`Rc`, `Arc`)")]
struct Shared;

#[derive(Debug, thiserror::Error)]
#[error("its `Bulk` lies in the memory of a loan, and can be sent by that loan only")]
struct Elsewhere;

#[derive(Debug, thiserror::Error)]
#[error("its `Bulk` is a loan, but not the first of its fields that has data elsewhere in the archive")]
struct NotFirst;

#[derive(Debug, thiserror::Error)]
#[error("a message cannot be longer than {MAX_BYTES} bytes: its inner pointers have 32 bits")]
struct TooLong;
