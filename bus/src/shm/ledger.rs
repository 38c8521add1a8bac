//! The pool's books: which buffers there are, who holds them, which are free. All of it is private
//! memory of the owner, so a peer's death in any moment leaves it consistent.
//!
//! Segments are divided into blocks, of 8 MiB where segments are large enough that blocks are many, else of 4 MiB. So a
//! payload of 4 MiB and what is archived beside it need no segment of their own. A block belongs to one size class while any of its buffers
//! is in use; a block without used buffers may go to another class when memory runs short. Within a class
//! the buffer freed last is used first: its bytes are still in the cache. Large ones take turns, as far as [`ROTATION`] goes.

use super::layout::LINE;

/// Size classes: 64 B, 128 B, … 8 MiB.
pub(crate) const CLASSES: usize = 18;
/// The smallest size of a block, in bytes.
pub(crate) const LEAST_BLOCK: usize = 4 << 20;
/// The largest.
const MOST_BLOCK: usize = LINE << (CLASSES - 1);
/// From so many blocks in a segment on, they are of the largest size.
const MANY: u64 = 8;

/// The size of the blocks in segments of so many bytes, and of their largest buffer. Larger messages get a segment of their
/// own.
pub(crate) const fn block_bytes(segment: u64) -> usize {
    if segment / MANY >= MOST_BLOCK as u64 {
        MOST_BLOCK
    } else {
        LEAST_BLOCK
    }
}

/// Buffers from this size on, in bytes, take turns.
const ROTATE_FROM: usize = 64 << 10;

/// How many bytes of buffers take turns. The lines of one that a reader has just given back are still in that reader's cache,
/// and each has to be asked back from there before it is written; after so many others, more than the second cache of today's
/// processors, they are in the third, which both cores share. What it is worth, and how that was measured, is in
/// ARCHITECTURE.md.
const ROTATION: usize = 2 << 20;

/// How many buffers of a class take turns.
const fn turns(class: usize) -> usize {
    let bytes = class_bytes(class);
    if bytes < ROTATE_FROM || bytes > ROTATION {
        1
    } else {
        ROTATION / bytes
    }
}

/// The class for a buffer of `bytes`, which are not above the largest.
fn class_of(bytes: usize) -> usize {
    (bytes.max(LINE).next_power_of_two() / LINE).trailing_zeros() as usize
}

/// Bytes of a buffer of this class.
pub(crate) const fn class_bytes(class: usize) -> usize {
    LINE << class
}

/// Bits of a [`BufferId`] that say which buffer of its block it is: as many as the smallest class needs.
const INDEX_BITS: u32 = (MOST_BLOCK / LINE).trailing_zeros();

/// Names a buffer: block number and index in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BufferId(u32);

impl BufferId {
    fn new(block: usize, index: usize) -> Self {
        // Blocks are at most `MAX_BLOCKS` (`Ledger::add_segment`), and a block holds at most `1 << INDEX_BITS` buffers.
        Self((block as u32) << INDEX_BITS | index as u32)
    }
    fn block(self) -> usize {
        (self.0 >> INDEX_BITS) as usize
    }
    fn index(self) -> usize {
        (self.0 & ((1 << INDEX_BITS) - 1)) as usize
    }
}

/// Where a buffer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
struct Block {
    segment: u32,
    /// Offset of the block in its segment.
    base: usize,
    /// `None`: unassigned.
    class: Option<usize>,
    /// References to each buffer handed out so far; 0: on the free list.
    refs: Vec<u32>,
    /// Buffers with references.
    used: usize,
}

/// Most blocks: as many as a [`BufferId`] can name.
pub(crate) const MAX_BLOCKS: usize = 1 << (32 - INDEX_BITS);

/// The books of all buffers that lie in blocks.
#[derive(Debug)]
pub(crate) struct Ledger {
    block: usize,
    blocks: Vec<Block>,
    /// Unassigned blocks.
    spare: Vec<u16>,
    /// Per class: free buffers, the one freed last at the end. Of a class that takes [`turns`] none is used before so many others
    /// are, if there are that many.
    free: [Vec<BufferId>; CLASSES],
    /// Per class: the block that still has buffers never used.
    fresh: [Option<usize>; CLASSES],
    used: usize,
    used_bytes: usize,
}

impl Ledger {
    /// `block`: bytes of a block, as [`block_bytes`] gives them.
    pub(crate) fn new(block: usize) -> Self {
        Self {
            block,
            blocks: Vec::new(),
            spare: Vec::new(),
            free: Default::default(),
            fresh: Default::default(),
            used: 0,
            used_bytes: 0,
        }
    }

    /// The largest buffer, in bytes: a whole block.
    pub(crate) fn largest(&self) -> usize {
        self.block
    }

    /// The class for a buffer of `bytes`; `None` above the largest.
    pub(crate) fn class_of(&self, bytes: usize) -> Option<usize> {
        (bytes <= self.block).then(|| class_of(bytes))
    }

    /// Buffers in use.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Bytes in use, in whole buffers.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Takes the blocks of a new segment into the books. Returns how many.
    pub(crate) fn add_segment(&mut self, segment: u32, bytes: usize) -> usize {
        let count = (bytes / self.block).min(MAX_BLOCKS - self.blocks.len());
        // The lowest block ends up last, and so is used first.
        for at in (0..count).rev() {
            self.spare.push(self.blocks.len() as u16);
            self.blocks.push(Block {
                segment,
                base: at * self.block,
                class: None,
                refs: Vec::new(),
                used: 0,
            });
        }
        count
    }

    /// A buffer of `class` with one reference; `None` if the books have no memory left for it.
    pub(crate) fn take(&mut self, class: usize) -> Option<BufferId> {
        let id = match self.free_one(class) {
            Some(id) => id,
            None => self.fresh(class).or_else(|| {
                self.reclaim();
                self.fresh(class)
            })?,
        };
        Some(self.hand_out(id))
    }

    /// The free buffer of `class` whose turn it is.
    fn free_one(&mut self, class: usize) -> Option<BufferId> {
        let turns = turns(class);
        let free = &mut self.free[class];
        if turns == 1 {
            return free.pop();
        }
        match free.len().checked_sub(turns) {
            Some(at) => Some(free.remove(at)),
            // The block has more that were never used, and is this class's anyway.
            None if self.fresh[class].is_some() => self.fresh(class),
            None if free.is_empty() => None,
            None => Some(free.remove(0)),
        }
    }

    /// A buffer of the largest class, which has one in each block: so models bound how many there are.
    #[cfg(loom)]
    pub(crate) fn take_block(&mut self) -> Option<BufferId> {
        self.take(class_of(self.block))
    }

    /// A buffer that will be handed out soon if nothing is freed: `ahead` takes from now.
    pub(crate) fn upcoming(&self, class: usize, ahead: usize) -> Option<BufferId> {
        let free = &self.free[class];
        let at = free.len().checked_sub(ahead).filter(|_| turns(class) == 1);
        at.and_then(|at| free.get(at)).copied()
    }

    /// A larger buffer than `class` has, when that class and the kernel have none left: a pool at its limit
    /// whose blocks all belong to other classes still serves every message that fits into a free buffer.
    pub(crate) fn take_larger(&mut self, class: usize) -> Option<BufferId> {
        let larger = class + 1..CLASSES;
        let id = larger.clone().find_map(|larger| self.free[larger].pop());
        let id = id.or_else(|| larger.clone().find_map(|larger| self.fresh(larger)))?;
        Some(self.hand_out(id))
    }

    fn hand_out(&mut self, id: BufferId) -> BufferId {
        let block = &mut self.blocks[id.block()];
        block.refs[id.index()] = 1;
        block.used += 1;
        self.used += 1;
        self.used_bytes += class_bytes(block.class.unwrap_or(0));
        id
    }

    /// A buffer of `class` that was never used.
    fn fresh(&mut self, class: usize) -> Option<BufferId> {
        let number = match self.fresh[class] {
            Some(number) => number,
            None => {
                let number = usize::from(self.spare.pop()?);
                self.blocks[number].class = Some(class);
                self.fresh[class] = Some(number);
                // Those that take turns are all used before long: no allocation for one after the other.
                self.blocks[number].refs.reserve(turns(class));
                self.free[class].reserve(turns(class));
                number
            }
        };
        let block = &mut self.blocks[number];
        let index = block.refs.len();
        block.refs.push(0);
        if block.refs.len() == self.block / class_bytes(class) {
            self.fresh[class] = None;
        }
        Some(BufferId::new(number, index))
    }

    /// Takes the blocks in which nothing is used away from their classes. Costs a walk over the free
    /// lists, and happens only when there is no other memory.
    fn reclaim(&mut self) {
        let mut found = false;
        for (number, block) in self.blocks.iter_mut().enumerate() {
            if let Some(class) = block.class.filter(|_| block.used == 0) {
                found = true;
                block.class = None;
                block.refs.clear();
                self.spare.push(number as u16);
                if self.fresh[class] == Some(number) {
                    self.fresh[class] = None;
                }
            }
        }
        if found {
            let blocks = &self.blocks;
            for free in &mut self.free {
                free.retain(|id| blocks[id.block()].class.is_some());
            }
        }
    }

    /// `count` more holders.
    pub(crate) fn retain(&mut self, id: BufferId, count: u32) {
        let refs = &mut self.blocks[id.block()].refs[id.index()];
        debug_assert!(*refs > 0);
        *refs += count;
    }

    /// One holder less; the last one frees the buffer. Returns whether it did.
    pub(crate) fn release(&mut self, id: BufferId) -> bool {
        let block = &mut self.blocks[id.block()];
        let refs = &mut block.refs[id.index()];
        debug_assert!(*refs > 0, "a buffer was released twice");
        *refs = refs.saturating_sub(1);
        if *refs > 0 {
            return false;
        }
        block.used -= 1;
        self.used -= 1;
        if let Some(class) = block.class {
            self.used_bytes -= class_bytes(class);
            self.free[class].push(id);
        }
        true
    }

    pub(crate) fn locate(&self, id: BufferId) -> Location {
        let block = &self.blocks[id.block()];
        let bytes = class_bytes(block.class.unwrap_or(0));
        Location {
            segment: block.segment,
            offset: block.base + id.index() * bytes,
            bytes,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    const BLOCK: usize = LEAST_BLOCK;
    /// The class that takes a whole block.
    const WHOLE: usize = CLASSES - 2;

    #[test]
    fn classes_fit_what_they_are_for() {
        for segment in [4 << 20, 63 << 20, 64 << 20, 1 << 30] {
            let ledger = Ledger::new(block_bytes(segment));
            assert_eq!(
                ledger.largest(),
                if segment < 64 << 20 { 4 << 20 } else { 8 << 20 }
            );
            assert_eq!(ledger.class_of(0), Some(0));
            assert_eq!(ledger.class_of(64), Some(0));
            assert_eq!(ledger.class_of(65), Some(1));
            assert_eq!(ledger.class_of(ledger.largest() + 1), None);
            for bytes in (1..10_000).chain([ledger.largest()]) {
                assert!(class_bytes(ledger.class_of(bytes).unwrap()) >= bytes);
            }
        }
    }

    #[test]
    fn a_block_has_as_many_of_the_smallest_buffers_as_a_name_can_tell_apart() {
        for segment in [4 << 20, 64 << 20] {
            let block = block_bytes(segment);
            let mut ledger = Ledger::new(block);
            ledger.add_segment(0, 2 * block);
            let all: HashSet<_> = std::iter::from_fn(|| ledger.take(0)).collect();
            assert_eq!(all.len(), 2 * block / LINE);
            let end = all.iter().map(|id| span(&ledger, *id).2).max();
            assert_eq!(end, Some(2 * block));
        }
    }

    #[test]
    fn the_buffer_freed_last_is_used_first() {
        let mut ledger = Ledger::new(BLOCK);
        ledger.add_segment(0, BLOCK);
        let (a, b) = (ledger.take(0).unwrap(), ledger.take(0).unwrap());
        ledger.release(b);
        ledger.release(a);
        assert_eq!(ledger.take(0), Some(a));
        assert_eq!(ledger.take(0), Some(b));
    }

    #[test]
    fn large_buffers_take_turns() {
        let mut ledger = Ledger::new(BLOCK);
        ledger.add_segment(0, 2 * BLOCK);
        let class = class_of(ROTATE_FROM);
        assert_eq!((turns(class - 1), turns(class)), (1, 32));
        // One in use at a time: as many as take turns are used, and then used again in that order.
        let mut one_by_one = |count| -> Vec<_> {
            std::iter::repeat_with(|| {
                let id = ledger.take(class).unwrap();
                ledger.release(id);
                id
            })
            .take(count)
            .collect()
        };
        let first = one_by_one(32);
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 32);
        assert_eq!(one_by_one(64), [first.clone(), first.clone()].concat());

        // Those that a burst has freed besides are not among them.
        let burst: Vec<_> = (0..BLOCK / ROTATE_FROM)
            .map(|_| ledger.take(class).unwrap())
            .collect();
        for id in &burst {
            ledger.release(*id);
        }
        let last: HashSet<_> = burst[burst.len() - 32..].iter().collect();
        for _ in 0..40 {
            let id = ledger.take(class).unwrap();
            assert!(last.contains(&id));
            ledger.release(id);
        }
        // No class takes a block for its turns alone, and each gives all it has.
        let all = std::iter::from_fn(|| ledger.take(class)).count();
        assert_eq!(all, 2 * BLOCK / ROTATE_FROM);
    }

    #[test]
    fn memory_used_up_by_small_buffers_serves_large_ones_again() {
        let mut ledger = Ledger::new(BLOCK);
        ledger.add_segment(0, 2 * BLOCK);
        let small: Vec<_> = std::iter::from_fn(|| ledger.take(3)).collect();
        assert_eq!(small.len(), 2 * BLOCK / class_bytes(3));
        assert_eq!(ledger.take(WHOLE), None);
        for id in &small {
            ledger.release(*id);
        }
        let large = ledger.take(WHOLE).expect("an unused block changes its class");
        assert!(ledger.take(3).is_some());
        ledger.release(large);
    }

    #[test]
    fn a_small_message_takes_a_large_buffer_when_there_is_no_other() {
        let mut ledger = Ledger::new(BLOCK);
        ledger.add_segment(0, BLOCK);
        let large = WHOLE - 2;
        let mut held: Vec<_> = (0..2).map(|_| ledger.take(large).unwrap()).collect();
        assert_eq!(ledger.take(0), None, "the only block is of another class");
        held.extend(std::iter::from_fn(|| ledger.take_larger(0)));
        assert_eq!(held.len(), 4);
        assert_eq!(ledger.used_bytes(), BLOCK);
        assert_eq!(ledger.take_larger(large), None);
        for id in held {
            ledger.release(id);
        }
        assert_eq!((ledger.used(), ledger.used_bytes()), (0, 0));
        assert!(ledger.take(WHOLE).is_some());
    }

    /// What a buffer covers, for the overlap check.
    fn span(ledger: &Ledger, id: BufferId) -> (u32, usize, usize) {
        let at = ledger.locate(id);
        (at.segment, at.offset, at.offset + at.bytes)
    }

    proptest! {
        /// Against a plain model: no two used buffers overlap, everything lies in its segment and on a
        /// line, the counts are right, and after all is released everything can be had again.
        #[test]
        fn buffers_never_overlap(steps in proptest::collection::vec((0u8..4, 0usize..=WHOLE, any::<prop::sample::Index>()), 1..300)) {
            let mut ledger = Ledger::new(BLOCK);
            ledger.add_segment(0, 3 * BLOCK);
            let mut held: Vec<(BufferId, usize, u32)> = Vec::new();
            for (what, class, which) in steps {
                match what {
                    0 | 1 => if let Some(id) = ledger.take(class) {
                        prop_assert!(held.iter().all(|(other, ..)| *other != id));
                        let (segment, from, to) = span(&ledger, id);
                        prop_assert_eq!((segment, from % LINE, to - from), (0, 0, class_bytes(class)));
                        prop_assert!(to <= 3 * BLOCK);
                        for (other, ..) in &held {
                            let (_, a, b) = span(&ledger, *other);
                            prop_assert!(to <= a || b <= from, "overlap");
                        }
                        held.push((id, class, 1));
                    },
                    2 => if !held.is_empty() {
                        let at = which.index(held.len());
                        ledger.retain(held[at].0, 1);
                        held[at].2 += 1;
                    },
                    _ => if !held.is_empty() {
                        let at = which.index(held.len());
                        held[at].2 -= 1;
                        let freed = ledger.release(held[at].0);
                        prop_assert_eq!(freed, held[at].2 == 0);
                        if freed { held.swap_remove(at); }
                    },
                }
                prop_assert_eq!(ledger.used(), held.len());
                prop_assert_eq!(ledger.used_bytes(), held.iter().map(|(_, c, _)| class_bytes(*c)).sum::<usize>());
            }
            for (id, _, refs) in held {
                for _ in 0..refs { ledger.release(id); }
            }
            prop_assert_eq!((ledger.used(), ledger.used_bytes()), (0, 0));
            let all: Vec<_> = std::iter::from_fn(|| ledger.take(WHOLE)).collect();
            prop_assert_eq!(all.len(), 3);
        }
    }
}
