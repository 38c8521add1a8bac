//! Sealed memory: made and written by one process, mapped read-only by others.

use std::{
    any::Any,
    fs::File,
    io,
    mem::{align_of, size_of},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::Arc,
};

use memmap2::{Advice, Mmap, MmapOptions, MmapRaw};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};

use super::{
    cells::Cells,
    checked::Place,
    layout::{self, BellLine, LinkHeader, MAGIC, Slot},
    memory::Share,
    ring::LEAST_SLOTS,
    sync::{AtomicU64, Ordering},
};
use crate::error::ResourceError;

/// What a segment must be sealed against: shrinking (SIGBUS in readers), growing, and any writable
/// mapping by anybody who has only the descriptor. F_SEAL_SEAL keeps the set as it is.
fn seals() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_FUTURE_WRITE | SealFlag::F_SEAL_SEAL
}

const LIMIT: &str = "RLIMIT_NOFILE, RLIMIT_AS, vm.max_map_count or the memory cgroup";

/// A segment of this process: the only writable mapping of it that there is or will be.
#[derive(Debug)]
pub(crate) struct Segment {
    map: MmapRaw,
    fd: OwnedFd,
}

impl Segment {
    /// Makes a segment of `bytes` zero bytes (reserved; the kernel gives pages when they are touched).
    pub(crate) fn create(name: &str, bytes: usize) -> Result<Arc<Self>, ResourceError> {
        let fail = |action: &str, source: io::Error| ResourceError {
            action: format!("{action} ({name}, {bytes} bytes)"),
            limit: LIMIT,
            source,
        };
        let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
            .map_err(|e| fail("make a memory segment", e.into()))?;
        nix::unistd::ftruncate(&fd, bytes as nix::libc::off_t)
            .map_err(|e| fail("size a memory segment", e.into()))?;
        let map = MmapOptions::new()
            .len(bytes)
            .map_raw(&fd)
            .map_err(|e| fail("map a memory segment", e))?;
        // A forked child has the parent's books, but not its place in them: what it wrote here would be taken for the
        // parent's. So it gets no such memory, and a use of it there ends the child and nobody else.
        map.advise(Advice::DontFork)
            .map_err(|e| fail("keep a memory segment from forked children", e))?;
        // Sealed only now: FUTURE_WRITE refuses every writable mapping but those there already are.
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals())).map_err(|e| fail("seal a memory segment", e.into()))?;
        Ok(Arc::new(Self { map, fd }))
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.map.len()
    }

    /// Where the byte at `offset` lies. The pointer is good for writing up to the segment's end, as long
    /// as the segment lives.
    pub(crate) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset <= self.map.len());
        // SAFETY: `offset` was just checked to be at most the mapping's length.
        let pointer = unsafe { self.map.as_mut_ptr().add(offset) };
        NonNull::new(pointer).expect("a mapping is never at address 0")
    }
}

/// A segment of another process, mapped read-only.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: Mmap,
    /// Given back when it is unmapped.
    _share: Option<Share>,
}

impl Mapping {
    /// Maps what a peer sent, after checking that it is a memfd of the announced size, sealed so that
    /// the peer can neither shrink it under our reads nor change that.
    pub(crate) fn import(fd: &OwnedFd, bytes: u64) -> io::Result<Arc<Self>> {
        Self::import_with(fd, bytes, None).map(Arc::new)
    }

    /// The same, of which an account is kept.
    pub(super) fn import_with(fd: &OwnedFd, bytes: u64, share: Option<Share>) -> io::Result<Self> {
        let found = fcntl(fd, FcntlArg::F_GET_SEALS).map_err(|_| refused("it is not a memfd"))?;
        if !SealFlag::from_bits_retain(found).contains(seals()) {
            return Err(refused("it is not sealed"));
        }
        let size = u64::try_from(nix::sys::stat::fstat(fd)?.st_size).map_err(|_| refused("its size"))?;
        if size != bytes || bytes == 0 {
            return Err(refused("its size is not the announced one"));
        }
        let len = usize::try_from(bytes).map_err(|_| refused("its size"))?;
        // Not the peer's fault: the kind of the error stays what the kernel said.
        let lacks = |error: io::Error| {
            let what = format!("cannot map {len} bytes of a peer's memory: {error}; limit: {LIMIT}");
            io::Error::new(error.kind(), what)
        };
        let file = File::from(fd.try_clone().map_err(lacks)?);
        // SAFETY: the memory may change under us, so it is never exposed as `&[u8]` before a descriptor
        // has handed a part of it over (see `MappedBytes`), and otherwise only as atomics (`Cells`). The
        // seals keep it from shrinking.
        let map = unsafe { MmapOptions::new().len(len).map(&file) }.map_err(lacks)?;
        Ok(Self { map, _share: share })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.map.len()
    }

    /// Where a checked place begins. Good for reading `place.len()` bytes as long as the mapping lives.
    pub(crate) fn at(&self, place: Place) -> NonNull<u8> {
        assert!(place.offset() + place.len() <= self.map.len());
        // SAFETY: the place was just checked to lie inside the mapping.
        let pointer = unsafe { self.map.as_ptr().add(place.offset()) };
        NonNull::new(pointer.cast_mut()).expect("a mapping is never at address 0")
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a peer's memory segment is refused: {why}"),
    )
}

/// Memory that cells can lie in.
pub(crate) trait Memory: Any + Send + Sync {
    /// First byte and length, valid while the value lives and page-aligned.
    fn extent(&self) -> (*const u8, usize);
}

impl Memory for Segment {
    fn extent(&self) -> (*const u8, usize) {
        (self.map.as_ptr(), self.map.len())
    }
}

impl Memory for Mapping {
    fn extent(&self) -> (*const u8, usize) {
        (self.map.as_ptr(), self.map.len())
    }
}

/// Cells of `T` at `offset`. `T` is one of the structures of `layout`, or an `AtomicU64`.
fn cells<T: 'static>(memory: &Arc<impl Memory>, offset: usize, len: usize) -> Cells<T> {
    let (first, bytes) = memory.extent();
    assert!(offset.is_multiple_of(align_of::<T>()) && offset + len * size_of::<T>() <= bytes);
    // SAFETY: `offset` was just checked to be inside.
    let first = unsafe { first.add(offset) }.cast::<T>().cast_mut();
    let first = NonNull::new(first).expect("a mapping is never at address 0");
    // SAFETY: the cells lie inside the mapping and are aligned (mappings start at a page); the structures
    // of `layout` are valid for every bit pattern; the Arc keeps the mapping; only atomics access it.
    unsafe { Cells::new(first, len, memory.clone()) }
}

/// Every word of an own segment, for targets that write what a hostile peer may write.
#[cfg(feature = "fuzz-internals")]
pub(crate) fn words(segment: &Arc<Segment>) -> Cells<AtomicU64> {
    cells(segment, 0, segment.bytes() / 8)
}

/// The parts of a link segment.
#[derive(Debug)]
pub(crate) struct LinkParts {
    /// The owner's position in the other end's slots.
    pub(crate) head: Cells<AtomicU64>,
    /// The owner's word for senders that wait for room.
    pub(crate) waiting: Cells<AtomicU64>,
    /// The owner's loss counters, by route.
    pub(crate) losses: Cells<AtomicU64>,
    /// The owner's return ring.
    pub(crate) returns: Cells<AtomicU64>,
    /// The owner's outgoing slots.
    pub(crate) slots: Cells<Slot>,
}

impl LinkParts {
    fn of(memory: &Arc<impl Memory>, ring_slots: u32, returns: u32) -> Self {
        Self {
            head: cells(memory, std::mem::offset_of!(LinkHeader, head), 1),
            waiting: cells(memory, std::mem::offset_of!(LinkHeader, waiting), 1),
            losses: cells(memory, layout::LOSSES_AT, layout::LOSSES),
            returns: cells(memory, layout::RETURNS_AT, returns as usize),
            slots: cells(memory, layout::slots_at(returns), ring_slots as usize),
        }
    }

    /// Makes an own link segment. Both numbers are powers of two.
    pub(crate) fn create(ring_slots: u32, returns: u32) -> Result<(Arc<Segment>, Self), ResourceError> {
        let segment = Segment::create("shmbus-link", layout::link_bytes(ring_slots, returns))?;
        let header = cells::<LinkHeader>(&segment, 0, 1);
        // Relaxed: the peer maps the segment only after it has come over a socket.
        header[0].magic.store(MAGIC, Ordering::Relaxed);
        header[0]
            .sizes
            .store(sizes(ring_slots, returns), Ordering::Relaxed);
        let parts = Self::of(&segment, ring_slots, returns);
        Ok((segment, parts))
    }

    /// The parts of a foreign link segment of the announced sizes.
    pub(crate) fn import(fd: &OwnedFd, bytes: u64, ring_slots: u32, returns: u32) -> io::Result<Self> {
        // More than `Config` allows is nothing but address space.
        let fits = |n: u32, most: u32| n.is_power_of_two() && n <= most;
        // Fewer returns than a line has would leave the slots behind them unaligned.
        let least = ring_slots as usize >= LEAST_SLOTS && returns as usize >= layout::LINE / 8;
        if !least
            || !fits(ring_slots, 1 << 20)
            || !fits(returns, 1 << 24)
            || bytes != layout::link_bytes(ring_slots, returns) as u64
        {
            return Err(refused("its rings' sizes"));
        }
        let mapping = Mapping::import(fd, bytes)?;
        let header = cells::<LinkHeader>(&mapping, 0, 1);
        // Relaxed: written before the segment came over the socket.
        if header[0].magic.load(Ordering::Relaxed) != MAGIC
            || header[0].sizes.load(Ordering::Relaxed) != sizes(ring_slots, returns)
        {
            return Err(refused("it carries another layout"));
        }
        Ok(Self::of(&mapping, ring_slots, returns))
    }
}

fn sizes(ring_slots: u32, returns: u32) -> u64 {
    u64::from(ring_slots) | u64::from(returns) << 32
}

/// An own bell segment and its word.
pub(crate) fn create_bell() -> Result<(Arc<Segment>, Cells<AtomicU64>), ResourceError> {
    let segment = Segment::create("shmbus-bell", layout::BELL_BYTES)?;
    let word = cells(&segment, std::mem::offset_of!(BellLine, parked), 1);
    Ok((segment, word))
}

/// The word of a foreign bell segment.
pub(crate) fn import_bell(fd: &OwnedFd) -> io::Result<Cells<AtomicU64>> {
    let mapping = Mapping::import(fd, layout::BELL_BYTES as u64)?;
    Ok(cells(&mapping, std::mem::offset_of!(BellLine, parked), 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn the_kernel_refuses_to_let_a_receiver_write() {
        let segment = Segment::create("test", 4096).unwrap();
        let fd = segment.fd().try_clone_to_owned().unwrap();
        assert!(
            MmapOptions::new().len(4096).map_raw(&fd).is_err(),
            "a writable mapping was allowed"
        );
        assert!(nix::unistd::ftruncate(&fd, 0).is_err(), "shrinking was allowed");
        assert!(nix::unistd::ftruncate(&fd, 8192).is_err(), "growing was allowed");
        assert!(nix::unistd::write(&fd, b"x").is_err(), "write(2) was allowed");
        let more = fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE));
        assert!(more.is_err(), "another seal was allowed");
    }

    #[test]
    fn a_receiver_sees_what_the_owner_writes_afterwards() {
        let (segment, word) = create_bell().unwrap();
        let seen = import_bell(&segment.fd().try_clone_to_owned().unwrap()).unwrap();
        word[0].store(7, Ordering::Release);
        assert_eq!(seen[0].load(Ordering::Acquire), 7);
        drop((segment, word));
        assert_eq!(
            seen[0].load(Ordering::Acquire),
            7,
            "the mapping outlives its owner"
        );
    }

    #[test]
    fn descriptors_are_not_inherited_by_children() {
        let segment = Segment::create("test", 4096).unwrap();
        let flags = fcntl(&segment.fd, FcntlArg::F_GETFD).unwrap();
        assert!(
            flags & nix::libc::FD_CLOEXEC != 0,
            "fd {}",
            segment.fd.as_raw_fd()
        );
    }

    #[test]
    fn a_forked_child_cannot_write_what_is_its_parents() {
        use nix::{
            sys::{
                signal::Signal,
                wait::{WaitStatus, waitpid},
            },
            unistd::{ForkResult, fork},
        };
        let (segment, word) = create_bell().unwrap();
        word[0].store(7, Ordering::Relaxed);
        // SAFETY: the child makes one store and no call but `_exit`, all of which is allowed after a fork of a
        // process of several threads.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                word[0].store(8, Ordering::Relaxed);
                // SAFETY: it never returns.
                unsafe { nix::libc::_exit(0) }
            }
            ForkResult::Parent { child } => {
                let end = waitpid(child, None).unwrap();
                assert!(
                    matches!(end, WaitStatus::Signaled(_, Signal::SIGSEGV, _)),
                    "{end:?}"
                );
                assert_eq!(word[0].load(Ordering::Relaxed), 7);
            }
        }
        drop(segment);
    }

    #[test]
    fn wrong_descriptors_are_refused() {
        let null: OwnedFd = File::open("/dev/null").unwrap().into();
        assert!(Mapping::import(&null, 4096).is_err());
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        assert!(Mapping::import(&file, 4096).is_err());
        let unsealed = memfd_create("u", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        nix::unistd::ftruncate(&unsealed, 4096).unwrap();
        assert!(Mapping::import(&unsealed, 4096).is_err());
        let segment = Segment::create("test", 4096).unwrap();
        let fd = segment.fd().try_clone_to_owned().unwrap();
        assert!(Mapping::import(&fd, 8192).is_err() && Mapping::import(&fd, 0).is_err());
        assert!(LinkParts::import(&fd, 4096, 16, 32).is_err());
        assert!(Mapping::import(&fd, 4096).is_ok());
    }

    #[test]
    fn a_link_segment_of_other_sizes_is_refused() {
        let (segment, _) = LinkParts::create(64, 256).unwrap();
        let fd = segment.fd().try_clone_to_owned().unwrap();
        let bytes = segment.bytes() as u64;
        assert!(LinkParts::import(&fd, bytes, 64, 256).is_ok());
        // The same number of bytes: 32 slots less, 256 entries more.
        assert!(LinkParts::import(&fd, bytes, 32, 512).is_err());
        assert!(LinkParts::import(&fd, bytes, 63, 256).is_err());
        // Sizes that fit together, but leave the slots unaligned.
        for returns in [1, 2, 4] {
            let segment = Segment::create("test", layout::link_bytes(16, returns)).unwrap();
            let header = cells::<LinkHeader>(&segment, 0, 1);
            header[0].magic.store(MAGIC, Ordering::Relaxed);
            header[0].sizes.store(sizes(16, returns), Ordering::Relaxed);
            let fd = segment.fd().try_clone_to_owned().unwrap();
            assert!(LinkParts::import(&fd, segment.bytes() as u64, 16, returns).is_err());
        }
    }
}
