//! A blocking Unix socket with 64 KiB buffers on both sides: many small messages per system call.

use std::{
    io::{BufRead, BufReader, BufWriter, Read, Write},
    os::unix::net::UnixStream,
};

use super::unix;
use crate::{Result, case::Run, meter::Meter, pace::Waiting, wire::Wire};

const BUFFER: usize = 64 << 10;

/// Writes are gathered until this end is about to wait.
pub(super) struct Buffered {
    sockets: Vec<(BufReader<UnixStream>, BufWriter<UnixStream>)>,
    next: usize,
    frame: Vec<u8>,
}

impl Buffered {
    pub(super) fn new(run: &Run, sockets: Vec<UnixStream>) -> Result<Self> {
        let mut both = Vec::with_capacity(sockets.len());
        for socket in sockets {
            let output = BufWriter::with_capacity(BUFFER, socket.try_clone()?);
            both.push((BufReader::with_capacity(BUFFER, socket), output));
        }
        Ok(Self {
            sockets: both,
            next: 0,
            frame: vec![0; run.payload()],
        })
    }
}

impl Wire for Buffered {
    const WAITING: Waiting = Waiting::Blocking;

    async fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.frame);
        for (_, output) in &mut self.sockets {
            output.write_all(&self.frame)?;
        }
        Ok(())
    }

    async fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let len = self.frame.len();
        let turn = self.next;
        self.next = (turn + 1) % self.sockets.len();
        let (input, output) = &mut self.sockets[turn];
        // A message that lies in the buffer whole is read there.
        if let Some(frame) = input.buffer().get(..len) {
            let value = read(frame);
            input.consume(len);
            return Ok(value);
        }
        // About to wait: let go of what was gathered.
        output.flush()?;
        if input.buffer().is_empty() && len <= BUFFER {
            let filled = input.fill_buf()?;
            if let Some(frame) = filled.get(..len) {
                let value = read(frame);
                input.consume(len);
                return Ok(value);
            }
        }
        input.read_exact(&mut self.frame)?;
        Ok(read(&self.frame))
    }

    async fn flush(&mut self) -> Result<()> {
        for (_, output) in &mut self.sockets {
            output.flush()?;
        }
        Ok(())
    }

    async fn pipeline(&mut self, meter: &mut Meter) -> Result<()> {
        // Nothing is buffered here between two marks.
        unix::pipeline(self.sockets[0].1.get_ref(), self.frame.len(), BUFFER, meter)
    }
}
