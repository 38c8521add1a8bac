//! One shim, so that the code of this folder is also its loom model.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
};

/// Locks, also when another thread panicked while it held the lock: every critical section of this
/// crate leaves its data consistent at each point where foreign code (a serializer, a waker) could panic.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Between a SeqCst store and the SeqCst load of another word that follows it, where another thread does the same the
/// other way round. loom takes SeqCst accesses for AcqRel ones, by which both could miss each other; outside of a model
/// this is nothing.
#[inline(always)]
pub(crate) fn in_one_order() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
