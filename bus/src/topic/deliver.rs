//! Topics delivered to an actor, by the handler that also takes told messages.

use std::{fmt, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use actix::{Actor, Addr, Context, Handler};

use super::subscriber::{Lost, WhenFull, Wish, losses, open, wishes};
use crate::{
    error::TopicError,
    message::{Received, ShmMessage},
    session::{
        mailbox::{CloseOnDrop, Mailbox},
        node::{Node, PortKey},
        topics::subscription::Subscription,
    },
};

/// Subscribes an actor; see [`Bus::subscribe`](crate::Bus::subscribe).
#[must_use = "the actor is subscribed by `start`"]
pub struct DeliverTo<A: Actor> {
    node: Arc<Node>,
    wish: Wish,
    addr: Addr<A>,
}

impl<A: Actor> fmt::Debug for DeliverTo<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliverTo")
            .field("pattern", &self.wish.pattern)
            .finish_non_exhaustive()
    }
}

impl<A: Actor<Context = Context<A>>> DeliverTo<A> {
    pub(crate) fn new(node: Arc<Node>, pattern: String, addr: Addr<A>) -> Self {
        let wish = Wish::new(&node, pattern);
        Self { node, wish, addr }
    }

    wishes!();

    /// Subscribes to messages of type `M`. Each is handled like a told one; its reply goes nowhere.
    ///
    /// # Errors
    /// Those of [`TopicError`].
    pub async fn start<M: ShmMessage>(self) -> Result<Delivered, TopicError>
    where
        A: Handler<Received<M>>,
    {
        let mailbox = self.wish.subscribe::<M>(&self.node, PortKey::Shared).await?;
        let (node, addr) = (self.node.clone(), self.addr);
        self.node.spawn(deliver::<A, M>(node, mailbox.clone(), addr));
        Ok(Delivered { mailbox })
    }
}

/// Until the actor stops or the subscription is ended. Holds the node, so the bus stays joined.
async fn deliver<A, M>(node: Arc<Node>, mailbox: Arc<Mailbox>, addr: Addr<A>)
where
    A: Actor<Context = Context<A>> + Handler<Received<M>>,
    M: ShmMessage,
{
    let _closing = CloseOnDrop(mailbox.clone());
    loop {
        let next = poll_fn(|cx| match mailbox.port.help_once(|| mailbox.pop()) {
            Some(delivery) => Poll::Ready(Some(delivery)),
            None if !mailbox.is_ready(Some(cx)) => Poll::Pending,
            // Without one it is closed.
            None => Poll::Ready(mailbox.pop()),
        });
        let Some(delivery) = next.await else { return };
        if !addr.connected() {
            // For another member of the group, if there is one.
            return delivery.refuse();
        }
        if let Some(message) = open::<M>(delivery, node.config.trust) {
            addr.do_send(message);
        }
        // Gives way now and then; what waits in the actor's mailbox is bounded by the depth.
        tokio::task::coop::consume_budget().await;
    }
}

/// An actor's subscription. Dropping this changes nothing.
#[derive(Debug)]
pub struct Delivered {
    mailbox: Arc<Mailbox>,
}

impl Delivered {
    /// The pattern.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.mailbox.binding.name
    }

    /// Messages that were published since the subscription began and will never be delivered.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.mailbox.subscription.as_ref().map_or(0, Subscription::lost)
    }

    /// The same per topic and publisher, for those that are there.
    #[must_use]
    pub fn losses(&self) -> Vec<Lost> {
        losses(self.mailbox.subscription.as_ref())
    }

    /// Ends the subscription. The actor lives on.
    pub fn unsubscribe(&self) {
        self.mailbox.close();
    }
}
