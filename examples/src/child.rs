//! Processes that a program starts from its own executable, and ends before it ends itself.

use std::{
    ffi::OsString, future::poll_fn, io, os::unix::process::ExitStatusExt, pin::Pin, process::ExitStatus,
    task::Poll, time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// How long a child may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// The children that are running. Those that are left when this is dropped are killed.
#[derive(Debug, Default)]
pub struct Family {
    members: Vec<(String, Child)>,
}

impl Family {
    /// Starts this executable once more, with these arguments and `--launched-by` this process.
    ///
    /// # Errors
    /// If there can be no such process.
    pub fn start(&mut self, name: impl Into<String>, line: Vec<OsString>) -> io::Result<()> {
        let child = Command::new(std::env::current_exe()?)
            .args(line)
            .args(["--launched-by", &std::process::id().to_string()])
            // Ctrl-C in a terminal is for the foreground group: the children end when this process says so.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        self.members.push((name.into(), child));
        Ok(())
    }

    /// Sends a signal. False if there is no such child, or it has ended.
    pub fn signal(&self, name: &str, signal: Signal) -> bool {
        let member = self.members.iter().find(|(of, _)| of == name);
        // A child with an id was not waited for yet, so the id can't be another process's.
        let id = member.and_then(|(_, child)| child.id());
        id.is_some_and(|id| kill(Pid::from_raw(id as i32), signal).is_ok())
    }

    /// Kills a child, and waits until it is dead. It is no member any more. False if there is none of that name.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn kill(&mut self, name: &str) -> io::Result<bool> {
        let Some(at) = self.members.iter().position(|(of, _)| of == name) else {
            return Ok(false);
        };
        let (_, mut child) = self.members.remove(at);
        child.kill().await?;
        Ok(true)
    }

    /// Waits until one of them ends, and which it was. Cancel safe.
    ///
    /// # Errors
    /// If the kernel refuses to wait.
    pub async fn one_ended(&mut self) -> io::Result<(String, ExitStatus)> {
        let (at, status) = {
            let waits = self.members.iter_mut().map(|(_, child)| Box::pin(child.wait()));
            let mut waits: Vec<Pin<Box<_>>> = waits.collect();
            poll_fn(|cx| {
                for (at, wait) in waits.iter_mut().enumerate() {
                    if let Poll::Ready(status) = wait.as_mut().poll(cx) {
                        return Poll::Ready((at, status));
                    }
                }
                Poll::Pending
            })
            .await
        };
        Ok((self.members.remove(at).0, status?))
    }

    /// Asks all of them to end, and waits until they have. `Err` tells who had to be killed, or failed.
    ///
    /// # Errors
    /// As said, in words.
    pub async fn end(&mut self) -> Result<(), String> {
        for (name, _) in &self.members {
            self.signal(name, Signal::SIGTERM);
            // One that was stopped could not take the request.
            self.signal(name, Signal::SIGCONT);
        }
        let mut problems = Vec::new();
        for (name, child) in &mut self.members {
            match timeout(GRACE, child.wait()).await {
                // Killed by the request itself: it came before the child listened to requests.
                Ok(Ok(status)) if status.success() || status.signal() == Some(Signal::SIGTERM as i32) => {}
                Ok(Ok(status)) => problems.push(format!("the {name} failed ({status})")),
                Ok(Err(error)) => problems.push(format!("the {name}: {error}")),
                Err(_) => {
                    problems.push(format!(
                        "the {name} had to be killed: it did not end within {GRACE:?}"
                    ));
                    if let Err(error) = child.kill().await {
                        problems.push(format!("the {name}: {error}"));
                    }
                }
            }
        }
        self.members.clear();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems.join("; "))
        }
    }
}
