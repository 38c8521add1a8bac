//! Names: ours, and those that peers tell of.

use std::sync::Arc;

use super::Node;
use crate::{
    error::BindError,
    session::{
        frame::{Binding, Denial, Frame},
        mailbox::{Kind, Mailbox},
        peer::Session,
        port::Port,
        registry::Provider,
        schemas,
    },
    shm::sync::lock,
};

impl Node {
    pub(crate) fn heard(&self, session: &Arc<Session>, bindings: Vec<Binding>) {
        {
            let mut registry = lock(&self.registry);
            let limit = self.config.peer_names;
            for binding in bindings {
                if !session.may_bind(&binding.name) {
                    session.deny(Denial::Bind, &binding.name);
                } else if !registry.add(session, binding, limit) {
                    session.exceeds("names", limit, "Config::peer_names");
                    break;
                }
            }
        }
        self.touch();
    }

    pub(crate) fn forgot(&self, session: &Arc<Session>, name: &str, port: u32, mailbox: u32) {
        {
            let mut registry = lock(&self.registry);
            registry.remove(session.peer.id, name, port, mailbox);
            registry.undeny(session.peer.id, Some(name));
        }
        self.touch();
    }

    /// A session has ended: nobody finds the peer's names any more.
    pub(crate) fn names_lost(&self, session: &Session) {
        if !session.is_self {
            lock(&self.registry).remove_all(session.peer.id);
            self.touch();
        }
    }

    /// Whether somebody has the name now, and who.
    pub(crate) fn provider(&self, name: &str) -> Option<Provider> {
        lock(&self.registry).find(name)
    }

    /// Gives a name to a mailbox of `port` and tells everybody.
    pub(crate) fn bind(
        self: &Arc<Self>,
        port: &Arc<Port>,
        name: &str,
        kinds: Vec<Kind>,
        window: u32,
    ) -> Result<Arc<Mailbox>, BindError> {
        crate::session::names::check("actor", name)?;
        if self.is_closed() {
            return Err(BindError::Closed);
        }
        let limit = self.config.mailboxes;
        let mailbox = port.reserve_mailbox(limit).ok_or(BindError::TooMany { limit })?;
        let binding = Binding {
            name: name.to_owned(),
            port: port.id,
            mailbox,
            window,
            kinds: kinds.iter().map(Kind::info).collect(),
        };
        // Sends nothing that the frame's limits would refuse: that would end every session.
        let announcement = Frame::Bound(binding.clone());
        if let Err(error) = announcement.encode() {
            port.remove_mailbox(mailbox);
            return Err(BindError::NotAnnounced {
                name: name.to_owned(),
                problem: error.to_string(),
            });
        }
        let made = Mailbox::new(binding, kinds, port.clone(), None, Arc::downgrade(self));
        {
            let mut registry = lock(&self.registry);
            if let Some(taken) = registry.find(name) {
                drop(registry);
                port.remove_mailbox(mailbox);
                let node = taken
                    .session
                    .map_or_else(|| self.config.node.clone(), |s| s.peer.name.clone());
                return Err(BindError::NameTaken {
                    name: name.to_owned(),
                    node,
                });
            }
            registry.add_own(self.me.id, made.clone());
            port.add_mailbox(made.clone());
            for session in &self.sessions {
                session.tell_bound(&announcement, name);
            }
        }
        self.touch();
        Ok(made)
    }

    /// Withdraws a name of ours.
    pub(crate) fn unbind(&self, binding: &Binding) {
        {
            let mut registry = lock(&self.registry);
            registry.remove_own(self.me.id, binding);
            for session in &self.sessions {
                session.tell_unbound(binding);
            }
        }
        if let Some(port) = self.port(binding.port) {
            port.remove_mailbox(binding.mailbox);
        }
        if let Some(own) = self.own_session_now() {
            own.stop_routes(binding.port, binding.mailbox);
        }
        self.touch();
    }

    /// The archived schemas of a message and its reply, for a peer whose own differ.
    pub(crate) fn describe(&self, name: &str, kind: &str) -> crate::session::peer::Described {
        let Some(mailbox) = lock(&self.registry).own_mailbox(name) else {
            return self.describe_topic(name).unwrap_or_default();
        };
        let Some(kind) = mailbox.kinds.iter().find(|own| own.name == kind) else {
            return (None, None);
        };
        (
            schemas::answer(&(kind.schema)()),
            schemas::answer(&(kind.reply)()),
        )
    }
}
