//! The derive macros of `shmbus`: `ShmMessage` for messages, `ShmType` for what they are made of.
//!
//! Three steps: `parse` reads the item and refuses what cannot be sent, with the place in the source;
//! `model` is what is left, free of syntax that does not matter; `generate` writes the code.

mod generate;
mod model;
mod parse;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

use model::Derive;

/// Makes a type a part of messages: a field, a list element, a reply.
///
/// It implements `shmbus::ShmType` and what that needs, and adds the archived form of the type,
/// `Archived<Name>`, with the same fields, visibility and variants. Structures, tuple structures, unit structures and
/// enums with data can be derived, with type parameters (which must be `ShmType` too) and containing themselves.
///
/// | attribute | on | meaning |
/// |---|---|---|
/// | `#[shm(name = "..")]` | type | the name in the schema; default: the type's |
/// | `#[shm(derive(Hash, PartialEq, Eq))]` | type | derives for the archived form, which map keys need |
/// | `#[shm(archive = manual)]` | type | the type implements or derives rkyv's traits by itself |
/// | `#[shm(opaque = "name@version")]` | field | a type of another crate that rkyv can archive; the label stands for its schema, so change it whenever the type changes |
///
/// Refused: lifetime parameters, unions, `usize`, shared pointers, explicit discriminants, packed types, and archived
/// forms aligned to more than 16 bytes.
#[proc_macro_derive(ShmType, attributes(shm))]
pub fn shm_type(input: TokenStream) -> TokenStream {
    derive(Derive::Type, parse_macro_input!(input as DeriveInput))
}

/// Makes a type a message.
///
/// It does all that `ShmType` does and takes the same attributes, and implements `shmbus::ShmMessage`. In addition:
///
/// | attribute | on | meaning |
/// |---|---|---|
/// | `#[shm(reply = T)]` | type | what an `ask` brings back; default: `()` |
/// | `#[shm(name = "..")]` | type | the name both sides know the message by; default: `<crate>::<Type>` |
#[proc_macro_derive(ShmMessage, attributes(shm))]
pub fn shm_message(input: TokenStream) -> TokenStream {
    derive(Derive::Message, parse_macro_input!(input as DeriveInput))
}

fn derive(derive: Derive, input: DeriveInput) -> TokenStream {
    match parse::parse(derive, input) {
        Ok(model) => generate::generate(&model).into(),
        Err(error) => error.into_compile_error().into(),
    }
}
