//! Helpers of the code that the derive macros write. Not part of the public interface.

use std::{any::TypeId, cell::RefCell, collections::HashMap, fmt};

use rkyv::Archive;

use super::{
    bulk::Bulk,
    schema::Schema,
    traits::{MAX_ALIGN, ShmRoot, ShmType},
};

/// The parts of a field's type that the generated code names. Named through this trait, a type that is no
/// [`ShmType`] is reported as such, and not by what rkyv lacks of it.
pub trait Part {
    /// What rkyv makes of it.
    type Archived;
    /// What rkyv needs between serializing and resolving it.
    type Resolver;
}

impl<T: ShmType> Part for T {
    type Archived = <T as Archive>::Archived;
    type Resolver = <T as Archive>::Resolver;
}

impl Part for Bulk {
    type Archived = <Bulk as Archive>::Archived;
    type Resolver = <Bulk as Archive>::Resolver;
}

/// As [`Part`], of a reply.
pub trait Whole {
    /// The type itself.
    type This: ShmRoot;
    /// What rkyv makes of it.
    type Archived;
}

impl<T: ShmRoot> Whole for T {
    type This = T;
    type Archived = <T as Archive>::Archived;
}

/// A field that the derive took for a [`Bulk`] by its name.
#[diagnostic::on_unimplemented(
    message = "a field type called `Bulk` is taken for `shmbus::Bulk`, which this is not",
    label = "another type of that name",
    note = "use it by another name: `type Other = ..::Bulk;`"
)]
pub trait IsBulk {}

impl IsBulk for Bulk {}

/// Used by the code of a message with a [`Bulk`], so that a field of that name that is none is reported as such.
pub const fn assert_bulk<T: IsBulk>() {}

/// Whether the archived form of an opaque type may point to something elsewhere in the archive: those whose
/// bytes are their archive do not.
#[must_use]
pub const fn opaque_points<T: Archive>() -> bool {
    !T::COPY_OPTIMIZATION.is_enabled()
}

/// Refuses, at compile time, an archived type of too large an alignment: messages start at multiples of 16
/// bytes, and rkyv panics where it must pad by more than 32.
pub const fn assert_align<A>() {
    assert!(
        align_of::<A>() <= MAX_ALIGN,
        "the archived form of this type is aligned to more than 16 bytes"
    );
}

/// The sum of two bounds, if both are known.
#[inline(always)]
#[must_use]
pub const fn out_of_line_sum(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        _ => None,
    }
}

/// The bound of an opaque field: types whose bytes are their archive have nothing else.
#[inline(always)]
#[must_use]
pub const fn opaque_out_of_line<T: Archive>() -> Option<usize> {
    if T::COPY_OPTIMIZATION.is_enabled() {
        Some(0)
    } else {
        None
    }
}

/// [`ShmType::nests`] of a generic type, which can have no static of its own.
#[must_use]
pub fn nests<T: ShmRoot>() -> bool {
    thread_local! {
        static KNOWN: RefCell<HashMap<TypeId, bool>> = RefCell::default();
    }
    let find = || Schema::of::<T>().may_nest();
    // A thread that is ending has no thread-local storage any more, but may still send.
    KNOWN
        .try_with(|known| *known.borrow_mut().entry(TypeId::of::<T>()).or_insert_with(find))
        .unwrap_or_else(|_| find())
}

/// A field to be shown by `Debug` if it can be: with both traits below in scope, `(&Shown(x)).shown()` takes the
/// first that applies.
#[derive(Debug)]
pub struct Shown<'a, T: ?Sized>(pub &'a T);

/// For what has `Debug`.
pub trait ShownDebug {
    /// The value.
    fn shown(&self) -> &dyn fmt::Debug;
}

impl<T: fmt::Debug> ShownDebug for Shown<'_, T> {
    fn shown(&self) -> &dyn fmt::Debug {
        self.0
    }
}

/// For what has not.
pub trait ShownOther {
    /// A placeholder.
    fn shown(&self) -> &dyn fmt::Debug;
}

impl<T> ShownOther for &Shown<'_, T> {
    fn shown(&self) -> &dyn fmt::Debug {
        /// Shown as two dots.
        struct Other;
        impl fmt::Debug for Other {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("..")
            }
        }
        &Other
    }
}
