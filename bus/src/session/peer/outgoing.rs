//! Control frames on their way out: at once, or by the outbox when the socket has no room.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use super::Session;
use crate::{
    error::Bound,
    session::{frame::Frame, link::NoSend},
    shm::{
        faults::fault,
        pool::{DEDICATED, Pool},
        sync::lock,
    },
};

/// Most control frames that wait for room in the socket; a peer that lets more come together does not read.
const OUTBOX: usize = 4096;

/// Most bytes of control frames that wait for room in the socket: all names that a node may have are less.
const OUTBOX_BYTES: usize = 64 << 20;

/// A frame on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    bytes: rkyv::util::AlignedVec,
    fds: Vec<OwnedFd>,
}

impl Outgoing {
    pub(super) fn borrowed(&self) -> Vec<BorrowedFd<'_>> {
        self.fds.iter().map(AsFd::as_fd).collect()
    }
}

/// Whether this is what a socket says whose peer has hung up.
pub(super) fn is_end(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

impl Session {
    /// Sends a control frame, in order, now or as soon as the socket has room.
    pub(crate) fn send(&self, frame: &Frame, fds: &[BorrowedFd<'_>]) {
        // What a forked child drops is not for it to announce: the socket is its parent's. One system call, of which
        // control frames make several.
        if self.pid != std::process::id() {
            return;
        }
        let bytes = match frame.encode() {
            Ok(bytes) => bytes,
            Err(error) => return self.close(format!("a frame of ours cannot be sent: {error}")),
        };
        if let Some(what) = frame.announcement()
            && !self.unheard.add(what)
        {
            return self.close("the peer acknowledges nothing");
        }
        let mut outbox = lock(&self.outbox);
        if outbox.is_empty() {
            match self.socket.try_send(&bytes, fds) {
                Ok(()) => return,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                // The reader meets it, after the frames that came before it.
                Err(error) if is_end(&error) => return,
                // This frame is lost, `ETOOMANYREFS` say, and those after it would not be understood.
                Err(error) => return self.refused("a control frame", &error),
            }
        }
        let waiting: usize = outbox.iter().map(|frame| frame.bytes.len()).sum();
        if outbox.len() == OUTBOX || waiting > OUTBOX_BYTES {
            return self.close("the peer does not read its control frames");
        }
        let fds: Result<Vec<_>, _> = fds.iter().map(BorrowedFd::try_clone_to_owned).collect();
        match fds {
            Ok(fds) => outbox.push_back(Arc::new(Outgoing { bytes, fds })),
            Err(error) => return self.close(format!("no descriptor for a frame in waiting: {error}")),
        }
        drop(outbox);
        self.outbox_filled.notify_one();
    }

    /// Makes sure that the peer has been told of a pool segment before a descriptor names it.
    pub(crate) fn announce(&self, pool: &Pool, number: u32) -> Result<(), NoSend> {
        let bit = (number & DEDICATED == 0).then(|| (number as usize / 64, 1u64 << (number % 64)));
        if let Some((word, mask)) = bit
            // Relaxed: the bit is set after the frame was sent, and the kernel orders what follows.
            && self.announced[word].load(Ordering::Relaxed) & mask != 0
        {
            return Ok(());
        }
        self.announce_now(pool, number, bit)
    }

    #[cold]
    pub(super) fn announce_now(
        &self,
        pool: &Pool,
        number: u32,
        bit: Option<(usize, u64)>,
    ) -> Result<(), NoSend> {
        let segment = pool.segment(number).ok_or(NoSend::Lost)?;
        let frame = Frame::Segment {
            id: number,
            bytes: segment.bytes() as u64,
        };
        let bytes = frame.encode().map_err(|_| NoSend::Lost)?;
        let mut outbox = lock(&self.outbox);
        if let Some((word, mask)) = bit
            && self.announced[word].load(Ordering::Relaxed) & mask != 0
        {
            return Ok(());
        }
        fault!(Growing);
        // Not by way of the outbox: the socket must have it before the descriptor is seen.
        let sent = if outbox.is_empty() {
            self.socket.try_send(&bytes, &[segment.fd()])
        } else {
            Err(std::io::ErrorKind::WouldBlock.into())
        };
        match sent {
            Ok(()) => {
                if let Some((word, mask)) = bit {
                    self.announced[word].fetch_or(mask, Ordering::Relaxed);
                }
                fault!(Announced);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(NoSend::Lost),
            Err(_) => {
                // Who waits is woken once the outbox has been emptied. So there must be something in it: a frame that
                // says nothing, and that goes this way even if the socket has room again by now.
                self.socket_full.store(true, Ordering::SeqCst);
                if outbox.is_empty() {
                    let bytes = Frame::Unlink { link: u32::MAX }
                        .encode()
                        .map_err(|_| NoSend::Lost)?;
                    outbox.push_back(Arc::new(Outgoing { bytes, fds: vec![] }));
                    self.outbox_filled.notify_one();
                }
                Err(NoSend::Full(Bound::Socket))
            }
        }
    }

    /// Sends what waits in the outbox, for ever.
    pub(super) async fn flush(&self) -> std::io::Error {
        loop {
            let next = lock(&self.outbox).front().cloned();
            let Some(next) = next else {
                if self.socket_full.swap(false, Ordering::SeqCst) {
                    self.wake_senders();
                }
                self.outbox_filled.notified().await;
                continue;
            };
            if let Err(error) = self.socket.send(&next.bytes, &next.borrowed()).await {
                return error;
            }
            lock(&self.outbox).pop_front();
        }
    }

    pub(super) fn wake_senders(&self) {
        let links: Vec<_> = lock(&self.links)
            .by_id
            .values()
            .map(|(link, ..)| link.clone())
            .collect();
        for link in links {
            link.room.wake();
        }
    }
}
