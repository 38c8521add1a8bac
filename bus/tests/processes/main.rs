//! The bus between real processes. One theme per file; `cargo test -p shmbus --test processes death::`
//! runs one of them. How a test starts its processes is told in `support`.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod service;

mod asks;
mod batches;
mod death;
mod discovery;
mod hostile;
mod in_place;
mod inside;
mod kept;
mod leaving;
mod life;
mod limits;
mod loans;
mod responses;
mod shapes;
mod together;
mod waiting;
mod windows;

roles![
    asks::relay,
    death::teller,
    discovery::one_of_many,
    discovery::other_types,
    in_place::reader,
    in_place::viewer,
    life::leaver,
    limits::narrow,
    loans::replies::painter,
    loans::sink,
    loans::watcher,
    responses::answers,
    service::service,
    shapes::echo,
    together::sluggish,
];
