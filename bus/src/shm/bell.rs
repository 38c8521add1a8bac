//! The eventfd behind a doorbell; between users, a socket.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
};

use nix::{
    errno::Errno,
    sys::eventfd::{EfdFlags, EventFd},
};
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

    /// What a peer sent as its eventfd. Made non-blocking on the peer's side; ringing it is one `write` whose failure is
    /// ignored.
    pub(crate) fn import(fd: OwnedFd) -> std::io::Result<Self> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let refused = |why| std::io::Error::new(std::io::ErrorKind::InvalidData, why);
        // Files, pipes, sockets and memfds have a type; what has none is an object of the kernel, on which a `write` of
        // eight bytes never waits. On a file system of the peer's own it might wait for ever, and a pipe or socket without
        // a reader would raise SIGPIPE here.
        if nix::sys::stat::fstat(&fd)?.st_mode & nix::libc::S_IFMT != 0 {
            return Err(refused("a peer's eventfd is refused: it is none"));
        }
        // Rings of one epoch each never fill the counter, but the peer may, and then a blocking `write` would stall whoever
        // rings. The flag belongs to the open file, which the peer shares: against one that clears it again there is no
        // defence (SECURITY.md).
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        if !flags.contains(OFlag::O_NONBLOCK) {
            return Err(refused("a peer's eventfd is refused: it is not non-blocking"));
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
        // Another failure is that the peer sent another kind of descriptor: then it is the peer that is not woken.
        if self.write() == Err(Errno::EAGAIN) {
            self.ring_anew();
        }
    }

    fn write(&self) -> nix::Result<usize> {
        nix::unistd::write(&*self.fd, &1u64.to_ne_bytes())
    }

    /// The counter is full. Rings never fill it: one of those who have the eventfd did, and its sleeper, which waits for
    /// the edge and never reads, would hear nobody any more. Who fills it again between these two calls makes an edge too,
    /// and after whatever it is that this ring tells of.
    #[cold]
    fn ring_anew(&self) {
        let _ = nix::unistd::read(&*self.fd, &mut [0; 8]);
        let _ = self.write();
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;

    #[test]
    fn what_is_no_eventfd_is_refused() {
        let (reading, writing) = nix::unistd::pipe2(OFlag::O_NONBLOCK).unwrap();
        let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        there.set_nonblocking(true).unwrap();
        let file = std::fs::File::options().write(true).open("/dev/null").unwrap();
        for fd in [writing, there.into(), file.into()] {
            assert!(Bell::import(fd).is_err());
        }
        drop((reading, here));
        let blocking = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap();
        assert!(Bell::import(blocking.into()).is_err());
        let bell = Bell::new().unwrap();
        assert!(Bell::import(bell.as_fd().try_clone_to_owned().unwrap()).is_ok());
    }

    #[test]
    fn a_bell_whose_counter_was_filled_is_rung_all_the_same() {
        use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
        let bell = Bell::new().unwrap();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&bell, EpollEvent::new(edge, 0)).unwrap();
        let edges = || {
            epoll
                .wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO)
                .unwrap()
        };
        nix::unistd::write(&bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        assert_eq!((edges(), edges()), (1, 0));
        for _ in 0..2 {
            bell.ring();
            assert_eq!(edges(), 1);
        }
    }
}
