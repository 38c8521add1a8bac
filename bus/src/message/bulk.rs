//! Bytes in bulk: a field that a payload can be produced into, instead of copied.

use std::{
    fmt,
    ops::Deref,
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use rkyv::{
    Archive, Deserialize, Place, Portable, RelPtr, Serialize,
    bytecheck::CheckBytes,
    munge::munge,
    primitive::ArchivedUsize,
    rancor::{self, Fallible, Source},
    validation::{ArchiveContext, ArchiveContextExt},
};

use super::{
    archive::Sink,
    schema::{Builder, Kind, TypeRef},
    traits::ShmType,
};
use crate::shm::pool::Buffer;

/// Bytes that are either owned or already lie in the memory they are sent in.
///
/// A field of this type is what a *loan* fills: [`Address::loan`](crate::Address::loan) gives the memory, and its
/// `send` hands the closure the `Bulk` that stands for it. A message can also be made of owned bytes
/// (`Bulk::from(vec)`), which are then copied once, like a `Vec<u8>`. The receiver sees no difference: the archived
/// form, [`ArchivedBulk`], derefs to `&[u8]`.
///
/// In a reply, it may be made of a [`ReplyLoan`](crate::ReplyLoan), whose bytes are then sent as they lie.
///
/// A message has at most one `Bulk`, as a field of its own and not inside of another type, and no field
/// before it may hold text, lists or boxes. The derive macro refuses anything else. It knows the field by the name
/// `Bulk`, so an alias of this type will not do, and another type called `Bulk` cannot be a field.
///
/// ```
/// use shmbus::{Bulk, ShmMessage, message::Received};
///
/// #[derive(ShmMessage)]
/// struct Frame {
///     seq: u64,
///     data: Bulk,
///     camera: String,
/// }
///
/// let frame = Frame { seq: 1, data: vec![7; 64].into(), camera: "front".into() };
/// let received = Received::local(&frame);
/// assert_eq!(received.data[..4], [7, 7, 7, 7]);
/// assert_eq!(received.to_owned().data, frame.data);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Bulk(Bytes);

enum Bytes {
    Owned(Vec<u8>),
    /// In a loan that somebody else has.
    Lent(Mark),
    /// In a loan of its own.
    Shared(Memory),
}

/// Memory that begins with the payload of a loan.
#[derive(Debug)]
pub(crate) struct Memory {
    /// At least as long as the mark says.
    pub(crate) buffer: Buffer,
    pub(crate) mark: Mark,
}

impl Memory {
    /// For a payload of `len` bytes, which the buffer has.
    pub(crate) fn new(buffer: Buffer, len: usize) -> Self {
        let mark = Mark::new(len);
        Self { buffer, mark }
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.buffer.bytes()[..self.mark.len]
    }

    pub(crate) fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.buffer.bytes_mut()[..self.mark.len]
    }
}

impl Bytes {
    /// As far as they can be seen.
    fn as_slice(&self) -> Option<&[u8]> {
        match self {
            Bytes::Owned(bytes) => Some(bytes),
            Bytes::Lent(_) => None,
            Bytes::Shared(memory) => Some(memory.payload()),
        }
    }
}

impl Clone for Bytes {
    /// What lies in shared memory is copied out of it.
    fn clone(&self) -> Self {
        match self {
            Bytes::Owned(bytes) => Bytes::Owned(bytes.clone()),
            Bytes::Lent(mark) => Bytes::Lent(*mark),
            Bytes::Shared(memory) => Bytes::Owned(memory.payload().to_vec()),
        }
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Bytes::Lent(mark), Bytes::Lent(other)) => mark == other,
            // Where one is a loan's, that one is `None`, and the other is not.
            _ => self.as_slice() == other.as_slice(),
        }
    }
}

impl Eq for Bytes {}

/// Which loan a [`Bulk`] stands for. It gives no access to the memory, so it may outlive the loan; it can be archived
/// into that loan's memory only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// No other loan of this process has it.
    id: u64,
    /// Bytes of payload.
    len: usize,
}

impl Mark {
    /// A new loan's.
    pub(crate) fn new(len: usize) -> Mark {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only uniqueness counts.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Mark { id, len }
    }

    pub(crate) fn len(self) -> usize {
        self.len
    }
}

impl Bulk {
    pub(crate) fn lent(mark: Mark) -> Bulk {
        Bulk(Bytes::Lent(mark))
    }

    /// Its length, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Bytes::Owned(bytes) => bytes.len(),
            Bytes::Lent(mark) | Bytes::Shared(Memory { mark, .. }) => mark.len,
        }
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether its bytes lie in a [`Loan`](crate::actor::Loan). Such a one can be sent by that loan only.
    #[must_use]
    pub fn is_loaned(&self) -> bool {
        matches!(self.0, Bytes::Lent(_))
    }

    /// The bytes; `None` if they lie in a loan, which is then where to see them.
    #[must_use]
    pub fn as_slice(&self) -> Option<&[u8]> {
        self.0.as_slice()
    }

    /// The bytes, copied if they lie in a [`ReplyLoan`](crate::ReplyLoan)'s memory; `None` if they lie in a loan.
    #[must_use]
    pub fn into_vec(self) -> Option<Vec<u8>> {
        match self.0 {
            Bytes::Owned(bytes) => Some(bytes),
            other => other.as_slice().map(<[u8]>::to_vec),
        }
    }

    /// One whose bytes are sent as they lie there, in a reply.
    pub(crate) fn shared(memory: Memory) -> Bulk {
        Bulk(Bytes::Shared(memory))
    }

    /// The memory of [`shared`](Self::shared), if `wanted`; the bulk then stands for it as for any loan's.
    pub(crate) fn take_memory(&mut self, wanted: impl FnOnce(&Memory) -> bool) -> Option<Memory> {
        let lent = match &self.0 {
            Bytes::Shared(memory) if wanted(memory) => Bytes::Lent(memory.mark),
            _ => return None,
        };
        match std::mem::replace(&mut self.0, lent) {
            Bytes::Shared(memory) => Some(memory),
            Bytes::Owned(_) | Bytes::Lent(_) => None,
        }
    }

    /// Whether its bytes lie in memory of its own that it shares.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.0, Bytes::Shared(_))
    }
}

impl Default for Bulk {
    fn default() -> Bulk {
        Bulk(Bytes::Owned(Vec::new()))
    }
}

impl From<Vec<u8>> for Bulk {
    fn from(bytes: Vec<u8>) -> Bulk {
        Bulk(Bytes::Owned(bytes))
    }
}

impl From<&[u8]> for Bulk {
    fn from(bytes: &[u8]) -> Bulk {
        bytes.to_vec().into()
    }
}

/// Its length only: a payload is too long to be printed.
impl fmt::Debug for Bulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loaned = if self.is_loaned() { ", loaned" } else { "" };
        write!(f, "Bulk({} bytes{loaned})", self.len())
    }
}

/// The archived form of [`Bulk`]: derefs to `&[u8]`.
#[derive(Portable)]
#[rkyv(crate = rkyv)]
#[repr(C)]
pub struct ArchivedBulk {
    start: RelPtr<u8>,
    len: ArchivedUsize,
}

impl Deref for ArchivedBulk {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: an archive is checked, or vouched for in `Trust::unchecked`, before there is a reference into
        // it: so many bytes from there on belong to it. They do not change as long as it is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len.to_native() as usize) }
    }
}

impl AsRef<[u8]> for ArchivedBulk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Its length only, like that of [`Bulk`].
impl fmt::Debug for ArchivedBulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bulk({} bytes)", self.len())
    }
}

// SAFETY: what it points to is checked to lie in the part of the archive that is still to be accounted for; any
// bytes there are valid. (`ArchivedVec` would look at each, which costs nothing in release builds and
// 17 ns per byte in others.)
unsafe impl<C> CheckBytes<C> for ArchivedBulk
where
    C: Fallible + ArchiveContext + ?Sized,
    C::Error: Source,
{
    #[inline]
    unsafe fn check_bytes(value: *const Self, context: &mut C) -> Result<(), C::Error> {
        // SAFETY: the caller says that `value` is aligned and within the archive; its fields are integers, for which
        // all bytes are valid.
        let this = unsafe { &*value };
        let bytes = ptr::slice_from_raw_parts(this.start.as_ptr_wrapping(), this.len.to_native() as usize);
        context.in_subtree(bytes, |_| Ok(()))
    }
}

/// Where in the archive the bytes are.
#[derive(Debug)]
pub struct BulkResolver {
    pos: usize,
}

impl Archive for Bulk {
    type Archived = ArchivedBulk;
    type Resolver = BulkResolver;

    fn resolve(&self, resolver: BulkResolver, out: Place<ArchivedBulk>) {
        munge!(let ArchivedBulk { start, len } = out);
        RelPtr::emplace(resolver.pos, start);
        usize::resolve(&self.len(), (), len);
    }
}

impl Serialize<Sink<'_>> for Bulk {
    fn serialize(&self, sink: &mut Sink<'_>) -> Result<BulkResolver, rancor::Error> {
        let pos = match &self.0 {
            Bytes::Owned(bytes) => sink.bytes(bytes)?,
            Bytes::Lent(mark) => sink.lent(*mark)?,
            Bytes::Shared(memory) => sink.bytes(memory.payload())?,
        };
        Ok(BulkResolver { pos })
    }
}

impl<D: Fallible + ?Sized> Deserialize<Bulk, D> for ArchivedBulk {
    fn deserialize(&self, _: &mut D) -> Result<Bulk, D::Error> {
        Ok(Bulk::from(&**self))
    }
}

impl Bulk {
    /// See [`ShmType::describe`]: a list of bytes by a name of its own.
    #[doc(hidden)]
    pub fn describe(schema: &mut Builder) -> TypeRef {
        schema.define::<Self>("Bulk", |schema| Kind::Sequence(u8::describe(schema)))
    }

    /// See [`ShmType::out_of_line`].
    #[doc(hidden)]
    #[must_use]
    pub fn out_of_line(&self) -> Option<usize> {
        Some(self.len())
    }
}
