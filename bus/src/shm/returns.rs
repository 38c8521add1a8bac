//! The return ring: what a receiver has finished with, on its way back to the sender.
//!
//! It lies in the receiver's memory and has more entries than messages can be unreleased on the link
//! (the sender counts them), so writing never waits and never fails. An entry carries its lap, so that
//! the sender polls the entry itself, and the value moves in the same store.

use super::{
    cells::Cells,
    checked::{self, Published, Violation},
    sync::{AtomicU64, Ordering},
};

/// One thing given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Return {
    /// The buffer that was sent under this token.
    Token(u32),
    /// The same, but the message was not handled: it may go to another member of the group.
    Nack(u32),
    /// So many inline messages of this route of the sender.
    Credit { route: u16, count: u16 },
}

const KIND_TOKEN: u8 = 1;
const KIND_CREDIT: u8 = 2;
const KIND_NACK: u8 = 3;

impl Return {
    /// `value u32 | kind u8 | 0 | lap u16`
    fn encode(self, lap: u16) -> u64 {
        let (kind, value) = match self {
            Return::Token(token) => (KIND_TOKEN, token),
            Return::Nack(token) => (KIND_NACK, token),
            Return::Credit { route, count } => (KIND_CREDIT, u32::from(route) | u32::from(count) << 16),
        };
        u64::from(value) | u64::from(kind) << 32 | u64::from(lap) << 48
    }

    fn decode(entry: u64) -> Result<Self, Violation> {
        let value = entry as u32;
        match (entry >> 32) as u8 {
            KIND_TOKEN => Ok(Return::Token(value)),
            KIND_NACK => Ok(Return::Nack(value)),
            KIND_CREDIT => Ok(Return::Credit {
                route: value as u16,
                count: (value >> 16) as u16,
            }),
            other => Err(Violation::ReturnKind(other)),
        }
    }
}

fn lap_of(position: u64, entries: usize) -> u16 {
    ((position >> entries.trailing_zeros()) as u16).wrapping_add(1)
}

/// The receiver's end.
#[derive(Debug)]
pub(crate) struct ReturnWriter {
    /// Own memory.
    entries: Cells<AtomicU64>,
    position: u64,
}

impl ReturnWriter {
    pub(crate) fn new(entries: Cells<AtomicU64>) -> Self {
        assert!(entries.len().is_power_of_two());
        Self { entries, position: 0 }
    }

    pub(crate) fn push(&mut self, what: Return) {
        let entries = self.entries.len();
        let at = (self.position & (entries as u64 - 1)) as usize;
        // Release: our reads of the buffer come before its owner writes it anew.
        self.entries[at].store(what.encode(lap_of(self.position, entries)), Ordering::Release);
        self.position += 1;
    }
}

/// The sender's end.
#[derive(Debug)]
pub(crate) struct ReturnReader {
    /// Foreign memory.
    entries: Cells<AtomicU64>,
    position: u64,
}

impl ReturnReader {
    pub(crate) fn new(entries: Cells<AtomicU64>) -> Self {
        assert!(entries.len().is_power_of_two());
        Self { entries, position: 0 }
    }

    /// The next thing given back. What it names is still to be checked against the sender's table.
    pub(crate) fn pop(&mut self) -> Result<Option<Return>, Violation> {
        let entries = self.entries.len();
        let at = (self.position & (entries as u64 - 1)) as usize;
        // Acquire: pairs with the Release in `push`; the receiver's reads of the buffer are over.
        let entry = self.entries[at].load(Ordering::Acquire);
        match checked::lap((entry >> 48) as u16, lap_of(self.position, entries))? {
            Published::NotYet => Ok(None),
            Published::Yes => {
                self.position += 1;
                Return::decode(entry).map(Some)
            }
        }
    }
}
