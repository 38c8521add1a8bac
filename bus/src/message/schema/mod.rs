//! What a message looks like: names, kinds, fields, types and the layout of its archive.
//!
//! Both sides of an address compare the schemas of its messages when it is opened, never per message.
//! A [`Schema`] is a plain table, so it can be sent, printed and compared without the types it speaks of:
//!
//! ```
//! use shmbus::{ShmType, message::schema::Schema};
//!
//! #[derive(ShmType)]
//! struct Line {
//!     sku: String,
//!     price: u32,
//! }
//! mod newer {
//!     #[derive(shmbus::ShmType)]
//!     pub struct Line {
//!         pub sku: String,
//!         pub price: u64,
//!     }
//! }
//!
//! let (ours, theirs) = (Schema::of::<Vec<Line>>(), Schema::of::<Vec<newer::Line>>());
//! assert_ne!(ours.fingerprint(), theirs.fingerprint());
//! assert_eq!(Schema::difference(&ours, &theirs).unwrap(), "field `[].price`: here u32, there u64");
//! # let _ = (Line { sku: String::new(), price: 1 }, newer::Line { sku: String::new(), price: 1 });
//! ```

mod difference;
mod fingerprint;
mod print;

#[cfg(test)]
mod tests;

use std::{any::TypeId, collections::HashMap};

use rkyv::{Archive, Deserialize, Serialize};

pub use fingerprint::abi;

use super::traits::ShmRoot;

/// The description of a type and of all types it is made of.
///
/// One that came from a peer may be nonsense: references may lead nowhere or in circles. All methods here
/// bear that.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(crate = rkyv)]
pub struct Schema {
    abi: u64,
    root: TypeRef,
    types: Vec<Type>,
}

/// A reference to a type of the same schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
#[rkyv(crate = rkyv)]
pub struct TypeRef(u32);

/// One type.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(crate = rkyv)]
#[non_exhaustive]
pub struct Type {
    /// Its name without parameters: `u32`, `Vec`, `Reserve`; of an opaque type what the field says of it.
    pub name: String,
    /// The size of its archived form, in bytes, without what that points to.
    pub size: u32,
    /// The alignment of its archived form, in bytes.
    pub align: u32,
    /// What it is made of.
    pub kind: Kind,
}

/// What a type is made of.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(crate = rkyv)]
#[non_exhaustive]
pub enum Kind {
    /// A number, truth value, character, time span or network address: the name says all.
    Scalar,
    /// UTF-8 text.
    Text,
    /// Fields, one after the other. Of a tuple or a tuple structure they are named `0`, `1`, ...
    Struct(Vec<Field>),
    /// One of several variants, told apart by the first byte: 0 for the first.
    Enum(Vec<Variant>),
    /// A value or none.
    Option(TypeRef),
    /// A value or an error.
    Result(TypeRef, TypeRef),
    /// A value elsewhere in the archive.
    Pointer(TypeRef),
    /// Values one after the other elsewhere in the archive.
    Sequence(TypeRef),
    /// So many values in place.
    Array(TypeRef, u64),
    /// Distinct values.
    Set(TypeRef),
    /// Keys with their values.
    Map(TypeRef, TypeRef),
    /// A type of another crate, known by its label only.
    Opaque,
}

/// A field of a structure, tuple or variant.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(crate = rkyv)]
#[non_exhaustive]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: TypeRef,
    /// Where it starts in the archived form, in bytes; `None` if the archived form is hand-made.
    pub offset: Option<u32>,
}

/// A variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(crate = rkyv)]
#[non_exhaustive]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Its fields.
    pub fields: Vec<Field>,
}

impl Schema {
    /// The schema of a type.
    #[must_use]
    pub fn of<T: ShmRoot>() -> Schema {
        let mut builder = Builder::default();
        let root = T::describe(&mut builder);
        Schema {
            abi: abi(),
            root,
            types: builder.types,
        }
    }

    /// The type described.
    #[must_use]
    pub fn root(&self) -> TypeRef {
        self.root
    }

    /// The type that a reference of this schema stands for; `None` if it leads nowhere.
    #[must_use]
    pub fn get(&self, ty: TypeRef) -> Option<&Type> {
        self.types.get(usize::try_from(ty.0).ok()?)
    }

    /// Whether archives may be nested deeper than the schema itself tells: a type contains itself, is opaque, or has
    /// a hand-made archived form.
    #[doc(hidden)]
    #[must_use]
    pub fn may_nest(&self) -> bool {
        let hidden = |ty: &Type| match &ty.kind {
            Kind::Opaque => true,
            Kind::Struct(fields) => fields.iter().any(|field| field.offset.is_none()),
            Kind::Enum(variants) => variants
                .iter()
                .flat_map(|it| &it.fields)
                .any(|field| field.offset.is_none()),
            _ => false,
        };
        self.types.iter().any(hidden) || self.is_recursive()
    }

    /// Whether values can be nested without limit: whether some type contains itself.
    #[must_use]
    pub fn is_recursive(&self) -> bool {
        // Depth first: a type met again while its own parts are being visited contains itself.
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.types.len()];
        let mut stack = vec![(self.root, false)];
        while let Some((ty, leave)) = stack.pop() {
            let (Some(it), index) = (self.get(ty), ty.0 as usize) else {
                continue;
            };
            match (leave, marks[index]) {
                (true, _) => marks[index] = Mark::Done,
                (false, Mark::Open) => return true,
                (false, Mark::Done) => {}
                (false, Mark::New) => {
                    marks[index] = Mark::Open;
                    stack.push((ty, true));
                    stack.extend(it.parts().map(|part| (part, false)));
                }
            }
        }
        false
    }
}

impl Type {
    /// The types it refers to, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = TypeRef> + '_ {
        let (direct, fields, variants): (Vec<TypeRef>, &[Field], &[Variant]) = match &self.kind {
            Kind::Scalar | Kind::Text | Kind::Opaque => (vec![], &[], &[]),
            Kind::Struct(fields) => (vec![], fields, &[]),
            Kind::Enum(variants) => (vec![], &[], variants),
            Kind::Option(a) | Kind::Pointer(a) | Kind::Sequence(a) | Kind::Array(a, _) | Kind::Set(a) => {
                (vec![*a], &[], &[])
            }
            Kind::Result(a, b) | Kind::Map(a, b) => (vec![*a, *b], &[], &[]),
        };
        let nested = variants.iter().flat_map(|variant| &variant.fields);
        direct
            .into_iter()
            .chain(fields.iter().chain(nested).map(|field| field.ty))
    }
}

impl Field {
    /// A field of this name and type at this offset, in bytes.
    #[must_use]
    pub fn new(name: &str, ty: TypeRef, offset: Option<usize>) -> Field {
        Field {
            name: name.to_owned(),
            ty,
            offset: offset.map(narrow),
        }
    }
}

impl Variant {
    /// A variant of this name with these fields.
    #[must_use]
    pub fn new(name: &str, fields: Vec<Field>) -> Variant {
        Variant {
            name: name.to_owned(),
            fields,
        }
    }
}

/// Collects the types of a schema. What the derive macros call; there is no need to call it by hand.
#[derive(Debug, Default)]
pub struct Builder {
    types: Vec<Type>,
    /// Types described or being described, so that one that contains itself refers to itself.
    known: HashMap<TypeId, TypeRef>,
}

impl Builder {
    /// Adds `T` once, with the parts that `kind` names.
    pub fn define<T: Archive + 'static>(
        &mut self,
        name: &str,
        kind: impl FnOnce(&mut Builder) -> Kind,
    ) -> TypeRef {
        if let Some(known) = self.known.get(&TypeId::of::<T>()) {
            return *known;
        }
        let ty = self.add::<T::Archived>(name);
        self.known.insert(TypeId::of::<T>(), ty);
        let kind = kind(self);
        self.types[ty.0 as usize].kind = kind;
        ty
    }

    /// Adds a type of which only the label and the layout of the archived form are known.
    pub fn opaque<T: Archive>(&mut self, label: &str) -> TypeRef {
        self.add::<T::Archived>(label)
    }

    fn add<A>(&mut self, name: &str) -> TypeRef {
        let ty = TypeRef(narrow(self.types.len()));
        let (size, align) = (narrow(size_of::<A>()), narrow(align_of::<A>()));
        self.types.push(Type {
            name: name.to_owned(),
            size,
            align,
            kind: Kind::Opaque,
        });
        ty
    }
}

/// Sizes, offsets and indices of a schema have 32 bits: an archive is at most 2 GiB long.
fn narrow(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
