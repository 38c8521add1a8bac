//! A message as its handler gets it.

use std::{
    alloc::Layout,
    fmt,
    marker::PhantomData,
    ops::{Deref, Range},
    sync::Arc,
};

use rkyv::{rancor, util::AlignedVec};

use super::{
    archive::{ArchiveError, archive_into},
    check::{self, CheckError},
    source::Origin,
    traits::ShmRoot,
    trust::Trust,
};
use crate::shm::{
    checked::Violation,
    descriptor::Descriptor,
    inbound::Inbound,
    layout::INLINE_BYTES,
    lease::{Lease, Whole},
    pool::Buffer,
};

/// A received message, read where it lies.
///
/// It derefs to the archived form of the message, whose fields are named like the message's own: text is
/// read with `as_str()`, numbers with `to_native()`, lists as slices. It can be sent to other threads and
/// kept across awaits; its memory goes back to the sender when it is dropped, so what is to be kept
/// for long is better decoded with [`to_owned`](Received::to_owned).
pub struct Received<T: ShmRoot> {
    /// Bytes that passed `check_root` and, unless trusted, `check`. They do not change while the lease
    /// lives.
    lease: Lease,
    /// For a topic's message.
    origin: Option<Origin>,
    /// By function type, so that being `Send` and `Sync` follows from `T: ShmRoot` alone, whose archived
    /// type must be both.
    message: PhantomData<fn() -> T>,
}

/// Longer messages of a batch are not copied.
const INLINE_LEN: u8 = INLINE_BYTES as u8;

/// Why a descriptor is no message.
#[derive(Debug)]
pub(crate) enum Refused {
    Violation(Arc<Inbound>, Violation),
    Archive(Box<(Lease, CheckError)>),
}

#[cold]
fn refused(lease: Lease, error: CheckError) -> Refused {
    Refused::Archive(Box::new((lease, error)))
}

impl<T: ShmRoot> Received<T> {
    /// The message in these bytes, if they are one. Length and alignment are checked always, the rest
    /// unless it is trusted.
    pub(crate) fn new(mut lease: Lease, trust: Trust) -> Result<Received<T>, Box<(Lease, CheckError)>> {
        match Self::check_lease(&mut lease, trust) {
            Ok(()) => Ok(Self::checked(lease)),
            Err(error) => Err(Box::new((lease, error))),
        }
    }

    /// Calls `f` with the message of a descriptor that came by `inbound`, where it is one. It is made as the argument of the
    /// call, once for each place where its bytes may be: what is made in one of several ways and then passed on is moved
    /// piece by piece, and waited for.
    #[inline(always)]
    pub(crate) fn open<R>(
        inbound: Arc<Inbound>,
        descriptor: &Descriptor,
        trust: Trust,
        f: impl FnOnce(Received<T>) -> R,
    ) -> Result<R, Refused> {
        if !descriptor.has_buffer() {
            let bytes = match descriptor.inline() {
                Ok(bytes) => bytes,
                Err(violation) => return Err(Refused::Violation(inbound, violation)),
            };
            if let Err(error) = Self::check(bytes, trust.in_peer(&inbound)) {
                return Err(refused(Lease::inline(descriptor, Some(inbound)), error));
            }
            return Ok(match descriptor.plain_inline() {
                Some((bytes, len)) => {
                    let route = descriptor.route();
                    f(Self::checked(Lease::small(bytes, len, route, Some(inbound))))
                }
                None => f(Self::checked(Lease::of_topic(descriptor, Some(inbound)))),
            });
        }
        let mut lease = inbound
            .lease(descriptor, false)
            .map_err(|(inbound, violation)| Refused::Violation(inbound, violation))?;
        match Self::check_lease(&mut lease, trust) {
            Ok(()) => Ok(f(Self::checked(lease))),
            Err(error) => Err(refused(lease, error)),
        }
    }

    /// The same for the message at these bytes of a batch. A small one is copied, so that what is kept of it keeps nothing
    /// else.
    #[inline(always)]
    pub(crate) fn open_part<R>(
        whole: &Whole,
        at: Range<usize>,
        inbound: Arc<Inbound>,
        route: u16,
        trust: Trust,
        f: impl FnOnce(Received<T>) -> R,
    ) -> Result<R, Refused> {
        let batch = whole.bytes();
        let bytes = batch.get(at.clone()).unwrap_or(&[]);
        if let Err(error) = Self::check(bytes, trust.in_peer(&inbound)) {
            return Err(refused(Lease::part(whole.clone(), at, inbound, route), error));
        }
        if let Ok(len @ 0..=INLINE_LEN) = u8::try_from(bytes.len()) {
            // As many as fit, where there are: a copy of a known length is a few instructions. Nobody sees what is behind `len`.
            return Ok(match batch.get(at.start..).and_then(|rest| rest.first_chunk()) {
                Some(bytes) => f(Self::checked(Lease::small(bytes, len, route, Some(inbound)))),
                None => f(Self::checked(Lease::copy(bytes, route, inbound))),
            });
        }
        Ok(f(Self::checked(Lease::part(whole.clone(), at, inbound, route))))
    }

    /// Checks what is in the memory of its sender, or in a copy of it where that is of another user.
    #[inline(always)]
    fn check_lease(lease: &mut Lease, trust: Trust) -> Result<(), CheckError> {
        let trust = if lease.make_private() {
            Trust::Checked
        } else {
            trust
        };
        Self::check(lease.bytes(), trust)
    }

    #[inline(always)]
    fn check(bytes: &[u8], trust: Trust) -> Result<(), CheckError> {
        match trust {
            Trust::Checked => check::check::<T>(bytes),
            Trust::Unchecked(_) => check::check_root::<T>(bytes),
        }
    }

    /// A message whose bytes have passed `check`, here or where an inline message was copied from.
    #[inline(always)]
    fn checked(lease: Lease) -> Received<T> {
        Received {
            lease,
            origin: None,
            message: PhantomData,
        }
    }

    pub(crate) fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Topic, publisher, sequence number and time of a message that came by a topic; `None` for one that
    /// was sent to an actor's name.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// A message as if received, archived on the heap: to call a handler in the same process, and for unit
    /// tests of handlers.
    ///
    /// # Panics
    /// If the value cannot be archived: longer than 2 GiB, nested too deeply, or an opaque field fails.
    #[must_use]
    pub fn local(value: &T) -> Received<T> {
        let mut bytes = AlignedVec::<16>::new();
        bytes.resize(value.size_bound().unwrap_or(256), 0);
        let len = loop {
            match archive_into(value, &mut bytes) {
                Ok(len) => break len,
                Err(ArchiveError::TooSmall { needed }) => bytes.resize(needed, 0),
                Err(ArchiveError::Failed(problem)) => panic!("the message cannot be archived: {problem}"),
            }
        };
        bytes.resize(len, 0);
        Received::new(Lease::heap(bytes), Trust::Checked)
            .unwrap_or_else(|refused| panic!("the message cannot be archived: {}", refused.1))
    }

    /// Decodes the message into a value of its own.
    ///
    /// # Panics
    /// If the rkyv implementation of an opaque field refuses to decode what it accepted before.
    #[must_use]
    pub fn to_owned(&self) -> T {
        rkyv::api::high::deserialize::<T, rancor::Error>(self.archived())
            .unwrap_or_else(|error| panic!("a checked archive cannot be decoded: {error}"))
    }

    /// A part of the message as [`bytes::Bytes`], without a copy: the message is released when the last of them
    /// that shares it is dropped.
    ///
    /// ```
    /// use shmbus::{Bulk, ShmMessage, message::Received};
    ///
    /// #[derive(ShmMessage)]
    /// struct Frame {
    ///     seq: u64,
    ///     data: Bulk,
    /// }
    ///
    /// let frame = Frame { seq: 1, data: vec![7; 64].into() };
    /// let pixels = Received::local(&frame).into_bytes(|frame| &frame.data);
    /// let first = pixels.slice(..16); // neither is this a copy
    /// drop(pixels);
    /// assert_eq!(first, [7; 16][..]);
    /// # let _ = frame.seq;
    /// ```
    #[cfg(feature = "bytes")]
    #[must_use]
    pub fn into_bytes<F>(self, part: F) -> bytes::Bytes
    where
        F: Fn(&T::Archived) -> &[u8] + Send + 'static,
    {
        struct Part<T: ShmRoot, F>(Received<T>, F);

        impl<T: ShmRoot, F: Fn(&T::Archived) -> &[u8]> AsRef<[u8]> for Part<T, F> {
            fn as_ref(&self) -> &[u8] {
                (self.1)(&self.0)
            }
        }

        bytes::Bytes::from_owner(Part(self, part))
    }

    /// Memory for a reply; see [`Host::lend`](crate::shm::inbound::Host::lend).
    pub(super) fn lend(&self, len: usize, root: Layout) -> Option<Buffer> {
        self.lease.lend(len, root)
    }

    fn archived(&self) -> &T::Archived {
        let bytes = self.lease.bytes();
        // SAFETY: `new` saw that these bytes hold a root at their end and that it is aligned; an inline
        // message that moved with its lease still starts at a multiple of 16. The archive is valid: it was
        // checked, or somebody promised it in `Trust::unchecked`. The bytes do not change while the lease
        // lives, and the reference does not outlive `self`.
        unsafe {
            &*bytes
                .as_ptr()
                .add(bytes.len() - size_of::<T::Archived>())
                .cast::<T::Archived>()
        }
    }
}

impl<T: ShmRoot> Deref for Received<T> {
    type Target = T::Archived;

    #[inline]
    fn deref(&self) -> &T::Archived {
        self.archived()
    }
}

impl<T: ShmRoot> fmt::Debug for Received<T>
where
    T::Archived: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Received").field(self.archived()).finish()
    }
}
