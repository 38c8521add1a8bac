//! Giving a name to an actor that already runs: its messages go through its own mailbox.

use std::{any::TypeId, fmt, future::poll_fn, sync::Arc, task::Poll};

use actix::{Actor, Addr, Context, Handler};
use tokio::task::JoinSet;

use super::bind::mailbox;
use crate::{
    error::BindError,
    message::{Received, ShmMessage, Trust},
    session::{
        delivery::{Deliveries, Front},
        mailbox::{CloseOnDrop, Kind, Mailbox, Taken},
        node::{Node, PortKey},
    },
};

/// Passes one message on to a running actor.
type Pass<A> = fn(&Addr<A>, Front<'_>, Trust, &mut JoinSet<()>);

fn pass<A, M>(addr: &Addr<A>, mut message: Front<'_>, trust: Trust, asks: &mut JoinSet<()>)
where
    A: Actor<Context = Context<A>> + Handler<Received<M>>,
    M: ShmMessage,
{
    let responder = message.responder();
    let Some(message) = message.open(trust, |message: Received<M>| message) else {
        return;
    };
    match responder {
        None => addr.do_send(message),
        Some(responder) => {
            // Enqueued now, so that the order is kept; only the reply is waited for.
            let request = addr.send(message);
            asks.spawn(async move {
                if let Ok(mut reply) = request.await {
                    responder.reply(&mut reply);
                }
            });
        }
    }
}

/// Binds a running actor to a name; see [`Bus::bind_addr`](crate::Bus::bind_addr).
#[must_use = "an actor is bound by `start`"]
pub struct BindAddr<A: Actor<Context = Context<A>>> {
    node: Arc<Node>,
    name: String,
    addr: Addr<A>,
    kinds: Vec<Kind>,
    table: Vec<Pass<A>>,
    window: u32,
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for BindAddr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindAddr")
            .field("name", &self.name)
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

impl<A: Actor<Context = Context<A>>> BindAddr<A> {
    pub(crate) fn new(node: Arc<Node>, name: String, addr: Addr<A>) -> Self {
        let window = node.config.window;
        Self {
            node,
            name,
            addr,
            kinds: Vec::new(),
            table: Vec::new(),
            window,
        }
    }

    /// The actor takes messages of type `M` from the bus. Once per type; a second time changes nothing.
    pub fn handles<M: ShmMessage>(mut self) -> Self
    where
        A: Handler<Received<M>>,
    {
        // Another type of that name is refused by `start`.
        if self.kinds.iter().all(|kind| kind.id != TypeId::of::<M>()) {
            self.kinds.push(Kind::of::<M>());
            self.table.push(pass::<A, M>);
        }
        self
    }

    /// Most unreleased messages per sending port, in messages (1 to 65,535), instead of
    /// [`Config::window`](crate::Config::window).
    pub fn window(mut self, messages: u32) -> Self {
        self.window = messages.clamp(1, 65_535);
        self
    }

    /// Gives the actor its name, from any thread.
    ///
    /// # Errors
    /// Those of [`BindError`].
    pub async fn start(self) -> Result<Forwarded, BindError> {
        let Self {
            node,
            name,
            addr,
            kinds,
            table,
            window,
        } = self;
        let mailbox = mailbox(&node, PortKey::Shared, &name, kinds, window)?;
        let trust = node.config.trust;
        node.clone()
            .spawn(forward(node, mailbox.clone(), addr, table, trust));
        Ok(Forwarded { mailbox })
    }
}

/// Until the actor stops or the name is withdrawn. Holds the node, so the bus stays joined.
async fn forward<A: Actor<Context = Context<A>>>(
    node: Arc<Node>,
    mailbox: Arc<Mailbox>,
    addr: Addr<A>,
    table: Vec<Pass<A>>,
    trust: Trust,
) {
    let _closing = CloseOnDrop(mailbox.clone());
    let mut asks = JoinSet::new();
    let mut taken = Deliveries::default();
    loop {
        let found = poll_fn(|cx| {
            // Finished asks are taken out as they come.
            while let Poll::Ready(Some(_)) = asks.poll_join_next(cx) {}
            mailbox
                .port
                .help_once(|| mailbox.take(&mut taken, None))
                .or_else(|| mailbox.take(&mut taken, Some(cx)))
                .map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        if found == Taken::Closed || !addr.connected() {
            break;
        }
        node.counters.handled.add(taken.messages());
        while let Some(message) = taken.front() {
            if let Some(pass) = table.get(usize::from(message.message())) {
                pass(&addr, message, trust, &mut asks);
            }
            taken.pass();
        }
    }
    // What was passed on before the name was withdrawn is still answered.
    mailbox.close();
    while asks.join_next().await.is_some() {}
}

/// The name of a running actor. Dropping this changes nothing.
#[derive(Debug)]
pub struct Forwarded {
    mailbox: Arc<Mailbox>,
}

impl Forwarded {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.mailbox.binding.name
    }

    /// Withdraws the name. The actor lives on.
    pub fn unbind(&self) {
        self.mailbox.close();
    }
}
