//! The segments of one peer's pool, as far as they have been announced.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, OnceLock},
};

use super::{
    checked::Violation,
    pool::{DEDICATED, MAX_SEGMENTS},
    segment::Mapping,
    sync::lock,
};

/// Most large messages of one peer that are announced but not yet delivered.
const MAX_ANNOUNCED: usize = 1024;

#[derive(Debug)]
pub(crate) struct PeerMemory {
    /// By number; never unmapped while the session or a lease lives.
    pooled: Box<[OnceLock<Arc<Mapping>>]>,
    /// Large messages, and how many descriptors that name each are still to be opened.
    dedicated: Mutex<HashMap<u32, (Arc<Mapping>, u32)>>,
    /// The peer is of another user: what it sends is copied before it is checked.
    foreign: bool,
}

impl PeerMemory {
    pub(crate) fn new() -> Arc<Self> {
        Self::of(false)
    }

    /// Of a peer that is of another user.
    pub(crate) fn of_another_user() -> Arc<Self> {
        Self::of(true)
    }

    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }

    fn of(foreign: bool) -> Arc<Self> {
        let pooled = std::iter::repeat_with(OnceLock::new).take(MAX_SEGMENTS).collect();
        Arc::new(Self {
            pooled,
            dedicated: Mutex::default(),
            foreign,
        })
    }

    /// Takes an announced segment. A pool segment announced twice is refused.
    pub(crate) fn add(&self, number: u32, mapping: Arc<Mapping>) -> Result<(), Violation> {
        if number & DEDICATED != 0 {
            let mut dedicated = lock(&self.dedicated);
            let full = dedicated.len() == MAX_ANNOUNCED;
            match dedicated.entry(number) {
                // Once per descriptor: a topic's message is announced for each subscription.
                Entry::Occupied(mut known) if known.get().0.bytes() == mapping.bytes() => {
                    known.get_mut().1 = known.get().1.saturating_add(1);
                }
                Entry::Vacant(place) if !full => {
                    place.insert((mapping, 1));
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

    /// Whether a segment's announcement has arrived.
    pub(crate) fn knows(&self, number: u32) -> Result<bool, Violation> {
        if number & DEDICATED != 0 {
            return Ok(lock(&self.dedicated).contains_key(&number));
        }
        Ok(self.pooled(number)?.is_some())
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
            Entry::Occupied(mut known) if known.get().1 > 1 => {
                known.get_mut().1 -= 1;
                Some(known.get().0.clone())
            }
            Entry::Occupied(known) => Some(known.remove().0),
            Entry::Vacant(_) => None,
        }
    }
}
