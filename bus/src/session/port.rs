//! A port: where a thread's messages arrive.
//!
//! All state is under one lock that is held for one batch at a time. Whoever waits helps: a pending ask
//! and an actor whose queue ran empty drain the port themselves; on a runtime of one thread actors leave it to the last
//! one that has messages. The port's own task takes over when nobody helps, and sleeps on the port's bell.
//!
//! A port is either *parked* (its word says so, and a producer rings) or *watched*: then somebody is
//! bound to look again. On a runtime of one thread the watcher is the port's task, which keeps itself
//! scheduled until nothing has happened for the spin window. On a runtime of several threads that would
//! keep a second core busy, so there the helpers themselves watch, and the last one to leave parks.

mod delivering;
mod helping;
mod rung;
mod watching;

use std::{
    cell::Cell,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use self::delivering::{BATCH, Delivering};
pub(crate) use self::{
    delivering::{Receiving, most_asks},
    helping::{Helper, Step, Turn},
    watching::{Next, Watch},
};
use super::{
    asks::{Asks, Ticket},
    mailbox::Mailbox,
    mailboxes::Mailboxes,
    spin::Policy,
};
use crate::{
    config::Spin,
    error::ResourceError,
    shm::{
        bell::Bell,
        doorbell::Parker,
        faults::fault,
        segment::{Segment, create_bell},
        sync::lock,
    },
};

/// How often somebody tries to park a port that always finds something more; then others have the thread, and the
/// port's task goes on. Peers whose messages nobody handles meanwhile come to the end of their windows; a peer that
/// writes what is released at once, to actors that have gone, does not.
const PARKINGS: u32 = 16;

/// Who looks while the port is not parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watcher {
    /// The port's task.
    Task,
    /// Whoever waits.
    Helpers,
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
    /// How often those that did not were relieved of it.
    reliefs: u32,
    /// The port's task sees to it that they do.
    guarded: bool,
    /// Counts what helpers do, so that the task sees whether anybody does.
    helped: u64,
}

impl State {
    /// A helper gives way, and is bound to look again; which it will only if its task does not turn to something else.
    fn guard(&mut self) {
        if let Some(task) = &self.task
            && !std::mem::replace(&mut self.guarded, true)
        {
            self.wakers.push(task.clone());
        }
    }

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
                reliefs: 0,
                guarded: false,
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
