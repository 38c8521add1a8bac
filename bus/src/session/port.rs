//! A port: where a thread's messages arrive.
//!
//! All state is under one lock that is held for one batch at a time. Whoever waits helps: a pending ask
//! and an actor whose queue ran empty drain the port themselves. The port's own task takes over when
//! nobody helps, and sleeps on the port's bell.
//!
//! A port is either *parked* (its word says so, and a producer rings) or *watched*: then somebody is
//! bound to look again. On a runtime of one thread the watcher is the port's task, which keeps itself
//! scheduled until nothing has happened for the spin window. On a runtime of several threads that would
//! keep a second core busy, so there the helpers themselves watch, and the last one to leave parks.

use std::{
    cell::Cell,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};

use super::{
    asks::{Asks, Failure, Ticket},
    delivery::{Delivery, Sender},
    link::Link,
    mailbox::{Intake, Mailbox},
    mailboxes::Mailboxes,
    spin::{BURST, Policy, Wait},
    topics::subscription::Attachment,
};
use crate::{
    config::Spin,
    error::ResourceError,
    shm::{
        batch,
        bell::Bell,
        checked::Violation,
        descriptor::{Descriptor, Head, SlotKind},
        doorbell::Parker,
        faults::fault,
        ring::Consumer,
        segment::{Segment, create_bell},
        sync::lock,
    },
};

/// Most slots taken from one ring before the next ring has its turn.
const BATCH: u32 = 256;

/// How often somebody tries to park a port that always finds something more; then others have the thread, and the
/// port's task goes on. Peers whose messages nobody handles meanwhile come to the end of their windows; a peer that
/// writes what is released at once, to actors that have gone, does not.
const PARKINGS: u32 = 16;

/// How often a waiting task looks before it looks at the clock and lets others have the lock.
const LOOKS: u32 = 16;

/// How often it looks before it looks at the clock for the first time: about a microsecond, a round trip's length.
const FIRST_LOOKS: u32 = 64;

/// Who looks while the port is not parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watcher {
    /// The port's task.
    Task,
    /// Whoever waits.
    Helpers,
}

/// The receiving half of a link, at its port.
#[derive(Debug)]
pub(crate) struct Receiving {
    link: Arc<Link>,
    consumer: Consumer,
    /// Requests delivered so far.
    delivered: u64,
    /// Below this `delivered` is certainly within the limit.
    allowed: u64,
    /// Slots passed since the peer was told.
    passed: u32,
    tell_every: u32,
    violated: bool,
    /// The peer is of another user: it sends to mailboxes that it may call.
    foreign: bool,
    /// The subscription that the last topic message was for, and whose it was.
    publisher: Option<(u32, Arc<Attachment>)>,
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
            tell_every: ring_slots / 4,
            violated: false,
            publisher: None,
        }
    }

    /// Slots of the ring.
    fn slots(&self) -> u32 {
        self.tell_every * 4
    }

    /// Tells the peer which slots it may write again.
    fn publish(&mut self) {
        self.passed = 0;
        if self.consumer.publish() {
            self.link.inbound.kick();
        }
    }
}

#[derive(Debug)]
pub(crate) struct State {
    parker: Parker,
    links: Vec<Receiving>,
    mailboxes: Mailboxes,
    pub(crate) asks: Asks,
    pub(crate) policy: Policy,
    /// To be woken when the lock is released.
    wakers: Vec<Waker>,
    /// The port's task.
    task: Option<Waker>,
    /// Helpers that are bound to look again (`Watcher::Helpers`).
    helpers: u32,
    /// Counts what helpers do, so that the task sees whether anybody does.
    helped: u64,
}

impl State {
    /// Gives an ask its deadline; the port's task learns of one earlier than all others.
    pub(crate) fn limit_ask(&mut self, ticket: Ticket, deadline: Instant) {
        if self.asks.limit(ticket, deadline) {
            self.wakers.extend(self.task.clone());
        }
    }
}

/// A thread's port.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) id: u32,
    state: Mutex<State>,
    bell: Bell,
    segment: Arc<Segment>,
    watcher: Watcher,
    /// Mailboxes with messages: tasks that have something to do, as have those whose asks have ended.
    runnable: AtomicU32,
    /// Asks that exist, sent or not.
    asking: AtomicU32,
    closed: AtomicBool,
    spin: Spin,
}

impl Port {
    pub(crate) fn new(id: u32, spin: Spin, watcher: Watcher) -> Result<Arc<Self>, ResourceError> {
        let (segment, word) = create_bell()?;
        Ok(Arc::new(Self {
            id,
            state: Mutex::new(State {
                parker: Parker::new(word),
                links: Vec::new(),
                mailboxes: Mailboxes::default(),
                asks: Asks::default(),
                policy: Policy::new(spin),
                wakers: Vec::new(),
                task: None,
                helpers: 0,
                helped: 0,
            }),
            bell: Bell::new()?,
            segment,
            watcher,
            runnable: AtomicU32::new(0),
            asking: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            spin,
        }))
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    // Relaxed, here and below: hints about what other tasks of this process will do; nothing is read on
    // the strength of them.
    pub(crate) fn runnable_add(&self, n: u32) {
        self.runnable.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn runnable_sub(&self, n: u32) {
        self.runnable.fetch_sub(n, Ordering::Relaxed);
    }

    pub(crate) fn asking_add(&self) {
        self.asking.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn asking_sub(&self) {
        self.asking.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn asking(&self) -> u32 {
        self.asking.load(Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Runs `f` under the lock, then wakes whom it made runnable.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let mut state = lock(&self.state);
        let result = f(&mut state);
        wake(state);
        result
    }

    pub(crate) fn add_link(&self, receiving: Receiving) {
        self.with(|state| {
            if self.is_closed() {
                receiving.link.lose();
            }
            state.links.push(receiving);
        });
        // What the peer sent before the link stood here has rung for nobody.
        self.bell.ring();
    }

    /// Gives a new mailbox its number. `None`: the port holds `limit` already.
    pub(crate) fn reserve_mailbox(&self, limit: usize) -> Option<u32> {
        self.with(|state| state.mailboxes.reserve(limit))
    }

    pub(crate) fn add_mailbox(&self, mailbox: Arc<Mailbox>) {
        self.with(|state| state.mailboxes.insert(mailbox));
    }

    pub(crate) fn remove_mailbox(&self, id: u32) {
        let removed = self.with(|state| state.mailboxes.remove(id));
        drop(removed);
    }

    /// Moves on everything that has been sent so far, by whomever.
    pub(crate) fn catch_up(&self) {
        self.with(|state| {
            // What a ring holds; a sender that goes on meanwhile is not waited for.
            let slots = state.links.iter().map(Receiving::slots).max();
            for _ in 0..=slots.unwrap_or(0) / BATCH {
                if self.drain(state) == 0 {
                    break;
                }
            }
        });
    }

    /// Lets the port's task look: something has happened that rings no bell.
    pub(crate) fn poke(&self) {
        self.bell.ring();
    }

    /// The receiving links, and what delivering from them needs.
    fn delivering<'a>(&'a self, state: &'a mut State) -> (&'a mut Vec<Receiving>, Delivering<'a>) {
        let context = Delivering {
            mailboxes: &state.mailboxes,
            asks: &mut state.asks,
            wakers: &mut state.wakers,
        };
        (&mut state.links, context)
    }

    /// Moves everything that has arrived to mailboxes and asks. Returns how many messages.
    fn drain(&self, state: &mut State) -> u32 {
        let (links, mut context) = self.delivering(state);
        let mut delivered = 0;
        for receiving in links.iter_mut() {
            delivered += context.drain_link(receiving);
            if receiving.passed >= receiving.tell_every {
                receiving.publish();
            }
            if receiving.link.is_awaited() {
                receiving.link.collect(context.wakers);
            }
        }
        delivered
    }

    /// Announces the sleep of this port and looks once more. Returns whether it may sleep.
    fn park(&self, state: &mut State) -> bool {
        for receiving in &mut state.links {
            receiving.publish();
            if receiving.link.is_awaited() {
                receiving.link.wait_on();
            }
        }
        state.parker.park();
        let found = self.drain(state);
        fault!(Parked);
        found == 0
    }

    /// Opens an ask that is about to be sent. `flows` is for one of several at a time, which leaves the looking to the port's task
    /// where that one looks: it gives the waker and the time for the reply. Returns whether the ask is registered.
    pub(crate) fn open_ask(&self, link: u32, flows: Option<(&Waker, Duration)>) -> (Ticket, bool) {
        self.with(|state| {
            let ticket = state.asks.open(link);
            state.asks.sent(ticket, true);
            let flows = flows
                .filter(|_| self.watcher == Watcher::Task && state.task.is_some() && state.policy.pays());
            if let Some((waker, time)) = flows {
                self.watch(state);
                state.asks.poll(ticket, Some(waker));
                state.asks.limit_soon(ticket, time);
            }
            (ticket, flows.is_some())
        })
    }

    /// Parks. A peer that sends all the time does not keep the caller here: the port's task goes on then.
    fn park_for_long(&self, state: &mut State) {
        if !(0..PARKINGS).any(|_| self.park(state)) {
            self.bell.ring();
        }
    }

    /// Somebody has begun to look: producers need not ring.
    fn watch(&self, state: &mut State) {
        if state.parker.is_parked() {
            state.parker.unpark();
            if self.watcher == Watcher::Task
                && let Some(task) = &state.task
            {
                state.wakers.push(task.clone());
            }
        }
    }

    /// The next step of a task that waits on this port; see the head of this file.
    ///
    /// `pick` looks whether what it waits for is there; if it is not, and only if the flag says so, it
    /// registers the task. A task that looks itself is not registered: its own finds would wake it.
    /// [`Step::Again`]: the task must be polled again (it has been woken); [`Step::Sleep`]: `pick`'s
    /// registration will wake it.
    pub(crate) fn help<T>(
        &self,
        helper: &mut Helper,
        yield_first: bool,
        mut pick: impl FnMut(&mut State, bool) -> Option<T>,
    ) -> Step<T> {
        let mut state = lock(&self.state);
        state.helped += 1;
        let mut burst_until: Option<Instant> = None;
        loop {
            if let Some(found) = pick(&mut state, false) {
                helper.wait.end(&mut state.policy);
                self.leave(&mut state, helper);
                wake(state);
                return Step::Found(found);
            }
            if self.drain(&mut state) > 0
                && let Some(found) = pick(&mut state, false)
            {
                helper.wait.end(&mut state.policy);
                self.leave(&mut state, helper);
                wake(state);
                return Step::Found(found);
            }
            if self.spin == Spin::Never {
                let found = pick(&mut state, true);
                wake(state);
                return found.map_or(Step::Sleep, Step::Found);
            }
            // An answer that comes at once needs no clock.
            if !yield_first
                && helper.wait.is_new()
                && state.policy.pays()
                && self.look(&mut state, FIRST_LOOKS)
            {
                state.policy.hit();
                continue;
            }
            let now = Instant::now();
            let look = helper.wait.may_look(&mut state.policy, now);
            if look {
                self.watch(&mut state);
                if self.watcher == Watcher::Helpers && !helper.counted {
                    helper.counted = true;
                    state.helpers += 1;
                }
            }
            let busy = self.runnable.load(Ordering::Relaxed) > 0 || state.asks.has_completed();
            let until = *burst_until.get_or_insert_with(|| helper.wait.burst(now));
            let step = match (look, busy) {
                // Others have something to do; the watcher looks after them.
                (true, true) if self.watcher == Watcher::Task => Some(Step::Sleep),
                (true, true) => Some(Step::Again),
                (true, false) if yield_first || now >= until => Some(Step::Again),
                (true, false) => None,
                (false, _) => Some(Step::Sleep),
            };
            match step {
                Some(step) => {
                    if matches!(step, Step::Sleep) {
                        self.leave(&mut state, helper);
                        // Leaving may have parked the port and found what came at that moment.
                        if let Some(found) = pick(&mut state, true) {
                            wake(state);
                            return Step::Found(found);
                        }
                    }
                    wake(state);
                    return step;
                }
                None => {
                    // A look costs less than the clock and the lock: some looks for one of each.
                    if !self.look(&mut state, LOOKS) {
                        wake(state);
                        state = lock(&self.state);
                    }
                }
            }
        }
    }

    /// Looks so many times for what comes. Returns whether something did.
    fn look(&self, state: &mut State, times: u32) -> bool {
        (0..times).any(|_| {
            std::hint::spin_loop();
            self.drain(state) > 0
        })
    }

    /// Looks once: what is there, or what a drain brings.
    pub(crate) fn help_once<T>(&self, mut pick: impl FnMut() -> Option<T>) -> Option<T> {
        pick().or_else(|| {
            self.with(|state| self.drain(state));
            pick()
        })
    }

    /// A helper goes: the last one of a port without a watching task parks it.
    fn leave(&self, state: &mut State, helper: &mut Helper) {
        if std::mem::take(&mut helper.counted) {
            state.helpers -= 1;
            if state.helpers == 0 {
                self.park_for_long(state);
            }
        }
    }

    /// A helper was dropped while it waited.
    pub(crate) fn abandon(&self, helper: &mut Helper) {
        if helper.counted {
            self.with(|state| self.leave(state, helper));
        }
    }

    /// Everything on `link` is read to its end; then its asks fail. Returns how many were waiting.
    pub(crate) fn lose_link(&self, id: u32) -> u32 {
        let (gone, awaited) = self.with(|state| {
            let at = state.links.iter().position(|receiving| receiving.link.id == id);
            if let Some(at) = at {
                let (links, mut context) = self.delivering(state);
                // Once round, and no further: a peer that lives and breaks the protocol may fill it anew.
                for _ in 0..=links[at].slots() / BATCH {
                    if context.drain_link(&mut links[at]) == 0 {
                        break;
                    }
                }
            }
            let gone = at.map(|at| state.links.swap_remove(at));
            let awaited = state.asks.lose(id, &mut state.wakers);
            (gone, awaited)
        });
        drop(gone);
        awaited
    }

    /// The link refuses to send by now: an ask that was sent after [`lose_link`](Self::lose_link) fails too. Returns how many
    /// were waiting.
    pub(crate) fn lose_late_asks(&self, id: u32) -> u32 {
        self.with(|state| state.asks.lose(id, &mut state.wakers))
    }

    /// Ends the port: no task of its thread will look any more.
    pub(crate) fn close(&self) {
        // Relaxed: the state's lock, taken next, orders it for `add_link`.
        self.closed.store(true, Ordering::Relaxed);
        let (links, mailboxes) = self.with(|state| {
            for receiving in &state.links {
                state.asks.lose(receiving.link.id, &mut state.wakers);
            }
            state.wakers.extend(state.task.take());
            (
                std::mem::take(&mut state.links),
                std::mem::take(&mut state.mailboxes),
            )
        });
        for receiving in links {
            receiving.link.lose();
            self.lose_late_asks(receiving.link.id);
        }
        for mailbox in mailboxes.into_all() {
            mailbox.close();
        }
    }
}

thread_local! {
    /// The list that the next [`wake`] hands to the port in exchange for its own: both keep their memory.
    static SPARE: Cell<Vec<Waker>> = const { Cell::new(Vec::new()) };
}

/// Releases the lock, then wakes.
fn wake(mut state: MutexGuard<'_, State>) {
    if state.wakers.is_empty() {
        return;
    }
    let mut wakers = std::mem::replace(&mut state.wakers, SPARE.take());
    drop(state);
    for waker in wakers.drain(..) {
        waker.wake();
    }
    SPARE.set(wakers);
}

/// A waiting task's part in looking after its port.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    pub(crate) wait: Wait,
    counted: bool,
}

/// What [`Port::help`] tells its caller to do.
#[derive(Debug)]
pub(crate) enum Step<T> {
    Found(T),
    Again,
    Sleep,
}

/// What delivering needs besides the link itself.
struct Delivering<'a> {
    mailboxes: &'a Mailboxes,
    asks: &'a mut Asks,
    wakers: &'a mut Vec<Waker>,
}

impl<'a> Delivering<'a> {
    /// Moves what has arrived on one link, at most a batch. Returns how many messages.
    fn drain_link(&mut self, receiving: &mut Receiving) -> u32 {
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
        if link.asking != matches!(kind, SlotKind::Reply | SlotKind::Fail) {
            return Err(Violation::Direction);
        }
        if link.asking {
            return self.answer(receiving, kind, head);
        }
        // A batch is released by its messages and, at last, by itself.
        let (mut messages, mut releases) = (1, 1);
        if kind == SlotKind::Batch {
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
        let mut dead = Delivery::NONE;
        let place = intake.as_mut().and_then(|(_, intake)| intake.place());
        // It was bound when the message was sent.
        let is_dead = place.is_none();
        let delivery = place.unwrap_or(&mut dead);
        let found = (|| {
            receiving.consumer.read(head, &mut delivery.descriptor)?;
            if head.has_buffer() {
                if !link.inbound.has_memory_of(&delivery.descriptor)? {
                    return Ok(false);
                }
                link.inbound.prefetch(&delivery.descriptor)?;
                link.inbound.deliver(&delivery.descriptor);
            }
            Ok(true)
        })();
        if !matches!(found, Ok(true)) {
            if let Some((_, intake)) = intake.as_mut().filter(|_| !is_dead) {
                intake.unfilled();
            }
            return found;
        }
        delivery.inbound = Some(link.inbound.share());
        delivery.sender = match kind {
            SlotKind::Ask => Sender::Asker(link.clone()),
            _ => Sender::Any,
        };
        receiving.delivered += releases;
        match intake {
            Some((_, intake)) if !is_dead => intake.filled(self.wakers),
            _ => link.session.counters.dead_letters.add(messages),
        }
        Ok(true)
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
}

/// The port's task: see the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// What [`State::helped`] was in the last round.
    seen: u64,
    /// Until when this task looks, because somebody helped or something came lately.
    until: Option<Instant>,
}

/// What the port's task does next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Be polled again soon.
    Again,
    /// Sleep until the bell rings, or until this deadline of an ask.
    Sleep(Option<Instant>),
    Closed,
}

impl Port {
    /// One round of the port's task.
    pub(crate) fn round(&self, watch: &mut Watch, cx: &Context<'_>) -> Next {
        if self.is_closed() {
            return Next::Closed;
        }
        let mut state = lock(&self.state);
        match &mut state.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        let now = Instant::now();
        let delivered = self.drain(&mut state);
        {
            // A group's member may have given something back, which it rings for.
            let State { links, wakers, .. } = &mut *state;
            for receiving in links.iter().filter(|receiving| receiving.link.has_groups()) {
                receiving.link.collect(wakers);
            }
        }
        {
            let State { asks, wakers, .. } = &mut *state;
            asks.date(now);
            asks.expire(now, wakers);
        }
        let helped = std::mem::replace(&mut watch.seen, state.helped) != state.helped;
        if self.goes_on_watching(watch, &state, helped || delivered > 0, now) {
            wake(state);
            // Nobody else looks: do it here for a moment.
            if delivered == 0 && !helped {
                self.burst(now);
            }
            return Next::Again;
        }
        if watch.until.take().is_some() && self.asking() > 0 {
            // An ask that left the looking to this task has had nothing of it.
            state.policy.miss();
        }
        let looked_after = self.watcher == Watcher::Helpers && state.helpers > 0;
        if !looked_after {
            self.park_for_long(&mut state);
        }
        let deadline = state.asks.next_deadline();
        wake(state);
        Next::Sleep(deadline)
    }

    /// Whether the task looks again instead of parking the port. It never begins to watch by itself: a
    /// parked port stays parked until a helper has said that looking pays.
    fn goes_on_watching(&self, watch: &mut Watch, state: &State, active: bool, now: Instant) -> bool {
        let window = match self.spin {
            Spin::Never => return false,
            Spin::Adaptive(window) | Spin::For(window) => window,
            Spin::Always => return self.watcher == Watcher::Task && self.is_wanted(state),
        };
        if self.watcher == Watcher::Helpers || state.parker.is_parked() {
            return false;
        }
        if active || watch.until.is_none() {
            watch.until = now.checked_add(window);
        }
        watch.until.is_none_or(|until| now < until)
    }

    fn burst(&self, from: Instant) {
        let until = from + BURST;
        while self.runnable.load(Ordering::Relaxed) == 0
            && self.with(|state| self.drain(state) == 0 && !state.asks.has_completed())
            && Instant::now() < until
        {
            std::hint::spin_loop();
        }
    }

    /// Whether looking can find anything that somebody waits for.
    fn is_wanted(&self, state: &State) -> bool {
        self.asking.load(Ordering::Relaxed) > 0 || !state.mailboxes.is_empty()
    }
}
