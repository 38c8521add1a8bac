//! Checking an archive before it is read.

use std::num::NonZeroUsize;

use rkyv::{
    api::{access_with_context, high::HighValidator},
    bytecheck::CheckBytes,
    rancor::{self, Strategy},
    validation::{Validator, archive::ArchiveValidator, shared::SharedValidator},
};

use super::traits::ShmRoot;

/// How many levels deep an archive may be nested: a list in a box in a list is three. The check recurses,
/// and so does every reader of such a type; without a bound, a peer could overflow our stack.
pub(crate) const MAX_DEPTH: usize = 128;

/// Why received bytes were not accepted as a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Fewer bytes than the archived type has.
    #[error("{len} bytes are too few for an archive of {root} bytes at least")]
    TooShort {
        /// How many bytes came.
        len: usize,
        /// How many the root of the archive takes.
        root: usize,
    },
    /// The root of the archive would not be aligned.
    #[error("{len} bytes put the end of the archive at an address that is not a multiple of {align}")]
    Misaligned {
        /// How many bytes came.
        len: usize,
        /// The alignment of the archived type, in bytes.
        align: usize,
    },
    /// A length, offset or value in it is not valid, or it is nested too deeply.
    #[error("not a valid archive: {0}")]
    Invalid(String),
}

/// Whether a root of this type fits the end of these bytes, in size and alignment.
#[inline]
pub(super) fn check_root<T: ShmRoot>(bytes: &[u8]) -> Result<(), CheckError> {
    let (len, root, align) = (bytes.len(), size_of::<T::Archived>(), align_of::<T::Archived>());
    if len < root {
        return Err(CheckError::TooShort { len, root });
    }
    if !(bytes.as_ptr().addr() + len - root).is_multiple_of(align) {
        return Err(CheckError::Misaligned { len, align });
    }
    Ok(())
}

/// Whether these bytes are a valid archive of `T`.
#[inline(always)]
pub(crate) fn check<T: ShmRoot>(bytes: &[u8]) -> Result<(), CheckError> {
    check_root::<T>(bytes)?;
    let checked = if T::POINTS {
        check_archived::<T::Archived>(bytes)
    } else {
        let root = bytes.len() - size_of::<T::Archived>();
        // SAFETY: so many bytes are there, initialised and aligned for the type, as `check_root` saw.
        unsafe { check_alone(bytes, bytes.as_ptr().add(root).cast::<T::Archived>()) }
    };
    checked.map_err(invalid)
}

#[cold]
fn invalid(error: rancor::Error) -> CheckError {
    CheckError::Invalid(error.to_string())
}

#[inline]
fn validator(bytes: &[u8]) -> Validator<ArchiveValidator<'_>, SharedValidator> {
    // rkyv counts the root as a level, and refuses at the last one.
    let depth = NonZeroUsize::new(MAX_DEPTH + 2);
    Validator::new(
        ArchiveValidator::with_max_depth(bytes, depth),
        SharedValidator::new(),
    )
}

/// Checks what may point to something elsewhere.
#[inline]
pub(super) fn check_archived<A>(bytes: &[u8]) -> Result<(), rancor::Error>
where
    A: rkyv::Portable + for<'a> CheckBytes<HighValidator<'a, rancor::Error>>,
{
    access_with_context::<A, _, rancor::Error>(bytes, &mut validator(bytes)).map(|_| ())
}

/// Checks a root that points nowhere, so that there is nothing to account for but its own bytes: for most such types that is
/// nothing at all.
///
/// # Safety
/// `root` must be aligned for `A` and point to initialised bytes, as many as `A` has.
#[inline(always)]
unsafe fn check_alone<A>(bytes: &[u8], root: *const A) -> Result<(), rancor::Error>
where
    A: rkyv::Portable + for<'a> CheckBytes<HighValidator<'a, rancor::Error>>,
{
    // SAFETY: by this function's own condition.
    unsafe { A::check_bytes(root, Strategy::wrap(&mut validator(bytes))) }
}
