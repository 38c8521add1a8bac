//! What members of groups did not handle, and the topics that give it to others.

use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use super::{Link, SentBuffer};
use crate::shm::{
    descriptor::{BufferRef, Descriptor},
    pool::Held,
    sync::lock,
};

/// A message that a group's member had and did not handle. Who takes it holds its buffer.
#[derive(Debug)]
pub(crate) struct Unhandled {
    pub(crate) route: u16,
    pub(crate) descriptor: Descriptor,
    pub(crate) buffer: SentBuffer,
}

impl Unhandled {
    pub(super) fn new(route: u16, descriptor: Descriptor, held: Held) -> Option<Self> {
        let BufferRef {
            segment, offset, len, ..
        } = descriptor.buffer()?;
        Some(Self {
            route,
            descriptor,
            buffer: SentBuffer {
                held,
                segment,
                offset,
                len,
            },
        })
    }
}

impl Link {
    /// Topics with a group here are woken when a member gives something back unhandled, or is lost.
    pub(crate) fn watch_groups(&self, topic: &Arc<Notify>) {
        let mut groups = lock(&self.groups);
        // Those of topics that have ended are not kept.
        groups.retain(|known| known.strong_count() > 0 && known.as_ptr() != Arc::as_ptr(topic));
        groups.push(Arc::downgrade(topic));
    }

    /// What members of groups gave back unhandled on this route, in the order it was published.
    pub(crate) fn take_unhandled(&self, route: u16) -> Vec<Unhandled> {
        let mut sending = lock(&self.sending);
        let mut taken: Vec<_> = sending
            .unhandled
            .extract_if(.., |one| one.route == route)
            .collect();
        taken.sort_by_key(|one| one.descriptor.correlation());
        taken
    }

    /// Whether the peer holds messages of this route.
    pub(crate) fn holds(&self, route: u16) -> bool {
        let mut sending = lock(&self.sending);
        if sending.lost {
            return sending.unhandled.iter().any(|one| one.route == route);
        }
        if let Err(violation) = self.take_returns(&mut sending) {
            self.session.violated(violation);
        }
        sending
            .windows
            .get(usize::from(route))
            .is_some_and(|window| window.held > 0)
            || sending.unhandled.iter().any(|one| one.route == route)
    }

    /// Whether a group's subscription is reached by this link, which may give messages back unasked.
    pub(crate) fn has_groups(&self) -> bool {
        !lock(&self.groups).is_empty()
    }

    /// Topics look for themselves, without waiting for this link's lock (`Topic::wake`).
    pub(super) fn wake_groups(&self) {
        for topic in lock(&self.groups).iter().filter_map(Weak::upgrade) {
            topic.notify_one();
        }
    }
}
