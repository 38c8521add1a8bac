//! A blocking Unix socket of the standard library, one system call per message (and per part of messages
//! that are longer than its buffer).

use std::{
    collections::VecDeque,
    io::{Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::{UnixListener, UnixStream},
    },
    time::Instant,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, send},
};

use crate::{
    Result,
    case::{IN_FLIGHT, Run},
    meter::Meter,
    pace::Waiting,
    payload,
    wire::Wire,
};

fn path(run: &Run, server: usize) -> std::path::PathBuf {
    run.dir.join(format!("socket-{server}"))
}

/// The client, as this server sees it.
pub(super) fn accept(run: &Run, ready: fn()) -> Result<UnixStream> {
    let listener = UnixListener::bind(path(run, run.index()))?;
    ready();
    Ok(listener.accept()?.0)
}

/// All servers, as the client sees them.
pub(super) fn connect(run: &Run) -> Result<Vec<UnixStream>> {
    (0..run.point.receivers)
        .map(|server| Ok(UnixStream::connect(path(run, server))?))
        .collect()
}

/// One call per message.
pub(super) struct Unix {
    sockets: Vec<UnixStream>,
    next: usize,
    frame: Vec<u8>,
}

impl Unix {
    pub(super) fn new(run: &Run, sockets: Vec<UnixStream>) -> Self {
        Self {
            sockets,
            next: 0,
            frame: vec![0; run.payload()],
        }
    }
}

impl Wire for Unix {
    const WAITING: Waiting = Waiting::Blocking;

    async fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.frame);
        for socket in &mut self.sockets {
            socket.write_all(&self.frame)?;
        }
        Ok(())
    }

    async fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        self.sockets[self.next].read_exact(&mut self.frame)?;
        self.next = (self.next + 1) % self.sockets.len();
        Ok(read(&self.frame))
    }

    async fn pipeline(&mut self, meter: &mut Meter) -> Result<()> {
        pipeline(&self.sockets[0], self.frame.len(), self.frame.len(), meter)
    }
}

/// Keeps [`IN_FLIGHT`] messages of `payload` bytes on their way, writing and reading up to `chunk` bytes per
/// call. It never waits for room alone, so both ends cannot wait for each other.
pub(super) fn pipeline(
    mut socket: &UnixStream,
    payload: usize,
    chunk: usize,
    meter: &mut Meter,
) -> Result<()> {
    let mut out = Vec::with_capacity(chunk + payload);
    let mut written = 0;
    let mut input = vec![0; chunk.max(payload)];
    let mut filled = 0;
    let mut begun = VecDeque::with_capacity(IN_FLIGHT);
    let mut now = Instant::now();
    let mut over = false;
    loop {
        if written == out.len() {
            out.clear();
            written = 0;
        }
        // A frame that is partly written is finished before another is begun.
        while written == 0
            && out.len() + payload <= chunk.max(payload)
            && meter.in_flight() < IN_FLIGHT
            && !over
        {
            let at = out.len();
            out.resize(at + payload, 0);
            self::payload::write(&mut out[at..], meter.send());
            begun.push_back(now);
        }
        if meter.in_flight() == 0 {
            return Ok(());
        }
        if written < out.len() {
            match send(socket.as_raw_fd(), &out[written..], MsgFlags::MSG_DONTWAIT) {
                Ok(bytes) => written += bytes,
                Err(Errno::EAGAIN) => {
                    let wanted = PollFlags::POLLIN | PollFlags::POLLOUT;
                    let mut fds = [PollFd::new(socket.as_fd(), wanted)];
                    poll(&mut fds, PollTimeout::NONE)?;
                    if !fds[0]
                        .revents()
                        .is_some_and(|ready| ready.contains(PollFlags::POLLIN))
                    {
                        continue;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            // One message per call: write on while there is more to send.
            if chunk <= payload && written == out.len() && meter.in_flight() < IN_FLIGHT && !over {
                continue;
            }
            if written < out.len() && meter.in_flight() == 1 {
                continue;
            }
        }
        let bytes = socket.read(&mut input[filled..])?;
        if bytes == 0 {
            return Err("the server has left".into());
        }
        filled += bytes;
        let whole = filled / payload * payload;
        for frame in input[..whole].chunks_exact(payload) {
            let begun = begun.pop_front().ok_or("a reply too many")?;
            now = meter.reply(begun, self::payload::read(frame));
        }
        over = meter.is_over_at(now);
        input.copy_within(whole..filled, 0);
        filled -= whole;
    }
}
