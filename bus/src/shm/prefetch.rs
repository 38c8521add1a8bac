//! Asking for cache lines before they are needed.
//!
//! A line that another core used last takes 50-150 ns to come. Stores wait for it in the store buffer, and
//! each lock and fence waits for the store buffer, so a sender would wait for every such line in turn; asked
//! for a few messages ahead, they come meanwhile. Hints only: nothing is read or written, no address faults.

/// The line at `at` will soon be written.
#[inline(always)]
pub(crate) fn for_write(at: *const u8) {
    // SAFETY: a prefetch has no effect but on caches, whatever the address. (By hand, because the compiler's
    // intrinsic asks for a readable copy only, unless told that the processor is of this decade.)
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
}

/// The line at `at` will soon be read.
#[inline(always)]
pub(crate) fn for_read(at: *const u8) {
    // SAFETY: as in `for_write`.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("prefetcht0 [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    // SAFETY: as in `for_write`.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
}
