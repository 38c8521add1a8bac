//! Measures shmbus beside other ways to get a message into another process.
//!
//! A measurement runs in processes of its own, servers and clients, started by this program anew for each repeat.
//! They are connected, and warm, before the clock starts; the sender writes every byte of each payload, the receiver
//! reads every byte, and their totals are compared at the end, so that nothing can be lost or optimised away. The
//! systems take turns within each repeat.
//!
//! [`launch`] starts the processes, [`systems`] has one file per system, [`wire`] is what all of them do that carry
//! plain bytes, [`meter`] is the clock of a client; [`table`], [`summary`] and [`plot`] are the output.

pub mod args;
pub mod case;
pub mod growth;
pub mod launch;
pub mod meter;
pub mod pace;
pub mod payload;
pub mod plot;
pub mod report;
pub mod summary;
pub mod systems;
pub mod table;
pub mod usage;
pub mod wire;

/// Any error ends the measurement; there is nothing to recover.
pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
