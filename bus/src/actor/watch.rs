//! Learning when an actor comes and goes.

use std::sync::Arc;

use tokio::sync::watch;

use crate::session::node::Node;

/// Whether somebody has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    /// An actor is bound to it.
    Up,
    /// No actor is bound to it: it stopped, or its process left or died.
    Down,
}

/// Watches one name; see [`Bus::watch`](crate::Bus::watch).
#[derive(Debug)]
pub struct Watch {
    node: Arc<Node>,
    name: String,
    changed: watch::Receiver<u64>,
    /// Who had the name when it was last told: node, port, mailbox.
    told: Option<(u64, u32, u32)>,
    first: bool,
}

impl Watch {
    pub(crate) fn new(node: Arc<Node>, name: String) -> Self {
        let changed = node.changed.subscribe();
        Self {
            node,
            name,
            changed,
            told: None,
            first: true,
        }
    }

    /// The name that is watched.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next change; at the first call, what is the case now. An actor that was replaced by another
    /// between two calls is told as down, then up. `None` once the bus was left. Cancel safe.
    pub async fn next(&mut self) -> Option<Presence> {
        loop {
            self.changed.borrow_and_update();
            let now = self.node.provider(&self.name).map(|provider| provider.identity());
            let presence = match (self.told, now) {
                (None, Some(_)) => Some(Presence::Up),
                (Some(before), Some(now)) if before != now => {
                    self.told = None;
                    return Some(Presence::Down);
                }
                (Some(_), None) => Some(Presence::Down),
                (None, None) if self.first => Some(Presence::Down),
                _ => None,
            };
            if presence.is_some() {
                self.told = now;
                self.first = false;
                return presence;
            }
            if self.node.is_closed() || self.changed.changed().await.is_err() {
                return None;
            }
        }
    }
}
