//! A blocking Unix socket of the standard library, one system call per message (and per part of messages
//! that are longer than its buffer).
//!
//! Frames have the payload's length; the first word of a frame, its sequence number, also says whether it is
//! one of the two marks, which are echoed.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
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
    case::{Case, IN_FLIGHT, Run},
    meter::{Meter, Tally, phases},
    payload,
    report::Driven,
};

/// The socket in the directory of a run.
pub(super) const SOCKET: &str = "socket";

/// First word of the frame before the first message.
pub(super) const BEGIN: u64 = u64::MAX;
/// First word of the frame after the last message.
pub(super) const END: u64 = u64::MAX - 1;

/// What a frame is.
pub(super) enum FrameKind {
    Begin,
    End,
    Message,
}

pub(super) fn kind(frame: &[u8]) -> FrameKind {
    match frame.first_chunk().map(|word| u64::from_ne_bytes(*word)) {
        Some(BEGIN) => FrameKind::Begin,
        Some(END) => FrameKind::End,
        _ => FrameKind::Message,
    }
}

/// Counts a frame. Returns whether it is to be echoed.
#[inline]
pub(super) fn take(frame: &[u8], tally: &mut Tally, case: Case) -> bool {
    match kind(frame) {
        FrameKind::Begin => tally.begin(),
        FrameKind::End => tally.end(),
        FrameKind::Message => {
            tally.add(payload::read(frame));
            return case.is_round_trip();
        }
    }
    true
}

pub(super) fn accept(run: &Run, ready: fn()) -> Result<UnixStream> {
    let listener = UnixListener::bind(run.dir.join(SOCKET))?;
    ready();
    Ok(listener.accept()?.0)
}

pub(super) fn connect(run: &Run) -> Result<UnixStream> {
    Ok(UnixStream::connect(run.dir.join(SOCKET))?)
}

/// Whether reading failed because the other end has left.
pub(super) fn is_end(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
    )
}

/// See [`super::System::serve`].
pub(super) fn serve(run: &Run, ready: fn()) -> Result<()> {
    let mut socket = accept(run, ready)?;
    let (mut frame, mut tally) = (vec![0; run.payload], Tally::default());
    loop {
        match socket.read_exact(&mut frame) {
            Err(error) if is_end(&error) => return Ok(()),
            done => done?,
        }
        if take(&frame, &mut tally, run.case) {
            socket.write_all(&frame)?;
        }
    }
}

/// Sends a mark and waits until it has come back.
pub(super) fn mark(socket: &mut UnixStream, frame: &mut [u8], which: u64) -> Result<()> {
    frame[..8].copy_from_slice(&which.to_ne_bytes());
    socket.write_all(frame)?;
    socket.read_exact(frame)?;
    Ok(())
}

/// See [`super::System::drive`].
pub(super) fn drive(run: &Run) -> Result<Driven> {
    let mut socket = connect(run)?;
    let mut frame = vec![0; run.payload];
    let mut driven = Driven::default();
    for (_, lasts) in phases(run) {
        mark(&mut socket, &mut frame, BEGIN)?;
        let mut meter = Meter::start(run, lasts);
        match run.case {
            Case::Ask => {
                let mut now = Instant::now();
                while !meter.is_over_at(now) {
                    payload::write(&mut frame, meter.send());
                    socket.write_all(&frame)?;
                    socket.read_exact(&mut frame)?;
                    now = meter.reply(now, payload::read(&frame));
                }
            }
            Case::Ask64 => pipeline(&mut socket, run.payload, run.payload, &mut meter)?,
            Case::Tell => {
                while !meter.is_over() {
                    payload::write(&mut frame, meter.send());
                    socket.write_all(&frame)?;
                }
            }
        }
        if run.case == Case::Tell {
            // What was sent has arrived when the mark after it comes back.
            mark(&mut socket, &mut frame, END)?;
            driven = meter.stop();
        } else {
            driven = meter.stop();
            mark(&mut socket, &mut frame, END)?;
        }
    }
    Ok(driven)
}

/// Keeps [`IN_FLIGHT`] messages of `payload` bytes on their way, writing and reading up to `chunk` bytes per
/// call. It never waits for room alone, so both ends cannot wait for each other.
pub(super) fn pipeline(
    socket: &mut UnixStream,
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
