//! The asks of a port that wait for their reply.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use crate::shm::{Lease, checked::Violation, descriptor::Descriptor, inbound::Inbound};

/// Asks that wait without a deadline on the clock are given theirs together, after so many at the latest.
const UNDATED_MOST: usize = 64;

/// How an ask ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Reply(Lease),
    Failed(Failure),
    /// A reply that breaks the protocol; its session has been told.
    Malformed,
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

/// How an ask ended that nobody has taken the outcome of.
#[derive(Debug)]
enum End {
    /// It has not, or it was taken.
    Open,
    /// With a small reply, for which nothing is given back.
    Small,
    /// With a reply in a buffer of this peer.
    Buffer(Arc<Inbound>),
    Failed(Failure),
    Malformed,
    PeerLost,
    Deadline,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    /// The link it was sent on; only a reply from there counts.
    link: u32,
    /// `None` as long as its first poll lasts: most asks need no clock.
    deadline: Option<Instant>,
    waker: Option<Waker>,
    end: End,
    /// The reply, from when it arrives until the asker takes it.
    reply: Descriptor,
    /// The asker has its answer, or has gone.
    taken: bool,
    /// No reply can come any more.
    settled: bool,
}

impl Entry {
    fn is_awaited(&self) -> bool {
        !self.taken && matches!(self.end, End::Open)
    }

    /// It ends, while it is awaited.
    fn end(&mut self, end: End, wakers: &mut Vec<Waker>) {
        self.end = end;
        wakers.extend(self.waker.take());
    }

    /// A small reply, if one came.
    #[inline]
    fn take_small(&mut self) -> Option<Lease> {
        if !matches!(self.end, End::Small) {
            return None;
        }
        self.end = End::Open;
        Some(Lease::inline(&self.reply, None))
    }

    /// What came, if something did.
    #[inline]
    fn take(&mut self) -> Option<Outcome> {
        Some(match mem::replace(&mut self.end, End::Open) {
            End::Open => return None,
            End::Small => Outcome::Reply(Lease::inline(&self.reply, None)),
            End::Buffer(inbound) => match inbound.lease(&self.reply, true) {
                Ok(lease) => Outcome::Reply(lease),
                Err((inbound, violation)) => {
                    inbound.violated(violation);
                    Outcome::Malformed
                }
            },
            End::Failed(failure) => Outcome::Failed(failure),
            End::Malformed => Outcome::Malformed,
            End::PeerLost => Outcome::PeerLost,
            End::Deadline => Outcome::Deadline,
        })
    }
}

/// A table without allocation once it has grown to the asks in flight.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// No deadline is before this.
    next_deadline: Option<Instant>,
    /// Asks whose time has not been put on the clock yet.
    undated: Vec<(Ticket, Duration)>,
    /// Which waker was registered last.
    waited: Option<Ticket>,
    /// Asks that have ended and whose askers have not taken the outcome.
    completed: u32,
}

impl Asks {
    /// Opens an ask that is not sent yet.
    pub(crate) fn open(&mut self, link: u32) -> Ticket {
        let index = match self.free.pop() {
            Some(index) => {
                let entry = &mut self.entries[index as usize];
                entry.link = link;
                entry.deadline = None;
                entry.waker = None;
                index
            }
            None => {
                self.entries.push(Entry {
                    generation: 0,
                    link,
                    deadline: None,
                    waker: None,
                    end: End::Open,
                    reply: Descriptor::EMPTY,
                    taken: false,
                    settled: true,
                });
                self.entries.len() as u32 - 1
            }
        };
        let generation = self.entries[index as usize].generation;
        Ticket(u64::from(generation) << 32 | u64::from(index))
    }

    /// Gives an ask so much time, as of a moment soon: when [`date`](Self::date) is called, or so many asks have been told
    /// their time that it pays to look at the clock.
    pub(crate) fn limit_soon(&mut self, ticket: Ticket, time: Duration) {
        self.undated.push((ticket, time));
        if self.undated.len() >= UNDATED_MOST {
            self.date(Instant::now());
        }
    }

    /// Puts the deadlines of those that were told how much time they have on the clock. Returns whether one of them is the
    /// earliest of all.
    pub(crate) fn date(&mut self, now: Instant) -> bool {
        let mut earliest = false;
        while let Some((ticket, time)) = self.undated.pop() {
            earliest |= self.limit(ticket, deadline(now, time));
        }
        earliest
    }

    /// Gives an ask its deadline. Returns whether it is the earliest of all so far.
    pub(crate) fn limit(&mut self, ticket: Ticket, deadline: Instant) -> bool {
        let Some(entry) = self.find(ticket).filter(|entry| entry.is_awaited()) else {
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
    #[inline]
    pub(crate) fn poll(&mut self, ticket: Ticket, waker: Option<&Waker>) -> Option<Outcome> {
        let entry = self.find(ticket)?;
        let outcome = entry.take();
        if outcome.is_some() {
            entry.taken = true;
            self.completed -= 1;
            self.recycle(ticket);
        } else if let Some(waker) = waker {
            match &mut entry.waker {
                Some(kept) => kept.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
            self.waited = Some(ticket);
        }
        outcome
    }

    /// Takes out the task that was the last to wait, to be woken: it looks, and registers again if need be.
    pub(crate) fn take_last_waker(&mut self) -> Option<Waker> {
        let ticket = self.waited.take()?;
        self.find(ticket)?.waker.take()
    }

    /// Takes the outcome to the end of `into`, if it is there. Returns whether it was.
    #[inline]
    pub(crate) fn take_into(&mut self, ticket: Ticket, into: &mut VecDeque<Outcome>) -> bool {
        let Some(entry) = self.find(ticket) else {
            return false;
        };
        // Small replies are made where they stay until they are taken.
        if let Some(reply) = entry.take_small() {
            into.push_back(Outcome::Reply(reply));
        } else if let Some(outcome) = entry.take() {
            into.push_back(outcome);
        } else {
            return false;
        }
        entry.taken = true;
        self.completed -= 1;
        self.recycle(ticket);
        true
    }

    /// The asker has gone. Returns an outcome that it did not take.
    pub(crate) fn abandon(&mut self, ticket: Ticket) -> Option<Outcome> {
        let entry = self.find(ticket)?;
        entry.taken = true;
        entry.waker = None;
        let outcome = entry.take();
        self.completed -= u32::from(outcome.is_some());
        self.recycle(ticket);
        outcome
    }

    fn recycle(&mut self, ticket: Ticket) {
        let index = ticket.index();
        if self.entries[index].taken && self.entries[index].settled {
            let entry = &mut self.entries[index];
            entry.taken = false;
            // Neither a late reply nor whoever still has the ticket finds it.
            entry.generation = entry.generation.wrapping_add(1);
            entry.link = u32::MAX;
            self.free.push(index as u32);
        }
    }

    /// The ask on that link which has this number and waits for its reply.
    #[inline]
    fn expecting(&mut self, link: u32, correlation: u64) -> Result<&mut Entry, Violation> {
        self.find(Ticket(correlation))
            .filter(|entry| entry.link == link && !entry.settled)
            .ok_or(Violation::Correlation(correlation))
    }

    /// Where the reply to an ask is to be written, before [`replied`](Self::replied).
    ///
    /// # Errors
    /// If nothing with this number was asked on that link, or it has been answered.
    #[inline]
    pub(crate) fn reply_place(&mut self, link: u32, correlation: u64) -> Result<&mut Descriptor, Violation> {
        Ok(&mut self.expecting(link, correlation)?.reply)
    }

    /// A reply has been written to its [place](Self::reply_place). If its asker has gone, or given up, it is released.
    /// The waker of a waiting asker is pushed to `wakers`.
    ///
    /// # Errors
    /// As of [`reply_place`](Self::reply_place), and if a small reply is longer than there is room for one.
    #[inline]
    pub(crate) fn replied(
        &mut self,
        link: u32,
        correlation: u64,
        inbound: &Arc<Inbound>,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), Violation> {
        let entry = self.expecting(link, correlation)?;
        entry.settled = true;
        if entry.is_awaited() {
            let (end, outcome) = match entry.reply.inline() {
                _ if entry.reply.has_buffer() => (End::Buffer(inbound.clone()), Ok(())),
                Ok(_) => (End::Small, Ok(())),
                Err(violation) => (End::Malformed, Err(violation)),
            };
            entry.end(end, wakers);
            self.completed += 1;
            return outcome;
        }
        let unwanted = inbound.clone().lease(&entry.reply, true);
        self.recycle(Ticket(correlation));
        unwanted.map(drop).map_err(|(_, violation)| violation)
    }

    /// A failure came in. The waker of a waiting asker is pushed to `wakers`.
    pub(crate) fn failed(
        &mut self,
        link: u32,
        correlation: u64,
        failure: Failure,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), Violation> {
        let entry = self.expecting(link, correlation)?;
        entry.settled = true;
        if entry.is_awaited() {
            entry.end(End::Failed(failure), wakers);
            self.completed += 1;
        }
        self.recycle(Ticket(correlation));
        Ok(())
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
            if entry.is_awaited() {
                entry.end(End::PeerLost, wakers);
                awaited += 1;
            }
            let ticket = Ticket(u64::from(entry.generation) << 32 | index as u64);
            self.recycle(ticket);
        }
        self.completed += awaited;
        awaited
    }

    /// Whether an asker has an outcome to take.
    pub(crate) fn has_completed(&self) -> bool {
        self.completed > 0
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Ends the asks whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant, wakers: &mut Vec<Waker>) {
        if self.next_deadline.is_none_or(|next| next > now) {
            return;
        }
        let mut next: Option<Instant> = None;
        for entry in &mut self.entries {
            if !entry.is_awaited() || entry.link == u32::MAX {
                continue;
            }
            let Some(deadline) = entry.deadline else {
                continue;
            };
            if deadline <= now {
                entry.end(End::Deadline, wakers);
                self.completed += 1;
            } else {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            }
        }
        self.next_deadline = next;
    }

    /// Asks that still have a place here.
    pub(crate) fn open_count(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

/// When so much time is over. Beyond the clock's range that is a year: as good as never.
pub(crate) fn deadline(now: Instant, time: Duration) -> Instant {
    now.checked_add(time)
        .unwrap_or(now + Duration::from_secs(31_536_000))
}

#[cfg(test)]
mod model;

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
            asks.failed(7, ticket.correlation(), Failure::Panicked, &mut wakers)
                .is_err(),
            "not sent yet"
        );
        asks.sent(ticket, true);
        assert!(asks.reply_place(8, ticket.correlation()).is_err(), "other link");
        let wild = ticket.correlation() ^ 1 << 40;
        assert_eq!(
            asks.reply_place(7, wild).err(),
            Some(Violation::Correlation(wild))
        );
        assert!(asks.reply_place(7, ticket.correlation()).is_ok());
        let mut fail = || asks.failed(7, ticket.correlation(), Failure::Panicked, &mut wakers);
        assert_eq!(fail(), Ok(()));
        assert!(fail().is_err(), "a second reply");
        assert!(asks.has_completed());
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
        let failed = asks.failed(1, ticket.correlation(), Failure::Memory, &mut wakers);
        assert_eq!(failed, Ok(()));
        assert!(asks.open_count() == 0 && !asks.has_completed());
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
        asks.expire(Instant::now(), &mut wakers);
        assert!(asks.has_completed());
        assert!(asks.next_deadline().is_some());
        assert!(matches!(asks.poll(soon, None), Some(Outcome::Deadline)));
        assert_eq!(asks.open_count(), 2, "its reply may still come");
        assert_eq!(asks.lose(1, &mut wakers), 1);
        assert!(matches!(asks.poll(late, None), Some(Outcome::PeerLost)));
        assert_eq!(asks.open_count(), 0);
    }
}
