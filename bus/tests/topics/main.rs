//! Topics between real processes. One theme per file; `cargo test -p shmbus --test topics groups::` runs
//! one of them. How a test starts its processes is told in `support`, what they do in `party`.
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod listener;
mod party;

mod announcing;
mod basics;
mod cost;
mod deaths;
mod groups;
mod history;
mod joining;
mod policies;
mod schemas;
mod soak;
mod stopped;

roles![party::party];
