//! The eventfd behind a doorbell; between users, a socket.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use rustix::net::{self, AddressFamily, SendFlags, SocketFlags, SocketType};

use crate::error::ResourceError;

/// An eventfd that is only ever rung: its sleeper waits for the edge and does not read the counter,
/// which saves a system call per wake-up (2^64 rings fit).
#[derive(Debug, Clone)]
pub(crate) struct Bell {
    fd: Arc<OwnedFd>,
    /// A socket: see `session/ear.rs`.
    socket: bool,
}

impl Bell {
    pub(crate) fn new() -> Result<Self, ResourceError> {
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map(|fd| Self {
                fd: Arc::new(fd.into()),
                socket: false,
            })
            .map_err(|e| ResourceError {
                action: "make an eventfd".into(),
                limit: "RLIMIT_NOFILE (`ulimit -n`)",
                source: e.into(),
            })
    }

    /// What a peer sent as its eventfd. Made non-blocking on the peer's side; whatever else it is, ringing
    /// it is one `write` whose failure is ignored.
    pub(crate) fn import(fd: OwnedFd) -> std::io::Result<Self> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        // The flag belongs to the open file, which the peer shares: a peer that clears it again could
        // stall its own senders, so a descriptor that is not non-blocking is refused here and a full
        // counter cannot be reached by the rings of one epoch each.
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        if !flags.contains(OFlag::O_NONBLOCK) {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "a peer's eventfd is refused: it is not non-blocking",
            ));
        }
        Ok(Self {
            fd: Arc::new(fd),
            socket: false,
        })
    }

    /// A bell for a peer of another user, and where its rings come in.
    pub(crate) fn for_another_user() -> Result<(Self, OwnedFd), ResourceError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (bell, ear) = pair.map_err(|error| ResourceError {
            action: "make a socket pair for a bell".into(),
            limit: "RLIMIT_NOFILE (`ulimit -n`)",
            source: error.into(),
        })?;
        let fd = Arc::new(bell);
        Ok((Self { fd, socket: true }, ear))
    }

    /// What a peer of another user sent as its bell: a byte into it, without waiting, can do nothing but ring.
    pub(crate) fn import_of_another_user(fd: OwnedFd) -> std::io::Result<Self> {
        let fits = net::sockopt::socket_domain(&fd) == Ok(AddressFamily::UNIX)
            && net::sockopt::socket_type(&fd) == Ok(SocketType::SEQPACKET);
        if !fits {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "the bell of a peer of another user is refused: it is not a local socket of packets",
            ));
        }
        Ok(Self {
            fd: Arc::new(fd),
            socket: true,
        })
    }

    pub(crate) fn ring(&self) {
        if self.socket {
            // It fails if there is no room (then it has been rung), or if the peer is gone.
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _ = net::send(&*self.fd, &[1], flags);
            return;
        }
        // It fails only if the counter is full (then it has been rung) or the peer sent another kind of
        // descriptor (then it is the peer that is not woken).
        let _ = nix::unistd::write(&*self.fd, &1u64.to_ne_bytes());
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
