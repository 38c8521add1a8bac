//! A topic as its publisher keeps it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, Weak},
    task::{Wake, Waker},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::Notify;

use super::outlet::{Flow, Group, Offered, Outlet, Policy, Stored};
use crate::{
    session::{
        frame::{SubscriptionInfo, TopicInfo},
        link::{Link, Parcel, SentBuffer},
        mailbox::Kind,
        node::Node,
        port::Port,
    },
    shm::{
        descriptor::{Descriptor, SlotKind},
        doorbell,
        faults::fault,
        pool::Pool,
        sync::lock,
    },
};

/// A message from this size on, in bytes, looks for returns first.
const WARM_FROM: usize = 16 << 10;

/// What a topic has counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TopicCounts {
    pub(crate) published: u64,
    pub(crate) bytes: u64,
    pub(crate) flow: Flow,
    pub(crate) subscribers: u64,
}

#[derive(Debug, Default)]
struct State {
    sequence: u64,
    outlets: Vec<Outlet>,
    groups: Vec<Group>,
    history: VecDeque<Stored>,
    counts: TopicCounts,
    /// Publishers that wait for room.
    waiting: Vec<Waker>,
    closed: bool,
}

/// One topic of this node.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) info: TopicInfo,
    pub(crate) kind: Kind,
    /// Where subscriptions of this topic are reached from.
    pub(crate) port: Arc<Port>,
    node: Weak<Node>,
    pool: Arc<Pool>,
    history: usize,
    state: Mutex<State>,
    /// Wakes the task that sends what had to wait.
    pump: Arc<Pump>,
}

/// What links wake when there is room again. It only leaves a note: the waker may be called under locks.
#[derive(Debug, Default)]
struct Pump(Arc<Notify>);

impl Wake for Pump {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// Why nothing was published.
#[derive(Debug)]
pub(crate) enum Unpublished {
    /// A subscription that is to be waited for has no room.
    NoRoom,
    /// A group needs messages in buffers, which can be given to another member.
    NotInline,
}

/// Why a subscription does not get a topic.
#[derive(Debug)]
pub(crate) enum Unattached {
    /// The topic has ended.
    Closed,
    /// The link has no room for another route, or is lost.
    NoRoute,
}

impl Topic {
    pub(crate) fn new(
        info: TopicInfo,
        kind: Kind,
        node: &Arc<Node>,
        port: Arc<Port>,
        history: usize,
    ) -> Arc<Self> {
        let topic = Arc::new(Self {
            info,
            kind,
            port,
            node: Arc::downgrade(node),
            pool: node.pool.clone(),
            history,
            state: Mutex::default(),
            pump: Arc::default(),
        });
        node.spawn(pump(Arc::downgrade(&topic), topic.pump.clone()));
        topic
    }

    fn waker(&self) -> Waker {
        Waker::from(self.pump.clone())
    }

    /// Whether messages must be in buffers, also small ones.
    pub(crate) fn has_groups(&self) -> bool {
        !lock(&self.state).groups.is_empty()
    }

    /// Whether anybody gets, or will get, what is published. If not, the message is counted here and need
    /// not even be archived.
    pub(crate) fn is_wanted_or_count(&self) -> bool {
        let mut state = lock(&self.state);
        state.end_groups(|| self.waker());
        let wanted = self.history > 0 || !state.outlets.is_empty() || !state.groups.is_empty();
        if !wanted {
            state.sequence += 1;
            state.counts.published += 1;
        }
        wanted
    }

    /// Takes back what subscribers have released before memory for a large message is taken: the buffer released last
    /// is still in the cache.
    pub(crate) fn warm(&self, bytes: usize) {
        if bytes >= WARM_FROM {
            for outlet in &lock(&self.state).outlets {
                outlet.link.warm(bytes);
            }
        }
    }

    /// Gives a message to everybody whose policy allows. Never waits; on `Err` the parcel stays with the caller.
    pub(crate) fn publish(&self, parcel: &mut Option<Parcel>) -> Result<(), Unpublished> {
        let mut state = lock(&self.state);
        let waker = self.waker();
        if !state.has_room(&waker) {
            if state.counts.flow.starved {
                self.notify();
            }
            return Err(Unpublished::NoRoom);
        }
        if !state.groups.is_empty() && matches!(parcel, Some(Parcel::Inline(_))) {
            return Err(Unpublished::NotInline);
        }
        let Some(parcel) = parcel.take() else {
            return Ok(());
        };
        let State {
            sequence,
            outlets,
            groups,
            history,
            counts,
            ..
        } = &mut *state;
        let mut descriptor = Descriptor::new(SlotKind::Publish, 0, 0, 0, *sequence);
        *sequence += 1;
        counts.published += 1;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let buffer = match parcel {
            Parcel::Inline(inline) => {
                counts.bytes += u64::from(inline.len);
                descriptor.set_topic_inline(&inline);
                None
            }
            Parcel::Buffer(buffer, len) => {
                counts.bytes += len as u64;
                let (segment, offset) = (buffer.segment(), buffer.offset() as u64);
                Some(SentBuffer {
                    held: buffer.into_held(),
                    segment,
                    offset,
                    len: len as u64,
                })
            }
        };
        descriptor.set_topic(self.info.id, time.as_nanos() as u64);
        let mut message = Stored::new(descriptor, buffer, &self.pool);
        // Once for all subscriptions: their references, and what orders the messages before the looks at who sleeps.
        let mut references = outlets.len();
        message.retain(references);
        outlets.retain_mut(|outlet| {
            outlet.offer(&mut message, &mut references, &waker, &mut counts.flow) == Offered::Done
        });
        message.release(references);
        fault!(Published);
        doorbell::published();
        for outlet in outlets.iter() {
            outlet.link.ring_published();
        }
        for group in groups.iter_mut() {
            group.offer(&mut message, &waker, &mut counts.flow);
        }
        if self.history > 0 {
            if history.len() == self.history {
                history.pop_front();
            }
            message.forget_copies();
            history.push_back(message);
        }
        if counts.flow.starved {
            // Looks again when there is memory.
            self.notify();
        }
        Ok(())
    }

    /// Registers a publisher that waits for room; it must try once more afterwards.
    pub(crate) fn wait(&self, waker: &Waker) {
        let mut state = lock(&self.state);
        if !state.waiting.iter().any(|known| known.will_wake(waker)) {
            state.waiting.push(waker.clone());
        }
        let own = self.waker();
        for outlet in state
            .outlets
            .iter()
            .filter(|outlet| outlet.policy == Policy::Wait)
        {
            outlet.link.wait(&own);
        }
        for group in state.groups.iter().filter(|group| group.policy == Policy::Wait) {
            for member in group.members() {
                member.link.wait(&own);
            }
        }
    }

    /// Sends what waits, as far as there is room, and wakes publishers that wait.
    pub(crate) fn flush(&self) {
        if self.flush_once()
            && let Some(node) = self.node.upgrade()
        {
            // Memory may come back on links that this topic does not use, and nobody would look there.
            node.wait_for_memory(&self.waker());
            node.collect_all();
            self.flush_once();
        }
    }

    /// Returns whether something waits for memory.
    fn flush_once(&self) -> bool {
        let (waiting, starved) = {
            let mut state = lock(&self.state);
            let State {
                outlets,
                groups,
                counts,
                waiting,
                ..
            } = &mut *state;
            let waker = self.waker();
            counts.flow.starved = false;
            outlets.retain_mut(|outlet| {
                !outlet.link.is_lost() && outlet.flush(&waker, &mut counts.flow) == Offered::Done
            });
            for group in groups.iter_mut() {
                group.flush(&waker, &mut counts.flow);
            }
            groups.retain(|group| !group.is_over());
            (std::mem::take(waiting), counts.flow.starved)
        };
        for waker in waiting {
            waker.wake();
        }
        starved
    }

    /// A subscription begins: it gets the history, then everything from now on. `announce` is told the
    /// route it gets it by, before anything is sent and, under the lock of this topic, before the topic can end.
    pub(crate) fn attach(
        &self,
        link: &Arc<Link>,
        wanted: &SubscriptionInfo,
        announce: impl FnOnce(u16),
    ) -> Result<(), Unattached> {
        let (mut policy, group) = (wanted.policy(), wanted.group.clone());
        let foreign = link.session.is_foreign().then_some(&link.session.pool);
        if foreign.is_some() && policy == Policy::Wait {
            // Another user's subscriber does not hold up what is published here.
            policy = Policy::DropNewest;
        }
        let window = wanted.window();
        let mut state = lock(&self.state);
        if state.closed {
            return Err(Unattached::Closed);
        }
        let is_known = |known: &Outlet| known.link.id == link.id && known.mailbox == wanted.mailbox;
        if state.outlets.iter().any(is_known) || state.groups.iter().flat_map(Group::members).any(is_known) {
            return Ok(());
        }
        let Some(route) = link.topic_route(wanted.mailbox, window, group.is_some()) else {
            return Err(Unattached::NoRoute);
        };
        announce(route);
        let mut outlet = Outlet::new(link.clone(), wanted.mailbox, route, policy);
        let State {
            outlets,
            groups,
            history,
            counts,
            ..
        } = &mut *state;
        let waker = self.waker();
        match group {
            None => {
                if outlet.begin_with(history.iter().cloned(), &waker, &mut counts.flow) == Offered::Done {
                    outlets.push(outlet);
                }
            }
            Some(name) => {
                link.watch_groups(&self.pump.0);
                let at = groups
                    .iter()
                    .position(|group| group.is(&name, foreign))
                    .unwrap_or_else(|| {
                        groups.push(Group::new(name, foreign.cloned(), wanted.depth as usize, policy));
                        groups.len() - 1
                    });
                groups[at].join(outlet);
                groups[at].flush(&waker, &mut counts.flow);
            }
        }
        drop(state);
        // A group without members may have been full; it has room now.
        self.notify();
        Ok(())
    }

    /// A subscription ended.
    pub(crate) fn detach(&self, link: u32, mailbox: u32) {
        {
            let mut state = lock(&self.state);
            state
                .outlets
                .retain(|outlet| outlet.link.id != link || outlet.mailbox != mailbox);
            for group in &mut state.groups {
                group.leave(link, mailbox);
            }
        }
        // Publishers that waited for it need not.
        self.notify();
    }

    /// Lets the pump look: links may have been lost.
    pub(crate) fn notify(&self) {
        self.pump.0.notify_one();
    }

    pub(crate) fn counts(&self) -> TopicCounts {
        let state = lock(&self.state);
        let members = state.groups.iter().flat_map(Group::members).count();
        TopicCounts {
            subscribers: (state.outlets.len() + members) as u64,
            ..state.counts
        }
    }

    /// The number the next message will have.
    pub(crate) fn next_sequence(&self) -> u64 {
        lock(&self.state).sequence
    }

    /// The publisher is gone: what waits for room is still sent as far as there is any, then dropped.
    pub(crate) fn close(&self) {
        self.flush();
        let mut state = lock(&self.state);
        state.closed = true;
        for outlet in std::mem::take(&mut state.outlets) {
            outlet.end(&mut state.counts.flow);
        }
        let groups = std::mem::take(&mut state.groups);
        let history = std::mem::take(&mut state.history);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop((groups, history));
        self.notify();
        for waker in waiting {
            waker.wake();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }
}

impl State {
    /// Takes groups away whose last member has left and has given back or handled what it had.
    fn end_groups(&mut self, waker: impl Fn() -> Waker) {
        if !self.groups.iter().any(Group::is_abandoned) {
            return;
        }
        for group in self.groups.iter_mut().filter(|group| group.is_abandoned()) {
            group.flush(&waker(), &mut self.counts.flow);
        }
        self.groups.retain(|group| !group.is_over());
    }

    /// Whether everybody whose policy is to be waited for has room.
    fn has_room(&mut self, waker: &Waker) -> bool {
        let flow = &mut self.counts.flow;
        let mut outlets = self.outlets.iter_mut();
        let mut groups = self.groups.iter_mut();
        outlets.all(|outlet| outlet.policy != Policy::Wait || outlet.has_room(waker, flow))
            && groups.all(|group| group.policy != Policy::Wait || group.has_room(waker, flow))
    }
}

/// Sends what had to wait, whenever a link has room again; ends with its topic.
async fn pump(topic: Weak<Topic>, notes: Arc<Pump>) {
    loop {
        notes.0.notified().await;
        // Members that give back what they get keep this loop going; others on its thread get their turn.
        tokio::task::consume_budget().await;
        let Some(topic) = topic.upgrade() else { return };
        topic.flush();
        if topic.is_closed() {
            return;
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        self.pump.0.notify_one();
    }
}
