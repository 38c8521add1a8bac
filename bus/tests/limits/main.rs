//! Limits of the kernel, met by real processes: each is named where it is met, nobody else is disturbed, and when it is
//! lifted everything works again in the same processes. Descriptors are in `tests/processes/limits.rs`, the bounds of
//! `Config` in `tests/processes/windows.rs`. `cargo test -p shmbus --test limits`; what needs root says that it was skipped.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/node.rs"]
mod node;
mod party;

mod address_space;
mod cgroup;
mod directory;
mod threads;

roles![party::party];
