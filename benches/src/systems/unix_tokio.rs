//! A Unix socket under tokio, on a runtime of one thread; one call per message.

use std::{cell::RefCell, collections::VecDeque, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::Semaphore,
};

use crate::{
    Result,
    case::{IN_FLIGHT, Run},
    meter::Meter,
    pace::Waiting,
    payload,
    wire::Wire,
};

/// One call per message.
pub(super) struct UnixTokio {
    sockets: Vec<UnixStream>,
    next: usize,
    frame: Vec<u8>,
}

impl UnixTokio {
    /// Called in a runtime.
    pub(super) fn new(run: &Run, sockets: Vec<std::os::unix::net::UnixStream>) -> Result<Self> {
        let under_tokio = |socket: std::os::unix::net::UnixStream| {
            socket.set_nonblocking(true)?;
            UnixStream::from_std(socket)
        };
        Ok(Self {
            sockets: sockets.into_iter().map(under_tokio).collect::<Result<_, _>>()?,
            next: 0,
            frame: vec![0; run.payload()],
        })
    }
}

impl Wire for UnixTokio {
    const WAITING: Waiting = Waiting::Async;

    async fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.frame);
        for socket in &mut self.sockets {
            socket.write_all(&self.frame).await?;
        }
        Ok(())
    }

    async fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        self.sockets[self.next].read_exact(&mut self.frame).await?;
        self.next = (self.next + 1) % self.sockets.len();
        Ok(read(&self.frame))
    }

    /// A writing and a reading future, with [`IN_FLIGHT`] permits between them.
    async fn pipeline(&mut self, meter: &mut Meter) -> Result<()> {
        let payload = self.frame.len();
        let (mut input, mut output) = self.sockets[0].split();
        let permits = Semaphore::new(IN_FLIGHT);
        let shared = RefCell::new((meter, VecDeque::with_capacity(IN_FLIGHT)));
        let write = async {
            let mut frame = vec![0; payload];
            loop {
                permits.acquire().await?.forget();
                let now = Instant::now();
                let seq = {
                    let (meter, begun) = &mut *shared.borrow_mut();
                    if meter.is_over_at(now) {
                        return Ok::<_, Box<dyn std::error::Error>>(());
                    }
                    begun.push_back(now);
                    meter.send()
                };
                self::payload::write(&mut frame, seq);
                output.write_all(&frame).await?;
            }
        };
        let read = async {
            let mut frame = vec![0; payload];
            loop {
                input.read_exact(&mut frame).await?;
                let sum = self::payload::read(&frame);
                let (meter, begun) = &mut *shared.borrow_mut();
                let begun = begun.pop_front().ok_or("a reply too many")?;
                let now = meter.reply(begun, sum);
                permits.add_permits(1);
                if meter.is_over_at(now) && meter.in_flight() == 0 {
                    return Ok(());
                }
            }
        };
        tokio::try_join!(write, read)?;
        Ok(())
    }
}
