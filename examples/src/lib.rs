//! What the examples share: the messages of `hello-server` and `hello-client`, and a few things that have nothing
//! to do with the bus.
//!
//! Both programs must agree on the types they exchange. The usual way is this one: a small crate with nothing
//! but messages, which every service depends on. If the two sides were built from different versions of it,
//! opening the address fails and the error names the field that differs.

use std::fmt;

use shmbus::prelude::*;

pub mod child;
pub mod place;
pub mod stop;
pub mod text;

/// What ends a small program early. A `main` that returns an error prints its `Debug`, which is meant for
/// programmers; this one's is the text meant for people.
pub struct Failure(Box<dyn std::error::Error>);

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

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
