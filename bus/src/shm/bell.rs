//! The eventfd behind a doorbell.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::ResourceError;

/// An eventfd that is only ever rung: its sleeper waits for the edge and does not read the counter,
/// which saves a system call per wake-up (2^64 rings fit).
#[derive(Debug, Clone)]
pub(crate) struct Bell(Arc<OwnedFd>);

impl Bell {
    pub(crate) fn new() -> Result<Self, ResourceError> {
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map(|fd| Self(Arc::new(fd.into())))
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
        Ok(Self(Arc::new(fd)))
    }

    pub(crate) fn ring(&self) {
        // It fails only if the counter is full (then it has been rung) or the peer sent another kind of
        // descriptor (then it is the peer that is not woken).
        let _ = nix::unistd::write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
