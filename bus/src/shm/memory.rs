//! The segments of one peer's pool, as far as they have been announced.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    checked::Violation,
    pool::{DEDICATED, MAX_SEGMENTS},
    segment::Mapping,
    sync::lock,
};

/// Most large messages of one peer that are announced but not yet delivered.
const MAX_ANNOUNCED: usize = 1024;

/// Address space that the pool segments of all peers may take, in bytes: half of what a process has. A sparse segment
/// costs its maker nothing, but a process without address space cannot even allocate.
const ADDRESS_SPACE: u64 = 1 << 46;

#[derive(Debug)]
pub(crate) struct PeerMemory {
    /// Bytes of segments that may still be mapped.
    left: Arc<AtomicU64>,
    /// By number; never unmapped while the session or a lease lives.
    pooled: Box<[OnceLock<Arc<Mapping>>]>,
    /// Large messages by number.
    dedicated: Mutex<HashMap<u32, Dedicated>>,
    /// The peer is of another user: what it sends is copied before it is checked.
    foreign: bool,
}

/// The segment of a large message. A topic's message is announced, and delivered, once for each subscription.
#[derive(Debug)]
struct Dedicated {
    mapping: Arc<Mapping>,
    /// Announcements whose messages have not been opened.
    announced: u32,
    /// Messages delivered and not opened; never more than `announced`, so that each finds its segment when it is opened,
    /// whichever of them comes first.
    delivered: u32,
}

impl PeerMemory {
    /// The memory of one of so many peers, which may be of another user.
    pub(crate) fn new(peers: usize, foreign: bool) -> Arc<Self> {
        let pooled = std::iter::repeat_with(OnceLock::new).take(MAX_SEGMENTS).collect();
        Arc::new(Self {
            left: Arc::new(AtomicU64::new(ADDRESS_SPACE / peers.max(1) as u64)),
            pooled,
            dedicated: Mutex::default(),
            foreign,
        })
    }

    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// Maps a segment that the peer has sent.
    pub(crate) fn import(&self, fd: &OwnedFd, bytes: u64) -> io::Result<Arc<Mapping>> {
        let share = Share::take(&self.left, bytes)?;
        Ok(Arc::new(Mapping::import_with(fd, bytes, Some(share))?))
    }

    /// Takes an announced segment. A pool segment announced twice is refused.
    pub(crate) fn add(&self, number: u32, mapping: Arc<Mapping>) -> Result<(), Violation> {
        if number & DEDICATED != 0 {
            let mut dedicated = lock(&self.dedicated);
            let full = dedicated.len() == MAX_ANNOUNCED;
            match dedicated.entry(number) {
                Entry::Occupied(mut known) if known.get().mapping.bytes() == mapping.bytes() => {
                    let known = known.get_mut();
                    known.announced = known.announced.saturating_add(1);
                }
                Entry::Vacant(place) if !full => {
                    place.insert(Dedicated {
                        mapping,
                        announced: 1,
                        delivered: 0,
                    });
                }
                _ => return Err(Violation::Segment(number)),
            }
            return Ok(());
        }
        let place = self
            .pooled
            .get(number as usize)
            .ok_or(Violation::Segment(number))?;
        place.set(mapping).map_err(|_| Violation::Segment(number))
    }

    /// Whether a segment's announcement has arrived, for one more message if it is that of a large one.
    pub(crate) fn knows(&self, number: u32) -> Result<bool, Violation> {
        if number & DEDICATED != 0 {
            let dedicated = lock(&self.dedicated);
            let known = dedicated.get(&number);
            return Ok(known.is_some_and(|known| known.announced > known.delivered));
        }
        Ok(self.pooled(number)?.is_some())
    }

    /// A message that this segment is [known](Self::knows) for is delivered, and will [take](Self::take) it.
    pub(crate) fn deliver(&self, number: u32) {
        if number & DEDICATED != 0
            && let Some(known) = lock(&self.dedicated).get_mut(&number)
        {
            known.delivered += 1;
        }
    }

    /// A segment that is divided into buffers, once it was announced.
    pub(crate) fn pooled(&self, number: u32) -> Result<Option<&Arc<Mapping>>, Violation> {
        self.pooled
            .get(number as usize)
            .map(OnceLock::get)
            .ok_or(Violation::Segment(number))
    }

    /// The segment of a large message, handed over for good, so that it goes with its reader.
    pub(crate) fn take(&self, number: u32) -> Option<Arc<Mapping>> {
        match lock(&self.dedicated).entry(number) {
            Entry::Occupied(mut known) if known.get().announced > 1 => {
                let known = known.get_mut();
                known.announced -= 1;
                known.delivered = known.delivered.saturating_sub(1);
                Some(known.mapping.clone())
            }
            Entry::Occupied(known) => Some(known.remove().mapping),
            Entry::Vacant(_) => None,
        }
    }
}

/// Address space that one mapping takes of its peer's part; given back with it.
#[derive(Debug)]
pub(crate) struct Share {
    left: Arc<AtomicU64>,
    bytes: u64,
}

impl Share {
    fn take(left: &Arc<AtomicU64>, bytes: u64) -> io::Result<Self> {
        // Relaxed: a count and nothing else.
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(bytes)
        });
        match taken {
            Ok(_) => Ok(Self {
                left: left.clone(),
                bytes,
            }),
            Err(left) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "a peer's memory segment of {bytes} bytes is refused: {left} bytes are left of its part of this \
                     process's address space (the fewer `Config::peers`, the larger)"
                ),
            )),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::segment::Segment;

    #[test]
    fn address_space_is_bounded_per_peer_and_given_back() {
        let memory = PeerMemory::new(256, false);
        // Sparse: nothing but address space.
        let huge = Segment::create("test", 1 << 37).unwrap();
        let import = || memory.import(&huge.fd().try_clone_to_owned().unwrap(), 1 << 37);
        let first = import().unwrap();
        let second = import().unwrap();
        let error = import().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("Config::peers"), "{error}");
        drop(first);
        drop((import().unwrap(), second));
        assert_eq!(memory.left.load(Ordering::Relaxed), ADDRESS_SPACE / 256);
    }

    #[test]
    fn each_message_of_a_large_segment_has_an_announcement_of_its_own() {
        let memory = PeerMemory::new(256, false);
        let large = Segment::create("test", 4096).unwrap();
        let announce = || {
            let mapping = memory.import(&large.fd().try_clone_to_owned().unwrap(), 4096);
            memory.add(DEDICATED, mapping.unwrap()).unwrap();
        };
        announce();
        assert_eq!(memory.knows(DEDICATED), Ok(true));
        memory.deliver(DEDICATED);
        assert_eq!(
            memory.knows(DEDICATED),
            Ok(false),
            "the second one's is still on its way"
        );
        announce();
        assert_eq!(memory.knows(DEDICATED), Ok(true));
        memory.deliver(DEDICATED);
        assert!(memory.take(DEDICATED).is_some() && memory.take(DEDICATED).is_some());
        assert!(memory.take(DEDICATED).is_none());
    }
}
