//! Working memory for archiving lists and maps, kept per thread from message to message.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    cell::Cell,
    ptr::NonNull,
};

/// Size of the first block, in bytes.
const FIRST: usize = 4 << 10;
/// A block larger than this, in bytes, is given back after use, so that one huge message does not
/// hold its memory for good.
const KEEP: usize = 1 << 20;
/// The alignment of blocks, in bytes.
const ALIGN: usize = 16;

thread_local! {
    static KEPT: Cell<Option<Scratch>> = const { Cell::new(None) };
}

/// A stack of allocations: the one made last is freed first.
pub(super) struct Scratch {
    /// Only the last block is allocated from; the earlier ones hold what is still in use.
    blocks: Vec<Block>,
    /// Bytes of the last block in use.
    used: usize,
}

/// One allocation of `layout.size()` bytes at `start`.
struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

impl Scratch {
    /// This thread's scratch, or a new one if it has none or it is in use further up the stack.
    pub(super) fn take() -> Scratch {
        // A thread that is ending has no thread-local storage any more, but may still send.
        KEPT.try_with(Cell::take)
            .ok()
            .flatten()
            .unwrap_or_else(|| Scratch {
                blocks: vec![Block::new(FIRST)],
                used: 0,
            })
    }

    /// Keeps this scratch for the thread's next message.
    pub(super) fn keep(mut self) {
        self.used = 0;
        // Blocks grow, so the last is the largest.
        self.blocks.drain(..self.blocks.len() - 1);
        if self.last().layout.size() <= KEEP {
            let _ = KEPT.try_with(|kept| kept.set(Some(self)));
        }
    }

    /// Memory of this layout, valid until it is popped or the scratch is dropped or kept.
    pub(super) fn push(&mut self, layout: Layout) -> NonNull<[u8]> {
        let at = match self.place(layout) {
            Some(at) => at,
            None => {
                let size = (2 * self.last().layout.size()).max(layout.size().saturating_add(layout.align()));
                self.blocks.push(Block::new(size));
                self.used = 0;
                self.place(layout).expect("the block was made large enough")
            }
        };
        self.used = at + layout.size();
        // SAFETY: `place` says that `at + layout.size()` is within the last block.
        let start = unsafe { self.last().start.add(at) };
        NonNull::slice_from_raw_parts(start, layout.size())
    }

    /// Frees the allocation made last of those not freed yet.
    pub(super) fn pop(&mut self, allocated: NonNull<u8>) {
        let block = self.last();
        let offset = allocated.addr().get().wrapping_sub(block.start.addr().get());
        // An allocation of an earlier block is freed with that block.
        if offset < block.layout.size() {
            self.used = offset;
        }
    }

    fn last(&self) -> &Block {
        self.blocks.last().expect("there is always a block")
    }

    /// Where in the last block this layout fits, in bytes from its start.
    fn place(&self, layout: Layout) -> Option<usize> {
        let block = self.last();
        let free = block.start.addr().get() + self.used;
        let at = self.used + (free.next_multiple_of(layout.align()) - free);
        (at.checked_add(layout.size())? <= block.layout.size()).then_some(at)
    }
}

impl Block {
    fn new(size: usize) -> Block {
        let layout = Layout::from_size_align(size, ALIGN).expect("smaller than the address space");
        // SAFETY: the size is at least `FIRST`, so not zero.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Block { start, layout }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and nothing else frees it.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
