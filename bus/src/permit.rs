//! What other users may do here.

use crate::error::NameError;

/// Whom a permit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    Uid(u32),
    Gid(u32),
    Anybody,
}

/// What nodes of another user may do at this node: by names of actors and topics, or patterns of them, in which a
/// token `*` between dots stands for any one token, and a last `>` for one or more.
///
/// Nothing is permitted that no permit names, and permits add up. They are for other users only: nodes of this process's
/// own user may do everything. Who is let in at all is said by [`Config::allow_uids`](crate::Config::allow_uids)
/// and [`Config::allow_gids`](crate::Config::allow_gids).
///
/// ```
/// use shmbus::{Config, Permit};
///
/// let config = Config::new("warehouse")
///     .dir("/run/mall")
///     .allow_uids([1001, 1002])
///     .permit(Permit::uid(1001).call("inventory").subscribe("md.>"))
///     .permit(Permit::uid(1002).publish("md.ticks.*").bind("feed"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a permit takes effect by `Config::permit`"]
pub struct Permit {
    pub(crate) whom: Whom,
    pub(crate) allowed: Allowed,
}

/// Patterns, by what is permitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) call: Vec<String>,
    pub(crate) bind: Vec<String>,
    pub(crate) publish: Vec<String>,
    pub(crate) subscribe: Vec<String>,
}

impl Permit {
    fn of(whom: Whom) -> Self {
        Self {
            whom,
            allowed: Allowed::default(),
        }
    }

    /// For processes of this user.
    pub fn uid(uid: u32) -> Self {
        Self::of(Whom::Uid(uid))
    }

    /// For processes whose group, by the kernel's word (`SO_PEERCRED`), is this one. Supplementary groups do not count.
    pub fn gid(gid: u32) -> Self {
        Self::of(Whom::Gid(gid))
    }

    /// For everybody who is let in.
    pub fn anybody() -> Self {
        Self::of(Whom::Anybody)
    }

    /// They may open addresses to actors of these names, bound at this node: tell them and ask them.
    pub fn call(mut self, names: impl Into<String>) -> Self {
        self.allowed.call.push(names.into());
        self
    }

    /// This node takes note of actors that they bind to these names. Others of theirs do not exist for it.
    pub fn bind(mut self, names: impl Into<String>) -> Self {
        self.allowed.bind.push(names.into());
        self
    }

    /// This node's subscriptions get what they publish to these topics.
    pub fn publish(mut self, topics: impl Into<String>) -> Self {
        self.allowed.publish.push(topics.into());
        self
    }

    /// Their subscriptions get what this node publishes to these topics.
    pub fn subscribe(mut self, topics: impl Into<String>) -> Self {
        self.allowed.subscribe.push(topics.into());
        self
    }

    /// The first pattern that is none.
    pub(crate) fn check(&self) -> Result<(), NameError> {
        let Allowed {
            call,
            bind,
            publish,
            subscribe,
        } = &self.allowed;
        let actors = call.iter().chain(bind);
        let topics = publish.iter().chain(subscribe);
        actors
            .map(|name| crate::session::topics::pattern::check_names(name))
            .chain(topics.map(|topic| crate::session::topics::pattern::check_pattern(topic)))
            .collect()
    }
}
