//! Giving an actor a name on the bus.

use std::{any::TypeId, fmt, sync::Arc};

use actix::{Actor, Addr, Arbiter, ArbiterHandle, AsyncContext, Context, Handler};

use super::{
    dispatch::{Dispatch, Drain, Terms, dispatch},
    port_here,
};
use crate::{
    error::BindError,
    message::{Received, ShmMessage},
    session::{
        mailbox::{Kind, Mailbox},
        node::{Node, PortKey},
    },
};

/// What becomes of an actor whose handler panicked. The ask that caused it fails with
/// [`AskError::HandlerPanicked`](crate::error::AskError::HandlerPanicked) in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnPanic {
    /// The actor stops and its name is withdrawn: its state may be half-changed. The default.
    #[default]
    Stop,
    /// The actor goes on with the next message, in whatever state the panic left it.
    Continue,
}

/// Binds an actor to a name; see [`Bus::bind`](crate::Bus::bind).
#[must_use = "an actor is bound by `start`"]
pub struct Bind<A: Actor<Context = Context<A>>> {
    node: Arc<Node>,
    name: String,
    actor: A,
    kinds: Vec<Kind>,
    table: Vec<Dispatch<A>>,
    window: u32,
    on_panic: OnPanic,
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for Bind<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bind")
            .field("name", &self.name)
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

impl<A: Actor<Context = Context<A>>> Bind<A> {
    pub(crate) fn new(node: Arc<Node>, name: String, actor: A) -> Self {
        let window = node.config.window;
        Self {
            node,
            name,
            actor,
            kinds: Vec::new(),
            table: Vec::new(),
            window,
            on_panic: OnPanic::default(),
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
            self.table.push(dispatch::<A, M>);
        }
        self
    }

    /// Most unreleased messages per sending port, in messages (1 to 65,535), instead of
    /// [`Config::window`](crate::Config::window).
    pub fn window(mut self, messages: u32) -> Self {
        self.window = messages.clamp(1, 65_535);
        self
    }

    /// What becomes of the actor if a handler panics.
    pub fn on_panic(mut self, policy: OnPanic) -> Self {
        self.on_panic = policy;
        self
    }

    /// Starts the actor on this thread's arbiter and gives it its name.
    ///
    /// # Errors
    /// Those of [`BindError`]; the actor is dropped then.
    pub async fn start(self) -> Result<Bound<A>, BindError> {
        self.start_here()
    }

    /// Starts the actor on another arbiter and gives it its name.
    ///
    /// # Errors
    /// Those of [`BindError`]; [`BindError::NoArbiter`] if that arbiter has ended.
    pub async fn start_on(self, arbiter: &ArbiterHandle) -> Result<Bound<A>, BindError>
    where
        A: Send,
    {
        let (done, started) = tokio::sync::oneshot::channel();
        let sent = arbiter.spawn_fn(move || {
            let _ = done.send(self.start_here());
        });
        if !sent {
            return Err(BindError::NoArbiter);
        }
        started.await.map_err(|_| BindError::NoArbiter)?
    }

    fn start_here(self) -> Result<Bound<A>, BindError> {
        if Arbiter::try_current().is_none() {
            return Err(BindError::NoArbiter);
        }
        let Self {
            node,
            name,
            actor,
            kinds,
            table,
            window,
            on_panic,
        } = self;
        let mailbox = mailbox(&node, port_here(), &name, kinds, window)?;
        let terms = Terms {
            trust: node.config.trust,
            on_panic,
            counters: node.counters.clone(),
        };
        let drain = Drain::new(node.clone(), mailbox.clone(), table, terms);
        let addr = A::create(move |ctx| {
            ctx.spawn(drain);
            actor
        });
        Ok(Bound { addr, mailbox })
    }
}

/// Makes the mailbox of a name.
pub(super) fn mailbox(
    node: &Arc<Node>,
    port: PortKey,
    name: &str,
    kinds: Vec<Kind>,
    window: u32,
) -> Result<Arc<Mailbox>, BindError> {
    if kinds.is_empty() {
        return Err(BindError::NoMessages {
            name: name.to_owned(),
        });
    }
    for (at, kind) in kinds.iter().enumerate() {
        if kinds[..at].iter().any(|earlier| earlier.name == kind.name) {
            return Err(BindError::SameName {
                name: name.to_owned(),
                message: kind.name,
            });
        }
    }
    let port = node.port_of(port)?;
    node.bind(&port, name, kinds, window)
}

/// A bound actor. Dropping this changes nothing: the actor keeps its name until it stops or
/// [`unbind`](Bound::unbind) is called.
pub struct Bound<A: Actor> {
    addr: Addr<A>,
    mailbox: Arc<Mailbox>,
}

impl<A: Actor> fmt::Debug for Bound<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl<A: Actor> Bound<A> {
    /// The actor's address within this process.
    #[must_use]
    pub fn addr(&self) -> &Addr<A> {
        &self.addr
    }

    /// The name it is bound to.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.mailbox.binding.name
    }

    /// Withdraws the name. The actor lives on; messages it has not handled become dead letters.
    pub fn unbind(&self) {
        self.mailbox.close();
    }
}
