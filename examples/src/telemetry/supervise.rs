//! Starts the three processes, and ends them together.
//!
//! They end in this order: the sampler, which tells the analyst how many messages there were; the viewer, which
//! asks the analyst a last time; the analyst. So the totals at the end are final.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    select,
    task::JoinHandle,
    time::timeout,
};

use shmbus_examples::stop;

use crate::{
    Failure,
    args::{Options, Role},
    screen::Saved,
};

/// How long all three run if the options do not say.
const SECONDS: u64 = 10;
/// How long one of them may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How many of the first lines are kept of what one of them complains about.
const LINES: usize = 20;

/// Runs all three for as long as the options say, or until Ctrl-C.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let mut stop = pin!(stop::requested(None, options.seconds.unwrap_or(SECONDS))?);
    // Two of these programs at once shall not meet, so the bus is named after this process.
    let bus = options
        .bus
        .clone()
        .unwrap_or_else(|| format!("telemetry-{}", std::process::id()));
    let terminal = Saved::now();
    let mut sampler = Member::start(Role::Sampler, options, &bus)?;
    let mut viewer = Member::start(Role::Viewer, options, &bus)?;
    let mut analyst = Member::start(Role::Analyst, options, &bus)?;

    let early = select! {
        () = &mut stop => None,
        status = sampler.process.wait() => Some((Role::Sampler, status?)),
        status = viewer.process.wait() => Some((Role::Viewer, status?)),
        status = analyst.process.wait() => Some((Role::Analyst, status?)),
    };
    let mut problems = Vec::new();
    if let Some((role, status)) = early
        && !was_asked(status)
    {
        problems.push(format!("the {} ended early ({status})", role.name()));
    }
    for member in [&mut sampler, &mut viewer, &mut analyst] {
        let role = member.role;
        let (status, in_time) = member.end().await?;
        if !in_time {
            problems.push(format!(
                "the {} had to be killed: it did not end within {GRACE:?}",
                role.name()
            ));
        } else if !status.success() && !was_asked(status) && early.is_none_or(|(first, _)| first != role) {
            problems.push(format!("the {} failed ({status})", role.name()));
        }
        if role == Role::Viewer
            && status.signal().is_some()
            && let Some(terminal) = &terminal
        {
            terminal.restore()?;
        }
    }
    // Only now the terminal is free for what they had to say.
    for member in [sampler, analyst] {
        for line in member.complaints().await {
            eprintln!("{line}");
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("; ").into())
    }
}

/// Whether it was killed by a request to end that came before it could listen to requests: Ctrl-C in the very
/// first moment, which the terminal sends to all of them, or this program's own.
fn was_asked(status: ExitStatus) -> bool {
    [Signal::SIGINT, Signal::SIGTERM]
        .iter()
        .any(|&signal| status.signal() == Some(signal as i32))
}

/// One of the three processes.
struct Member {
    role: Role,
    process: Child,
    complaints: Option<JoinHandle<Vec<String>>>,
}

impl Member {
    fn start(role: Role, options: &Options, bus: &str) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(options.command_line(role, bus, std::process::id()))
            .kill_on_drop(true);
        if role != Role::Viewer {
            // The terminal is the viewer's.
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
        }
        let mut process = command
            .spawn()
            .map_err(|error| format!("cannot start the {}: {error}", role.name()))?;
        let complaints = process
            .stderr
            .take()
            .map(|stderr| tokio::spawn(first_lines(stderr)));
        Ok(Self {
            role,
            process,
            complaints,
        })
    }

    /// Asks it to end, and waits until it has: how it ended, and whether that was in time.
    async fn end(&mut self) -> io::Result<(ExitStatus, bool)> {
        // Without an id it was waited for already; with one it can't be another process, even if it has ended.
        if let Some(id) = self.process.id() {
            kill(Pid::from_raw(id as i32), Signal::SIGTERM)?;
        }
        match timeout(GRACE, self.process.wait()).await {
            Ok(status) => Ok((status?, true)),
            Err(_) => {
                self.process.kill().await?;
                Ok((self.process.wait().await?, false))
            }
        }
    }

    async fn complaints(self) -> Vec<String> {
        match self.complaints {
            Some(reader) => reader.await.unwrap_or_default(),
            None => Vec::new(),
        }
    }
}

/// Reads to the end, so that the writer is never blocked, and keeps the beginning, which names the cause.
async fn first_lines(stderr: ChildStderr) -> Vec<String> {
    let mut lines = BufReader::new(stderr).lines();
    let mut kept = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if kept.len() < LINES {
            kept.push(line);
        }
    }
    kept
}
