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

    /// The only one, if there is one only.
    pub(crate) fn sole(&self) -> Option<&Mailbox> {
        if self.bound != 1 {
            return None;
        }
        self.places.iter().find_map(|place| match &place.state {
            Occupant::Bound(mailbox) => Some(&**mailbox),
            Occupant::None | Occupant::Reserved => None,
        })
    }

    pub(crate) fn into_all(self) -> impl Iterator<Item = Arc<Mailbox>> {
        self.places.into_iter().filter_map(|place| match place.state {
            Occupant::Bound(mailbox) => Some(mailbox),
            Occupant::None | Occupant::Reserved => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;
    use crate::{
        config::Spin,
        session::{
            frame::Binding,
            port::{Port, Watcher},
        },
    };

    const LIMIT: usize = 4;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Is {
        Reserved,
        Bound,
        Gone,
    }

    fn mailbox(port: &Arc<Port>, number: u32) -> Arc<Mailbox> {
        let binding = Binding {
            name: String::new(),
            port: port.id,
            mailbox: number,
            window: 1,
            kinds: vec![],
        };
        Mailbox::new(binding, vec![], port.clone(), None, Weak::new())
    }

    proptest! {
        /// However numbers come and go: one that was bound leads to its own mailbox or to none, and one that never was is
        /// told apart.
        #[test]
        fn a_number_is_found_as_what_it_is(steps in vec((0u8..3, any::<Index>()), 1..120)) {
            let port = Port::new(0, Spin::Never, Watcher::Task).unwrap();
            let (mut mailboxes, mut known) = (Mailboxes::default(), Vec::<(u32, Is)>::new());
            for (step, at) in steps {
                let live = known.iter().filter(|(_, is)| *is != Is::Gone).count();
                if step == 0 || known.is_empty() {
                    let number = mailboxes.reserve(LIMIT);
                    prop_assert_eq!(number.is_some(), live < LIMIT);
                    if let Some(number) = number {
                        prop_assert!(known.iter().all(|(other, _)| *other != number), "again {number}");
                        known.push((number, Is::Reserved));
                    }
                } else {
                    let at = at.index(known.len());
                    let (number, is) = &mut known[at];
                    match (step, *is) {
                        (1, Is::Bound) => {}
                        (1, _) => {
                            // Of one that has gone: too late.
                            mailboxes.insert(mailbox(&port, *number));
                            *is = if *is == Is::Gone { Is::Gone } else { Is::Bound };
                        }
                        _ => {
                            let removed = mailboxes.remove(*number);
                            prop_assert_eq!(removed.is_some(), *is == Is::Bound);
                            *is = Is::Gone;
                        }
                    }
                }
                for (number, is) in &known {
                    match (mailboxes.find(*number), is) {
                        (Ok(Some(found)), Is::Bound) => prop_assert_eq!(found.binding.mailbox, *number),
                        (Ok(None), Is::Gone) | (Err(Violation::Mailbox(_)), Is::Reserved) => {}
                        (found, is) => prop_assert!(false, "{number:#x} is {is:?} and found as {found:?}"),
                    }
                    let never = [number.wrapping_add(LIMIT as u32), number.wrapping_add(1000 << 16)];
                    for never in never {
                        prop_assert!(mailboxes.find(never).is_err(), "{never:#x}");
                    }
                    // The place's next one.
                    let next = number.wrapping_add(1 << 16);
                    if known.iter().all(|(known, _)| *known != next) {
                        prop_assert!(mailboxes.remove(next).is_none());
                    }
                }
                prop_assert_eq!(mailboxes.is_empty(), known.iter().all(|(_, is)| *is != Is::Bound));
            }
            let bound = known.iter().filter(|(_, is)| *is == Is::Bound).count();
            prop_assert_eq!(mailboxes.into_all().count(), bound);
        }
    }
}
