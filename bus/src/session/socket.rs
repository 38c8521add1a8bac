//! The control socket: `AF_UNIX`, `SOCK_SEQPACKET`, non-blocking, under tokio.
//!
//! A packet arrives whole or not at all, and the descriptors sent with it arrive with exactly that
//! packet. What the kernel does that is easy to get wrong:
//!
//! - **An empty packet looks like a hang-up**: both read as 0 bytes. We never send one, and a peer
//!   that does ends its own session.
//! - **A hang-up overtakes packets.** When a peer closes with packets of ours unread, our next call
//!   fails once with `ECONNRESET`, although packets of the peer may still be queued here. Receiving
//!   goes on after it, so what the peer sent before it died is not lost.
//! - **Descriptors are installed before we can say no.** A truncated list still leaves its first
//!   part open in our table. They are received into a buffer that owns them, so every way out closes them.
//! - **`connect` to a full backlog fails at once** (`EAGAIN`) and nothing tells when there is room.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::geteuid,
};
use rustix::{
    event::{self, PollFd, PollFlags, Timespec},
    io::Errno,
    net::{
        self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    },
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep, timeout_at},
};

/// Longest packet, in bytes.
pub(crate) const MAX_FRAME: usize = 64 << 10;

/// Most descriptors with one packet.
pub(crate) const MAX_FDS: usize = 4;

/// Connections that wait to be accepted, at most; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// What the kernel says of the process at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Its process id when it connected or listened; 0 if it has none in our pid namespace.
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

/// What came with one packet; its bytes are in the caller's buffer.
#[derive(Debug)]
pub(crate) struct Packet {
    /// Its descriptors, at most [`MAX_FDS`], all close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// One end of a session. Shared by reference: any thread may send while one task receives.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: AsyncFd<OwnedFd>,
    /// This side has shut down its half.
    is_shut: AtomicBool,
}

impl Socket {
    /// Takes a connected seqpacket socket, which must be non-blocking.
    ///
    /// # Errors
    /// If there is no room in the runtime's poller.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            fd: watched(fd, Interest::READABLE | Interest::WRITABLE)?,
            is_shut: AtomicBool::new(false),
        })
    }

    /// Connects to the node that listens at `path`. Its full backlog is waited for, up to `within`.
    ///
    /// # Errors
    /// `ConnectionRefused` where nobody listens, `NotFound` where there is no socket, `TimedOut`.
    pub(crate) async fn connect(path: &Path, within: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + within;
        let mut pause = Duration::from_millis(1);
        loop {
            match connect_now(path) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // No event tells of room in a backlog, so look again, less and less often.
                    if timeout_at(deadline, sleep(pause)).await.is_err() {
                        return Err(io::Error::new(
                            io::ErrorKind::TimedOut,
                            "the node's backlog stayed full",
                        ));
                    }
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                done => return Self::new(done?),
            }
        }
    }

    /// Two connected ends, for a node that talks to itself.
    ///
    /// # Errors
    /// At the limit of descriptors.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (a, b) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::new(a)?, Self::new(b)?))
    }

    /// Who is at the other end, by the kernel's word.
    ///
    /// # Errors
    /// None expected on a connected socket.
    pub(crate) fn credentials(&self) -> io::Result<Credentials> {
        credentials(self.fd.get_ref())
    }

    /// Sends one packet with its descriptors, whole or not at all, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; `InvalidInput` for an empty or oversized packet or too many
    /// descriptors; `BrokenPipe` if the peer is gone; `ETOOMANYREFS` if the user has too many
    /// descriptors in flight.
    pub(crate) fn try_send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send_on(self.fd.get_ref(), bytes, fds)
    }

    /// Says that nothing more is sent, also if others keep the descriptor open. The peer still reads what was sent
    /// before. From then on [`is_hung_up`](Self::is_hung_up) is never true here.
    pub(crate) fn shutdown(&self) {
        // Relaxed: who shuts down and who looks are ordered by the session's end.
        self.is_shut.store(true, Ordering::Relaxed);
        // Fails only where the peer hung up first.
        let _ = net::shutdown(self.fd.get_ref(), net::Shutdown::Write);
    }

    /// Whether the other end was closed by all who had it. Where both sides have shut down their halves the kernel says
    /// the same of an open one, so it is not asked.
    pub(crate) fn is_hung_up(&self) -> bool {
        if self.is_shut.load(Ordering::Relaxed) {
            return false;
        }
        let mut fds = [PollFd::new(self.fd.get_ref(), PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        event::poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }

    /// Waits until [`is_hung_up`](Self::is_hung_up).
    pub(crate) async fn hung_up(&self) {
        loop {
            // Not readiness to read: that stays once the peer has shut down its half.
            let Ok(mut ready) = self.fd.writable().await else {
                return std::future::pending().await;
            };
            if self.is_hung_up() {
                return;
            }
            ready.clear_ready();
        }
    }

    /// Like [`try_send`](Self::try_send), but waits for room. Cancel safe: the packet was sent or was not.
    ///
    /// # Errors
    /// Those of [`try_send`](Self::try_send) without `WouldBlock`.
    pub(crate) async fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.fd
            .async_io(Interest::WRITABLE, |fd| send_on(fd, bytes, fds))
            .await
    }

    /// Receives the next packet into `buf`, which is made as long as the packet; `None` once the
    /// peer has hung up and everything it sent was received. Cancel safe.
    ///
    /// # Errors
    /// `InvalidData` if the packet is longer than [`MAX_FRAME`] or brings too many descriptors (all
    /// of them are closed); the packet is lost then, and the session should be closed.
    pub(crate) async fn recv(&self, buf: &mut Vec<u8>) -> io::Result<Option<Packet>> {
        self.fd.async_io(Interest::READABLE, |fd| recv_on(fd, buf)).await
    }

    /// Like [`recv`](Self::recv), without waiting.
    ///
    /// # Errors
    /// Also `WouldBlock`, if no packet is there.
    #[cfg(any(test, feature = "fuzz-internals"))]
    pub(crate) fn try_recv(&self, buf: &mut Vec<u8>) -> io::Result<Option<Packet>> {
        recv_on(self.fd.get_ref(), buf)
    }
}

/// A node's listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: AsyncFd<OwnedFd>,
    /// Whether being out of descriptors was already logged; cleared by the next success.
    starved: AtomicBool,
}

impl Listener {
    /// Takes a listening seqpacket socket, which must be non-blocking.
    ///
    /// # Errors
    /// If there is no room in the runtime's poller.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            fd: watched(fd, Interest::READABLE)?,
            starved: AtomicBool::new(false),
        })
    }

    /// The next connection. Cancel safe. When the process or the machine is out of descriptors or
    /// memory, it waits and tries again, and says so once.
    ///
    /// # Errors
    /// Only those that the next call would meet again.
    pub(crate) async fn accept(&self) -> io::Result<Socket> {
        let mut pause = Duration::from_millis(10);
        loop {
            let accepted = self
                .fd
                .async_io(Interest::READABLE, |fd| Ok(accept_now(fd)?))
                .await;
            let error = match accepted.and_then(Socket::new) {
                Ok(socket) => {
                    // Relaxed: it only limits logging and orders nothing.
                    self.starved.store(false, Ordering::Relaxed);
                    return Ok(socket);
                }
                Err(error) => error,
            };
            match Refusal::of(&error) {
                Refusal::Gone => {}
                Refusal::Starved => {
                    if !self.starved.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%error, "cannot accept peers now (limit: RLIMIT_NOFILE or memory); retrying");
                    }
                    // The connection stays in the backlog and the socket readable: without a pause
                    // this loop would spin.
                    sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Refusal::Fatal => return Err(error),
            }
        }
    }
}

/// What a failed `accept` means.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// That one connection is gone; there may be others.
    Gone,
    /// No descriptor or memory now; the connection is still waiting.
    Starved,
    /// The listener is unusable.
    Fatal,
}

impl Refusal {
    fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::PERM) => Refusal::Gone,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC) => {
                Refusal::Starved
            }
            _ => Refusal::Fatal,
        }
    }
}

/// Puts a descriptor under tokio's poller.
///
/// tokio deprecated this for an `unsafe` constructor, because a general `AsRawFd` can name a descriptor
/// that it does not own. An `OwnedFd` names one descriptor and keeps it open until it is dropped, which
/// is what the new constructor asks for.
#[allow(deprecated)]
pub(super) fn watched<T: AsRawFd>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(fd, interest)
}

/// Connects without waiting and without a runtime; `WouldBlock` means that the backlog is full.
pub(super) fn connect_now(path: &Path) -> io::Result<OwnedFd> {
    let fd = unconnected()?;
    net::connect(&fd, &SocketAddrUnix::new(path)?)?;
    Ok(fd)
}

/// Binds and listens at `path`, where no file may be. Only our user may connect, whatever the umask.
pub(super) fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let fd = unconnected()?;
    net::bind(&fd, &SocketAddrUnix::new(path)?)?;
    // Before `listen`, so that nobody else can have connected.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    net::listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// As [`listen_at`], for others to connect too, whom the handshake looks at: `mode` is the socket's.
///
/// In a directory that others may write, a path may name another file by the time its mode is changed. So the file is
/// opened first, without following a link, and looked at.
pub(super) fn listen_for_others_at(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let fd = unconnected()?;
    net::bind(&fd, &SocketAddrUnix::new(path)?)?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    let bound = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    let found = bound.metadata()?;
    if !found.file_type().is_socket() || found.uid() != geteuid().as_raw() {
        return Err(io::Error::other("the socket just bound was replaced by somebody"));
    }
    fs::set_permissions(by_descriptor(&bound), Permissions::from_mode(mode))?;
    net::listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// A path that names an opened file whatever becomes of its name.
pub(super) fn by_descriptor(file: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Who is, or who listens, at the other end of a connected socket.
pub(super) fn credentials(fd: &OwnedFd) -> io::Result<Credentials> {
    // By nix: rustix has no place for pid 0, which a peer of another pid namespace has.
    let them = getsockopt(fd, PeerCredentials)?;
    Ok(Credentials {
        pid: them.pid(),
        uid: them.uid(),
        gid: them.gid(),
    })
}

fn unconnected() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

fn accept_now(fd: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    net::accept_with(fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

fn send_on(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.is_empty() || bytes.len() > MAX_FRAME || fds.len() > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "a packet of {} bytes with {} descriptors; 1 to {MAX_FRAME} bytes and up to {MAX_FDS} \
                 descriptors can be sent",
                bytes.len(),
                fds.len(),
            ),
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other(
            "the descriptors do not fit into the control buffer",
        ));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            // Seqpacket sends all or nothing, so the count says nothing new.
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            // The same news as EPIPE: the peer closed, and had not read everything.
            Err(Errno::CONNRESET) => return Err(Errno::PIPE.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn recv_on(socket: &OwnedFd, buf: &mut Vec<u8>) -> io::Result<Option<Packet>> {
    buf.resize(MAX_FRAME, 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    // Owns what the kernel installs: whatever is not taken out below is closed on drop.
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        match net::recvmsg(
            socket,
            &mut [IoSliceMut::new(buf)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Ok(got) => break got,
            // The kernel reports a reset once, before packets that are still queued; see the module's page.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(error) => {
                buf.clear();
                return Err(error.into());
            }
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    buf.truncate(got.bytes);
    let problem = if got.flags.contains(ReturnFlags::TRUNC) {
        "a packet longer than 64 KiB"
    // The buffer's alignment slack may hold one more than MAX_FDS, so the count is checked as well.
    } else if got.flags.contains(ReturnFlags::CTRUNC) && fds.len() < MAX_FDS {
        buf.clear();
        // Cut short, but not for want of room in the buffer.
        return Err(io::Error::other(
            "a packet with more descriptors than this process has room for (RLIMIT_NOFILE)",
        ));
    } else if got.flags.contains(ReturnFlags::CTRUNC) || fds.len() > MAX_FDS {
        "a packet with more descriptors than allowed"
    } else if got.bytes == 0 && !fds.is_empty() {
        "descriptors with an empty packet"
    } else {
        return Ok((got.bytes > 0).then_some(Packet { fds }));
    };
    buf.clear();
    Err(io::Error::new(io::ErrorKind::InvalidData, problem))
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests;
