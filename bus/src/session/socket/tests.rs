use std::{
    fs::File,
    io::{Read, Seek, Write},
    os::fd::AsRawFd,
    sync::Arc,
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::*;

const SOON: Duration = Duration::from_secs(10);

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work)
        .await
        .expect("done within the deadline")
}

/// A file with this text and no name.
fn file(text: &str) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.into()
}

fn text(fd: OwnedFd) -> String {
    let (mut file, mut text) = (File::from(fd), String::new());
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Sends with any number of descriptors, past the checks of [`Socket::try_send`].
fn send_raw(socket: &Socket, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
    net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
}

/// A file that is shared by nobody else, and how many descriptors of this process refer to it.
struct Counted {
    fd: OwnedFd,
    inode: (u64, u64),
}

impl Counted {
    fn new() -> Self {
        use std::os::unix::fs::MetadataExt;
        let file = tempfile::tempfile().unwrap();
        let found = file.metadata().unwrap();
        Self {
            fd: file.into(),
            inode: (found.dev(), found.ino()),
        }
    }

    /// Counted by inode, since other tests of this process open and close descriptors meanwhile.
    fn open(&self) -> usize {
        use std::os::unix::fs::MetadataExt;
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| std::fs::metadata(entry.ok()?.path()).ok())
            .filter(|found| (found.dev(), found.ino()) == self.inode)
            .count()
    }
}

#[tokio::test]
async fn packets_keep_their_boundaries_and_order() {
    let (a, b) = Socket::pair().unwrap();
    let largest = vec![7; MAX_FRAME];
    for packet in [&b"one"[..], b"2", &largest, b"last"] {
        a.try_send(packet, &[]).unwrap();
    }
    let mut buf = Vec::new();
    for packet in [&b"one"[..], b"2", &largest, b"last"] {
        let got = soon(b.recv(&mut buf)).await.unwrap().unwrap();
        assert!(buf == packet && got.fds.is_empty());
    }
    assert_eq!(
        b.try_recv(&mut buf).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    drop(a);
    assert!(soon(b.recv(&mut buf)).await.unwrap().is_none());
    assert!(b.try_recv(&mut buf).unwrap().is_none(), "a hang-up stays");
}

#[tokio::test]
async fn descriptors_arrive_with_their_packet_and_close_on_exec() {
    let (a, b) = Socket::pair().unwrap();
    let files: Vec<_> = ["zero", "one", "two", "three"].map(file).into();
    let all: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    a.try_send(b"none", &[]).unwrap();
    a.try_send(b"four", &all).unwrap();
    soon(a.send(b"one", &all[2..3])).await.unwrap();

    let mut buf = Vec::new();
    assert!(soon(b.recv(&mut buf)).await.unwrap().unwrap().fds.is_empty());
    let four = soon(b.recv(&mut buf)).await.unwrap().unwrap();
    for fd in &four.fds {
        let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
    }
    assert_eq!(
        four.fds.into_iter().map(text).collect::<Vec<_>>(),
        ["zero", "one", "two", "three"]
    );
    let one = soon(b.recv(&mut buf)).await.unwrap().unwrap();
    assert_eq!(one.fds.into_iter().map(text).collect::<Vec<_>>(), ["two"]);
}

#[tokio::test]
async fn what_cannot_be_received_is_not_sent() {
    let (a, b) = Socket::pair().unwrap();
    let fd = file("");
    for (bytes, fds) in [(0, 0), (MAX_FRAME + 1, 0), (1, MAX_FDS + 1)] {
        let error = a.try_send(&vec![0; bytes], &vec![fd.as_fd(); fds]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(
        b.try_recv(&mut Vec::new()).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

#[tokio::test]
async fn too_many_descriptors_are_refused_and_none_stays_open() {
    let (a, b) = Socket::pair().unwrap();
    let counted = Counted::new();
    for fds in [MAX_FDS + 1, MAX_FDS + 2, 64] {
        send_raw(&a, b"x", &vec![counted.fd.as_fd(); fds]);
        let error = soon(b.recv(&mut Vec::new())).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{fds}: {error}");
        assert_eq!(counted.open(), 1, "{fds}");
    }
    // The count would see one that stayed.
    send_raw(&a, b"x", &[counted.fd.as_fd(); MAX_FDS]);
    let kept = soon(b.recv(&mut Vec::new())).await.unwrap().unwrap();
    assert_eq!(counted.open(), 1 + MAX_FDS);
    drop(kept);
    assert_eq!(counted.open(), 1);
}

#[tokio::test]
async fn an_oversized_packet_is_refused_with_its_descriptors() {
    let (a, b) = Socket::pair().unwrap();
    let counted = Counted::new();
    send_raw(&a, &vec![1; MAX_FRAME + 1], &[counted.fd.as_fd()]);
    send_raw(&a, b"next", &[]);
    let mut buf = Vec::new();
    assert_eq!(
        soon(b.recv(&mut buf)).await.unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
    assert!(buf.is_empty());
    assert_eq!(counted.open(), 1);
    soon(b.recv(&mut buf)).await.unwrap().unwrap();
    assert_eq!(buf, b"next");
}

#[tokio::test]
async fn an_empty_packet_is_a_hang_up_and_its_descriptors_are_closed() {
    let (a, b) = Socket::pair().unwrap();
    let counted = Counted::new();
    send_raw(&a, b"", &[]);
    assert!(soon(b.recv(&mut Vec::new())).await.unwrap().is_none());
    send_raw(&a, b"", &[counted.fd.as_fd()]);
    assert_eq!(
        soon(b.recv(&mut Vec::new())).await.unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
    assert_eq!(counted.open(), 1);
}

#[tokio::test]
async fn what_was_sent_before_a_death_is_received_after_it() {
    let (a, b) = Socket::pair().unwrap();
    let fd = file("kept");
    a.try_send(b"first", &[]).unwrap();
    a.try_send(b"second", &[fd.as_fd()]).unwrap();
    // Unread by a: its close resets the connection, which b is told before it gets the packets.
    b.try_send(b"unread", &[]).unwrap();
    drop((a, fd));
    let mut buf = Vec::new();
    soon(b.recv(&mut buf)).await.unwrap().unwrap();
    assert_eq!(buf, b"first");
    let second = soon(b.recv(&mut buf)).await.unwrap().unwrap();
    assert_eq!(second.fds.into_iter().map(text).collect::<Vec<_>>(), ["kept"]);
    assert!(soon(b.recv(&mut buf)).await.unwrap().is_none());
}

#[tokio::test]
async fn sending_to_the_dead_is_a_broken_pipe() {
    for unread in [false, true] {
        let (a, b) = Socket::pair().unwrap();
        if unread {
            b.try_send(b"unread", &[]).unwrap();
        }
        drop(a);
        for _ in 0..2 {
            assert_eq!(
                b.try_send(b"x", &[]).unwrap_err().kind(),
                io::ErrorKind::BrokenPipe
            );
        }
        assert_eq!(
            soon(b.send(b"x", &[])).await.unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}

/// Fills the socket, then receives while others send: nothing is lost, torn or sent twice.
async fn many_senders() {
    const SENDERS: u8 = 4;
    const EACH: u32 = 200;
    let (a, b) = Socket::pair().unwrap();
    let (a, b) = (Arc::new(a), Arc::new(b));
    let packet = |sender: u8, n: u32| {
        let mut packet = vec![sender; 2_000];
        packet[..4].copy_from_slice(&n.to_le_bytes());
        packet
    };
    let mut filled = 0;
    let full = loop {
        match a.try_send(&packet(SENDERS, filled), &[]) {
            Ok(()) => filled += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let a = Arc::clone(&a);
            tokio::spawn(async move {
                for n in 0..EACH {
                    a.send(&packet(sender, n), &[]).await.unwrap();
                }
            })
        })
        .collect();
    let receiver = tokio::spawn(async move {
        let (mut buf, mut next) = (Vec::new(), [0; SENDERS as usize + 1]);
        while b.recv(&mut buf).await.unwrap().is_some() {
            let sender = buf[4];
            assert!(buf.len() == 2_000 && buf[4..].iter().all(|byte| *byte == sender));
            assert_eq!(
                u32::from_le_bytes(*buf.first_chunk().unwrap()),
                next[usize::from(sender)]
            );
            next[usize::from(sender)] += 1;
        }
        next
    });
    for sender in senders {
        soon(sender).await.unwrap();
    }
    drop(a);
    assert_eq!(soon(receiver).await.unwrap(), [EACH, EACH, EACH, EACH, filled]);
}

#[tokio::test]
async fn many_senders_on_one_thread() {
    many_senders().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn many_senders_on_many_threads() {
    many_senders().await;
}

#[tokio::test]
async fn a_cancelled_receive_loses_nothing() {
    let (a, b) = Socket::pair().unwrap();
    let mut buf = Vec::new();
    tokio::select! {
        biased;
        _ = b.recv(&mut buf) => panic!("nothing was sent"),
        () = std::future::ready(()) => {}
    }
    a.try_send(b"x", &[]).unwrap();
    soon(b.recv(&mut buf)).await.unwrap().unwrap();
    assert_eq!(buf.len(), 1);
}

#[tokio::test]
async fn a_listener_is_reached_by_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    assert_eq!(
        Socket::connect(&path, SOON).await.unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    let listener = Listener::new(listen_at(&path).unwrap()).unwrap();
    let (there, here) = tokio::join!(Socket::connect(&path, SOON), soon(listener.accept()));
    let (there, here) = (there.unwrap(), here.unwrap());
    for end in [&there, &here] {
        let them = end.credentials().unwrap();
        assert_eq!(them.pid, std::process::id() as i32);
        assert_eq!(them.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(them.gid, nix::unistd::getegid().as_raw());
        let flags = FdFlag::from_bits_retain(fcntl(end, FcntlArg::F_GETFD).unwrap());
        assert!(
            flags.contains(FdFlag::FD_CLOEXEC),
            "fd {}",
            end.as_fd().as_raw_fd()
        );
    }
    there.try_send(b"hi", &[]).unwrap();
    let mut buf = Vec::new();
    soon(here.recv(&mut buf)).await.unwrap().unwrap();
    assert_eq!(buf, b"hi");
    drop(listener);
    assert_eq!(
        Socket::connect(&path, SOON).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn a_full_backlog_is_waited_for_until_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listening = listen_at(&path).unwrap();
    net::listen(&listening, 0).unwrap();
    let _waiting = connect_now(&path).unwrap();
    let error = Socket::connect(&path, Duration::from_millis(20))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);

    let listener = Listener::new(listening).unwrap();
    let (third, first) = tokio::join!(Socket::connect(&path, SOON), soon(listener.accept()));
    third.unwrap();
    first.unwrap();
}

#[test]
fn failures_of_accept_are_told_apart() {
    let of = |errno: Errno| Refusal::of(&errno.into());
    assert_eq!(of(Errno::CONNABORTED), Refusal::Gone);
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
        assert_eq!(of(errno), Refusal::Starved);
    }
    assert_eq!(of(Errno::BADF), Refusal::Fatal);
    assert_eq!(of(Errno::INVAL), Refusal::Fatal);
    assert_eq!(Refusal::of(&io::Error::other("?")), Refusal::Fatal);
}

/// Runs in a process of its own, see below: it lowers the limit of descriptors.
#[test]
fn out_of_descriptors_child() {
    use nix::sys::{
        resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit},
        time::TimeValLike,
    };
    if std::env::var_os("SHMBUS_TEST_CHILD").is_none() {
        return;
    }
    let cpu = || {
        let used = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        (used.user_time() + used.system_time()).num_milliseconds()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = Listener::new(listen_at(&path).unwrap()).unwrap();
        let _waiting = connect_now(&path).unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let next = tempfile::tempfile().unwrap().as_raw_fd();
        setrlimit(Resource::RLIMIT_NOFILE, next as u64, hard).unwrap();
        let before = cpu();
        let starved = tokio::time::timeout(Duration::from_millis(300), listener.accept()).await;
        let used = cpu() - before;
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        assert!(starved.is_err(), "{starved:?}");
        assert!(listener.starved.load(Ordering::Relaxed));
        assert!(used < 50, "{used} ms of CPU in 300 ms");
        soon(listener.accept()).await.unwrap();
        assert!(!listener.starved.load(Ordering::Relaxed));
    });
    println!("child done");
}

#[test]
fn accept_waits_while_the_process_is_out_of_descriptors() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "session::socket::tests::out_of_descriptors_child",
            "--nocapture",
        ])
        .env("SHMBUS_TEST_CHILD", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("child done"),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
}
