//! How far a peer's archives are believed.

use std::fmt;

use crate::shm::inbound::Inbound;

/// Whether a received archive is checked before it is read.
///
/// ```
/// use shmbus::message::Trust;
/// assert_eq!(Trust::default(), Trust::Checked);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Trust {
    /// Every archive is checked once when it is delivered: each length, offset and value in it. A malformed
    /// archive is refused. A few nanoseconds for small messages; long byte strings cost nothing extra,
    /// text and lists of structures are walked.
    #[default]
    Checked,
    /// Archives are read as they come. Only [`Trust::unchecked`] makes this value.
    #[doc(hidden)]
    Unchecked(Promise),
}

/// The witness that somebody made the promise of [`Trust::unchecked`].
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Promise(());

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("promised")
    }
}

impl Trust {
    /// What applies to a message of this peer: the promise is about peers of the same user.
    #[inline(always)]
    pub(crate) fn in_peer(self, inbound: &Inbound) -> Trust {
        match self {
            Trust::Unchecked(_) if inbound.is_foreign() => Trust::Checked,
            trust => trust,
        }
    }

    /// Archives are read as they come, with no check but of their length and alignment.
    ///
    /// # Safety
    /// The caller promises that every peer this setting applies to (all of the same user; messages of others are always
    /// checked) is built from the same sources,
    /// sends only archives that this library wrote from values of the very type the receiver expects,
    /// and never changes one before it is released. A peer that breaks this, by fault or by intent,
    /// causes undefined behaviour in this process.
    #[must_use]
    pub const unsafe fn unchecked() -> Trust {
        Trust::Unchecked(Promise(()))
    }
}
