//! When a process shall end.

use std::{future, io, time::Duration};

use nix::{
    sys::{prctl, signal::Signal},
    unistd::getppid,
};
use tokio::signal::unix::{SignalKind, signal};

/// Resolves when this process shall end: on SIGTERM or Ctrl-C, or after so many seconds (0: never). From the call
/// on, the two signals no longer kill the process.
///
/// A process that another example started (`launched_by` is its process id) leaves Ctrl-C, which the terminal
/// sends to all of them, to its parent, because they must end in order. Should the parent die, the kernel sends
/// SIGTERM in its place.
///
/// # Errors
/// If the kernel refuses a signal handler.
pub fn requested(launched_by: Option<i32>, seconds: u64) -> io::Result<impl Future<Output = ()> + use<>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let launched = launched_by.is_some();
    let mut orphaned = false;
    if let Some(parent) = launched_by {
        prctl::set_pdeathsig(Signal::SIGTERM)?;
        // It may have died before.
        orphaned = getppid().as_raw() != parent;
    }
    Ok(async move {
        let over = async {
            match seconds {
                _ if orphaned => (),
                0 => future::pending().await,
                seconds => tokio::time::sleep(Duration::from_secs(seconds)).await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv(), if !launched => (),
            () = over => (),
        }
    })
}
