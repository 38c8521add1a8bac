//! A bound name's queue: filled by its port's drain, emptied by its actor.

use std::{
    any::TypeId,
    sync::{Arc, Mutex, MutexGuard, Weak},
    task::{Context, Waker},
};

use super::{
    delivery::{Deliveries, Delivery},
    frame::{Binding, KindInfo},
    node::Node,
    port::Port,
    topics::subscription::Subscription,
};
use crate::{
    message::{ShmMessage, schema::Schema},
    shm::{checked::Violation, sync::lock},
};

/// One message type, as sender and receiver compare it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// The stable name.
    pub(crate) name: &'static str,
    /// Describes the message.
    pub(crate) schema: fn() -> Schema,
    /// Describes its reply.
    pub(crate) reply: fn() -> Schema,
    /// The type itself.
    pub(crate) id: TypeId,
}

impl Kind {
    pub(crate) fn of<M: ShmMessage>() -> Self {
        Self {
            name: M::NAME,
            schema: Schema::of::<M>,
            reply: Schema::of::<M::Reply>,
            id: TypeId::of::<M>(),
        }
    }

    /// What peers compare.
    pub(crate) fn info(&self) -> KindInfo {
        KindInfo {
            name: self.name.to_owned(),
            schema: (self.schema)().fingerprint(),
            reply: (self.reply)().fingerprint(),
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    messages: Deliveries,
    waker: Option<Waker>,
    closed: bool,
}

impl Queue {
    /// There is nothing: the task, if there is one, is woken by the next message or by the end.
    fn register(&mut self, task: Option<&Context<'_>>) {
        let Some(task) = task else {
            return;
        };
        match &mut self.waker {
            Some(waker) => waker.clone_from(task.waker()),
            none => *none = Some(task.waker().clone()),
        }
    }
}

/// What [`Mailbox::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Messages,
    /// There will never be any.
    Closed,
}

/// A mailbox that takes messages in; nobody takes any out meanwhile.
#[derive(Debug)]
pub(crate) struct Intake<'a> {
    mailbox: &'a Mailbox,
    queue: MutexGuard<'a, Queue>,
}

impl Intake<'_> {
    /// Whether the mailbox handles this kind of message.
    #[inline]
    pub(crate) fn check(&self, kind: u16) -> Result<(), Violation> {
        let kinds = self.mailbox.kinds.len();
        if usize::from(kind) < kinds {
            Ok(())
        } else {
            Err(Violation::MessageKind { kind, kinds })
        }
    }

    /// A place for one more message, to be filled, and then said to be by [`filled`](Self::filled). `None`: the
    /// mailbox is closed.
    #[inline]
    pub(crate) fn place(&mut self) -> Option<&mut Delivery> {
        let queue = &mut *self.queue;
        (!queue.closed).then(|| queue.messages.push())
    }

    /// The place has a message.
    #[inline]
    pub(crate) fn filled(&mut self, wakers: &mut Vec<Waker>) {
        let queue = &mut *self.queue;
        if queue.messages.len() == 1 {
            self.mailbox.port.runnable_add(1);
        }
        if let Some(waker) = queue.waker.take() {
            wakers.push(waker);
        }
    }

    /// The place was not filled after all.
    pub(crate) fn unfilled(&mut self) {
        self.queue.messages.unpush();
    }

    /// Lets the oldest message go if a subscription has more than it keeps.
    pub(crate) fn trim(mut self) {
        let Some(subscription) = &self.mailbox.subscription else {
            return;
        };
        if subscription
            .keep_last()
            .is_none_or(|keep| self.queue.messages.len() <= keep)
        {
            return;
        }
        let oldest = self.queue.messages.pop();
        drop(self);
        if let Some(publisher) = oldest.as_ref().and_then(Delivery::publisher) {
            subscription.overwritten(publisher);
        }
    }
}

/// The receiving end of a name.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) binding: Binding,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) port: Arc<Port>,
    /// Present for a subscription.
    pub(crate) subscription: Option<Subscription>,
    node: Weak<Node>,
    queue: Mutex<Queue>,
}

impl Mailbox {
    pub(crate) fn new(
        binding: Binding,
        kinds: Vec<Kind>,
        port: Arc<Port>,
        subscription: Option<Subscription>,
        node: Weak<Node>,
    ) -> Arc<Self> {
        Arc::new(Self {
            binding,
            kinds,
            port,
            subscription,
            node,
            queue: Mutex::default(),
        })
    }

    /// Opens it for messages, one after the other. Called under the port's lock.
    pub(crate) fn intake(&self) -> Intake<'_> {
        Intake {
            mailbox: self,
            queue: lock(&self.queue),
        }
    }

    /// Takes the oldest message.
    pub(crate) fn pop(&self) -> Option<Delivery> {
        let mut queue = lock(&self.queue);
        let message = queue.messages.pop();
        if message.is_some() && queue.messages.is_empty() {
            self.port.runnable_sub(1);
        }
        message
    }

    /// Takes all that has arrived, in exchange for an empty queue. If there is nothing, the task, if there is one, is
    /// registered to be woken by the next message or the end.
    #[inline]
    pub(crate) fn take(&self, into: &mut Deliveries, task: Option<&Context<'_>>) -> Option<Taken> {
        debug_assert!(into.is_empty());
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Some(Taken::Closed);
        }
        if queue.messages.is_empty() {
            queue.register(task);
            return None;
        }
        self.port.runnable_sub(1);
        // Both queues keep their memory: no allocation once they have grown.
        std::mem::swap(into, &mut queue.messages);
        Some(Taken::Messages)
    }

    /// Whether there are messages, or will never be; if not, and if there is a task, it is registered to be woken
    /// by the next or by the end.
    pub(crate) fn is_ready(&self, task: Option<&Context<'_>>) -> bool {
        let mut queue = lock(&self.queue);
        if queue.closed || !queue.messages.is_empty() {
            return true;
        }
        queue.register(task);
        false
    }

    /// Takes out the task that waits, to be woken: it looks, and registers again if need be.
    pub(crate) fn take_waker(&self) -> Option<Waker> {
        lock(&self.queue).waker.take()
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.queue).closed
    }

    /// Withdraws the name. Messages not yet handled become dead letters, and their asks fail.
    pub(crate) fn close(&self) {
        let (mut messages, waker) = {
            let mut queue = lock(&self.queue);
            if std::mem::replace(&mut queue.closed, true) {
                return;
            }
            if !queue.messages.is_empty() {
                self.port.runnable_sub(1);
            }
            (std::mem::take(&mut queue.messages), queue.waker.take())
        };
        match (&self.subscription, self.node.upgrade()) {
            (Some(_), Some(node)) => node.unsubscribe(&self.binding),
            (None, Some(node)) => {
                node.unbind(&self.binding);
                node.counters.dead_letters.add(messages.messages());
            }
            (_, None) => {}
        }
        if self.subscription.as_ref().is_some_and(Subscription::is_group) {
            // Another member gets them.
            while let Some(message) = messages.pop() {
                message.refuse();
            }
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Closes a mailbox when the task that empties it ends, however it ends.
pub(crate) struct CloseOnDrop(pub(crate) Arc<Mailbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests;
