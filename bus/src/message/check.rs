//! Checking an archive before it is read.

use std::num::NonZeroUsize;

use rkyv::{
    api::{access_with_context, high::HighValidator},
    bytecheck::CheckBytes,
    rancor,
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
#[inline]
pub(crate) fn check<T: ShmRoot>(bytes: &[u8]) -> Result<(), CheckError> {
    check_root::<T>(bytes)?;
    check_archived::<T::Archived>(bytes).map_err(|error| CheckError::Invalid(error.to_string()))
}

#[inline]
fn check_archived<A>(bytes: &[u8]) -> Result<(), rancor::Error>
where
    A: rkyv::Portable + for<'a> CheckBytes<HighValidator<'a, rancor::Error>>,
{
    // rkyv counts the root as a level, and refuses at the last one.
    let depth = NonZeroUsize::new(MAX_DEPTH + 2);
    let mut context = Validator::new(
        ArchiveValidator::with_max_depth(bytes, depth),
        SharedValidator::new(),
    );
    access_with_context::<A, _, rancor::Error>(bytes, &mut context).map(|_| ())
}
