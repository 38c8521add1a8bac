//! An address without types: where messages for one name go, and how.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout_at;

use super::{
    link::{Link, NoSend, Parcel},
    loan::{Filled, Lender, Lent, Source, Written, send_in_place},
    mailbox::Kind,
    node::Node,
    opening::OpenError,
    parcel,
    peer::Session,
    port::Port,
    registry::Provider,
    schemas,
};
use crate::{
    error::{LookupError, SendError},
    message::{FixedSize, InPlace, ShmMessage, ShmRoot},
    shm::{
        descriptor::{Descriptor, SlotKind},
        sync::lock,
    },
};

/// Where the messages of an address go. It keeps its node joined.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) node: Arc<Node>,
    pub(crate) link: Arc<Link>,
    /// Where replies arrive.
    pub(crate) port: Arc<Port>,
    pub(crate) name: Arc<str>,
    mailbox: u32,
    route: u16,
    /// For each kind asked for, its number at the receiver.
    messages: Vec<u16>,
}

impl Node {
    /// Waits until `name` is bound, and opens the way to it from `port`.
    pub(crate) async fn route(
        self: &Arc<Self>,
        port: &Arc<Port>,
        name: &str,
        kinds: &[Kind],
        within: Duration,
    ) -> Result<Route, LookupError> {
        super::names::check("actor", name)?;
        // A deadline too far for the clock is none; a year stands for it.
        let deadline = tokio::time::Instant::now() + within.min(Duration::from_secs(31_536_000));
        let mut changed = self.changed.subscribe();
        let mut lost = false;
        loop {
            changed.borrow_and_update();
            if self.is_closed() {
                return Err(LookupError::Closed);
            }
            let provider = self.provider(name);
            if provider.is_none()
                && let Some(session) = lock(&self.registry).denied_by(name)
            {
                return Err(LookupError::Denied {
                    name: name.to_owned(),
                    node: session.peer.name.clone(),
                    uid: nix::unistd::geteuid().as_raw(),
                });
            }
            if let Some(provider) = provider {
                match timeout_at(deadline, self.open_route(port, name, kinds, &provider)).await {
                    Ok(Ok(route)) => return Ok(route),
                    // It died under our hands: whoever binds the name next will do.
                    Ok(Err(LookupError::PeerLost { .. })) => lost = true,
                    Ok(Err(error)) => return Err(error),
                    Err(_) => {}
                }
            }
            if timeout_at(deadline, changed.changed()).await.is_err() {
                return Err(if lost {
                    LookupError::PeerLost {
                        name: name.to_owned(),
                    }
                } else {
                    LookupError::Unknown {
                        name: name.to_owned(),
                        waited: within,
                    }
                });
            }
        }
    }

    async fn open_route(
        self: &Arc<Self>,
        port: &Arc<Port>,
        name: &str,
        kinds: &[Kind],
        provider: &Provider,
    ) -> Result<Route, LookupError> {
        let session = match &provider.session {
            Some(session) => session.clone(),
            None => self.own_session()?,
        };
        let binding = &provider.binding;
        let mut messages = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let ours = kind.info();
            let at = binding.kinds.iter().position(|theirs| theirs.name == ours.name);
            let Some(at) = at else {
                let handled: Vec<_> = binding.kinds.iter().map(|kind| kind.name.as_str()).collect();
                return Err(LookupError::NotHandled {
                    name: name.to_owned(),
                    message: ours.name,
                    handled: handled.join(", "),
                });
            };
            if binding.kinds[at] != ours {
                return Err(self.differs(&session, name, kind).await);
            }
            messages.push(at as u16);
        }
        let link = session
            .link(self, port, binding.port)
            .await
            .map_err(|error| match error {
                OpenError::PeerLost => LookupError::PeerLost {
                    name: name.to_owned(),
                },
                OpenError::Refused(reason) => LookupError::Refused {
                    name: name.to_owned(),
                    node: session.peer.name.clone(),
                    reason,
                },
                OpenError::Resource(error) => LookupError::Resource(error),
            })?;
        let route = link
            .route(binding.mailbox, binding.window)
            .ok_or_else(|| LookupError::Refused {
                name: name.to_owned(),
                node: session.peer.name.clone(),
                reason: "this node has addresses to 65,534 mailboxes of that port".to_owned(),
            })?;
        Ok(Route {
            node: self.clone(),
            link,
            port: port.clone(),
            name: name.into(),
            mailbox: binding.mailbox,
            route,
            messages,
        })
    }

    /// Asks the peer what its type looks like.
    async fn differs(&self, session: &Arc<Session>, name: &str, kind: &Kind) -> LookupError {
        let Some(theirs) = session.ask_schemas(name, kind.name).await else {
            return LookupError::PeerLost {
                name: name.to_owned(),
            };
        };
        LookupError::Schema {
            name: name.to_owned(),
            node: session.peer.name.clone(),
            message: kind.name.to_owned(),
            difference: schemas::explain(&(kind.schema)(), &(kind.reply)(), &theirs),
        }
    }
}

/// A message to be sent when there is room.
pub(crate) trait Content {
    /// Archives it into the descriptor, if it is small. See [`parcel::pack_inline`].
    fn pack_inline(&mut self, _: &mut Descriptor) -> bool {
        false
    }

    /// Its archive. Called again if it failed for want of memory.
    fn pack(&mut self, route: &Route) -> Result<Parcel, SendError>;
}

impl<T: ShmRoot> Content for &T {
    #[inline]
    fn pack_inline(&mut self, descriptor: &mut Descriptor) -> bool {
        parcel::pack_inline(*self, descriptor)
    }

    fn pack(&mut self, route: &Route) -> Result<Parcel, SendError> {
        route.pack_or_collect(*self)
    }
}

impl<T: ShmRoot> Content for Filled<T> {
    fn pack(&mut self, route: &Route) -> Result<Parcel, SendError> {
        Filled::pack(self, route.lender())
    }
}

impl Content for Written {
    fn pack(&mut self, _: &Route) -> Result<Parcel, SendError> {
        Ok(self.take())
    }
}

impl Route {
    pub(crate) fn descriptor(&self, kind: SlotKind, message: usize, correlation: u64) -> Descriptor {
        Descriptor::new(
            kind,
            self.mailbox,
            self.messages[message],
            self.route,
            correlation,
        )
    }

    /// See [`Link::batch_limit`].
    pub(crate) fn batch_limit(&self, asks: bool) -> u32 {
        self.link.batch_limit(self.route, asks)
    }

    /// Packs, after taking back what any peer has released if there was no memory.
    pub(crate) fn pack_or_collect<T: ShmRoot>(&self, value: &T) -> Result<Parcel, SendError> {
        let session = &self.link.session;
        parcel::with_memory(&self.node, &self.name, (), |()| {
            parcel::pack(value, &session.pool, session.message_limit, |bytes| {
                self.link.warm(bytes)
            })
            .map_err(|why| ((), why))
        })
        .map_err(|((), error)| error)
    }

    fn lender(&self) -> Lender<'_> {
        let session = &self.link.session;
        Lender {
            node: &self.node,
            name: &self.name,
            from: Source {
                pool: &session.pool,
                limit: session.message_limit,
            },
        }
    }

    /// Memory for `len` bytes of payload and the rest of a `T`.
    pub(crate) fn lend<T: ShmRoot>(&self, len: usize) -> Result<Lent, SendError> {
        if self.link.is_lost() {
            return Err(self.refusal(NoSend::Lost));
        }
        self.lender().lend::<T>(len, |bytes| self.link.warm(bytes))
    }

    /// Sends a loan now; if not, it comes back.
    pub(crate) fn try_send_loan<T: ShmRoot>(
        &self,
        message: usize,
        lent: Lent,
        value: &T,
    ) -> Result<(), (Lent, SendError)> {
        let sealed = self.lender().seal(lent, value)?;
        let mut descriptor = self.descriptor(SlotKind::Tell, message, 0);
        sealed
            .send(|parcel| self.link.send_request(&mut descriptor, parcel))
            .map_err(|(lent, why)| (lent, self.refusal(why)))
    }

    /// Memory for a message of a fixed size, with `initial` in it.
    pub(crate) fn place<M: FixedSize>(&self, initial: &M) -> Result<InPlace<M>, SendError> {
        if self.link.is_lost() {
            return Err(self.refusal(NoSend::Lost));
        }
        self.lender().place(initial, |bytes| self.link.warm(bytes))
    }

    /// Sends what was written in place now; if not, it comes back.
    pub(crate) fn try_send_in_place<M: ShmMessage>(
        &self,
        message: usize,
        written: InPlace<M>,
    ) -> Result<(), (InPlace<M>, SendError)> {
        let mut descriptor = self.descriptor(SlotKind::Tell, message, 0);
        send_in_place(written, |parcel| self.link.send_request(&mut descriptor, parcel))
            .map_err(|(written, why)| (written, self.refusal(why)))
    }

    pub(crate) fn refusal(&self, why: NoSend) -> SendError {
        let name = self.name.to_string();
        match why {
            NoSend::Full(bound) => SendError::Full { name, bound },
            NoSend::Stopped => SendError::Stopped { name },
            NoSend::Lost if self.port.is_closed() || self.node.is_closed() => SendError::Closed { name },
            NoSend::Lost => SendError::PeerLost { name },
        }
    }

    /// Sends now or not at all.
    pub(crate) fn try_tell<T: ShmRoot>(&self, message: usize, value: &T) -> Result<(), SendError> {
        if self.link.is_lost() {
            return Err(self.refusal(NoSend::Lost));
        }
        let mut descriptor = self.descriptor(SlotKind::Tell, message, 0);
        let mut parcel = match parcel::pack_inline(value, &mut descriptor) {
            true => None,
            false => Some(self.pack_or_collect(value)?),
        };
        self.link
            .send_request(&mut descriptor, &mut parcel)
            .map_err(|why| self.refusal(why))
    }
}
