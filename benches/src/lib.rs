//! Measures shmbus beside other ways to get a message into another process.
//!
//! A measurement runs in two processes of its own, a server and a client, started by this program anew for
//! each repeat. They are connected, and warm, before the clock starts; the sender writes every byte of each
//! payload, the receiver reads every byte, and their totals are compared at the end, so that nothing can be
//! lost or optimised away. The systems take turns within each repeat.
//!
//! [`launch`] starts the processes, [`systems`] has one file per system, [`meter`] is the clock of a client,
//! [`table`] the output.

pub mod args;
pub mod case;
pub mod launch;
pub mod meter;
pub mod payload;
pub mod report;
pub mod systems;
pub mod table;
pub mod usage;

/// Any error ends the measurement; there is nothing to recover.
pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
