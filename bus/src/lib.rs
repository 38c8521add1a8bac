//! Typed actors called across the processes of one Linux machine, over single-writer shared memory.
//!
//! [`Bus::join`] makes this process a node; [`Bus::bind`] gives an actix actor a name; [`Bus::address`]
//! opens a typed address to an actor in any process. Messages derive [`macro@ShmMessage`]; they are
//! archived by rkyv straight into shared memory and read there, in place, by the receiving handler.
//!
//! How it works, and why so, is told in [`architecture`].

#![cfg_attr(loom, allow(dead_code, unused_imports))]

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("shmbus runs on Linux, on x86-64 and aarch64 only");

extern crate self as shmbus;

pub(crate) mod shm;

/// For the tests in `tests/faults` only.
#[cfg(all(shmbus_faults, not(loom)))]
#[doc(hidden)]
pub mod faults {
    pub use crate::shm::faults::{Action, Point, arm};
}

#[cfg(not(loom))]
#[doc = include_str!("../ARCHITECTURE.md")]
pub mod architecture {}

/// The README's example must compile.
#[cfg(all(doctest, not(loom)))]
#[doc = include_str!("../../README.md")]
mod readme {}

#[cfg(not(loom))]
mod actor;
#[cfg(not(loom))]
mod bus;
#[cfg(not(loom))]
mod config;
#[cfg(not(loom))]
pub mod error;
#[cfg(not(loom))]
pub mod message;
#[cfg(not(loom))]
mod permit;
#[cfg(not(loom))]
mod session;
#[cfg(not(loom))]
mod stats;
#[cfg(not(loom))]
mod topic;

#[cfg(not(loom))]
pub use {
    actor::{
        Accepts, Address, Ask, AskAll, AskInPlace, AskLoan, Bind, BindAddr, Bound, Forwarded, InPlace, Loan,
        OnPanic, OpenAddress, OpenInPlace, OpenLoan, Presence, Protocol, SendInPlace, SendLoan, Tell,
        TellAll, Watch,
    },
    bus::Bus,
    config::{Config, Spin},
    message::{Bulk, FixedSize, Origin, Received, ReplyLoan, ShmMessage, ShmType, Trust},
    permit::Permit,
    shmbus_macros::{ShmMessage, ShmType},
    stats::Stats,
    topic::{
        DeliverTo, Delivered, Lost, OpenPublisher, OpenSubscriber, OpenTopicInPlace, OpenTopicLoan, Publish,
        PublishInPlace, PublishLoan, Publisher, Subscriber, TopicInPlace, TopicLoan, TopicStats, WhenFull,
    },
};

/// For the benches of this workspace only.
#[cfg(all(feature = "bench-internals", not(loom)))]
#[doc(hidden)]
#[path = "bench_internals.rs"]
pub mod bench;

/// For the targets in `fuzz/` and for `tests/corpus.rs` only.
#[cfg(all(feature = "fuzz-internals", not(loom)))]
#[doc(hidden)]
#[path = "fuzz_internals/mod.rs"]
pub mod fuzz;

/// What most programs need. It shares no name with `actix::prelude`.
#[cfg(not(loom))]
pub mod prelude {
    pub use crate::{
        Address, Bulk, Bus, Config, OnPanic, Presence, Publisher, Received, ShmMessage, ShmType, Spin,
        Subscriber, Trust, WhenFull,
    };
}

/// What the derive macros refer to. Not part of the public interface.
#[cfg(not(loom))]
#[doc(hidden)]
pub mod __private {
    pub use crate::message::{Bulk, ShmMessage, ShmRoot, ShmType, private::*, schema};
    pub use rkyv;
}
