//! The asks of a port that wait for their reply.

use std::{task::Waker, time::Instant};

use crate::shm::Lease;

/// How an ask ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Reply(Lease),
    Failed(Failure),
    PeerLost,
    Deadline,
}

/// What an answering end says instead of a reply; the number goes over the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Failure {
    Panicked = 1,
    Stopped = 2,
    TooLarge = 3,
    Memory = 4,
    Archive = 5,
}

impl Failure {
    pub(crate) fn from_code(code: u32) -> Self {
        match code {
            1 => Failure::Panicked,
            3 => Failure::TooLarge,
            4 => Failure::Memory,
            5 => Failure::Archive,
            // An unknown code comes from a later version; the ask failed all the same.
            _ => Failure::Stopped,
        }
    }
}

/// Names one ask of a port; the upper half tells a place's users apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

impl Ticket {
    pub(crate) fn correlation(self) -> u64 {
        self.0
    }
    fn index(self) -> usize {
        self.0 as u32 as usize
    }
    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    /// The link it was sent on; only a reply from there counts.
    link: u32,
    /// `None` as long as its first poll lasts: most asks need no clock.
    deadline: Option<Instant>,
    waker: Option<Waker>,
    outcome: Option<Outcome>,
    /// The asker has its answer, or has gone.
    taken: bool,
    /// No reply can come any more.
    settled: bool,
}

/// A table without allocation once it has grown to the asks in flight.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// No deadline is before this.
    next_deadline: Option<Instant>,
}

impl Asks {
    /// Opens an ask that is not sent yet.
    pub(crate) fn open(&mut self, link: u32) -> Ticket {
        let entry = |generation| Entry {
            generation,
            link,
            deadline: None,
            waker: None,
            outcome: None,
            taken: false,
            settled: true,
        };
        let index = match self.free.pop() {
            Some(index) => {
                let place = &mut self.entries[index as usize];
                *place = entry(place.generation.wrapping_add(1));
                index
            }
            None => {
                self.entries.push(entry(0));
                self.entries.len() as u32 - 1
            }
        };
        let generation = self.entries[index as usize].generation;
        Ticket(u64::from(generation) << 32 | u64::from(index))
    }

    /// Gives an ask its deadline. Returns whether it is the earliest of all so far.
    pub(crate) fn limit(&mut self, ticket: Ticket, deadline: Instant) -> bool {
        let Some(entry) = self.find(ticket) else {
            return false;
        };
        entry.deadline = Some(deadline);
        let earliest = self.next_deadline.is_none_or(|next| deadline < next);
        if earliest {
            self.next_deadline = Some(deadline);
        }
        earliest
    }

    fn find(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        self.entries
            .get_mut(ticket.index())
            .filter(|entry| entry.generation == ticket.generation())
    }

    /// The ask is about to be sent, or (`false`) was not sent after all.
    pub(crate) fn sent(&mut self, ticket: Ticket, sent: bool) {
        if let Some(entry) = self.find(ticket) {
            entry.settled = !sent;
        }
    }

    /// Takes the outcome, or keeps the waker for it. After an outcome the ticket is void.
    pub(crate) fn poll(&mut self, ticket: Ticket, waker: Option<&Waker>) -> Option<Outcome> {
        let entry = self.find(ticket)?;
        let outcome = entry.outcome.take();
        if outcome.is_some() {
            entry.taken = true;
            self.recycle(ticket);
        } else if let Some(waker) = waker {
            match &mut entry.waker {
                Some(kept) => kept.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
        outcome
    }

    /// The asker has gone. Returns an outcome that it did not take.
    pub(crate) fn abandon(&mut self, ticket: Ticket) -> Option<Outcome> {
        let entry = self.find(ticket)?;
        entry.taken = true;
        entry.waker = None;
        let outcome = entry.outcome.take();
        self.recycle(ticket);
        outcome
    }

    fn recycle(&mut self, ticket: Ticket) {
        let index = ticket.index();
        if self.entries[index].taken && self.entries[index].settled {
            self.entries[index].taken = false;
            // The generation moves on with the next user; until then nothing waits here.
            self.entries[index].link = u32::MAX;
            self.free.push(index as u32);
        }
    }

    /// A reply or failure came in. `Err`: nothing of this correlation was asked on that link. `Ok(false)`:
    /// its asker has gone, or given up. The waker of a waiting asker is pushed to `wakers`.
    pub(crate) fn complete(
        &mut self,
        link: u32,
        correlation: u64,
        outcome: impl FnOnce() -> Outcome,
        wakers: &mut Vec<Waker>,
    ) -> Result<bool, ()> {
        let ticket = Ticket(correlation);
        let entry = self
            .find(ticket)
            .filter(|entry| entry.link == link && !entry.settled)
            .ok_or(())?;
        entry.settled = true;
        let awaited = !entry.taken && entry.outcome.is_none();
        // The outcome is made in any case: making it takes the message's bytes into our hands, and
        // dropping it gives them back.
        let outcome = outcome();
        if awaited {
            entry.outcome = Some(outcome);
            wakers.extend(entry.waker.take());
        }
        self.recycle(ticket);
        Ok(awaited)
    }

    /// The link is lost: none of its asks will be answered. Returns how many askers were waiting.
    pub(crate) fn lose(&mut self, link: u32, wakers: &mut Vec<Waker>) -> u32 {
        let mut awaited = 0;
        for index in 0..self.entries.len() {
            let entry = &mut self.entries[index];
            if entry.link != link {
                continue;
            }
            entry.settled = true;
            if !entry.taken && entry.outcome.is_none() {
                entry.outcome = Some(Outcome::PeerLost);
                wakers.extend(entry.waker.take());
                awaited += 1;
            }
            let ticket = Ticket(u64::from(entry.generation) << 32 | index as u64);
            self.recycle(ticket);
        }
        awaited
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Ends the asks whose deadline has passed. Returns how many.
    pub(crate) fn expire(&mut self, now: Instant, wakers: &mut Vec<Waker>) -> u32 {
        if self.next_deadline.is_none_or(|next| next > now) {
            return 0;
        }
        let mut expired = 0;
        let mut next: Option<Instant> = None;
        for entry in &mut self.entries {
            if entry.taken || entry.outcome.is_some() || entry.link == u32::MAX {
                continue;
            }
            let Some(deadline) = entry.deadline else {
                continue;
            };
            if deadline <= now {
                entry.outcome = Some(Outcome::Deadline);
                wakers.extend(entry.waker.take());
                expired += 1;
            } else {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            }
        }
        self.next_deadline = next;
        expired
    }

    /// Asks that still have a place here.
    pub(crate) fn open_count(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn open(asks: &mut Asks, link: u32, deadline: Instant) -> (Ticket, bool) {
        let ticket = asks.open(link);
        (ticket, asks.limit(ticket, deadline))
    }

    fn later(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    #[test]
    fn a_reply_reaches_its_own_ask_only() {
        let (mut asks, mut wakers) = (Asks::default(), Vec::new());
        let (ticket, first) = open(&mut asks, 7, later(1000));
        assert!(first);
        assert!(
            asks.complete(7, ticket.correlation(), || Outcome::PeerLost, &mut wakers)
                .is_err(),
            "not sent yet"
        );
        asks.sent(ticket, true);
        assert!(
            asks.complete(8, ticket.correlation(), || Outcome::PeerLost, &mut wakers)
                .is_err(),
            "other link"
        );
        let wild = ticket.correlation() ^ 1 << 40;
        assert!(asks.complete(7, wild, || Outcome::PeerLost, &mut wakers).is_err());
        let reply = || Outcome::Failed(Failure::Panicked);
        assert_eq!(
            asks.complete(7, ticket.correlation(), reply, &mut wakers),
            Ok(true)
        );
        assert!(
            asks.complete(7, ticket.correlation(), reply, &mut wakers)
                .is_err(),
            "a second reply"
        );
        assert!(matches!(
            asks.poll(ticket, None),
            Some(Outcome::Failed(Failure::Panicked))
        ));
        assert_eq!(asks.open_count(), 0);
    }

    #[test]
    fn an_abandoned_ask_keeps_its_place_until_its_reply_came() {
        let (mut asks, mut wakers) = (Asks::default(), Vec::new());
        let (ticket, _) = open(&mut asks, 1, later(1000));
        asks.sent(ticket, true);
        asks.abandon(ticket);
        assert_eq!(asks.open_count(), 1);
        assert_eq!(
            asks.complete(1, ticket.correlation(), || Outcome::PeerLost, &mut wakers),
            Ok(false)
        );
        assert_eq!(asks.open_count(), 0);
        let (next, _) = open(&mut asks, 1, later(1000));
        assert_ne!(
            next, ticket,
            "a late reply must not meet the next user of the place"
        );
    }

    #[test]
    fn deadlines_and_lost_links_end_asks_once() {
        let (mut asks, mut wakers) = (Asks::default(), Vec::new());
        let (soon, _) = open(&mut asks, 1, Instant::now());
        let (late, first) = open(&mut asks, 1, later(60_000));
        assert!(!first);
        for ticket in [soon, late] {
            asks.sent(ticket, true);
        }
        assert_eq!(asks.expire(Instant::now(), &mut wakers), 1);
        assert!(asks.next_deadline().is_some());
        assert!(matches!(asks.poll(soon, None), Some(Outcome::Deadline)));
        assert_eq!(asks.open_count(), 2, "its reply may still come");
        assert_eq!(asks.lose(1, &mut wakers), 1);
        assert!(matches!(asks.poll(late, None), Some(Outcome::PeerLost)));
        assert_eq!(asks.open_count(), 0);
    }
}
