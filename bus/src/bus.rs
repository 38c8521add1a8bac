//! The bus as its users hold it.

use std::sync::Arc;

use actix::{Actor, Addr, Context};

use crate::{
    actor::{Bind, BindAddr, OpenAddress, Protocol, Watch},
    config::Config,
    error::JoinError,
    message::ShmMessage,
    session::node::Node,
    stats::Stats,
    topic::{DeliverTo, OpenPublisher, OpenSubscriber},
};

/// A joined bus: this process's node. Cheap to clone, and usable from any thread.
///
/// The node leaves when the last `Bus`, [`Address`](crate::Address) and bound actor of it is gone, or at
/// [`leave`](Bus::leave). Several in one process, on one bus or on many, do not know of each other.
///
/// ```no_run
/// use actix::prelude::*;
/// use shmbus::prelude::*;
///
/// #[derive(ShmMessage)] #[shm(reply = Level)]
/// pub struct Reserve { pub sku: String, pub qty: u32 }
/// #[derive(ShmMessage)]
/// pub struct Level { pub left: u32 }
///
/// struct Inventory { left: u32 }
/// impl Actor for Inventory { type Context = Context<Self>; }
/// impl Handler<Received<Reserve>> for Inventory {
///     type Result = MessageResult<Received<Reserve>>;
///     fn handle(&mut self, msg: Received<Reserve>, _: &mut Context<Self>) -> Self::Result {
///         self.left -= msg.qty.to_native().min(self.left);
///         MessageResult(Level { left: self.left })
///     }
/// }
///
/// # async fn service() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::join("warehouse").await?;                      // one process
/// bus.bind("inventory", Inventory { left: 100 }).handles::<Reserve>().start().await?;
/// # Ok(()) }
/// # async fn client() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::join("shop").await?;                           // any other process
/// let inventory = bus.address::<Reserve>("inventory").await?;
/// let level = inventory.ask(&Reserve { sku: "lamp".into(), qty: 2 }).await?;
/// println!("{} left", level.left);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Bus {
    node: Arc<Node>,
}

impl Bus {
    /// Joins the bus `default` as a node of this name, with default settings; [`Config`] has all others.
    ///
    /// Must be called in a tokio runtime (of one thread or several, also an actix arbiter's) with I/O and
    /// time enabled; that runtime runs the node's sessions, and must outlive the node.
    ///
    /// # Errors
    /// Those of [`JoinError`].
    pub async fn join(name: impl Into<String>) -> Result<Self, JoinError> {
        Self::with_config(Config::new(name)).await
    }

    pub(crate) async fn with_config(config: Config) -> Result<Self, JoinError> {
        Ok(Self {
            node: Node::join(config).await?,
        })
    }

    /// This node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.node.config.node
    }

    /// Gives an actor a name: `bus.bind("inventory", actor).handles::<Reserve>().start().await?`.
    pub fn bind<A: Actor<Context = Context<A>>>(&self, name: impl Into<String>, actor: A) -> Bind<A> {
        Bind::new(self.node.clone(), name.into(), actor)
    }

    /// Gives a name to an actor that runs already, on whatever arbiter. Its messages are passed on through
    /// its actix mailbox, which costs two allocations and a wake-up per message that [`bind`](Bus::bind)
    /// does not have. A panic in its handler ends the actor, as actix has it, and the ask fails as
    /// stopped.
    ///
    /// That the actor has stopped is noticed when the next message comes, because actix tells nobody about the end of
    /// an actor that somebody else started: until then it keeps its name, and watches say `Up`. Where that matters,
    /// use [`bind`](Bus::bind), or call [`Forwarded::unbind`](crate::Forwarded::unbind) in its `stopped`.
    pub fn bind_addr<A: Actor<Context = Context<A>>>(
        &self,
        name: impl Into<String>,
        addr: Addr<A>,
    ) -> BindAddr<A> {
        BindAddr::new(self.node.clone(), name.into(), addr)
    }

    /// Opens an address to an actor, in whatever process it lives (this one included). Awaited, it waits
    /// until the name is bound, at most `Config::lookup_deadline`, so services start in any order. For
    /// several message types: `bus.address::<(Reserve, Release)>("inventory")`.
    ///
    /// # Errors
    /// Awaited, those of [`LookupError`](crate::error::LookupError).
    pub fn address<P: Protocol>(&self, name: impl Into<String>) -> OpenAddress<P> {
        OpenAddress::new(self.node.clone(), name.into())
    }

    /// Begins to publish a topic: dot-separated tokens of letters, digits, `-` and `_`. Any number of nodes
    /// may publish one topic. Awaited, its first message reaches every subscription whose await had returned before, in
    /// whatever process, except those that do not answer within `Config::lookup_deadline` (a stopped process); they are
    /// reached when they do. And every peer knows of it that answers within `Config::announce_deadline`.
    ///
    /// # Errors
    /// Awaited, those of [`TopicError`](crate::error::TopicError); a topic has one message type.
    pub fn publisher<M: ShmMessage>(&self, topic: impl Into<String>) -> OpenPublisher<M> {
        OpenPublisher::new(self.node.clone(), topic.into())
    }

    /// Subscribes to the topics that a pattern selects: a topic's name in which `*` stands for one token
    /// and a last `>` for one or more. Awaited, every publisher sends its messages here, in whatever process: what is
    /// published from then on is for this subscription, except by peers that do not answer within
    /// `Config::announce_deadline` (a stopped process), which learn of it when they do.
    ///
    /// # Errors
    /// Awaited, those of [`TopicError`](crate::error::TopicError).
    pub fn subscriber<M: ShmMessage>(&self, pattern: impl Into<String>) -> OpenSubscriber<M> {
        OpenSubscriber::new(self.node.clone(), pattern.into())
    }

    /// Subscribes a running actor: `bus.subscribe("md.ticks.*", addr).start::<Tick>().await?`. The messages
    /// go through its actix mailbox. That the actor has stopped is noticed when the next message comes; then the
    /// subscription ends, and a group's other members get that message.
    pub fn subscribe<A: Actor<Context = Context<A>>>(
        &self,
        pattern: impl Into<String>,
        addr: Addr<A>,
    ) -> DeliverTo<A> {
        DeliverTo::new(self.node.clone(), pattern.into(), addr)
    }

    /// Watches whether somebody has a name.
    #[must_use]
    pub fn watch(&self, name: impl Into<String>) -> Watch {
        Watch::new(self.node.clone(), name.into())
    }

    /// The nodes this one has a session with, by name, in no order.
    #[must_use]
    pub fn peers(&self) -> Vec<String> {
        self.node
            .sessions
            .iter()
            .map(|session| session.peer.name.clone())
            .collect()
    }

    /// What this node has counted so far. Takes locks that senders take; not for every message.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::of(&self.node)
    }

    /// Leaves the bus: names are withdrawn, peers told, the socket removed, and every task ended.
    pub async fn leave(self) {
        self.node.leave().await;
    }
}
