//! The settings of a node, each bound with its name, unit and default.

use std::{path::PathBuf, time::Duration};

use crate::{bus::Bus, error::JoinError, message::Trust, permit::Permit, session::users::Users};

/// When a waiting task looks for messages itself instead of sleeping.
///
/// A wake-up from another core costs 4-5 us each way on current machines; a message that is found
/// by looking costs a cache miss. Looking costs CPU time while nothing comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spin {
    /// Sleep at once. Least CPU time, slowest round trip.
    Never,
    /// Look for up to this long, but only while looking has lately paid off. The default, with 50 us.
    Adaptive(Duration),
    /// Look for up to this long, every time.
    For(Duration),
    /// Never sleep while something is awaited or an actor is bound. Takes a whole core per thread.
    Always,
}

impl Default for Spin {
    fn default() -> Self {
        Spin::Adaptive(Duration::from_micros(50))
    }
}

/// The settings of a node.
///
/// ```no_run
/// # async fn f() -> Result<(), shmbus::error::JoinError> {
/// use std::time::Duration;
/// let bus = shmbus::Config::new("shop").bus("mall").ask_deadline(Duration::from_secs(1)).join().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) node: String,
    pub(crate) bus: String,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) spin: Spin,
    pub(crate) trust: Trust,
    pub(crate) window: u32,
    pub(crate) ring_slots: u32,
    pub(crate) returns: u32,
    pub(crate) pool_bytes: u64,
    pub(crate) users: Users,
    pub(crate) user_pool_bytes: u64,
    pub(crate) user_peers: usize,
    pub(crate) peer_bytes: u64,
    pub(crate) peer_names: usize,
    pub(crate) peer_topics: usize,
    pub(crate) peer_links: usize,
    pub(crate) segment_bytes: u64,
    pub(crate) message_bytes: usize,
    pub(crate) mailboxes: usize,
    pub(crate) peers: usize,
    pub(crate) handshakes: usize,
    pub(crate) handshake_deadline: Duration,
    pub(crate) announce_deadline: Duration,
    pub(crate) lookup_deadline: Duration,
    pub(crate) ask_deadline: Duration,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $ty:ty;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $ty) -> Self {
            self.$name = $name;
            self
        }
    )*};
}

impl Config {
    /// The defaults, for a node of this name.
    #[must_use]
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            bus: "default".into(),
            dir: None,
            spin: Spin::default(),
            trust: Trust::Checked,
            window: 1024,
            ring_slots: 4096,
            returns: 32_768,
            pool_bytes: 1 << 30,
            users: Users::default(),
            user_pool_bytes: 256 << 20,
            user_peers: 16,
            peer_bytes: u64::MAX,
            peer_names: 65_536,
            peer_topics: 16_384,
            peer_links: 1024,
            segment_bytes: 64 << 20,
            message_bytes: 256 << 20,
            mailboxes: 4096,
            peers: 256,
            handshakes: 32,
            handshake_deadline: Duration::from_secs(2),
            announce_deadline: Duration::from_secs(1),
            lookup_deadline: Duration::from_secs(10),
            ask_deadline: Duration::from_secs(5),
        }
    }

    /// The name of the bus; nodes of different buses do not see each other. Default: `default`.
    #[must_use]
    pub fn bus(mut self, name: impl Into<String>) -> Self {
        self.bus = name.into();
        self
    }

    /// The runtime directory, which holds one folder per bus and in it one socket per node.
    /// Default: `$SHMBUS_DIR`, else `$XDG_RUNTIME_DIR/shmbus`, else `/tmp/shmbus-<uid>`.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Lets nodes of these other users meet this one (uids, as the kernel tells them: `SO_PEERCRED`). The default: nobody but
    /// this process's own user.
    ///
    /// They may do what [`permit`](Config::permit) says and nothing else; they get memory of their own
    /// ([`user_pool_bytes`](Config::user_pool_bytes)), so that they can read only what was sent to them; and what they send
    /// is copied before it is checked and read. Their nodes are shown as `name@uid`. The other side must let this user in
    /// as well.
    ///
    /// The runtime directory must then be given ([`dir`](Config::dir) or `SHMBUS_DIR`) and must let those users in: made by
    /// root with mode 1777, or, better, for a group with mode 3770. What is unsafe is refused when joining. SECURITY.md has
    /// the reasons.
    #[must_use]
    pub fn allow_uids(mut self, uids: impl IntoIterator<Item = u32>) -> Self {
        self.users.uids = uids.into_iter().collect();
        self
    }

    /// As [`allow_uids`](Config::allow_uids), for processes whose group is one of these. What counts is the one effective
    /// group that `SO_PEERCRED` gives; supplementary groups do not. It also names groups that may write the runtime
    /// directory without its sticky bit.
    #[must_use]
    pub fn allow_gids(mut self, gids: impl IntoIterator<Item = u32>) -> Self {
        self.users.gids = gids.into_iter().collect();
        self
    }

    /// Adds to what other users may do here; see [`Permit`].
    #[must_use]
    pub fn permit(mut self, permit: Permit) -> Self {
        self.users.permits.push(permit);
        self
    }

    setters! {
        /// When to look for messages instead of sleeping.
        spin: Spin;
        /// Whether archives are checked before they are read. Default: [`Trust::Checked`].
        trust: Trust;
        /// Most unreleased messages per sending port in one of this node's mailboxes, in messages. An arbiter's thread has a
        /// port of its own, all others of a node share one. Default 1,024.
        window: u32;
        /// Slots of each IO queue, a power of two; three eighths as many asks may be unanswered per link. In slots of 64 bytes, of
        /// which a message takes one or two. Default 4,096.
        ring_slots: u32;
        /// Most unreleased messages per link, a power of two and at least twice `ring_slots`, in messages. Default 32,768.
        returns: u32;
        /// Most memory of the pool for outgoing messages, in bytes (reserved, not touched, until used). Default 1 GiB.
        pool_bytes: u64;
        /// Most memory of the pool for messages to one other user, in bytes: each has a pool of its own, made when its first
        /// node is met. Default 256 MiB.
        user_pool_bytes: u64;
        /// Most peers of one other user. Default 16.
        user_peers: usize;
        /// Most bytes of our pool that one peer holds, of messages sent and not released, in whole buffers. What goes beyond
        /// waits, or is told [`Bound::Peer`](crate::error::Bound::Peer). Where there are several links to a peer, each may set
        /// up to 2 MiB of it aside while it is in use. Default: no limit but the pool's.
        peer_bytes: u64;
        /// Most actor names that one peer may announce; one that announces more loses its session. Default 65,536.
        peer_names: usize;
        /// Most topics, and most subscriptions, that one peer may announce; one that announces more loses its session.
        /// Default 16,384.
        peer_topics: usize;
        /// Most links with one peer, of which there is one per pair of threads that talk; a further one is refused. Default
        /// 1,024.
        peer_links: usize;
        /// Size of one pool segment, in bytes. Default 64 MiB. Messages above 8 MiB have a segment of their own, and where
        /// this is below 64 MiB, those above 4 MiB.
        segment_bytes: u64;
        /// Largest message, archived, in bytes. Default 256 MiB.
        message_bytes: usize;
        /// Most mailboxes per port of this node. Default 4,096, at most 65,535.
        mailboxes: usize;
        /// Most peers this node keeps sessions with. Default 256.
        peers: usize;
        /// Most unfinished handshakes at once; a further one waits in the socket's backlog. One other user may have a
        /// quarter of them; a further one of that user is refused. Default 32.
        handshakes: usize;
        /// How long a peer may take for its handshake. Default 2 s.
        handshake_deadline: Duration;
        /// How long a new publisher or subscription waits until every peer has said that it knows of it. What does not
        /// answer by then (a stopped process) learns of it later. Default 1 s.
        announce_deadline: Duration;
        /// How long a lookup waits for its name to be bound. Default 10 s.
        lookup_deadline: Duration;
        /// How long an ask waits for its reply. Default 5 s.
        ask_deadline: Duration;
    }

    /// Joins the bus with these settings. See [`Bus::join`].
    ///
    /// # Errors
    /// Those of [`JoinError`]; a setting that is out of range is named.
    pub async fn join(self) -> Result<Bus, JoinError> {
        Bus::with_config(self).await
    }

    pub(crate) fn check(&self) -> Result<(), JoinError> {
        fn fail<T>(
            setting: &'static str,
            value: impl ToString,
            must: impl Into<String>,
        ) -> Result<T, JoinError> {
            Err(JoinError::Config {
                setting,
                value: value.to_string(),
                must: must.into(),
            })
        }
        if self.window == 0 || self.window > 65_535 {
            return fail("window", self.window, "1 to 65,535");
        }
        if !self.ring_slots.is_power_of_two() || !(16..=1 << 20).contains(&self.ring_slots) {
            return fail(
                "ring_slots",
                self.ring_slots,
                "a power of two from 16 to 1,048,576",
            );
        }
        if !self.returns.is_power_of_two() || self.returns < 2 * self.ring_slots || self.returns > 1 << 24 {
            return fail(
                "returns",
                self.returns,
                "a power of two, at least twice `ring_slots`, at most 16,777,216",
            );
        }
        if self.segment_bytes < 4 << 20 || self.segment_bytes > 64 << 30 {
            return fail("segment_bytes", self.segment_bytes, "4 MiB to 64 GiB");
        }
        if self.pool_bytes < self.segment_bytes || self.pool_bytes / self.segment_bytes > 256 {
            return fail("pool_bytes", self.pool_bytes, "1 to 256 times `segment_bytes`");
        }
        // Archives point by 32-bit offsets.
        if self.message_bytes == 0 || self.message_bytes > i32::MAX as usize {
            return fail("message_bytes", self.message_bytes, "1 byte to 2 GiB - 1");
        }
        if self.mailboxes == 0 || self.mailboxes > 65_535 {
            return fail("mailboxes", self.mailboxes, "1 to 65,535");
        }
        if self.user_pool_bytes < 4 << 20 || self.user_pool_bytes / self.segment_bytes > 256 {
            return fail(
                "user_pool_bytes",
                self.user_pool_bytes,
                "4 MiB to 256 times `segment_bytes`",
            );
        }
        self.users.check()?;
        for (setting, value) in [
            ("peers", self.peers),
            ("handshakes", self.handshakes),
            ("user_peers", self.user_peers),
            ("peer_names", self.peer_names),
            ("peer_topics", self.peer_topics),
            ("peer_links", self.peer_links),
        ] {
            if value == 0 {
                return fail(setting, value, "at least 1");
            }
        }
        for (setting, value) in [
            ("handshake_deadline", self.handshake_deadline),
            ("announce_deadline", self.announce_deadline),
            ("lookup_deadline", self.lookup_deadline),
            ("ask_deadline", self.ask_deadline),
        ] {
            if value.is_zero() {
                return fail(setting, format!("{value:?}"), "longer than nothing");
            }
        }
        Ok(())
    }
}
