//! What a type must be to be sent.

use rkyv::{
    Archive, Deserialize, Portable, Serialize,
    api::high::{HighDeserializer, HighValidator},
    bytecheck::CheckBytes,
    rancor,
};

use super::{archive::Sink, bulk::Bulk, schema};

/// A type that can be part of a message: a field, a reply, a message itself.
///
/// Derive it ([`macro@crate::ShmType`]). It is implemented for `bool`, `char`, `()`, the integers of fixed
/// width and their `NonZero` forms, floats, `String`, `Vec`, `VecDeque`, `Box` (of a type, a slice or
/// `str`), `Option`, `Result`, arrays, tuples of up to 12, the four standard maps and sets, `Duration` and
/// the addresses of `std::net`. Not for `usize` and `isize`: their archived form has 32 bits and longer values
/// would be cut; use `u32` or `u64`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a message: it does not implement `ShmType`",
    label = "has no schema",
    note = "if `{Self}` is your own type, add `#[derive(shmbus::ShmType)]` to it",
    note = "if it belongs to another crate and rkyv can archive it, mark the field `#[shm(opaque = \"name@version\")]`",
    note = "a `Bulk`, and a message with one, cannot be inside of another type"
)]
pub trait ShmType: Archivable {
    /// Adds this type, and the types it is made of, to a schema. See [`schema::Schema::of`].
    fn describe(schema: &mut schema::Builder) -> schema::TypeRef;

    /// An upper bound, in bytes, of what the archive of this value takes besides the archived value itself:
    /// text, list elements, boxed values, with their padding. `None` where there is no cheap bound (maps,
    /// sets, opaque fields).
    fn out_of_line(&self) -> Option<usize>;

    /// An upper bound of the archived size of this value, in bytes. `None` where there is no cheap
    /// bound. A constant for types without text, lists or boxes.
    #[inline]
    fn size_bound(&self) -> Option<usize> {
        size_bound::<Self>(self.out_of_line())
    }

    /// Whether values of this type can be nested without limit (lists of themselves and the like).
    #[doc(hidden)]
    #[inline]
    fn nests() -> bool {
        false
    }

    /// Whether the archived form may point to something elsewhere in the archive.
    #[doc(hidden)]
    const POINTS: bool = true;
}

/// What rkyv must be able to do with a type.
#[doc(hidden)]
pub trait Archivable:
    Archive<
        Archived: Portable
                      + Send
                      + Sync
                      + for<'a> CheckBytes<HighValidator<'a, rancor::Error>>
                      + Deserialize<Self, HighDeserializer<rancor::Error>>,
    > + for<'a> Serialize<Sink<'a>>
    + Send
    + Sync
    + Sized
    + 'static
{
}

impl<T> Archivable for T where
    T: Archive<
            Archived: Portable
                          + Send
                          + Sync
                          + for<'a> CheckBytes<HighValidator<'a, rancor::Error>>
                          + Deserialize<Self, HighDeserializer<rancor::Error>>,
        > + for<'a> Serialize<Sink<'a>>
        + Send
        + Sync
        + Sized
        + 'static
{
}

/// What can be the whole of a message or of a reply: every [`ShmType`], and messages with a
/// [`Bulk`](super::Bulk), which cannot be part of another type.
///
/// There is no need to implement it by hand: [`macro@crate::ShmMessage`] does where `ShmType` does not.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a message or a reply: it does not implement `ShmType`",
    label = "has no schema",
    note = "if `{Self}` is your own type, add `#[derive(shmbus::ShmType)]` to it"
)]
pub trait ShmRoot: Archivable {
    /// See [`ShmType::describe`].
    fn describe(schema: &mut schema::Builder) -> schema::TypeRef;

    /// See [`ShmType::out_of_line`].
    fn out_of_line(&self) -> Option<usize>;

    /// See [`ShmType::size_bound`].
    #[inline]
    fn size_bound(&self) -> Option<usize> {
        size_bound::<Self>(self.out_of_line())
    }

    /// See [`ShmType::nests`].
    #[doc(hidden)]
    #[inline]
    fn nests() -> bool {
        false
    }

    /// The [`Bulk`](super::Bulk) of this value, if it has one.
    #[doc(hidden)]
    #[inline(always)]
    fn bulk_mut(&mut self) -> Option<&mut Bulk> {
        None
    }

    /// See [`ShmType::POINTS`].
    #[doc(hidden)]
    const POINTS: bool = true;
}

impl<T: ShmType> ShmRoot for T {
    const POINTS: bool = T::POINTS;

    fn describe(schema: &mut schema::Builder) -> schema::TypeRef {
        <T as ShmType>::describe(schema)
    }

    #[inline(always)]
    fn out_of_line(&self) -> Option<usize> {
        ShmType::out_of_line(self)
    }

    #[inline(always)]
    fn size_bound(&self) -> Option<usize> {
        ShmType::size_bound(self)
    }

    #[inline(always)]
    fn nests() -> bool {
        <T as ShmType>::nests()
    }
}

/// The archived size that a bound of what lies elsewhere makes, in bytes.
#[inline]
fn size_bound<T: Archive>(out_of_line: Option<usize>) -> Option<usize> {
    let root = size_of::<T::Archived>();
    match out_of_line? {
        0 => Some(root),
        more => Some(
            root.saturating_add(more)
                .saturating_add(align_of::<T::Archived>() - 1),
        ),
    }
}

/// A message: a [`ShmRoot`] with a name that both sides know it by, and the type of its reply.
///
/// Derive it ([`macro@crate::ShmMessage`]).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message",
    label = "does not implement `ShmMessage`",
    note = "add `#[derive(shmbus::ShmMessage)]` to `{Self}`"
)]
pub trait ShmMessage: ShmRoot {
    /// The stable name: `<crate>::<Type>`, unless `#[shm(name = "..")]` says another.
    const NAME: &'static str;

    /// What an `ask` brings back; `()` unless `#[shm(reply = ..)]` says another.
    type Reply: ShmRoot;
}

/// A message whose archive has one size, whatever its values are: no text, no lists, no boxes, no maps, and no
/// [`Bulk`](super::Bulk), in it or in what it is made of. Such a message can be written in the memory it is sent in; see
/// [`Address::in_place`](crate::Address::in_place).
///
/// Every such message has it by itself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no fixed size, so it cannot be written in place",
    label = "holds text, a list, a box, a map or a `Bulk`, or is made of something that does",
    note = "send a value of it by `tell`, `ask` or `publish`, which archive it into shared memory at once",
    note = "a payload of any length can be written in place by `loan`, as the `Bulk` field of its message",
    note = "arrays (`[u8; 256]`) have a fixed size"
)]
pub trait FixedSize: ShmMessage<Archived: Unpin> {}

// What points to something within an archive is not `Unpin`. The compiler would say only that.
#[diagnostic::do_not_recommend]
impl<M: ShmMessage<Archived: Unpin>> FixedSize for M {}

/// The largest alignment an archived type may have, in bytes: the start of every message has it.
pub(crate) const MAX_ALIGN: usize = 16;
