//! A port's mailboxes by number.

use std::sync::Arc;

use super::mailbox::Mailbox;
use crate::shm::checked::Violation;

#[derive(Debug)]
struct Place {
    /// Counts the users of this place, from 0.
    generation: u16,
    state: Occupant,
}

#[derive(Debug)]
enum Occupant {
    None,
    Reserved,
    Bound(Arc<Mailbox>),
}

/// A number is a place and, in its upper half, which user of the place: a late message for an unbound
/// mailbox does not reach the next one.
#[derive(Debug, Default)]
pub(crate) struct Mailboxes {
    places: Vec<Place>,
    free: Vec<u16>,
    bound: usize,
}

impl Mailboxes {
    /// A number for a new mailbox; `None` if there are `limit` (at most 65,535).
    pub(crate) fn reserve(&mut self, limit: usize) -> Option<u32> {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let place = u16::try_from(self.places.len())
                    .ok()
                    .filter(|place| usize::from(*place) < limit)?;
                self.places.push(Place {
                    generation: 0,
                    state: Occupant::None,
                });
                place
            }
        };
        let entry = &mut self.places[usize::from(place)];
        entry.state = Occupant::Reserved;
        Some(u32::from(entry.generation) << 16 | u32::from(place))
    }

    /// Binds a mailbox to the number that was reserved for it.
    pub(crate) fn insert(&mut self, mailbox: Arc<Mailbox>) {
        let number = mailbox.binding.mailbox;
        if let Some(place) = self.places.get_mut(usize::from(number as u16))
            && u32::from(place.generation) == number >> 16
        {
            place.state = Occupant::Bound(mailbox);
            self.bound += 1;
        }
    }

    /// Frees a number, bound or only reserved.
    pub(crate) fn remove(&mut self, number: u32) -> Option<Arc<Mailbox>> {
        let place = self.places.get_mut(usize::from(number as u16))?;
        if u32::from(place.generation) != number >> 16 || matches!(place.state, Occupant::None) {
            return None;
        }
        place.generation = place.generation.wrapping_add(1);
        self.free.push(number as u16);
        match std::mem::replace(&mut place.state, Occupant::None) {
            Occupant::Bound(mailbox) => {
                self.bound -= 1;
                Some(mailbox)
            }
            Occupant::None | Occupant::Reserved => None,
        }
    }

    /// The mailbox of a number that a peer wrote. `None`: it was bound once. `Err`: it never was.
    pub(crate) fn find(&self, number: u32) -> Result<Option<&Arc<Mailbox>>, Violation> {
        let place = self
            .places
            .get(usize::from(number as u16))
            .ok_or(Violation::Mailbox(number))?;
        let generation = (number >> 16) as u16;
        match &place.state {
            Occupant::Bound(mailbox) if generation == place.generation => Ok(Some(mailbox)),
            // At most half the numbers are taken for old ones: generations wrap.
            _ if place.generation.wrapping_sub(generation).wrapping_sub(1) < 1 << 15 => Ok(None),
            _ => Err(Violation::Mailbox(number)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bound == 0
    }

    pub(crate) fn into_all(self) -> impl Iterator<Item = Arc<Mailbox>> {
        self.places.into_iter().filter_map(|place| match place.state {
            Occupant::Bound(mailbox) => Some(mailbox),
            Occupant::None | Occupant::Reserved => None,
        })
    }
}
