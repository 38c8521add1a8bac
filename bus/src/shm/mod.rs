//! Memory between processes: the lowest layer.
//!
//! A process writes only memory that it created itself; its peers map it read-only. What lies where is
//! in [`layout`], what foreign numbers are believed in [`checked`]. This layer knows neither sockets nor
//! tokio nor actors; the parts that hold shared state are also their own loom models.

#[cfg(not(loom))]
pub(crate) mod batch;
#[cfg(not(loom))]
pub(crate) mod bell;
pub(crate) mod cells;
pub(crate) mod checked;
pub(crate) mod descriptor;
pub(crate) mod doorbell;
pub(crate) mod faults;
#[cfg(not(loom))]
pub(crate) mod inbound;
pub(crate) mod layout;
#[cfg(not(loom))]
pub(crate) mod lease;
pub(crate) mod ledger;
#[cfg(not(loom))]
pub(crate) mod memory;
#[cfg(all(test, loom))]
mod models;
#[cfg(not(loom))]
pub(crate) mod pool;
pub(crate) mod prefetch;
pub(crate) mod returns;
pub(crate) mod ring;
pub(crate) mod room;
#[cfg(not(loom))]
pub(crate) mod segment;
pub(crate) mod sync;
pub(crate) mod waiters;

#[cfg(not(loom))]
pub use lease::Lease;
