//! A checked view of some shared words, which keeps their memory mapped.

use std::{any::Any, ops::Deref, ptr::NonNull, sync::Arc};

/// Values of `T` in memory that other processes see, kept mapped as long as this lives.
///
/// `T` consists of atomics only (or of padding that nobody reads), so a `&T` stays sound whatever a peer
/// writes. Whether this process may *write* them is decided by who made the cells: those of an own
/// segment are writable, those of a foreign one are not, and the types that hold them (`Producer`,
/// `Consumer`, …) store only through cells that come from an own segment.
pub(crate) struct Cells<T> {
    first: NonNull<T>,
    len: usize,
    keep: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the cells are shared references to atomics with the lifetime of `keep`, which is Send + Sync.
unsafe impl<T: Sync> Send for Cells<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Cells<T> {}

impl<T> Cells<T> {
    /// # Safety
    /// `first` points to `len` initialised values of `T`, a type of atomics, aligned for `T`, that stay
    /// mapped and are not accessed but atomically as long as `keep` lives.
    pub(crate) unsafe fn new(first: NonNull<T>, len: usize, keep: Arc<dyn Any + Send + Sync>) -> Self {
        Self { first, len, keep }
    }

    /// Cells in private memory, for models and tests.
    #[cfg(any(test, loom))]
    #[cfg_attr(not(loom), allow(dead_code, reason = "for the models"))]
    pub(crate) fn private(values: Vec<T>) -> Self
    where
        T: Send + Sync + 'static,
    {
        let values: Arc<[T]> = values.into();
        let first = NonNull::new(values.as_ptr().cast_mut()).expect("a slice is never null");
        let len = values.len();
        // SAFETY: the Arc owns the slice and never moves it; nobody else has it.
        unsafe { Self::new(first, len, Arc::new(values)) }
    }
}

impl<T> Clone for Cells<T> {
    fn clone(&self) -> Self {
        Self {
            first: self.first,
            len: self.len,
            keep: self.keep.clone(),
        }
    }
}

impl<T> Deref for Cells<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: by the contract of `new` the values are initialised, aligned and mapped while `keep`,
        // which `self` holds, lives.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T> std::fmt::Debug for Cells<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cells<{}>[{}]", std::any::type_name::<T>(), self.len)
    }
}
