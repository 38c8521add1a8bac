//! What the examples share: the messages of `hello-server` and `hello-client`, and a few things that have nothing
//! to do with the bus.
//!
//! Both programs must agree on the types they exchange. The usual way is this one: a small crate with nothing
//! but messages, which every service depends on. If the two sides were built from different versions of it,
//! opening the address fails and the error names the field that differs.

use shmbus::prelude::*;

pub mod child;
pub mod place;
pub mod stop;
pub mod text;

/// Asks for a greeting. The reply is a [`Greeting`].
#[derive(ShmMessage)]
#[shm(reply = Greeting)]
pub struct Greet {
    /// Whom to greet.
    pub name: String,
}

/// The reply to [`Greet`].
#[derive(ShmMessage)]
pub struct Greeting {
    /// The greeting itself.
    pub text: String,
    /// How many were greeted before.
    pub before: u64,
}

/// Something the server should know, but need not answer: a message without a reply type is replied to with `()`.
#[derive(ShmMessage)]
pub struct Note {
    /// What it says.
    pub text: String,
}
