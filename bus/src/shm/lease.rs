//! One received message's bytes, and the duty to give them back.

use std::{
    alloc::Layout,
    mem::{self, ManuallyDrop},
    ops::Range,
    ptr::NonNull,
    sync::Arc,
};

use rkyv::util::AlignedVec;

use super::{
    checked::Violation, descriptor::Descriptor, inbound::Inbound, layout::INLINE_BYTES, pool::Buffer,
    returns::Return, segment::Mapping,
};

/// Read-only bytes that begin at a multiple of 16 and are released when this is dropped.
///
/// Dropped by hand: of a small message there is nothing to drop once it is released, and nothing is looked at for that.
#[derive(Debug)]
pub struct Lease(ManuallyDrop<Bytes>);

#[derive(Debug)]
enum Bytes {
    /// A private copy.
    Inline(Private),
    /// In the sender's memory.
    Shared(Shared),
    /// In a batch.
    Part(Part),
    /// Archived by this process for itself.
    Heap(AlignedVec<16>),
    /// Copied from the memory of another user, which holds the original until this is dropped: what is kept here counts
    /// in its window.
    Copied(AlignedVec<16>, Shared),
}

/// An inline message. `bytes` comes first, so that it is aligned like the whole.
#[derive(Debug)]
#[repr(C, align(16))]
struct Private {
    bytes: [u8; INLINE_BYTES],
    /// Whom to tell, and under which route, that a place is free again; a reply has none.
    inbound: Option<Arc<Inbound>>,
    route: u16,
    /// At most [`INLINE_BYTES`].
    len: u8,
    /// Never false. Its unused values are where the compiler puts which kind of bytes these are.
    _niche: bool,
}

#[derive(Debug)]
struct Shared {
    bytes: SharedBytes,
    /// A reply: its release frees a place for another ask.
    reply: bool,
    /// `None` once it is dropped.
    inbound: Option<Arc<Inbound>>,
}

/// A batch's lease, shared by its messages. It is read for each of them, so it is looked up once where the bytes are.
#[derive(Debug, Clone)]
pub(crate) struct Whole {
    _lease: Arc<Lease>,
    /// The lease's bytes.
    first: NonNull<u8>,
    len: usize,
}

// SAFETY: a Whole is an `Arc<Lease>`, which is Send and Sync, and an address in what that owns and nobody writes.
unsafe impl Send for Whole {}
// SAFETY: as above; `&Whole` gives `&[u8]` and nothing else.
unsafe impl Sync for Whole {}

impl Whole {
    pub(crate) fn new(lease: Lease) -> Self {
        let lease = Arc::new(lease);
        let (first, len) = {
            let bytes = lease.bytes();
            (NonNull::from(bytes).cast(), bytes.len())
        };
        Self {
            _lease: lease,
            first,
            len,
        }
    }

    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: these are the lease's bytes: in the `Arc`, on the heap, or in the mapping of a peer, none of which moves
        // or goes while the `Arc` lives, and a lease that is shared is not changed.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

/// One message of a batch, whose memory goes back when its last message is released.
#[derive(Debug)]
struct Part {
    whole: Whole,
    at: Range<usize>,
    /// `None` once it is dropped.
    inbound: Option<Arc<Inbound>>,
    route: u16,
}

/// A checked place in a peer's memory.
#[derive(Debug)]
pub(crate) struct SharedBytes {
    pub(crate) first: NonNull<u8>,
    pub(crate) len: usize,
    pub(crate) token: u32,
    /// The segment of its own that a large message has; other segments live as long as their link.
    pub(crate) _own_segment: Option<Arc<Mapping>>,
}

// SAFETY: a Lease only reads memory that its owner does not write while the lease lives.
unsafe impl Send for SharedBytes {}
// SAFETY: as above; `&SharedBytes` gives `&[u8]` and nothing else.
unsafe impl Sync for SharedBytes {}

impl Lease {
    /// A copy of a descriptor's inline payload; `inbound` is told when it is released.
    #[inline(always)]
    pub(crate) fn inline(descriptor: &Descriptor, inbound: Option<Arc<Inbound>>) -> Self {
        match descriptor.plain_inline() {
            Some((bytes, len)) => Self::small(bytes, len, descriptor.route(), inbound),
            None => Self::of_topic(descriptor, inbound),
        }
    }

    /// The same of a payload that is behind something else.
    pub(crate) fn of_topic(descriptor: &Descriptor, inbound: Option<Arc<Inbound>>) -> Self {
        let (bytes, len) = descriptor.private_copy();
        Self::small(&bytes, len, descriptor.route(), inbound)
    }

    /// A copy of at most [`INLINE_BYTES`] of these bytes, whatever is behind them; `inbound` is told when it is released.
    #[inline(always)]
    pub(crate) fn small(
        bytes: &[u8; INLINE_BYTES],
        len: u8,
        route: u16,
        inbound: Option<Arc<Inbound>>,
    ) -> Self {
        Self(ManuallyDrop::new(Bytes::Inline(Private {
            bytes: *bytes,
            inbound,
            route,
            len,
            _niche: true,
        })))
    }

    #[inline(always)]
    pub(crate) fn shared(bytes: SharedBytes, inbound: Arc<Inbound>, reply: bool) -> Self {
        Self(ManuallyDrop::new(Bytes::Shared(Shared {
            bytes,
            reply,
            inbound: Some(inbound),
        })))
    }

    /// A copy of these bytes, of which there are at most [`INLINE_BYTES`]; `inbound` is told when it is released.
    #[cold]
    pub(crate) fn copy(from: &[u8], route: u16, inbound: Arc<Inbound>) -> Self {
        let mut bytes = [0; INLINE_BYTES];
        let len = from.len().min(INLINE_BYTES);
        bytes[..len].copy_from_slice(&from[..len]);
        Self::small(&bytes, len as u8, route, Some(inbound))
    }

    /// These bytes of a batch; `inbound` is told when they are released.
    #[inline]
    pub(crate) fn part(whole: Whole, at: Range<usize>, inbound: Arc<Inbound>, route: u16) -> Self {
        Self(ManuallyDrop::new(Bytes::Part(Part {
            whole,
            at,
            inbound: Some(inbound),
            route,
        })))
    }

    /// Bytes on the heap of this process.
    pub(crate) fn heap(bytes: AlignedVec<16>) -> Self {
        Self(ManuallyDrop::new(Bytes::Heap(bytes)))
    }

    /// The message. Inline messages move with the lease; all others stay where they are.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        match &*self.0 {
            // `len` was checked before; `get` keeps that no panic depends on it.
            Bytes::Inline(private) => private.bytes.get(..private.len.into()).unwrap_or(&[]),
            // SAFETY: `first` and `len` come from a checked place in a mapping that `inbound` (or
            // `_own_segment`) keeps; a sender of the same user that keeps to the protocol does not write
            // a buffer before its release, which happens in our drop. What a sender that breaks the
            // protocol can do is the trust model's subject (`Trust`, SECURITY.md).
            Bytes::Shared(shared) => unsafe {
                std::slice::from_raw_parts(shared.bytes.first.as_ptr(), shared.bytes.len)
            },
            Bytes::Part(part) => part.bytes(),
            Bytes::Heap(bytes) | Bytes::Copied(bytes, _) => bytes,
        }
    }
}

impl Part {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // Checked before; `get` keeps that no panic depends on it.
        self.whole.bytes().get(self.at.clone()).unwrap_or(&[])
    }
}

impl Lease {
    /// Copies a message of another user: its sender could change it while it is read, and checks are good for what does not
    /// change. Returns whether it came from another user.
    #[inline]
    pub(crate) fn make_private(&mut self) -> bool {
        let Bytes::Shared(Shared {
            inbound: Some(inbound),
            ..
        }) = &*self.0
        else {
            return false;
        };
        if !inbound.is_foreign() {
            return false;
        }
        if let Bytes::Shared(shared) = mem::replace(&mut *self.0, Bytes::Heap(AlignedVec::new())) {
            *self.0 = Bytes::Copied(copied(&shared.bytes), shared);
        }
        true
    }

    /// Gives a message in a buffer back, and the peer finds that when this returns.
    pub(crate) fn give_back_now(mut self) {
        if let Bytes::Shared(Shared { bytes, inbound, .. }) | Bytes::Copied(_, Shared { bytes, inbound, .. }) =
            &mut *self.0
            && let Some(inbound) = inbound.take()
        {
            inbound.give_back_now(Return::Token(bytes.token));
        }
    }

    /// The link that it came by, and is given back by.
    fn inbound(&self) -> Option<&Arc<Inbound>> {
        match &*self.0 {
            Bytes::Inline(Private { inbound, .. })
            | Bytes::Part(Part { inbound, .. })
            | Bytes::Shared(Shared { inbound, .. })
            | Bytes::Copied(_, Shared { inbound, .. }) => inbound.as_ref(),
            Bytes::Heap(_) => None,
        }
    }

    /// These bytes are not what their sender should have sent: its session is closed.
    pub(crate) fn violated(&self, violation: Violation) {
        if let Some(inbound) = self.inbound() {
            inbound.violated(violation);
        }
    }

    /// Memory for a reply to these bytes' sender; see [`Host::lend`](super::inbound::Host::lend).
    pub(crate) fn lend(&self, len: usize, root: Layout) -> Option<Buffer> {
        self.inbound()?.lend(len, root)
    }
}

/// A copy of bytes that may change meanwhile: each of them is read once.
#[cold]
fn copied(from: &SharedBytes) -> AlignedVec<16> {
    const WORD: usize = size_of::<u64>();
    let mut copy = AlignedVec::<16>::with_capacity(from.len);
    let words = from.len / WORD;
    for at in 0..words {
        // SAFETY: the word lies in the place, whose bounds were checked, in a mapping that lives as long as `from`, at a
        // multiple of 8 (a place begins at one of 64). Any bytes are a u64, and the read is volatile: the compiler
        // assumes nothing of memory that another process may write.
        let word = unsafe { from.first.cast::<u64>().add(at).read_volatile() };
        copy.extend_from_slice(&word.to_ne_bytes());
    }
    for at in words * WORD..from.len {
        // SAFETY: as above, for a byte.
        copy.push(unsafe { from.first.add(at).read_volatile() });
    }
    copy
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        if let Bytes::Inline(Private { inbound, route, .. }) = &mut *self.0 {
            // All that an inline message owns.
            credit(inbound, *route);
            return;
        }
        self.0.release();
        // SAFETY: this is the drop of what holds it, so it is dropped once, and not used again.
        unsafe { ManuallyDrop::drop(&mut self.0) };
    }
}

/// Says that a place in the route's window is free again, once. The handle goes with it: whoever gathers such has use for it.
#[inline]
fn credit(inbound: &mut Option<Arc<Inbound>>, route: u16) {
    if let Some(inbound) = inbound.take() {
        inbound.give_back(Return::Credit { route, count: 1 }, 0);
    }
}

impl Bytes {
    /// Gives them back, if they are somebody's and were not before.
    fn release(&mut self) {
        match self {
            Bytes::Inline(Private { inbound, route, .. }) | Bytes::Part(Part { inbound, route, .. }) => {
                credit(inbound, *route);
            }
            Bytes::Shared(shared) | Bytes::Copied(_, shared) => {
                let Some(inbound) = shared.inbound.take() else {
                    return;
                };
                let token = Return::Token(shared.bytes.token);
                if shared.reply {
                    // Before another ask takes its place: the reply to that one needs this entry of the return ring.
                    inbound.give_back_now(token);
                    inbound.room.close_ask();
                } else {
                    inbound.give_back(token, shared.bytes.len);
                }
            }
            Bytes::Heap(_) => {}
        }
    }
}
