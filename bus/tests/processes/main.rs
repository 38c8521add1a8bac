//! The bus between real processes. One theme per file; `cargo test -p shmbus --test processes death::`
//! runs one of them. How a test starts its processes is told in `support`.
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod service;

mod loans;
mod responses;
mod shapes;
mod windows;

roles![service::service, loans::sink, responses::answers, shapes::echo];
