//! What the processes say to each other.

use shmbus::prelude::*;

/// Producer to one of the workers: hash this.
#[derive(Debug, ShmMessage)]
pub struct Job {
    /// Its place in the file, counted in blocks from 0: what names the job, however often it is delivered.
    pub number: u64,
    /// The block itself; the worker reads it where it lies in shared memory.
    pub data: Bulk,
}

/// Worker to collector: I take jobs from now on.
#[derive(Debug, ShmMessage)]
pub struct Ready {
    pub worker: u32,
}

/// Worker to collector: this came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ShmMessage)]
pub struct Done {
    pub job: u64,
    pub worker: u32,
    /// Another worker had the job before, and may or may not have said so.
    pub redelivered: bool,
    pub bytes: u64,
    /// SHA-256 of the block.
    pub hash: [u8; 32],
}
