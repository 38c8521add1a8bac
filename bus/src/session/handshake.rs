//! The handshake: who is there, do we speak the same language, do we want to talk.
//!
//! ```text
//! dialler                         acceptor
//!   Hello  ------------------------->
//!   <-------------------------  Hello
//!   Verdict (the dialler's)  ------->
//!   <-------  Verdict (the acceptor's)
//! ```
//! Both check the other's hello, both say their verdict, and the session stands when both said
//! welcome. Who refuses says why, so the reason shows up on both sides. An acceptor may send its
//! verdict instead of a hello when it wants no peer at all. Connecting and hanging up without a word is a
//! probe (does anybody listen here?) and is not an error.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    hello::{ABI, Code, FEATURES, Hello, HelloError, PROTOCOL, REQUIRED, Role, Verdict},
    socket::{Credentials, Socket},
    users::Users,
};
use crate::shm::faults::fault;

/// What this node says of itself, and holds others against.
#[derive(Debug, Clone)]
pub(crate) struct Me {
    pub id: u64,
    pub bus: String,
    pub node: String,
    pub uid: u32,
    /// Which other users are let in.
    pub users: Arc<Users>,
    pub protocol: u32,
    pub features: u64,
    pub abi: u64,
}

impl Me {
    /// This build and process, as `node` on `bus` (both valid), with a fresh id.
    pub(crate) fn new(bus: &str, node: &str) -> Self {
        Self {
            id: fresh_id(),
            bus: bus.to_owned(),
            node: node.to_owned(),
            uid: nix::unistd::geteuid().as_raw(),
            users: Arc::default(),
            protocol: PROTOCOL,
            features: FEATURES,
            abi: ABI,
        }
    }

    fn hello(&self, role: Role) -> Hello {
        Hello {
            protocol: self.protocol,
            features: self.features,
            abi: self.abi,
            id: self.id,
            pid: std::process::id(),
            role,
            bus: self.bus.clone(),
            node: self.node.clone(),
        }
    }

    /// Holds a hello against this node.
    fn check(&self, packet: &[u8], from: Role, them: Credentials) -> Result<Peer, HandshakeError> {
        // Refused unheard, in place of a hello.
        if let Ok(Verdict::Refused(code, text)) = Verdict::decode(packet) {
            return Err(HandshakeError::Refused { code, text });
        }
        let hello = match Hello::decode(packet) {
            Err(HelloError::Version { theirs }) => {
                return Err(HandshakeError::Version {
                    theirs,
                    ours: self.protocol,
                });
            }
            hello => hello.map_err(HandshakeError::Garbage)?,
        };
        if hello.protocol != self.protocol {
            return Err(HandshakeError::Version {
                theirs: hello.protocol,
                ours: self.protocol,
            });
        }
        if hello.role != from {
            return Err(HandshakeError::OutOfTurn);
        }
        if hello.id == self.id {
            return Err(HandshakeError::OwnId);
        }
        let missing = (hello.features ^ self.features) & REQUIRED;
        if missing != 0 {
            return Err(HandshakeError::Features {
                missing,
                theirs: hello.features,
                ours: self.features,
            });
        }
        if hello.abi != self.abi {
            return Err(HandshakeError::Abi {
                theirs: hello.abi,
                ours: self.abi,
            });
        }
        if hello.bus != self.bus {
            return Err(HandshakeError::WrongBus {
                theirs: hello.bus,
                ours: self.bus.clone(),
            });
        }
        Ok(Peer {
            id: hello.id,
            name: hello.node,
            pid: them.pid,
            uid: them.uid,
            gid: them.gid,
            features: hello.features & self.features,
        })
    }
}

/// An id that tells this node from every other of the bus, also from an earlier one of its name.
///
/// 64 random bits of the kernel, by way of the standard library's hash keys. Those are drawn once
/// per thread and survive a fork, so the process id and the time go in as well.
fn fresh_id() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_u128(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos(),
    );
    hasher.finish()
}

/// The node at the other end, after a successful handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its random id.
    pub id: u64,
    /// Its node name.
    pub name: String,
    /// By the kernel's word; 0 if it has no id in our pid namespace.
    pub pid: i32,
    /// By the kernel's word.
    pub uid: u32,
    /// By the kernel's word.
    pub gid: u32,
    /// The features both sides have.
    pub features: u64,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the peer did not finish its handshake within {after:?} (`Config::handshake_deadline`)")]
    Timeout { after: Duration },
    #[error("the peer hung up during the handshake")]
    HungUp,
    #[error("the peer's packet is not of a handshake: {0}")]
    Garbage(HelloError),
    #[error("the peer sent file descriptors during the handshake")]
    Descriptors,
    #[error("the peer takes itself for the side that we are")]
    OutOfTurn,
    /// What is kept by node, its names above all, would be taken for this node's own.
    #[error("the peer uses this node's own id")]
    OwnId,
    #[error("the peer speaks protocol {theirs}, this node {ours}; both must be built with the same shmbus")]
    Version { theirs: u32, ours: u32 },
    #[error("required features {missing:#x} are on one side only (peer {theirs:#x}, this node {ours:#x})")]
    Features { missing: u64, theirs: u64, ours: u64 },
    #[error(
        "the peer's archives differ (rkyv ABI {theirs:#x}, this node's {ours:#x}); build both with equal rkyv features"
    )]
    Abi { theirs: u64, ours: u64 },
    #[error(
        "the peer runs as uid {theirs} (gid {gid}), this node as uid {ours}, whose `Config::allow_uids` and `allow_gids` \
         do not let it in"
    )]
    ForeignUid { theirs: u32, gid: u32, ours: u32 },
    #[error("the peer is on bus `{theirs}`, this node on bus `{ours}`")]
    WrongBus { theirs: String, ours: String },
    /// We refused it by our own decision.
    #[error("this node refused the peer ({code}): {text}")]
    Declined { code: Code, text: String },
    /// It refused us.
    #[error("the peer refused this node ({code}): {text}")]
    Refused { code: Code, text: String },
    #[error("the socket failed during the handshake: {0}")]
    Socket(#[from] io::Error),
}

impl HandshakeError {
    /// What to tell the peer, if anything can be told.
    fn verdict(&self) -> Option<Verdict> {
        let code = match self {
            Self::Version { .. } => Code::Version,
            Self::Features { .. } => Code::Features,
            Self::Abi { .. } => Code::Abi,
            Self::ForeignUid { .. } => Code::ForeignUid,
            Self::WrongBus { .. } => Code::WrongBus,
            _ => return None,
        };
        Some(Verdict::refuse(code, &self.to_string()))
    }
}

/// Introduces us to the node that `socket` was connected to.
///
/// # Errors
/// Every reason why there is no session; the socket should be dropped then.
pub(crate) async fn dial(socket: &Socket, me: &Me, within: Duration) -> Result<Peer, HandshakeError> {
    bounded(within, async {
        let mut buf = Vec::new();
        let them = socket.credentials()?;
        if let Err(error) = admit(me, them) {
            return refuse(socket, error);
        }
        fault!(DialHello);
        say(socket, &me.hello(Role::Dial).encode())?;
        hear(socket, &mut buf).await?.ok_or(HandshakeError::HungUp)?;
        let peer = match me.check(&buf, Role::Accept, them) {
            Ok(peer) => peer,
            Err(error) => return refuse(socket, error),
        };
        fault!(DialVerdict);
        say(socket, &Verdict::Welcome.encode())?;
        fault!(DialEnd);
        verdict(socket, &mut buf).await?;
        Ok(peer)
    })
    .await
}

/// Meets whoever connected. `decide` is asked last, about a peer that fits; if it welcomes the peer
/// and this still fails, the peer changed its mind or died, and whatever `decide` put down must be undone.
///
/// `None` if the other side hung up without a word: a probe.
///
/// # Errors
/// Every reason why there is no session; the socket should be dropped then.
pub(crate) async fn accept(
    socket: &Socket,
    me: &Me,
    within: Duration,
    decide: impl FnOnce(&Peer) -> Verdict,
) -> Result<Option<Peer>, HandshakeError> {
    bounded(within, async {
        let mut buf = Vec::new();
        let them = socket.credentials()?;
        if let Err(error) = admit(me, them) {
            return refuse(socket, error);
        }
        if hear(socket, &mut buf).await?.is_none() {
            return Ok(None);
        }
        let checked = me.check(&buf, Role::Dial, them);
        if checked.as_ref().is_err_and(|error| error.verdict().is_none()) {
            return checked.map(Some);
        }
        fault!(AcceptHello);
        // Even to a peer that does not fit: it should see our version for itself.
        say(socket, &me.hello(Role::Accept).encode())?;
        let peer = match checked {
            Ok(peer) => peer,
            Err(error) => return refuse(socket, error),
        };
        let decision = decide(&peer);
        fault!(AcceptVerdict);
        say(socket, &decision.encode())?;
        fault!(AcceptEnd);
        if let Verdict::Refused(code, text) = decision {
            return Err(HandshakeError::Declined { code, text });
        }
        verdict(socket, &mut buf).await?;
        Ok(Some(peer))
    })
    .await
}

/// Before a byte is read of it.
fn admit(me: &Me, them: Credentials) -> Result<(), HandshakeError> {
    if them.uid == me.uid || me.users.admit(them) {
        Ok(())
    } else {
        Err(HandshakeError::ForeignUid {
            theirs: them.uid,
            gid: them.gid,
            ours: me.uid,
        })
    }
}

/// Tells the peer why, and fails.
fn refuse<T>(socket: &Socket, error: HandshakeError) -> Result<T, HandshakeError> {
    if let Some(verdict) = error.verdict() {
        say(socket, &verdict.encode())?;
    }
    Err(error)
}

/// Says one packet. Never waits: a handshake is two small packets each way, which fit any socket buffer.
fn say(socket: &Socket, packet: &[u8]) -> Result<(), HandshakeError> {
    match socket.try_send(packet, &[]) {
        // It hung up, perhaps after a refusal that is still to be read and says more than this error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        sent => Ok(sent?),
    }
}

async fn hear(socket: &Socket, buf: &mut Vec<u8>) -> Result<Option<()>, HandshakeError> {
    match socket.recv(buf).await? {
        Some(packet) if !packet.fds.is_empty() => Err(HandshakeError::Descriptors),
        packet => Ok(packet.map(|_| ())),
    }
}

async fn verdict(socket: &Socket, buf: &mut Vec<u8>) -> Result<(), HandshakeError> {
    hear(socket, buf).await?.ok_or(HandshakeError::HungUp)?;
    match Verdict::decode(buf).map_err(HandshakeError::Garbage)? {
        Verdict::Welcome => Ok(()),
        Verdict::Refused(code, text) => Err(HandshakeError::Refused { code, text }),
    }
}

async fn bounded<T>(
    within: Duration,
    handshake: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    match tokio::time::timeout(within, handshake).await {
        Ok(done) => done,
        Err(_) => Err(HandshakeError::Timeout { after: within }),
    }
}

#[cfg(test)]
mod tests;
