//! Memory for outgoing messages: written by this process alone, read by its peers.

use std::{
    collections::{HashMap, VecDeque},
    ptr::NonNull,
    sync::{Arc, Mutex},
    task::Waker,
};

use super::{
    layout::LINE,
    ledger::{BufferId, Ledger, block_bytes},
    prefetch,
    segment::Segment,
    sync::lock,
    waiters::Waiters,
};
use crate::error::ResourceError;

/// Pool segments whose number has this bit hold one large message each.
pub(crate) const DEDICATED: u32 = 1 << 31;
/// Most segments that are divided into blocks; see `Config::segment_bytes`.
pub(crate) const MAX_SEGMENTS: usize = 256;

/// How many buffers ahead of the one in hand are asked for, and how much of each, in bytes: of longer ones
/// the processor fetches the rest by itself.
const AHEAD: usize = 4;
const AHEAD_BYTES: usize = 512;

/// Why there is no buffer.
#[derive(Debug)]
pub(crate) enum PoolError {
    /// The limit is reached; buffers that come back make room.
    Full,
    /// More than there can ever be: the pool's segments are kept, and leave only so many bytes for a segment of
    /// its own.
    TooLarge {
        /// The bytes that they leave.
        left: u64,
    },
    /// The kernel gave no memory.
    Kernel(ResourceError),
}

#[derive(Debug)]
struct Books {
    ledger: Ledger,
    segments: Vec<Arc<Segment>>,
    /// Large buffers: number, segment, references.
    dedicated: HashMap<u32, (Arc<Segment>, u32)>,
    next_dedicated: u32,
    /// Segments of large messages that were released, the one released last at the end: fresh memory costs the kernel
    /// ten times what writing it does. At most `segment_bytes` of them.
    kept: VecDeque<Arc<Segment>>,
    kept_bytes: u64,
    /// Bytes of all segments.
    reserved: u64,
    used_dedicated: u64,
    /// What comes back is not used again.
    retired: bool,
}

impl Books {
    /// A kept segment for a large message, not much larger than that.
    fn reuse(&mut self, bytes: usize) -> Option<Arc<Segment>> {
        let fits = |segment: &Arc<Segment>| (bytes..=2 * bytes).contains(&segment.bytes());
        let at = self.kept.iter().rposition(fits)?;
        let segment = self.kept.remove(at)?;
        self.kept_bytes -= segment.bytes() as u64;
        self.reserved -= segment.bytes() as u64;
        Some(segment)
    }

    /// Lets kept segments go, until `bytes` more can be reserved or there are none.
    fn make_room(&mut self, bytes: u64, limit: u64) {
        while bytes > limit.saturating_sub(self.reserved)
            && let Some(segment) = self.kept.pop_front()
        {
            self.kept_bytes -= segment.bytes() as u64;
            self.reserved -= segment.bytes() as u64;
        }
    }
}

/// A node's pool.
#[derive(Debug)]
pub(crate) struct Pool {
    books: Mutex<Books>,
    segment_bytes: u64,
    limit: u64,
    /// Tasks that wait for a buffer to come back.
    waiters: Waiters,
}

/// A buffer that was sent; who holds one gives it back by [`Pool::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Held {
    Pooled(BufferId),
    Dedicated(u32),
}

impl Held {
    /// Whether it has a segment of its own.
    pub(crate) fn is_dedicated(self) -> bool {
        matches!(self, Held::Dedicated(_))
    }
}

impl Pool {
    /// `limit` and `segment_bytes` as in `Config`.
    pub(crate) fn new(segment_bytes: u64, limit: u64) -> Arc<Self> {
        Arc::new(Self {
            books: Mutex::new(Books {
                ledger: Ledger::new(block_bytes(segment_bytes)),
                segments: Vec::new(),
                dedicated: HashMap::new(),
                next_dedicated: 0,
                kept: VecDeque::new(),
                kept_bytes: 0,
                reserved: 0,
                used_dedicated: 0,
                retired: false,
            }),
            segment_bytes,
            limit,
            waiters: Waiters::new(),
        })
    }

    /// The largest buffer without a segment of its own, in bytes.
    pub(crate) fn largest(&self) -> usize {
        block_bytes(self.segment_bytes)
    }

    /// A buffer of at least `bytes`, not yet seen by anybody.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<Buffer, PoolError> {
        let mut books = lock(&self.books);
        let Some(class) = books.ledger.class_of(bytes) else {
            return self.take_dedicated(&mut books, bytes);
        };
        let id = match books.ledger.take(class) {
            Some(id) => id,
            None => match self.grow(&mut books) {
                Ok(()) => books.ledger.take(class).ok_or(PoolError::Full)?,
                Err(error) => books.ledger.take_larger(class).ok_or(error)?,
            },
        };
        if let Some(next) = books.ledger.upcoming(class, AHEAD) {
            let next = books.ledger.locate(next);
            let first = books.segments[next.segment as usize].at(next.offset);
            for line in 0..next.bytes.min(AHEAD_BYTES) / LINE {
                prefetch::for_write(first.as_ptr().wrapping_add(line * LINE));
            }
        }
        let at = books.ledger.locate(id);
        let first = books.segments[at.segment as usize].at(at.offset);
        Ok(Buffer {
            pool: self.clone(),
            held: Held::Pooled(id),
            segment: at.segment,
            offset: at.offset,
            first,
            bytes: at.bytes,
        })
    }

    fn grow(&self, books: &mut Books) -> Result<(), PoolError> {
        books.make_room(self.segment_bytes, self.limit);
        let bytes = self.segment_bytes.min(self.limit.saturating_sub(books.reserved));
        let number = books.segments.len();
        if bytes < books.ledger.largest() as u64 || number == MAX_SEGMENTS {
            return Err(PoolError::Full);
        }
        let segment = Segment::create("shmbus-pool", bytes as usize).map_err(PoolError::Kernel)?;
        if books.ledger.add_segment(number as u32, segment.bytes()) == 0 {
            return Err(PoolError::Full);
        }
        books.segments.push(segment);
        books.reserved += bytes;
        Ok(())
    }

    fn take_dedicated(self: &Arc<Self>, books: &mut Books, bytes: usize) -> Result<Buffer, PoolError> {
        let bytes = bytes.next_multiple_of(4096);
        let kept: u64 = books.segments.iter().map(|segment| segment.bytes() as u64).sum();
        let left = self.limit.saturating_sub(kept);
        if bytes as u64 > left {
            return Err(PoolError::TooLarge { left });
        }
        let segment = match books.reuse(bytes) {
            Some(segment) => segment,
            None => {
                books.make_room(bytes as u64, self.limit);
                if bytes as u64 > self.limit.saturating_sub(books.reserved) {
                    return Err(PoolError::Full);
                }
                Segment::create("shmbus-large", bytes).map_err(PoolError::Kernel)?
            }
        };
        let (first, bytes) = (segment.at(0), segment.bytes());
        let number = loop {
            let number = books.next_dedicated | DEDICATED;
            books.next_dedicated = books.next_dedicated.wrapping_add(1) & !DEDICATED;
            if !books.dedicated.contains_key(&number) {
                break number;
            }
        };
        books.dedicated.insert(number, (segment, 1));
        books.reserved += bytes as u64;
        books.used_dedicated += bytes as u64;
        Ok(Buffer {
            pool: self.clone(),
            held: Held::Dedicated(number),
            segment: number,
            offset: 0,
            first,
            bytes,
        })
    }

    /// The segment of this number, to be sent to a peer.
    pub(crate) fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        let books = lock(&self.books);
        if number & DEDICATED == 0 {
            books.segments.get(number as usize).cloned()
        } else {
            books.dedicated.get(&number).map(|(segment, _)| segment.clone())
        }
    }

    /// `count` more holders of a buffer that the caller holds.
    pub(crate) fn retain(&self, held: Held, count: u32) {
        let mut books = lock(&self.books);
        match held {
            Held::Pooled(id) => books.ledger.retain(id, count),
            Held::Dedicated(number) => {
                if let Some((_, refs)) = books.dedicated.get_mut(&number) {
                    *refs += count;
                }
            }
        }
    }

    /// A copy, in a buffer of another pool, of the first `len` bytes of a buffer that the caller holds. It lies at
    /// `offset` of a segment.
    pub(crate) fn copy(
        &self,
        held: Held,
        segment: u32,
        offset: u64,
        len: u64,
        to: &Arc<Pool>,
    ) -> Result<Buffer, PoolError> {
        let Some(segment) = self.segment(segment) else {
            return Err(PoolError::Full);
        };
        let (offset, len) = (offset as usize, len as usize);
        assert!(offset + len <= segment.bytes(), "{held:?} lies in its segment");
        let mut copy = to.take(len)?;
        // SAFETY: the bytes lie in the segment, as was just checked, which this Arc keeps mapped. Nobody writes them: the
        // caller holds the buffer, which was sent, or is about to be, and so has no `Buffer` that could.
        let bytes = unsafe { std::slice::from_raw_parts(segment.at(offset).as_ptr(), len) };
        copy.bytes_mut()[..len].copy_from_slice(bytes);
        Ok(copy)
    }

    /// Gives back what holders held; freed with its last holder.
    pub(crate) fn release(&self, held: impl IntoIterator<Item = Held>) {
        let mut dropped = Vec::new();
        let mut books = lock(&self.books);
        for held in held {
            match held {
                // It stays taken.
                Held::Pooled(_) if books.retired => {}
                Held::Pooled(id) => {
                    books.ledger.release(id);
                }
                Held::Dedicated(number) => {
                    let Some((_, refs)) = books.dedicated.get_mut(&number) else {
                        continue;
                    };
                    *refs -= 1;
                    if *refs == 0
                        && let Some((segment, _)) = books.dedicated.remove(&number)
                    {
                        let bytes = segment.bytes() as u64;
                        books.used_dedicated -= bytes;
                        if !books.retired && books.kept_bytes + bytes <= self.segment_bytes {
                            books.kept_bytes += bytes;
                            books.kept.push_back(segment);
                        } else {
                            books.reserved -= bytes;
                            dropped.push(segment);
                        }
                    }
                }
            }
        }
        drop(books);
        // Unmapping is a system call; nobody else waits for it.
        drop(dropped);
        self.waiters.wake();
    }

    /// From now on no buffer is used a second time: nobody tells any more who still reads what was sent.
    pub(crate) fn retire(&self) {
        lock(&self.books).retired = true;
    }

    /// Registers a task to be woken when something comes back; it must try once more afterwards.
    pub(crate) fn wait(&self, waker: &Waker) {
        self.waiters.wait(waker);
    }

    /// Buffers in use, bytes in use, bytes reserved.
    pub(crate) fn usage(&self) -> (usize, u64, u64) {
        let books = lock(&self.books);
        let used = books.ledger.used() + books.dedicated.len();
        (
            used,
            books.ledger.used_bytes() as u64 + books.used_dedicated,
            books.reserved,
        )
    }
}

/// A buffer that only this value knows, until it is sent. Dropped unsent, it goes back to the pool.
#[derive(Debug)]
pub(crate) struct Buffer {
    pool: Arc<Pool>,
    held: Held,
    segment: u32,
    offset: usize,
    first: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a Buffer is the only holder of its memory, like a Box<[u8]>.
unsafe impl Send for Buffer {}
// SAFETY: as above; `&Buffer` gives `&[u8]` and nothing else.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub(crate) fn segment(&self) -> u32 {
        self.segment
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: as in `bytes_mut`; writing takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.bytes) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the ledger gave these bytes to this Buffer alone (buffers do not overlap, which a
        // proptest checks), they lie in a segment that the pool, which `self` holds, keeps mapped as long
        // as the buffer is taken, and no peer reads a buffer that was not sent to it; what a peer does
        // against the protocol, it does to its own reads. memfds are born as zero bytes.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.bytes) }
    }

    /// Whether it was taken from this pool.
    pub(crate) fn is_of(&self, pool: &Arc<Pool>) -> bool {
        Arc::ptr_eq(&self.pool, pool)
    }

    /// Gives up the right to write, for the right to release.
    pub(crate) fn into_held(self) -> Held {
        let held = self.held;
        // The Arc is dropped, the buffer is not released.
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is never used again, so the Arc is moved out exactly once.
        drop(unsafe { std::ptr::read(&this.pool) });
        held
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.release([self.held]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_grows_to_its_limit_and_no_further() {
        let pool = Pool::new(8 << 20, 20 << 20);
        let mut held: Vec<Buffer> = Vec::new();
        for _ in 0..5 {
            held.push(pool.take(4 << 20).unwrap());
        }
        assert!(matches!(pool.take(4 << 20), Err(PoolError::Full)));
        assert!(matches!(pool.take(1), Err(PoolError::Full)));
        held.pop();
        assert!(pool.take(1).is_ok());
        assert_eq!(pool.usage(), (4, 16 << 20, 20 << 20));
    }

    #[test]
    fn a_large_buffer_has_its_own_segment_that_goes_with_it() {
        let pool = Pool::new(4 << 20, 64 << 20);
        let mut large = pool.take((4 << 20) + 1).unwrap();
        assert!(large.segment() & DEDICATED != 0);
        large.bytes_mut().fill(7);
        let segment = pool.segment(large.segment()).unwrap();
        assert_eq!(segment.bytes(), (4 << 20) + 4096);
        drop(large);
        assert_eq!(pool.usage(), (0, 0, 0));
        let left = 64 << 20;
        assert!(matches!(
            pool.take(left + 1),
            Err(PoolError::TooLarge { left: 0x400_0000 })
        ));
        let all = pool.take(left).unwrap();
        assert!(matches!(pool.take(left), Err(PoolError::Full)));
        drop(all);
        // What the pool keeps for smaller buffers is no longer there for large ones.
        drop(pool.take(1).unwrap());
        assert!(matches!(
            pool.take(left),
            Err(PoolError::TooLarge { left: 0x3c0_0000 })
        ));
    }

    #[test]
    fn segments_of_large_messages_are_kept_for_the_next_as_far_as_one_of_the_pools_goes() {
        let pool = Pool::new(16 << 20, 32 << 20);
        let take = |bytes| pool.take(bytes).unwrap();
        let (a, b, c) = (take(5 << 20), take(6 << 20), take(7 << 20));
        let (first, segment) = (b.first, b.segment);
        drop((a, b, c));
        // The third is beyond what is kept.
        assert_eq!(pool.usage(), (0, 0, 11 << 20));
        // The one released last that fits, and by another number.
        let again = take(5 << 20);
        assert!(again.first == first && again.segment != segment && again.bytes == 6 << 20);
        assert_eq!(pool.usage(), (1, 6 << 20, 11 << 20));
        drop(again);
        // It gives way to whatever else needs memory.
        drop((take(5 << 20), take(26 << 20)));
        assert_eq!(pool.usage(), (0, 0, 6 << 20));
        let _small = take(1);
        assert_eq!(pool.usage(), (1, 64, 22 << 20));
        let _more: Vec<_> = (0..7).map(|_| take(4 << 20)).collect();
        assert_eq!(pool.usage().2, 32 << 20);
    }

    #[test]
    fn a_sent_buffer_lives_until_it_is_released() {
        let pool = Pool::new(8 << 20, 8 << 20);
        let held = pool.take(100).unwrap().into_held();
        assert_eq!(pool.usage().0, 1);
        assert_eq!(Arc::strong_count(&pool), 1);
        pool.release([held]);
        assert_eq!(pool.usage().0, 0);
    }

    #[test]
    fn a_retired_pool_gives_no_buffer_out_again() {
        let pool = Pool::new(8 << 20, 32 << 20);
        for bytes in [100, 5 << 20] {
            let before = pool.take(bytes).unwrap();
            // Mapped on, so that no other segment comes to lie there.
            let _segment = pool.segment(before.segment());
            let place = before.first;
            let held = before.into_held();
            pool.retire();
            pool.release([held]);
            assert_ne!(pool.take(bytes).unwrap().first, place);
        }
    }
}
