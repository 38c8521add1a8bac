//! shmipc 0.2 (crates.io), one stream of one session per server, written in place (`reserve`) and read in place
//! (`read_exact_bytes`).
//!
//! Tuned as its own benches are: shared memory of 256 MiB by memfd (more where 64 messages in flight would not
//! fit), slices as long as a message, an IO queue of 65,536 entries, a retry after 1 us when that is full. The tokio
//! runtime has one thread, on which shmipc was faster than on several, which its benches use. Where
//! messages are not answered, the receiver acknowledges half a window at a time: when its memory is full shmipc falls
//! back to the socket, for good.

use std::{os::unix::net::SocketAddr, time::Duration};

use shmipc::{
    Error, Listener,
    buffer::BufferReader,
    config::{Config, ProtocolMode, SizePercentPair},
    consts::MemMapType,
    session::{SessionManager, SessionManagerConfig},
    stream::Stream,
    transport::{DefaultUnixConnect, DefaultUnixListen},
};

use crate::{
    Result,
    case::{IN_FLIGHT, Role, Run},
    pace::Waiting,
    wire::{END, Wire, word},
};

/// How a receiver is woken.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    /// Protocol 3, which is the default: by a message on the socket.
    Socket,
    /// Protocol 4 with eventfds, which its README recommends for small messages.
    Eventfd,
}

/// Most messages that are not acknowledged.
fn window(run: &Run) -> u64 {
    ((64 << 20) / run.payload()).clamp(8, 1024) as u64
}

fn config(run: &Run, mode: Mode) -> Result<Config> {
    let payload = u32::try_from(run.payload())?;
    let room = run.payload() * 3 * (IN_FLIGHT + 16);
    let mut base = Config::default();
    if let Mode::Eventfd = mode {
        base = base.with_v4_eventfd();
        // Another mode than the one that is said to be measured would be worse than none.
        base.protocol.mode = ProtocolMode::V4 { fallback: false };
    }
    let mut config = Config {
        mem_map_type: MemMapType::MemMapTypeMemFd,
        queue_cap: 65_536,
        connection_write_timeout: Duration::from_secs(1),
        // Its default of 1 s is short on a busy machine.
        initialize_timeout: Duration::from_secs(10),
        share_memory_buffer_cap: u32::try_from(room.max(256 << 20))?,
        buffer_slice_sizes: vec![SizePercentPair {
            size: payload + 256,
            percent: 100,
        }],
        ..base
    };
    // Only a name: the memory has none in the file system.
    let name = run.dir.join("shm");
    config.share_memory_path_prefix = name.to_str().ok_or("the directory's name is not text")?.into();
    config.verify()?;
    Ok(config)
}

fn path(run: &Run, server: usize) -> Result<SocketAddr> {
    Ok(SocketAddr::from_pathname(
        run.dir.join(format!("socket-{server}")),
    )?)
}

/// One end.
pub(super) struct Shmipc {
    streams: Vec<Stream>,
    turn: usize,
    payload: usize,
    answers: bool,
    acks: Option<Acks>,
    // What must live as long.
    _sessions: Vec<SessionManager<DefaultUnixConnect>>,
    _listener: Option<Listener>,
}

/// Of messages that are not answered.
struct Acks {
    /// So many messages are acknowledged at once, by a word.
    every: u64,
    /// Messages sent, or received.
    messages: u64,
    /// Acknowledgements read.
    read: u64,
}

impl Shmipc {
    pub(super) async fn new(run: &Run, mode: Mode, ready: fn()) -> Result<Self> {
        let mut end = Self {
            streams: Vec::new(),
            turn: 0,
            payload: run.payload(),
            answers: matches!(run.role, Role::Server(_)),
            acks: (!run.case().is_round_trip()).then(|| Acks {
                every: window(run) / 2,
                messages: 0,
                read: 0,
            }),
            _sessions: Vec::new(),
            _listener: None,
        };
        match run.role {
            Role::Server(index) => {
                let address = path(run, index)?;
                let mut listener = Listener::new(DefaultUnixListen, address, config(run, mode)?).await?;
                ready();
                // Only the client opens streams, and the server hears of one with its first message.
                end.streams.push(listener.accept().await?);
                end._listener = Some(listener);
            }
            Role::Client(_) => {
                for server in 0..run.point.receivers {
                    let config = SessionManagerConfig::new()
                        .with_config(config(run, mode)?)
                        .with_session_num(1);
                    let session = SessionManager::new(config, DefaultUnixConnect, path(run, server)?).await?;
                    end.streams.push(session.get_stream()?);
                    end._sessions.push(session);
                }
            }
        }
        Ok(end)
    }

    /// Waits until at most so many acknowledgements are missing.
    async fn acknowledged(&mut self, missing: u64) -> Result<()> {
        let Some(acks) = self.acks.as_mut().filter(|_| !self.answers) else {
            return Ok(());
        };
        while acks.messages / acks.every > acks.read + missing {
            for stream in &mut self.streams {
                stream.read_exact_bytes(ACK.len()).await?;
                stream.recv_buf().release_previous_read();
            }
            acks.read += 1;
        }
        Ok(())
    }
}

const ACK: [u8; 8] = [1; 8];

/// Hands over what was written.
async fn flush(stream: &mut Stream) -> Result<()> {
    loop {
        match stream.flush(false).await {
            Err(Error::QueueFull) => tokio::time::sleep(Duration::from_micros(1)).await,
            done => return Ok(done?),
        }
    }
}

impl Wire for Shmipc {
    const WAITING: Waiting = Waiting::Async;

    async fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let (first, others) = self.streams.split_first_mut().ok_or("no stream")?;
        let frame = first.reserve(self.payload)?;
        fill(frame);
        let is_mark = word(frame) >= END;
        for stream in others {
            stream.reserve(self.payload)?.copy_from_slice(frame);
        }
        for stream in &mut self.streams {
            flush(stream).await?;
        }
        match &mut self.acks {
            Some(acks) if !is_mark => {
                acks.messages += 1;
                self.acknowledged(1).await
            }
            // Nothing else is under way when a mark comes back.
            _ => self.acknowledged(0).await,
        }
    }

    async fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let turn = self.turn;
        self.turn = (turn + 1) % self.streams.len();
        let stream = &mut self.streams[turn];
        let frame = stream.read_exact_bytes(self.payload).await?;
        let is_mark = word(&frame) >= END;
        let value = read(&frame);
        drop(frame);
        if self.answers {
            stream.recv_buf().release_previous_read();
        } else {
            stream.release_read_and_reuse();
        }
        if let (Some(acks), true, false) = (&mut self.acks, self.answers, is_mark) {
            acks.messages += 1;
            if acks.messages.is_multiple_of(acks.every) {
                stream.write_bytes(&ACK)?;
                flush(stream).await?;
            }
        }
        Ok(value)
    }
}
