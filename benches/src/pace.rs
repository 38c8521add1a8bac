//! Sending at a fixed rate, and keeping still.

use std::{
    io::Read,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::{Interest, unix::AsyncFd};

use crate::Result;

/// How a thread waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// In the kernel, with everything this thread runs.
    Blocking,
    /// As a task of a tokio runtime.
    Async,
}

impl Waiting {
    /// Waits so long.
    pub async fn pause(self, silence: Duration) {
        match self {
            Waiting::Blocking => std::thread::sleep(silence),
            Waiting::Async => tokio::time::sleep(silence).await,
        }
    }
}

/// A clock of the kernel's that goes off again and again: tokio's has a resolution of a millisecond. Every
/// system is paced by one, so that the wake-up of the sender is in all of their costs.
#[derive(Debug)]
pub enum Pace {
    /// For a thread that waits in the kernel.
    Blocking(std::fs::File),
    /// For a task.
    Async(AsyncFd<OwnedFd>),
}

impl Pace {
    /// Starts.
    ///
    /// # Errors
    /// If the kernel has no such clock.
    pub fn start(period: Duration, waiting: Waiting) -> Result<Self> {
        let flags = match waiting {
            Waiting::Blocking => TimerFlags::TFD_CLOEXEC,
            Waiting::Async => TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        };
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        timer.set(Expiration::Interval(period.into()), TimerSetTimeFlags::empty())?;
        let fd = timer.as_fd().try_clone_to_owned()?;
        Ok(match waiting {
            Waiting::Blocking => Pace::Blocking(fd.into()),
            Waiting::Async => Pace::Async(watched(fd)?),
        })
    }

    /// Waits for the next time. Gives how often it has come since the last.
    ///
    /// # Errors
    /// If the clock cannot be read.
    pub async fn next(&mut self) -> Result<u64> {
        let mut times = [0; 8];
        match self {
            Pace::Blocking(timer) => timer.read_exact(&mut times)?,
            Pace::Async(timer) => {
                timer
                    .async_io(Interest::READABLE, |fd| {
                        nix::unistd::read(fd, &mut times).map_err(Into::into)
                    })
                    .await?;
            }
        }
        Ok(u64::from_ne_bytes(times))
    }
}

/// A descriptor of the kernel's whose readability a task can await.
///
/// # Errors
/// Outside a tokio runtime with I/O.
// Deprecated for descriptors that others may close; these are owned, and never given away.
#[allow(deprecated)]
pub fn watched(fd: OwnedFd) -> Result<AsyncFd<OwnedFd>> {
    Ok(AsyncFd::with_interest(fd, Interest::READABLE)?)
}
