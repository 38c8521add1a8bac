//! Two eventfds under tokio, no bus: what it costs to wake a task in another process and be woken by it.
//!
//! Only the marks are sent, over a socket; messages are not carried but made up by whoever is woken.

use std::{
    io::ErrorKind,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, unix::AsyncFd};

use super::rights;
use crate::{
    Result,
    case::Run,
    pace::{Waiting, watched},
    payload,
    wire::{END, Wire, word},
};

/// One end.
pub(super) struct Bells {
    ours: AsyncFd<OwnedFd>,
    theirs: OwnedFd,
    socket: tokio::net::UnixStream,
    frame: Vec<u8>,
    /// Times this end was woken for which no message was made up yet, and the number of the next one.
    rung: u64,
    seq: u64,
    /// A mark that was read, to be handed out behind those.
    mark: Option<u64>,
    /// A client knows whether a mark or a message comes next.
    expects: Option<Expected>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Mark,
    Message,
}

impl Bells {
    /// The client makes the eventfds; called in a runtime.
    pub(super) fn client(run: &Run, socket: UnixStream) -> Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let (ours, theirs): (OwnedFd, OwnedFd) = (
            EventFd::from_flags(flags)?.into(),
            EventFd::from_flags(flags)?.into(),
        );
        rights::give(&socket, [theirs.as_fd(), ours.as_fd()])?;
        Self::new(run, socket, [ours, theirs], Some(Expected::Mark))
    }

    /// The server receives them; called in a runtime.
    pub(super) fn server(run: &Run, socket: UnixStream) -> Result<Self> {
        let bells = rights::take(&socket)?;
        Self::new(run, socket, bells, None)
    }

    fn new(
        run: &Run,
        socket: UnixStream,
        [ours, theirs]: [OwnedFd; 2],
        expects: Option<Expected>,
    ) -> Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            ours: watched(ours)?,
            theirs,
            socket: tokio::net::UnixStream::from_std(socket)?,
            frame: vec![0; run.payload()],
            rung: 0,
            seq: 0,
            mark: None,
            expects,
        })
    }
}

impl Bells {
    /// Reads the rest of a mark, and how often the bell was rung before it was sent.
    async fn read_mark(&mut self, read: usize) -> Result<()> {
        self.socket.read_exact(&mut self.frame[read..]).await?;
        self.mark = Some(word(&self.frame));
        let mut count = [0; 8];
        if nix::unistd::read(&self.ours, &mut count).is_ok() {
            self.rung = u64::from_ne_bytes(count);
        }
        Ok(())
    }
}

async fn woken(bell: &AsyncFd<OwnedFd>) -> Result<u64> {
    let mut count = [0; 8];
    bell.async_io(Interest::READABLE, |fd| {
        nix::unistd::read(fd, &mut count).map_err(Into::into)
    })
    .await?;
    Ok(u64::from_ne_bytes(count))
}

impl Wire for Bells {
    const WAITING: Waiting = Waiting::Async;

    async fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.frame);
        let is_mark = word(&self.frame) >= END;
        if is_mark {
            self.socket.write_all(&self.frame).await?;
            self.seq = 0;
        } else {
            nix::unistd::write(&self.theirs, &1u64.to_ne_bytes())?;
        }
        if let Some(expects) = &mut self.expects {
            *expects = if is_mark {
                Expected::Mark
            } else {
                Expected::Message
            };
        }
        Ok(())
    }

    async fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        while self.rung == 0 && self.mark.is_none() {
            match self.expects {
                Some(Expected::Message) => self.rung = woken(&self.ours).await?,
                Some(Expected::Mark) => self.read_mark(0).await?,
                None => tokio::select! {
                    rung = woken(&self.ours) => self.rung = rung?,
                    ready = self.socket.readable() => {
                        ready?;
                        match self.socket.try_read(&mut self.frame) {
                            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                            read => self.read_mark(read?).await?,
                        }
                    }
                },
            }
        }
        if self.rung > 0 {
            self.rung -= 1;
            payload::write(&mut self.frame, self.seq);
            self.seq += 1;
        } else {
            let mark = self.mark.take().unwrap_or(END);
            payload::write(&mut self.frame, mark);
            self.seq = 0;
        }
        Ok(read(&self.frame))
    }
}
