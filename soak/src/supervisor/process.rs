//! A process as its supervisor holds it.

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::Sender,
    time::Instant,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{identity::Who, member::Place};

pub enum Heard {
    Line(String),
    End,
}

/// What a process has said.
pub struct Said {
    pub who: Who,
    pub heard: Heard,
}

/// Killed when dropped.
pub struct Process {
    pub place: Place,
    child: Child,
    orders: ChildStdin,
    /// It has joined and is at work.
    pub is_up: bool,
    /// It was told to leave.
    pub may_end: bool,
    /// It is stopped until then.
    pub thaws: Option<Instant>,
    /// Then it is killed instead.
    pub is_doomed: bool,
    pub answers: Vec<String>,
}

impl Process {
    pub fn start(place: Place, speaker: Sender<Said>) -> io::Result<Self> {
        let (name, value) = place.environment();
        let mut child = Command::new(std::env::current_exe()?)
            .env(name, value)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (orders, lines) = (child.stdin.take(), child.stdout.take());
        let (Some(orders), Some(lines)) = (orders, lines) else {
            return Err(io::Error::other("it has no pipes"));
        };
        let who = place.who;
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                let heard = Heard::Line(line);
                if speaker.send(Said { who, heard }).is_err() {
                    return;
                }
            }
            let heard = Heard::End;
            let _ = speaker.send(Said { who, heard });
        });
        Ok(Self {
            place,
            child,
            orders,
            is_up: false,
            may_end: false,
            thaws: None,
            is_doomed: false,
            answers: Vec::new(),
        })
    }

    pub fn say(&mut self, order: &str) {
        // If it is gone, its end is heard.
        let _ = writeln!(self.orders, "{order}");
    }

    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }

    pub fn stop(&mut self, until: Instant, is_doomed: bool) {
        self.signal(Signal::SIGSTOP);
        self.thaws = Some(until);
        self.is_doomed = is_doomed;
    }

    /// Whether a stop is over.
    pub fn thaw_if_due(&mut self, now: Instant) -> bool {
        if self.thaws.is_none_or(|at| at > now) {
            return false;
        }
        self.thaws = None;
        if !self.is_doomed {
            self.signal(Signal::SIGCONT);
        }
        true
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn wait(&mut self) -> Option<ExitStatus> {
        self.child.wait().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
