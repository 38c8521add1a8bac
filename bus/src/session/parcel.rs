//! From a value to bytes that can be sent: in the slot where they fit, else in a buffer of the pool.

use std::{cell::Cell, sync::Arc};

use super::{link::Parcel, node::Node};
use crate::{
    error::{Bound, ResourceError, SendError},
    message::{ArchiveError, ShmRoot, archive_into},
    shm::{
        descriptor::{Descriptor, Inline},
        faults::fault,
        layout::INLINE_BYTES,
        pool::{Buffer, Pool, PoolError},
    },
};

/// Why a value could not be packed.
#[derive(Debug)]
pub(crate) enum Packing {
    TooLarge {
        bytes: usize,
        limit: usize,
    },
    Full,
    /// More than the pool can ever hold; it has so many bytes for it.
    Beyond {
        bytes: usize,
        left: u64,
    },
    Kernel(ResourceError),
    Archive(String),
}

impl Packing {
    /// What the sender of a message to this name is told.
    pub(crate) fn to(self, name: &str) -> SendError {
        let name = name.to_owned();
        match self {
            Packing::TooLarge { bytes, limit } => SendError::TooLarge { name, bytes, limit },
            Packing::Full => SendError::Full {
                name,
                bound: Bound::Pool,
            },
            Packing::Beyond { bytes, left } => SendError::Memory {
                name,
                problem: format!(
                    "it takes {bytes} bytes, and the pool can hold {left} bytes of large messages \
                     (`Config::pool_bytes`)"
                ),
            },
            Packing::Kernel(error) => SendError::Memory {
                name,
                problem: error.to_string(),
            },
            Packing::Archive(problem) => SendError::Archive { name, problem },
        }
    }
}

thread_local! {
    /// The size of the last message without a bound: a guess for the next one.
    static LAST_SIZE: Cell<usize> = const { Cell::new(0) };
}

/// A buffer of at least `bytes`.
pub(crate) fn buffer(pool: &Arc<Pool>, bytes: usize) -> Result<Buffer, Packing> {
    let taken = pool.take(bytes);
    fault!(Taken);
    taken.map_err(|error| match error {
        PoolError::Full => Packing::Full,
        PoolError::TooLarge { left } => Packing::Beyond { bytes, left },
        PoolError::Kernel(error) => Packing::Kernel(error),
    })
}

/// Tries once more, with what any peer has released, if there was no memory. `state` comes back from a failure.
pub(crate) fn with_memory<S, R>(
    node: &Node,
    name: &str,
    mut state: S,
    mut attempt: impl FnMut(S) -> Result<R, (S, Packing)>,
) -> Result<R, (S, SendError)> {
    let mut collected = false;
    loop {
        match attempt(state) {
            Ok(done) => return Ok(done),
            Err((back, Packing::Full)) if !collected => {
                collected = true;
                node.collect_all();
                state = back;
            }
            Err((back, why)) => return Err((back, why.to(name))),
        }
    }
}

/// Archives a small value straight into its descriptor. `false`: it may be larger than the IO queue takes, or cannot be
/// archived, which [`pack`] tells apart.
#[inline]
pub(crate) fn pack_inline<T: ShmRoot>(value: &T, descriptor: &mut Descriptor) -> bool {
    if value.size_bound().is_none_or(|bound| bound > INLINE_BYTES) {
        return false;
    }
    match archive_into(value, descriptor.inline_mut()) {
        Ok(len) => {
            descriptor.set_inline_len(len);
            true
        }
        Err(_) => {
            *descriptor.inline_mut() = [0; INLINE_BYTES];
            false
        }
    }
}

/// Archives `value`; `warm` is called with the size before memory is taken from the pool.
pub(crate) fn pack<T: ShmRoot>(
    value: &T,
    pool: &Arc<Pool>,
    limit: usize,
    warm: impl FnOnce(usize),
) -> Result<Parcel, Packing> {
    pack_with(value, pool, limit, INLINE_BYTES, warm)
}

/// As [`pack`], with at most `inline` bytes in the slot itself; 0: always in a buffer.
pub(crate) fn pack_with<T: ShmRoot>(
    value: &T,
    pool: &Arc<Pool>,
    limit: usize,
    inline_bytes: usize,
    warm: impl FnOnce(usize),
) -> Result<Parcel, Packing> {
    let bound = value.size_bound();
    if inline_bytes > 0 && bound.is_none_or(|bound| bound <= inline_bytes) {
        let mut inline = Inline::EMPTY;
        match archive_into(value, &mut inline.bytes[..inline_bytes.min(INLINE_BYTES)]) {
            Ok(len) => {
                inline.len = len as u8;
                return Ok(Parcel::Inline(inline));
            }
            Err(ArchiveError::Failed(problem)) => return Err(Packing::Archive(problem)),
            // The exact size is known now, but a guess spares nothing here: go on with it.
            Err(ArchiveError::TooSmall { needed }) => {
                LAST_SIZE.set(needed);
            }
        }
    }
    // A bound above the limit may still be a message below it: only the exact size decides.
    let mut bytes = bound.unwrap_or_else(|| LAST_SIZE.get()).min(limit);
    warm(bytes);
    for _ in 0..2 {
        let mut buffer = buffer(pool, bytes)?;
        let room = buffer.bytes_mut();
        let room_bytes = room.len();
        match archive_into(value, room) {
            Ok(len) if len > limit => return Err(Packing::TooLarge { bytes: len, limit }),
            Ok(len) => return Ok(Parcel::Buffer(buffer, len)),
            Err(ArchiveError::Failed(problem)) => return Err(Packing::Archive(problem)),
            Err(ArchiveError::TooSmall { needed }) if needed > limit => {
                return Err(Packing::TooLarge { bytes: needed, limit });
            }
            Err(ArchiveError::TooSmall { needed }) => bytes = needed.max(room_bytes + 1),
        }
    }
    Err(Packing::Archive("its size changed while it was archived".into()))
}
