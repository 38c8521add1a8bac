//! Starts the processes, brings chaos over them, makes peace, and reckons.

mod audit;
mod process;

use std::{
    fs,
    io::IsTerminal,
    path::Path,
    process::ExitCode,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::signal::Signal;

use crate::{
    args::Args,
    dice::Dice,
    identity::Who,
    ledger::Books,
    member::{PATIENCE, Place},
};
use process::{Heard, Process, Said};

/// A run that does not hold.
type Failed = String;

#[derive(Debug, Default)]
struct Tally {
    started: u32,
    killed: u32,
    left: u32,
    stopped: u32,
}

struct Supervisor {
    args: Args,
    dir: tempfile::TempDir,
    books: Books,
    dice: Dice,
    /// By place. `None`: nobody is there until then.
    processes: Vec<Result<Process, Instant>>,
    incarnations: Vec<u32>,
    /// Every process there was, and whether it lives to the end.
    all: Vec<Who>,
    heard: Receiver<Said>,
    speaker: std::sync::mpsc::Sender<Said>,
    tally: Tally,
}

pub fn run(args: &Args) -> ExitCode {
    println!(
        "{} processes, {:.1} minutes, --seed {}",
        args.processes,
        args.lasts.as_secs_f64() / 60.0,
        args.seed
    );
    let began = Instant::now();
    let mut supervisor = match Supervisor::new(args) {
        Ok(supervisor) => supervisor,
        Err(error) => {
            eprintln!("cannot begin: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = supervisor.soak();
    for process in supervisor.processes.iter_mut().flatten() {
        process.kill();
    }
    let Tally {
        started,
        killed,
        left,
        stopped,
    } = supervisor.tally;
    println!(
        "{started} processes started, {killed} killed, {left} left, {stopped} times stopped; {:.0} s",
        began.elapsed().as_secs_f64()
    );
    match outcome {
        Ok(sums) => {
            print!("{sums}");
            println!("all adds up, and nothing is held");
            if supervisor.args.keep {
                println!("ledgers: {}", supervisor.dir.keep().display());
            }
            ExitCode::SUCCESS
        }
        Err(failed) => {
            eprintln!("FAILED: {failed}");
            let seed = supervisor.args.seed;
            eprintln!("--seed {seed}; ledgers: {}", supervisor.dir.keep().display());
            ExitCode::FAILURE
        }
    }
}

/// Sockets that are left.
fn sockets(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".sock"))
        .collect()
}

impl Supervisor {
    fn new(args: &Args) -> std::io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("shmbus-soak-").tempdir()?;
        let books = Books::new(dir.path());
        books.make()?;
        let (speaker, heard) = channel();
        let args = Args { ..*args };
        Ok(Self {
            dice: Dice::part(args.seed, u64::MAX, 0),
            processes: Vec::new(),
            incarnations: vec![0; args.processes.into()],
            all: Vec::new(),
            heard,
            speaker,
            tally: Tally::default(),
            args,
            dir,
            books,
        })
    }

    fn start(&mut self, slot: u16) -> Result<Process, Failed> {
        let incarnation = &mut self.incarnations[usize::from(slot)];
        *incarnation += 1;
        let place = Place {
            who: Who::new(slot, *incarnation),
            places: self.args.processes,
            steady: self.args.processes / 4,
            seed: self.args.seed,
            dir: self.dir.path().to_owned(),
        };
        self.tally.started += 1;
        self.all.push(place.who);
        Process::start(place, self.speaker.clone())
            .map_err(|error| format!("a process cannot be started: {error}"))
    }

    fn soak(&mut self) -> Result<String, Failed> {
        // One after the other as long as they are steady: who comes later meets all of them.
        for slot in 0..self.args.processes {
            let process = self.start(slot)?;
            let steady = process.place.is_steady();
            self.processes.push(Ok(process));
            if steady {
                self.until("the steady ones are up", |process| process.is_up)?;
            }
        }
        self.chaos()?;
        self.peace()
    }

    /// Takes what the processes say, for at most so long.
    fn listen(&mut self, within: Duration) -> Result<bool, Failed> {
        let said = match self.heard.recv_timeout(within) {
            Ok(said) => said,
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            Err(RecvTimeoutError::Disconnected) => return Err("nobody speaks any more".into()),
        };
        let who = said.who;
        let slot = usize::from(who.slot());
        let process = match self.processes.get_mut(slot) {
            Some(Ok(process)) if process.place.who == who => process,
            // It was killed, and said something before.
            _ => match said.heard {
                Heard::Line(line) if line.starts_with("FAULT") => return Err(format!("{who}: {line}")),
                _ => return Ok(true),
            },
        };
        match said.heard {
            Heard::Line(line) if line.starts_with("FAULT") => return Err(format!("{who}: {line}")),
            Heard::Line(line) if line == "up" => process.is_up = true,
            Heard::Line(line) => process.answers.push(line),
            Heard::End => {
                let status = process.wait();
                if !process.may_end || !status.is_some_and(|status| status.success()) {
                    let answers = &process.answers;
                    return Err(format!("{who} ended with {status:?}, after {answers:?}"));
                }
                self.tally.left += 1;
                self.vacate(who)?;
            }
        }
        Ok(true)
    }

    fn vacate(&mut self, who: Who) -> Result<(), Failed> {
        let close = self.books.close(who);
        close.map_err(|error| format!("the ledger of {who} cannot be moved: {error}"))?;
        let pause = self.dice.millis(0, 500);
        self.processes[usize::from(who.slot())] = Err(Instant::now() + pause);
        Ok(())
    }

    fn until(&mut self, what: &str, condition: impl Fn(&Process) -> bool) -> Result<(), Failed> {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            let mut waiting = self
                .processes
                .iter()
                .flatten()
                .filter(|process| !condition(process));
            let Some(late) = waiting.next() else {
                return Ok(());
            };
            if Instant::now() > deadline {
                return Err(format!(
                    "not within {PATIENCE:?}: {what}: {} has said {:?}",
                    late.place.who, late.answers
                ));
            }
            self.listen(Duration::from_millis(20))?;
        }
    }

    /// All are told something, and all answer.
    fn round(&mut self, order: &str, answer: &str) -> Result<(), Failed> {
        for process in self.processes.iter_mut().flatten() {
            process.answers.clear();
            process.say(order);
        }
        self.until(order, |process| process.answers.iter().any(|said| said == answer))
    }

    fn chaos(&mut self) -> Result<(), Failed> {
        let bar = ProgressBar::new(self.args.lasts.as_secs());
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} s  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let began = Instant::now();
        let mut next = began;
        while began.elapsed() < self.args.lasts {
            let now = Instant::now();
            for slot in 0..self.args.processes {
                let place = &mut self.processes[usize::from(slot)];
                match place {
                    Ok(process) => {
                        if process.thaw_if_due(now) && process.is_doomed {
                            self.kill(slot)?;
                        }
                    }
                    Err(since) if *since <= now => {
                        let process = self.start(slot)?;
                        self.processes[usize::from(slot)] = Ok(process);
                    }
                    Err(_) => {}
                }
            }
            if now >= next {
                next = now + self.dice.millis(20, 300);
                self.strike()?;
                bar.set_position(began.elapsed().as_secs());
                let Tally {
                    killed,
                    left,
                    stopped,
                    ..
                } = self.tally;
                bar.set_message(format!("{killed} killed, {left} left, {stopped} stopped"));
            }
            while self.listen(Duration::from_millis(5))? {}
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn kill(&mut self, slot: u16) -> Result<(), Failed> {
        let Ok(process) = &mut self.processes[usize::from(slot)] else {
            return Ok(());
        };
        process.kill();
        let who = process.place.who;
        self.tally.killed += 1;
        self.vacate(who)
    }

    fn strike(&mut self) -> Result<(), Failed> {
        let slot = self.dice.below(self.args.processes.into()) as u16;
        let (action, pause) = (self.dice.below(10), self.dice.millis(1, 400));
        let Ok(process) = &mut self.processes[usize::from(slot)] else {
            return Ok(());
        };
        if process.thaws.is_some() || process.may_end {
            return Ok(());
        }
        // Not in the midst of joining: that holds up others for as long as a handshake may take.
        if !process.is_up {
            return match process.place.is_steady() || action < 8 {
                true => Ok(()),
                false => self.kill(slot),
            };
        }
        let steady = process.place.is_steady();
        match action {
            0..=3 => {
                process.stop(Instant::now() + pause, false);
                self.tally.stopped += 1;
            }
            4..=5 if !steady => return self.kill(slot),
            6 if !steady => {
                process.stop(Instant::now() + pause, true);
                self.tally.stopped += 1;
            }
            7..=8 if !steady => {
                process.may_end = true;
                process.say("leave");
            }
            _ => {}
        }
        Ok(())
    }

    fn peace(&mut self) -> Result<String, Failed> {
        for process in self.processes.iter_mut().flatten() {
            if process.thaws.take().is_some() {
                process.signal(Signal::SIGCONT);
            }
        }
        // Those that leave take their time.
        self.until("all who leave have gone", |process| {
            !process.may_end && process.is_up
        })?;
        self.round("quiet", "quiet")?;
        let survivors: Vec<Who> = self
            .processes
            .iter()
            .flatten()
            .map(|process| process.place.who)
            .collect();
        // What is on its way arrives.
        let deadline = Instant::now() + PATIENCE;
        let sums = loop {
            self.round("sums", "sums")?;
            match audit::reckon(&self.books, &self.all, &survivors) {
                Ok(sums) => break sums,
                Err(audit::Verdict::Wrong(what)) => return Err(what),
                Err(audit::Verdict::NotYet(what)) if Instant::now() > deadline => return Err(what),
                Err(audit::Verdict::NotYet(_)) => {}
            }
        };
        self.round("drop", "dropped")?;
        let folder = self.dir.path().join("bus").join("default");
        for process in self.processes.iter_mut().flatten() {
            process.may_end = true;
            process.say("leave");
        }
        self.until("all have left", |_| false)?;
        // Of killed processes a socket stays until the next join, of others nothing.
        let killed = |name: &String| {
            let who = name.trim_end_matches(".sock");
            !survivors.iter().any(|survivor| survivor.to_string() == who)
        };
        let left: Vec<String> = sockets(&folder)
            .into_iter()
            .filter(|name| !killed(name))
            .collect();
        if !left.is_empty() {
            return Err(format!("sockets are left: {left:?}"));
        }
        Ok(sums.to_string())
    }
}
