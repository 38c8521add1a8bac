//! What nodes of other users are denied, and how each side says so.
//!
//! The side that denies decides by its own permits, whatever the other one does; what it says of it serves only that
//! the other side's caller gets an error and not a deadline.

use std::sync::{Arc, atomic::Ordering};

use super::{
    frame::{Binding, Denial, Frame},
    node::Node,
    peer::Session,
};
use crate::shm::sync::lock;

/// Of so many denials per session the log tells.
const LOGGED: u64 = 32;

/// Most names in one frame: of the longest ones, they fit.
pub(crate) const DENIED_MAX: usize = 128;

impl Session {
    /// Whether the peer runs as another user.
    pub(crate) fn is_foreign(&self) -> bool {
        self.rights.is_some()
    }

    pub(crate) fn may_call(&self, name: &str) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.may_call(name))
    }

    pub(crate) fn may_bind(&self, name: &str) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.may_bind(name))
    }

    pub(crate) fn may_publish(&self, topic: &str) -> bool {
        self.rights
            .as_ref()
            .is_none_or(|rights| rights.may_publish(topic))
    }

    pub(crate) fn may_subscribe(&self, topic: &str) -> bool {
        self.rights
            .as_ref()
            .is_none_or(|rights| rights.may_subscribe(topic))
    }

    pub(crate) fn may_feed(&self, wanted: &str) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.may_feed(wanted))
    }

    /// Whether the peer publishes a topic that it may not.
    pub(crate) fn has_denied(&self, topic: u32) -> bool {
        lock(&self.denied_topics).contains(&topic)
    }

    /// Whether the peer is the node of this name, whose socket belongs to `owner`.
    pub(crate) fn is_node(&self, name: &str, owner: Option<u32>) -> bool {
        let known = &self.peer.name;
        if self.is_foreign() {
            owner == Some(self.peer.uid) && known.rsplit_once('@').is_some_and(|(known, _)| known == name)
        } else {
            known == name
        }
    }

    /// Tells the peer of a topic or a subscription, if that is for it.
    pub(crate) fn announce_topics(&self, frame: &Frame) {
        let meant = match frame {
            Frame::Topic(topic) => self.may_subscribe(&topic.name),
            Frame::Subscribe(wanted) => self.may_feed(&wanted.pattern),
            _ => true,
        };
        if meant {
            self.send(frame, &[]);
        }
    }

    /// Refuses the peer something it has asked for, and says so.
    pub(crate) fn deny(&self, what: Denial, name: &str) {
        self.counters.denied.add(1);
        // Relaxed: a count, which keeps a peer from filling our log.
        if self.denials.fetch_add(1, Ordering::Relaxed) < LOGGED {
            tracing::warn!(peer = %self.peer.name, ?what, name, "denied to a node of another user (`Config::permit`)");
        }
        let names = vec![name.to_owned()];
        self.send(&Frame::Denied { what, names }, &[]);
    }

    /// Tells the peer of names that are bound here: how to reach them or, if it may not call them, that.
    pub(crate) fn introduce(&self, bindings: Vec<Binding>) {
        let (open, denied): (Vec<_>, Vec<_>) = bindings
            .into_iter()
            .partition(|binding| self.may_call(&binding.name));
        let denied: Vec<_> = denied.into_iter().map(|binding| binding.name).collect();
        for names in denied.chunks(DENIED_MAX) {
            let names = names.to_vec();
            self.send(
                &Frame::Denied {
                    what: Denial::Call,
                    names,
                },
                &[],
            );
        }
        for frame in Frame::names(open) {
            self.send(&frame, &[]);
        }
    }

    /// Tells the peer of a name that was just bound.
    pub(crate) fn tell_bound(&self, announcement: &Frame, name: &str) {
        if self.may_call(name) {
            self.send(announcement, &[]);
        } else {
            let names = vec![name.to_owned()];
            self.send(
                &Frame::Denied {
                    what: Denial::Call,
                    names,
                },
                &[],
            );
        }
    }

    /// Tells the peer that a name is bound no more.
    pub(crate) fn tell_unbound(&self, binding: &Binding) {
        // What it may not call it knows by its name alone.
        let known = self.may_call(&binding.name);
        let (port, mailbox) = if known {
            (binding.port, binding.mailbox)
        } else {
            (0, 0)
        };
        let name = binding.name.clone();
        self.send(&Frame::Unbound { name, port, mailbox }, &[]);
    }
}

impl Node {
    /// A peer denies us something.
    pub(crate) fn heard_denial(&self, session: &Arc<Session>, what: Denial, names: Vec<String>) {
        match what {
            Denial::Call => {
                let mut registry = lock(&self.registry);
                for name in names {
                    if !registry.deny(session, name, self.config.peer_names) {
                        return session.exceeds("names", self.config.peer_names, "Config::peer_names");
                    }
                }
            }
            Denial::Subscribe => lock(&self.catalog).denied(session.peer.id, names),
            Denial::Bind | Denial::Publish => {
                if session.denials.fetch_add(1, Ordering::Relaxed) < LOGGED {
                    tracing::warn!(peer = %session.peer.name, ?what, ?names,
                        "a node of another user takes no note of this (its `Config::permit`)");
                }
            }
        }
        self.touch();
    }
}
