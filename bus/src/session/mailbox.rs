//! A bound name's queue: filled by its port's drain, emptied by its actor.

use std::{
    any::TypeId,
    collections::VecDeque,
    sync::{Arc, Mutex, Weak},
    task::{Context, Waker},
};

use super::{
    delivery::Delivery,
    frame::{Binding, KindInfo},
    node::Node,
    port::Port,
    topics::subscription::Subscription,
};
use crate::{
    message::{ShmMessage, schema::Schema},
    shm::sync::lock,
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
    messages: VecDeque<Delivery>,
    waker: Option<Waker>,
    closed: bool,
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

    /// Takes a message in. Gives it back if the mailbox is closed. Called under the port's lock.
    pub(crate) fn push(&self, delivery: Delivery, wakers: &mut Vec<Waker>) -> Option<Delivery> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Some(delivery);
        }
        if queue.messages.is_empty() {
            self.port.runnable_add(1);
        }
        queue.messages.push_back(delivery);
        wakers.extend(queue.waker.take());
        if let Some(subscription) = &self.subscription
            && subscription
                .keep_last()
                .is_some_and(|keep| queue.messages.len() > keep)
        {
            let oldest = queue.messages.pop_front();
            drop(queue);
            if let Some(publisher) = oldest.as_ref().and_then(Delivery::publisher) {
                subscription.overwritten(publisher);
            }
        }
        None
    }

    /// Takes the oldest message.
    pub(crate) fn pop(&self) -> Option<Delivery> {
        let mut queue = lock(&self.queue);
        let message = queue.messages.pop_front();
        if message.is_some() && queue.messages.is_empty() {
            self.port.runnable_sub(1);
        }
        message
    }

    /// Moves all that has arrived behind what `into` holds. Returns whether there was anything.
    pub(crate) fn take(&self, into: &mut VecDeque<Delivery>) -> bool {
        let mut queue = lock(&self.queue);
        if queue.messages.is_empty() {
            return false;
        }
        self.port.runnable_sub(1);
        if into.is_empty() {
            // Both queues keep their memory: no allocation once they have grown.
            std::mem::swap(into, &mut queue.messages);
        } else {
            into.append(&mut queue.messages);
        }
        true
    }

    /// Whether there are messages, or will never be; if not, and if there is a task, it is registered to be woken
    /// by the next or by the end.
    pub(crate) fn is_ready(&self, task: Option<&Context<'_>>) -> bool {
        match task {
            Some(task) => !self.register(task),
            None => {
                let queue = lock(&self.queue);
                queue.closed || !queue.messages.is_empty()
            }
        }
    }

    /// Registers the task to be woken by the next message or the end. Returns `false` if there is one already, or if
    /// the mailbox is closed: then nobody would wake it.
    pub(crate) fn register(&self, cx: &Context<'_>) -> bool {
        let mut queue = lock(&self.queue);
        if queue.closed || !queue.messages.is_empty() {
            return false;
        }
        match &mut queue.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        true
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.queue).closed
    }

    /// Withdraws the name. Messages not yet handled become dead letters, and their asks fail.
    pub(crate) fn close(&self) {
        let (messages, waker) = {
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
                node.counters.dead_letters.add(messages.len() as u64);
            }
            (_, None) => {}
        }
        if self.subscription.as_ref().is_some_and(Subscription::is_group) {
            // Another member gets them.
            messages.into_iter().for_each(Delivery::refuse);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests;
