//! Nodes of several users on one bus, as real processes of real users. Only root can start them: elsewhere each
//! test says that it was skipped. `cargo test -p shmbus --test users`.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/node.rs"]
mod node;
mod party;

mod dirs;
mod groups;
mod memory;
mod permits;
mod quotas;

roles![party::party];
