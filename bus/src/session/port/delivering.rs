//! From a ring to mailboxes and asks: every slot of a peer is checked here, and goes to whom it is for.

use std::{sync::Arc, task::Waker};

use crate::{
    session::{
        asks::{Asks, Failure},
        delivery::{Delivery, Sender},
        link::Link,
        mailbox::Intake,
        mailboxes::Mailboxes,
        topics::subscription::Attachment,
    },
    shm::{
        batch,
        checked::Violation,
        descriptor::{Descriptor, Head, SlotKind},
        faults::fault,
        layout::MOST_SLOTS,
        ring::Consumer,
    },
};

/// Most slots taken from one ring before the next ring has its turn.
pub(super) const BATCH: u32 = 256;

/// How many slots of a ring are read before the peer is told that it may write them again.
const fn tell_every(slots: u32) -> u32 {
    slots / 4
}

/// Most asks that may be open at a time, if the replies come by a ring of so many slots and are always to find room
/// there. Besides the replies to come, the peer sees those slots as taken that were read and of which it has not been
/// told: fewer than [`tell_every`], and those of the reply in hand, whose ask is over.
pub(crate) fn most_asks(slots: u32) -> u32 {
    const REPLY: u32 = MOST_SLOTS as u32;
    let unknown = tell_every(slots) + REPLY - 1;
    (slots.saturating_sub(unknown) / REPLY).max(1)
}

/// The receiving half of a link, at its port.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(super) link: Arc<Link>,
    pub(super) consumer: Consumer,
    /// Requests delivered so far.
    pub(super) delivered: u64,
    /// Below this `delivered` is certainly within the limit.
    pub(super) allowed: u64,
    /// Slots passed since the peer was told.
    pub(super) passed: u32,
    pub(super) tell_every: u32,
    pub(super) violated: bool,
    /// The peer is of another user: it sends to mailboxes that it may call.
    pub(super) foreign: bool,
    /// The subscription that the last topic message was for, and whose it was.
    pub(super) publisher: Option<(u32, Arc<Attachment>)>,
}

impl Receiving {
    pub(crate) fn new(link: Arc<Link>, consumer: Consumer, ring_slots: u32) -> Self {
        let foreign = link.session.is_foreign();
        Self {
            link,
            consumer,
            foreign,
            delivered: 0,
            allowed: 0,
            passed: 0,
            tell_every: tell_every(ring_slots),
            violated: false,
            publisher: None,
        }
    }

    /// Slots of the ring.
    pub(super) fn slots(&self) -> u32 {
        self.tell_every * 4
    }

    /// Moves the next message to its place. `false`: its segment is still on its way.
    #[inline]
    fn fill(&self, kind: SlotKind, head: Head, place: &mut Delivery) -> Result<bool, Violation> {
        let inbound = &self.link.inbound;
        self.consumer.read(head, &mut place.descriptor)?;
        if head.has_buffer() {
            if !inbound.has_memory_of(&place.descriptor)? {
                return Ok(false);
            }
            inbound.prefetch(&place.descriptor)?;
            inbound.deliver(&place.descriptor);
        }
        place.inbound = Some(inbound.share());
        place.sender = match kind {
            SlotKind::Ask | SlotKind::AskBatch => Sender::Asker(self.link.clone()),
            _ => Sender::Any,
        };
        Ok(true)
    }

    /// Tells the peer which slots it may write again.
    pub(super) fn publish(&mut self) {
        self.passed = 0;
        if self.consumer.publish() {
            self.link.inbound.kick();
        }
    }
}

/// What delivering needs besides the link itself.
pub(super) struct Delivering<'a> {
    pub(super) mailboxes: &'a Mailboxes,
    pub(super) asks: &'a mut Asks,
    pub(super) wakers: &'a mut Vec<Waker>,
}

impl<'a> Delivering<'a> {
    /// Moves what has arrived on one link, at most a batch. Returns how many messages.
    pub(super) fn drain_link(&mut self, receiving: &mut Receiving) -> u32 {
        if receiving.violated {
            return 0;
        }
        self.drain_ring(receiving).unwrap_or_else(|violation| {
            receiving.violated = true;
            receiving.link.session.violated(violation);
            0
        })
    }

    fn drain_ring(&mut self, receiving: &mut Receiving) -> Result<u32, Violation> {
        // The mailbox that the last message was for: its lock is taken once for all that follow each other.
        let mut intake: Option<(u32, Intake<'a>)> = None;
        for count in 0..BATCH {
            let Some(head) = receiving.consumer.peek()? else {
                return Ok(count);
            };
            // `false`: its segment is still on its way; the slot stays the next one.
            if !self.deliver(receiving, head, &mut intake)? {
                return Ok(count);
            }
            receiving.consumer.pass(head);
            receiving.passed += head.slots() as u32;
            // Here and not once for all: `most_asks` counts on it.
            if receiving.passed >= receiving.tell_every {
                receiving.publish();
            }
        }
        Ok(BATCH)
    }

    fn deliver(
        &mut self,
        receiving: &mut Receiving,
        head: Head,
        intake: &mut Option<(u32, Intake<'a>)>,
    ) -> Result<bool, Violation> {
        let link = &receiving.link;
        let kind = head.kind()?;
        if link.asking != matches!(kind, SlotKind::Reply | SlotKind::Fail | SlotKind::ReplyBatch) {
            return Err(Violation::Direction);
        }
        if link.asking {
            return self.answer(receiving, kind, head);
        }
        // A batch is released by its messages and, at last, by itself.
        let (mut messages, mut releases) = (1, 1);
        if head.is_batch() {
            messages = u64::from(batch::count(head.correlation())?);
            releases += messages;
            if !head.has_buffer() {
                return Err(Violation::Batch);
            }
        }
        if receiving.delivered + releases > receiving.allowed {
            let limit = u64::from(link.receiving_limit);
            receiving.allowed = link.inbound.released() + limit;
            if receiving.delivered + releases > receiving.allowed {
                return Err(Violation::Unreleased { limit });
            }
        }
        let number = head.mailbox();
        if kind == SlotKind::Publish {
            // Locks that are held while a subscription is looked at come after this one.
            *intake = None;
            let mut descriptor = Descriptor::EMPTY;
            receiving.consumer.read(head, &mut descriptor)?;
            return Ok(
                link.inbound.has_memory_of(&descriptor)? && self.deliver_published(receiving, &descriptor)?
            );
        }
        if intake.as_ref().is_none_or(|(known, _)| *known != number) {
            *intake = match self.mailboxes.find(number)? {
                Some(mailbox) if mailbox.subscription.is_some() => return Err(Violation::Direction),
                Some(mailbox) if receiving.foreign && !link.session.may_call(&mailbox.binding.name) => {
                    return Err(Violation::Denied(number));
                }
                Some(mailbox) => Some((number, mailbox.intake())),
                None => None,
            };
        }
        if let Some((_, intake)) = intake {
            intake.check(head.message())?;
        }
        let place = intake.as_mut().and_then(|(_, intake)| intake.place());
        let filled = match place {
            Some(place) => receiving.fill(kind, head, place),
            // It was bound when the message was sent.
            None => {
                let mut dead = Delivery::NONE;
                let filled = receiving.fill(kind, head, &mut dead)?;
                if filled {
                    receiving.delivered += releases;
                    receiving.link.session.counters.dead_letters.add(messages);
                }
                return Ok(filled);
            }
        };
        if let Some((_, intake)) = intake {
            if matches!(filled, Ok(true)) {
                receiving.delivered += releases;
                intake.filled(self.wakers);
            } else {
                intake.unfilled();
            }
        }
        filled
    }

    fn deliver_published(
        &mut self,
        receiving: &mut Receiving,
        descriptor: &Descriptor,
    ) -> Result<bool, Violation> {
        let link = &receiving.link;
        let number = descriptor.mailbox();
        let Some(mailbox) = self.mailboxes.find(number)? else {
            // Published before the subscription's end was heard of: a group's other members may get it.
            receiving.delivered += 1;
            link.inbound.deliver(descriptor);
            Delivery::new(descriptor, link.inbound.clone(), Sender::Any).refuse();
            return Ok(true);
        };
        let known = receiving
            .publisher
            .as_ref()
            .filter(|(of, publisher)| *of == number && publisher.source.topic_id == descriptor.topic());
        let publisher = match known {
            Some((_, publisher)) => publisher.clone(),
            None => {
                let subscription = mailbox.subscription.as_ref().ok_or(Violation::Direction)?;
                let node = link.session.peer.id;
                // The frame that says what this topic is may still be on its way.
                let Some(publisher) = subscription.attachment(node, descriptor.topic()) else {
                    if receiving.foreign && link.session.has_denied(descriptor.topic()) {
                        receiving.delivered += 1;
                        link.inbound.deliver(descriptor);
                        Delivery::new(descriptor, link.inbound.clone(), Sender::Any).refuse();
                        return Ok(true);
                    }
                    return Ok(false);
                };
                receiving.publisher = Some((number, publisher.clone()));
                publisher
            }
        };
        receiving.delivered += 1;
        link.inbound.deliver(descriptor);
        let mut intake = mailbox.intake();
        intake.check(descriptor.message())?;
        let delivery = Delivery::new(descriptor, link.inbound.clone(), Sender::Publisher(publisher));
        match intake.place() {
            Some(place) => {
                *place = delivery;
                intake.filled(self.wakers);
                intake.trim();
            }
            None => {
                drop(intake);
                delivery.refuse();
            }
        }
        Ok(true)
    }

    fn answer(&mut self, receiving: &Receiving, kind: SlotKind, head: Head) -> Result<bool, Violation> {
        let (link, correlation) = (&receiving.link, head.correlation());
        if kind == SlotKind::ReplyBatch {
            return self.answer_batch(receiving, head);
        }
        if kind == SlotKind::Reply {
            let place = self.asks.reply_place(link.id, correlation)?;
            receiving.consumer.read(head, place)?;
            if !link.inbound.has_memory_of(place)? {
                return Ok(false);
            }
            link.inbound.deliver(place);
            self.asks
                .replied(link.id, correlation, &link.inbound, self.wakers)?;
        } else {
            let failure = Failure::from_code(head.mailbox());
            self.asks.failed(link.id, correlation, failure, self.wakers)?;
        }
        // A reply in a buffer keeps the ask's place until it is released.
        if !head.has_buffer() {
            link.room.close_ask();
        }
        Ok(true)
    }

    /// Copies the replies of a batch to those who asked, and gives its memory back.
    fn answer_batch(&mut self, receiving: &Receiving, head: Head) -> Result<bool, Violation> {
        let link = &receiving.link;
        let count = batch::count(head.correlation())?;
        if !head.has_buffer() {
            return Err(Violation::Batch);
        }
        let mut descriptor = Descriptor::EMPTY;
        receiving.consumer.read(head, &mut descriptor)?;
        if !link.inbound.has_memory_of(&descriptor)? {
            return Ok(false);
        }
        link.inbound.deliver(&descriptor);
        let mut whole = link
            .inbound
            .clone()
            .lease(&descriptor, false)
            .map_err(|(_, why)| why)?;
        whole.make_private();
        let (replies, mut end) = (whole.bytes(), 0);
        for _ in 0..count {
            fault!(Unbatching);
            let at = batch::message(replies, end)?;
            end = at.end;
            let correlation = batch::correlation(replies, &at);
            let place = self.asks.reply_place(link.id, correlation)?;
            place.set_reply(replies.get(at.start..).unwrap_or(&[]), at.len(), correlation)?;
            self.asks
                .replied(link.id, correlation, &link.inbound, self.wakers)?;
        }
        // Before another ask takes a place: its reply may need this entry of the return ring.
        whole.give_back_now();
        link.room.close_asks(count);
        Ok(true)
    }
}
