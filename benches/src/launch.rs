//! Starting the processes of each measurement, and collecting what they say.

use std::{
    io::{BufRead, BufReader, IsTerminal, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{Pid, alarm},
};

use crate::{
    Result,
    args::{Args, Role},
    case::{Case, Run},
    report::{Driven, Served},
    systems::{self, System},
    table,
};

/// What a server prints when clients may connect.
const READY: &str = "ready";

/// A measurement that takes so many seconds longer than planned is ended by a signal.
const PATIENCE: u32 = 20;

/// One measurement's outcome.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// By the client.
    pub driven: Driven,
    /// By the server.
    pub served: Served,
}

/// All repeats of one measurement.
#[derive(Debug)]
pub struct Row {
    /// The system's name.
    pub system: &'static str,
    /// What was measured.
    pub case: Case,
    /// Bytes per message.
    pub payload: usize,
    /// In the order they were taken.
    pub samples: Vec<Sample>,
}

/// How measurements are made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// This crate's program, which is started as server and as client.
    pub program: PathBuf,
    /// How long one measurement lasts.
    pub seconds: f64,
    /// Whether each process has a core of its own.
    pub pin: bool,
    /// A window other than shmbus's default.
    pub window: Option<u32>,
}

/// Measures what was chosen and prints a table per case and size.
///
/// # Errors
/// If a process cannot be started or fails, or messages were lost or changed.
pub fn compare(args: &Args) -> Result<()> {
    println!("{}", table::head(args));
    let plan = Plan {
        program: std::env::current_exe()?,
        seconds: args.seconds,
        pin: args.pin,
        window: args.window,
    };
    for case in args.cases() {
        for payload in args.payloads() {
            let mut rows: Vec<_> = systems::chosen(&args.systems)
                .filter(|system| (system.measures)(*case, *payload))
                .map(|system| {
                    (
                        system,
                        Row {
                            system: system.name,
                            case: *case,
                            payload: *payload,
                            samples: Vec::new(),
                        },
                    )
                })
                .collect();
            for repeat in 0..args.repeats {
                for (system, row) in &mut rows {
                    progress(&format!(
                        "{case} {payload} B, {}, {} of {}",
                        system.name,
                        repeat + 1,
                        args.repeats
                    ));
                    row.samples.push(measure(&plan, system, *case, *payload)?);
                }
            }
            progress("");
            let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
            if !rows.is_empty() {
                println!("{}", table::of(&rows));
            }
        }
    }
    Ok(())
}

fn progress(text: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        // A terminal that is gone is no reason to stop measuring.
        let _ = write!(terminal, "\r\x1b[K{text}");
        let _ = terminal.flush();
    }
}

/// A child that does not outlive its measurement.
struct Worker(Child, BufReader<std::process::ChildStdout>);

impl Worker {
    fn start(
        plan: &Plan,
        role: Role,
        system: &System,
        case: Case,
        payload: usize,
        dir: &Path,
    ) -> Result<Self> {
        let mut command = Command::new(&plan.program);
        command
            .args(["--role", if role == Role::Server { "server" } else { "client" }])
            .args([
                "--system",
                system.name,
                "--case",
                &case.to_string(),
                "--payload",
                &payload.to_string(),
            ])
            .args(["--seconds", &plan.seconds.to_string()])
            .arg("--dir")
            .arg(dir);
        if plan.pin {
            command.arg("--pin");
        }
        if let Some(window) = plan.window {
            command.args(["--window", &window.to_string()]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("a child without output")?);
        Ok(Self(child, lines))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.1.read_line(&mut line)? == 0 {
            return Err(format!("a process of the measurement ended early: {}", self.0.wait()?).into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has ended already, unless the measurement failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One measurement in two new processes.
///
/// # Errors
/// As [`compare`].
pub fn measure(plan: &Plan, system: &System, case: Case, payload: usize) -> Result<Sample> {
    let dir = tempfile::Builder::new().prefix("shmbus-bench-").tempdir()?;
    let mut server = Worker::start(plan, Role::Server, system, case, payload, dir.path())?;
    if server.line()? != READY {
        return Err("a server said something else than that it is ready".into());
    }
    let mut client = Worker::start(plan, Role::Client, system, case, payload, dir.path())?;
    let driven = Driven::parse(&client.line()?)?;
    // The first line is the warm-up's.
    server.line()?;
    let served = Served::parse(&server.line()?)?;
    if (driven.messages, driven.sum) != (served.messages, served.sum) {
        return Err(format!(
            "{}: sent is not what arrived: {driven:?}, {served:?}",
            system.name
        )
        .into());
    }
    Ok(Sample { driven, served })
}

/// The life of a server or client.
///
/// # Errors
/// Those of the system.
pub fn work(role: &Role, args: &Args) -> Result<()> {
    // Neither a launcher that was killed nor a measurement that hangs leaves a process behind.
    set_pdeathsig(Signal::SIGKILL)?;
    alarm::set(PATIENCE + 4 * args.seconds as u32);
    if args.pin {
        let mut cores = CpuSet::new();
        cores.set(if *role == Role::Server { 0 } else { 1 })?;
        sched_setaffinity(Pid::from_raw(0), &cores)?;
    }
    let system = systems::chosen(&args.systems).next().ok_or("no system")?;
    let run = Run {
        case: args.cases()[0],
        payload: args.payloads()[0],
        duration: args.duration(),
        dir: args.dir.clone(),
        window: args.window,
    };
    match role {
        Role::Server => (system.serve)(&run, || println!("{READY}")),
        Role::Client => {
            (system.drive)(&run)?.print();
            Ok(())
        }
    }
}
