//! What the fuzz targets in `fuzz/` call, and `tests/corpus.rs` replays. Not part of the public interface.
//!
//! Each target takes any bytes and drives the real code with them as a peer would. It must come back, without a
//! panic, whatever the bytes are; what else must hold is asserted where it is known.

mod archives;
mod frames;
mod handshake;
mod input;
pub mod peer;
mod schemas;
mod seeds;
mod segment;
mod types;
mod world;

pub use archives::archives;
pub use frames::frames;
pub use handshake::handshake;
pub use schemas::schemas;
pub use seeds::{Seed, seeds};
pub use segment::segment;

/// A target: its name, and what runs it.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("frames", frames),
    ("handshake", handshake),
    ("schemas", schemas),
    ("archives", archives),
    ("segment", segment),
];
