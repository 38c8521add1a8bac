//! A bare ring in a shared memfd, both ends spinning: a limit, not a transport. Nothing is checked, nobody is
//! woken, both ends may write all of it, and a process that dies stops the other.
//!
//! A slot is a sequence word and the payload behind it, so that for a small message one cache line moves. Each
//! reader publishes how far it has read, in a line of its own.

use std::{
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{Polling, rights};
use crate::{
    Result,
    case::{Case, IN_FLIGHT, Run},
    pace::Waiting,
    wire::Wire,
};

const LINE: usize = 64;

/// Where one ring lies in the memory, in bytes.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    readers: usize,
    slots: usize,
    stride: usize,
    payload: usize,
}

impl Place {
    fn new(at: usize, readers: usize, run: &Run) -> Self {
        let payload = run.payload();
        Self {
            at,
            readers,
            slots: slots(run.case(), payload),
            stride: (size_of::<u64>() + payload).next_multiple_of(LINE),
            payload,
        }
    }

    fn end(&self) -> usize {
        self.at + self.readers * LINE + self.slots * self.stride
    }
}

/// As few as the case needs, so that large messages stay in the cache.
fn slots(case: Case, payload: usize) -> usize {
    match case {
        Case::Ask | Case::IdleWake => 2,
        // The other end's publishing lags by at most a quarter.
        Case::Ask64 => 2 * IN_FLIGHT,
        _ => ((1 << 20) / payload).clamp(4, 1024),
    }
}

/// One ring from the client to all servers, and one back from each.
fn places(run: &Run) -> (Place, Vec<Place>) {
    let there = Place::new(0, run.point.receivers, run);
    let mut at = there.end();
    let back = (0..run.point.receivers).map(|_| {
        let place = Place::new(at, 1, run);
        at = place.end();
        place
    });
    let back = back.collect();
    (there, back)
}

/// The mapping, and the places in it.
struct Memory(MmapRaw);

impl Memory {
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.0.len());
        // SAFETY: in bounds and aligned (a mapping starts at a page); every process accesses these eight bytes as
        // an atomic only; the mapping lives as long as `self`.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().add(at).cast()) }
    }
}

struct Writer {
    place: Place,
    next: u64,
    /// The slowest reader's position when last looked.
    read: u64,
}

impl Writer {
    fn send(&mut self, memory: &Memory, fill: impl FnOnce(&mut [u8])) {
        let place = self.place;
        let slots = place.slots as u64;
        let mut polling = Polling::default();
        while self.next - self.read >= slots {
            // Acquire: a slot is written anew after its readers have read it.
            let reads = (0..place.readers)
                .map(|reader| memory.word(place.at + reader * LINE).load(Ordering::Acquire));
            self.read = reads.min().unwrap_or(self.next);
            if self.next - self.read >= slots {
                polling.again();
            }
        }
        let at = place.at + place.readers * LINE + (self.next % slots) as usize * place.stride;
        assert!(at + 8 + place.payload <= memory.0.len());
        // SAFETY: in bounds. No reader looks at the payload before the sequence word below says so, and all have
        // passed its last use, as their positions say.
        fill(unsafe { slice::from_raw_parts_mut(memory.0.as_mut_ptr().add(at + 8), place.payload) });
        self.next += 1;
        // Release: the payload is written before.
        memory.word(at).store(self.next, Ordering::Release);
    }
}

struct Reader {
    place: Place,
    index: usize,
    next: u64,
}

impl Reader {
    fn receive<T>(&mut self, memory: &Memory, read: impl FnOnce(&[u8]) -> T) -> T {
        let place = self.place;
        let at = place.at + place.readers * LINE + (self.next as usize % place.slots) * place.stride;
        assert!(at + 8 + place.payload <= memory.0.len());
        let word = memory.word(at);
        let mut polling = Polling::default();
        // Acquire: the payload was written before.
        while word.load(Ordering::Acquire) != self.next + 1 {
            polling.again();
        }
        // SAFETY: in bounds; the writer does not touch the payload until the position below says that it was read.
        let value = read(unsafe {
            slice::from_raw_parts(memory.0.as_mut_ptr().add(at + 8).cast_const(), place.payload)
        });
        self.next += 1;
        if self.next.is_multiple_of((place.slots as u64 / 4).max(1)) {
            // Release: the slots were read before.
            memory
                .word(place.at + self.index * LINE)
                .store(self.next, Ordering::Release);
        }
        value
    }
}

/// One end.
pub(super) struct Ring {
    memory: Memory,
    writer: Writer,
    readers: Vec<Reader>,
    turn: usize,
}

impl Ring {
    /// The client makes the memory.
    pub(super) fn client(run: &Run, sockets: &[UnixStream]) -> Result<Self> {
        let (there, back) = places(run);
        let file: File = memfd_create(c"ring", MFdFlags::MFD_CLOEXEC)?.into();
        file.set_len(back.last().unwrap_or(&there).end() as u64)?;
        for socket in sockets {
            rights::give(socket, [file.as_fd()])?;
        }
        let readers = back.into_iter().map(|place| (place, 0)).collect();
        Self::new(&file, there, readers)
    }

    /// A server is given it.
    pub(super) fn server(run: &Run, socket: &UnixStream) -> Result<Self> {
        let [file]: [OwnedFd; 1] = rights::take(socket)?;
        let (there, back) = places(run);
        Self::new(&file.into(), back[run.index()], vec![(there, run.index())])
    }

    fn new(file: &File, writes: Place, reads: Vec<(Place, usize)>) -> Result<Self> {
        Ok(Self {
            memory: Memory(MmapOptions::new().map_raw(file)?),
            writer: Writer {
                place: writes,
                next: 0,
                read: 0,
            },
            readers: reads
                .into_iter()
                .map(|(place, index)| Reader {
                    place,
                    index,
                    next: 0,
                })
                .collect(),
            turn: 0,
        })
    }
}

impl Wire for Ring {
    const WAITING: Waiting = Waiting::Blocking;

    async fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        self.writer.send(&self.memory, fill);
        Ok(())
    }

    async fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let turn = self.turn;
        self.turn = (turn + 1) % self.readers.len();
        Ok(self.readers[turn].receive(&self.memory, read))
    }
}
