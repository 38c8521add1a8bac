//! Where a topic's message came from.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A publisher of a topic, as its subscribers know it.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    pub(crate) topic: String,
    pub(crate) node: String,
    pub(crate) topic_id: u32,
}

impl Source {
    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The name of the node that publishes.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }
}

/// What is known of a message that came by a topic; see [`Received::origin`](super::Received::origin).
#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    pub(crate) source: Arc<Source>,
    pub(crate) sequence: u64,
    pub(crate) time_ns: u64,
    pub(crate) redelivered: bool,
}

impl Origin {
    /// The topic it was published to.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.source.topic
    }

    /// The name of the node that published it.
    #[must_use]
    pub fn publisher(&self) -> &str {
        &self.source.node
    }

    /// The publisher's number of this message among all it published to the topic, from 0.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it was published, by the publisher's clock.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.time_ns)
    }

    /// Whether another member of the group had it and did not handle it, or not to the end.
    #[must_use]
    pub fn is_redelivered(&self) -> bool {
        self.redelivered
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("topic", &self.topic())
            .field("publisher", &self.publisher())
            .field("sequence", &self.sequence)
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}
