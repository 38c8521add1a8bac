//! The work itself; nothing here knows of the bus.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};

/// SHA-256.
pub type Hash = [u8; 32];

/// A file, block by block.
#[derive(Debug)]
pub struct Blocks {
    file: File,
    left: u64,
    block: u64,
}

impl Blocks {
    /// The first `bytes` bytes of a file in blocks of `block` bytes; the last may be shorter.
    pub fn open(path: &Path, bytes: u64, block: u32) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            left: bytes,
            block: block.into(),
        })
    }

    /// Length of the next block; none at the end.
    pub fn next_len(&self) -> Option<usize> {
        (self.left > 0).then_some(self.left.min(self.block) as usize)
    }

    /// Reads the next block, for which `into` has the length.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact(into)?;
        self.left -= into.len() as u64;
        Ok(())
    }
}

/// What one block comes to.
pub fn hash(data: &[u8]) -> Hash {
    Sha256::digest(data).into()
}

/// What all blocks together come to: their sizes added up, and the hash of their hashes in the order of the file.
#[derive(Debug, Default, Clone)]
pub struct Total {
    bytes: u64,
    hashes: Sha256,
}

impl Total {
    /// Adds the next block.
    pub fn add(&mut self, bytes: u64, hash: &Hash) {
        self.bytes += bytes;
        self.hashes.update(hash);
    }

    /// Bytes, and the hash of hashes.
    pub fn finish(self) -> (u64, Hash) {
        (self.bytes, self.hashes.finalize().into())
    }
}

#[cfg(test)]
mod tests;
