//! What is sent. Every message says who sent it, its number among those, and has a digest of all of it.

use shmbus::{FixedSize, prelude::*};

/// Told: numbered without a gap per sender's flow and mailbox, together with [`Frame`] and [`Table`].
#[derive(ShmMessage, Debug)]
#[shm(name = "soak.Note")]
pub struct Note {
    pub from: u64,
    pub flow: u64,
    pub seq: u64,
    pub digest: u64,
    pub data: Vec<u8>,
}

/// The same by a loan.
#[derive(ShmMessage, Debug)]
#[shm(name = "soak.Frame")]
pub struct Frame {
    pub from: u64,
    pub flow: u64,
    pub seq: u64,
    pub digest: u64,
    pub data: Bulk,
}

pub const CELLS: usize = 512;

/// The same, written in place.
#[derive(ShmMessage, Debug)]
#[shm(name = "soak.Table")]
pub struct Table {
    pub from: u64,
    pub flow: u64,
    pub seq: u64,
    pub digest: u64,
    pub cells: [u64; CELLS],
}

pub static EMPTY: Table = Table {
    from: 0,
    flow: 0,
    seq: 0,
    digest: 0,
    cells: [0; CELLS],
};

const fn is_fixed<T: FixedSize>() {}
const _: () = is_fixed::<Table>();

/// What a handler is to do besides.
pub mod wish {
    pub const NOTHING: u8 = 0;
    /// Panic, with [`super::ON_PURPOSE`].
    pub const PANIC: u8 = 1;
}

/// What a wanted panic says.
pub const ON_PURPOSE: &str = "a panic that was asked for";

/// Asked and answered at once.
#[derive(ShmMessage, Debug)]
#[shm(name = "soak.Call", reply = Answer)]
pub struct Call {
    pub from: u64,
    pub flow: u64,
    pub seq: u64,
    pub digest: u64,
    pub wish: u8,
    pub reply: u32,
    pub data: Vec<u8>,
}

/// Asked and answered after a while.
#[derive(ShmMessage, Debug)]
#[shm(name = "soak.Later", reply = Answer)]
pub struct Later {
    pub from: u64,
    pub flow: u64,
    pub seq: u64,
    pub digest: u64,
    pub after_ms: u32,
    pub reply: u32,
    pub data: Vec<u8>,
}

/// Which incarnation of an actor an address is of. Not counted.
#[derive(ShmMessage, Debug)]
#[shm(name = "soak.Hello", reply = Answer)]
pub struct Hello {
    pub from: u64,
}

#[derive(ShmMessage, Debug)]
#[shm(name = "soak.Answer")]
pub struct Answer {
    pub owner: u64,
    pub mailbox: u64,
    pub seq: u64,
    pub digest: u64,
    pub data: Vec<u8>,
}

/// Published.
#[derive(ShmMessage, Debug)]
#[shm(name = "soak.Tick")]
pub struct Tick {
    pub from: u64,
    pub topic: u64,
    pub seq: u64,
    pub digest: u64,
    pub data: Bulk,
}

/// The same names with other fields.
pub mod odd {
    use shmbus::prelude::*;

    #[derive(ShmMessage, Debug)]
    #[shm(name = "soak.Note")]
    pub struct Note {
        pub from: u64,
        pub flow: u32,
        pub seq: u64,
        pub digest: u64,
        pub data: Vec<u8>,
    }

    #[derive(ShmMessage, Debug)]
    #[shm(name = "soak.Tick")]
    pub struct Tick {
        pub from: u64,
        pub topic: u64,
        pub data: Vec<u16>,
    }

    /// Nobody handles it.
    #[derive(ShmMessage, Debug)]
    #[shm(name = "soak.Stranger")]
    pub struct Stranger {
        pub from: u64,
    }
}

/// Over words; every bit of each counts, and their order.
#[derive(Debug, Clone, Copy)]
pub struct Digest(u64);

impl Digest {
    pub fn of(head: &[u64]) -> Self {
        let mut digest = Self(0x51_7c_c1_b7_27_22_0a_95);
        for word in head {
            digest.word(*word);
        }
        digest
    }

    pub fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    pub fn bytes(mut self, bytes: &[u8]) -> u64 {
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.word(u64::from(*byte));
        }
        self.0
    }

    pub fn words(mut self, words: impl Iterator<Item = u64>) -> u64 {
        words.for_each(|word| self.word(word));
        self.0
    }
}

/// Different bytes for different keys.
pub fn fill(key: u64, bytes: &mut [u8]) {
    let mut word = key.wrapping_mul(0xd134_2543_de82_ef95) | 1;
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for place in words {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(key);
        *place = word.to_le_bytes();
    }
    rest.fill(word as u8);
}

pub fn data(key: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(key, &mut bytes);
    bytes
}
