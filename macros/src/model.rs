//! What the macros know about a type once it is parsed.

use proc_macro2::Span;
use syn::{Generics, Ident, LitStr, Member, Path, Type, Visibility, ext::IdentExt};

/// Which of the two macros was called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Derive {
    /// `ShmType`
    Type,
    /// `ShmMessage`
    Message,
}

/// A type that can be sent.
pub struct Model {
    pub derive: Derive,
    pub ident: Ident,
    pub vis: Visibility,
    /// Without defaults, and with each type parameter bound to be a `ShmType`.
    pub generics: Generics,
    pub settings: Settings,
    pub shape: Shape,
}

/// The `#[shm(..)]` of a type.
#[derive(Default)]
pub struct Settings {
    pub name: Option<LitStr>,
    pub reply: Option<Type>,
    /// The user implements rkyv's traits.
    pub manual: bool,
    /// Derives for the archived form.
    pub derives: Vec<Path>,
}

pub enum Shape {
    Struct(Fields),
    Enum(Vec<Variant>),
}

pub struct Variant {
    pub ident: Ident,
    pub fields: Fields,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Named,
    Tuple,
    Unit,
}

pub struct Fields {
    pub style: Style,
    pub list: Vec<Field>,
}

pub struct Field {
    pub vis: Visibility,
    pub member: Member,
    pub ty: Type,
    /// The label of a field whose type has no schema.
    pub opaque: Option<LitStr>,
    /// It is a `Bulk`, by its name.
    pub bulk: bool,
    pub span: Span,
}

impl Model {
    /// All fields, of all variants.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        let (own, variants): (&[Field], &[Variant]) = match &self.shape {
            Shape::Struct(fields) => (&fields.list, &[]),
            Shape::Enum(variants) => (&[], variants),
        };
        own.iter()
            .chain(variants.iter().flat_map(|variant| &variant.fields.list))
    }

    /// Whether it is a message with a `Bulk`, which cannot be part of another type.
    pub fn has_bulk(&self) -> bool {
        self.fields().any(|field| field.bulk)
    }

    /// The name in the schema.
    pub fn schema_name(&self) -> String {
        self.settings
            .name
            .as_ref()
            .map_or_else(|| self.ident.unraw().to_string(), LitStr::value)
    }
}

impl Field {
    /// The name in the schema.
    pub fn name(&self) -> String {
        match &self.member {
            Member::Named(ident) => ident.unraw().to_string(),
            Member::Unnamed(index) => index.index.to_string(),
        }
    }
}
