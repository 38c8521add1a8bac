//! Two eventfds under tokio, no bus: what it costs to wake a task in another process and be woken by it.

use std::{
    io::{IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    time::Instant,
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::unix::SOCKET;
use crate::{
    Result,
    case::Run,
    meter::{Meter, Tally, phases},
    payload,
    report::Driven,
};

/// The server's marks on the socket, and the answer to them.
const BEGIN: u8 = 1;
const END: u8 = 2;

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?)
}

// Deprecated for descriptors that others may close; these are owned, and never given away.
#[allow(deprecated)]
fn watched(bell: OwnedFd) -> Result<AsyncFd<OwnedFd>> {
    Ok(AsyncFd::with_interest(bell, Interest::READABLE)?)
}

async fn wait(bell: &AsyncFd<OwnedFd>) -> Result<()> {
    let mut count = [0; 8];
    bell.async_io(Interest::READABLE, |fd| {
        nix::unistd::read(fd, &mut count).map_err(Into::into)
    })
    .await?;
    Ok(())
}

fn ring(bell: &OwnedFd) -> Result<()> {
    nix::unistd::write(bell, &1u64.to_ne_bytes())?;
    Ok(())
}

/// See [`super::System::serve`].
pub(super) fn serve(run: &Run, ready: fn()) -> Result<()> {
    let listener = UnixListener::bind(run.dir.join(SOCKET))?;
    ready();
    let (socket, _) = listener.accept()?;
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let bells: [OwnedFd; 2] = [
        EventFd::from_flags(flags)?.into(),
        EventFd::from_flags(flags)?.into(),
    ];
    let fds = [bells[0].as_fd(), bells[1].as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    rights.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(&socket, &[IoSlice::new(&[0])], &mut rights, SendFlags::empty())?;
    let [ours, theirs] = bells;
    runtime()?.block_on(async {
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixStream::from_std(socket)?;
        let bell = watched(ours)?;
        let (mut tally, mut seq, mut mark) = (Tally::default(), 0, [0]);
        loop {
            tokio::select! {
                biased;
                rung = wait(&bell) => {
                    rung?;
                    tally.add(payload::expected(run.payload, seq));
                    seq += 1;
                    ring(&theirs)?;
                }
                marked = socket.readable() => {
                    marked?;
                    match socket.try_read(&mut mark) {
                        Ok(0) => return Ok(()),
                        Ok(_) if mark[0] == END => tally.end(),
                        Ok(_) => {
                            seq = 0;
                            tally.begin();
                        }
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                        Err(error) => return Err(error.into()),
                    }
                    socket.try_write(&mark)?;
                }
            }
        }
    })
}

fn mark(mut socket: &UnixStream, mark: u8) -> Result<()> {
    socket.write_all(&[mark])?;
    socket.read_exact(&mut [0])?;
    Ok(())
}

/// See [`super::System::drive`].
pub(super) fn drive(run: &Run) -> Result<Driven> {
    let socket = UnixStream::connect(run.dir.join(SOCKET))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    recvmsg(
        &socket,
        &mut [IoSliceMut::new(&mut [0])],
        &mut rights,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let bells: Vec<OwnedFd> = rights
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    let [theirs, ours]: [OwnedFd; 2] = bells.try_into().map_err(|_| "the server sent no eventfds")?;
    runtime()?.block_on(async {
        let bell = watched(ours)?;
        let mut driven = Driven::default();
        for (_, lasts) in phases(run) {
            mark(&socket, BEGIN)?;
            let mut meter = Meter::start(run, lasts);
            let mut now = Instant::now();
            while !meter.is_over_at(now) {
                let sum = payload::expected(run.payload, meter.send());
                ring(&theirs)?;
                wait(&bell).await?;
                now = meter.reply(now, sum);
            }
            driven = meter.stop();
            mark(&socket, END)?;
        }
        Ok(driven)
    })
}
