//! Which actor names are bound, and by whom.

use std::{collections::HashMap, sync::Arc};

use super::{frame::Binding, mailbox::Mailbox, peer::Session};

/// Who has a name.
#[derive(Debug, Clone)]
pub(crate) struct Provider {
    node: u64,
    /// `None`: this node itself.
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) binding: Binding,
}

impl Provider {
    /// Of another user. Those of our own come first.
    fn is_foreign(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_foreign())
    }

    /// Tells this binding from every other one of its name: node, port, mailbox.
    pub(crate) fn identity(&self) -> (u64, u32, u32) {
        (self.node, self.binding.port, self.binding.mailbox)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// More than one provider only if two nodes bound a name at the same moment: all nodes then agree
    /// on the one with the lowest id.
    names: HashMap<String, Vec<Provider>>,
    counts: HashMap<u64, usize>,
    /// Names that are bound at nodes of other users, which do not let us call them. They count as announced.
    denied: HashMap<String, Vec<Arc<Session>>>,
    own: HashMap<String, Arc<Mailbox>>,
}

impl Registry {
    pub(crate) fn find(&self, name: &str) -> Option<Provider> {
        self.names
            .get(name)?
            .iter()
            .min_by_key(|provider| (provider.is_foreign(), provider.node))
            .cloned()
    }

    /// A peer announced a name. `false`: it has announced too many.
    pub(crate) fn add(&mut self, session: &Arc<Session>, binding: Binding, limit: usize) -> bool {
        if !self.count(session.peer.id, limit) {
            return false;
        }
        self.insert(Provider {
            node: session.peer.id,
            session: Some(session.clone()),
            binding,
        });
        true
    }

    fn count(&mut self, node: u64, limit: usize) -> bool {
        let count = self.counts.entry(node).or_default();
        let fits = *count < limit;
        *count += usize::from(fits);
        fits
    }

    /// A peer of another user has bound a name and does not let us call it. `false`: too many.
    pub(crate) fn deny(&mut self, session: &Arc<Session>, name: String, limit: usize) -> bool {
        let by = self.denied.entry(name.clone()).or_default();
        if by.iter().any(|known| Arc::ptr_eq(known, session)) {
            return true;
        }
        by.push(session.clone());
        self.count(session.peer.id, limit)
    }

    /// Who has the name and does not let us call it.
    pub(crate) fn denied_by(&self, name: &str) -> Option<Arc<Session>> {
        self.denied.get(name)?.first().cloned()
    }

    /// A name that we may not call is no longer bound, or (no name) its peer is gone.
    pub(crate) fn undeny(&mut self, node: u64, name: Option<&str>) {
        let Self { denied, counts, .. } = self;
        let mut forget = |by: &mut Vec<Arc<Session>>| {
            let before = by.len();
            by.retain(|session| session.peer.id != node);
            if let Some(count) = counts.get_mut(&node) {
                *count = count.saturating_sub(before - by.len());
            }
            !by.is_empty()
        };
        match name {
            None => denied.retain(|_, by| forget(by)),
            Some(name) => {
                if denied.get_mut(name).is_some_and(|by| !forget(by)) {
                    denied.remove(name);
                }
            }
        }
    }

    pub(crate) fn add_own(&mut self, node: u64, mailbox: Arc<Mailbox>) {
        let binding = mailbox.binding.clone();
        self.own.insert(binding.name.clone(), mailbox);
        self.insert(Provider {
            node,
            session: None,
            binding,
        });
    }

    fn insert(&mut self, provider: Provider) {
        let providers = self.names.entry(provider.binding.name.clone()).or_default();
        if let Some(other) = providers.iter().find(|other| other.node != provider.node) {
            tracing::warn!(name = %provider.binding.name, nodes = ?[other.node, provider.node],
                "two nodes bound one name at the same moment; the node with the lower id has it");
        }
        providers.push(provider);
    }

    pub(crate) fn remove(&mut self, node: u64, name: &str, port: u32, mailbox: u32) {
        if let Some(providers) = self.names.get_mut(name) {
            let before = providers.len();
            providers.retain(|provider| {
                (provider.node, provider.binding.port, provider.binding.mailbox) != (node, port, mailbox)
            });
            if let Some(count) = self.counts.get_mut(&node) {
                *count = count.saturating_sub(before - providers.len());
            }
            if providers.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// A mailbox of this node was closed.
    pub(crate) fn remove_own(&mut self, node: u64, binding: &Binding) {
        self.remove(node, &binding.name, binding.port, binding.mailbox);
        self.own
            .retain(|_, own| (own.binding.port, own.binding.mailbox) != (binding.port, binding.mailbox));
    }

    /// A peer is gone.
    pub(crate) fn remove_all(&mut self, node: u64) {
        self.undeny(node, None);
        self.counts.remove(&node);
        self.names.retain(|_, providers| {
            providers.retain(|provider| provider.node != node);
            !providers.is_empty()
        });
    }

    /// What this node has bound.
    pub(crate) fn own(&self) -> Vec<Binding> {
        self.own.values().map(|mailbox| mailbox.binding.clone()).collect()
    }

    pub(crate) fn own_mailbox(&self, name: &str) -> Option<Arc<Mailbox>> {
        self.own.get(name).cloned()
    }

    pub(crate) fn take_own(&mut self) -> Vec<Arc<Mailbox>> {
        self.own.drain().map(|(_, mailbox)| mailbox).collect()
    }
}
