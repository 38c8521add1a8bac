//! Starting the processes of each measurement, and collecting what they say.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{Pid, alarm},
};

use crate::{
    Result,
    args::Selection,
    case::{Point, Role, Run, Shape},
    report::{Driven, Served},
    systems::{self, System},
};

/// The argument of a process that takes part in a measurement; the next one says as what.
const WORKER: &str = "--worker";

/// What a server prints when clients may connect.
const READY: &str = "ready";

/// A measurement that takes so many seconds longer than planned is ended by a signal.
const PATIENCE: u32 = 20;

/// How long a process may take to leave once it is dismissed.
const FAREWELL: Duration = Duration::from_secs(5);

/// One measurement's outcome.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// By all clients.
    pub driven: Driven,
    /// By all servers.
    pub served: Served,
}

/// All repeats of one measurement.
#[derive(Debug)]
pub struct Row {
    /// With what.
    pub system: &'static System,
    /// What was measured.
    pub point: Point,
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
    /// How many take part.
    pub shape: Shape,
}

impl Plan {
    /// Of this program's own processes.
    ///
    /// # Errors
    /// If it does not know its path.
    pub fn of(selection: &Selection) -> Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            seconds: selection.seconds,
            pin: selection.pin,
            shape: selection.shape,
        })
    }
}

/// The `main` of this crate's programs: one that was started as part of a measurement takes part in it, any other
/// does what it is for.
pub fn main(program: impl FnOnce() -> Result<()>) -> ExitCode {
    let mut args = std::env::args().skip(1);
    let done = match (args.next(), args.next()) {
        (Some(worker), Some(run)) if worker == WORKER => serde_json::from_str(&run)
            .map_err(Into::into)
            .and_then(|run| work(&run)),
        _ => program(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures what was chosen, the systems in turn within each repeat, and hands over the rows of each point when they
/// are complete.
///
/// # Errors
/// If none of the systems is measured at any of the points, a process could not be started or failed, messages were
/// lost or changed, or `each` fails. It ends at the first.
pub fn measure_all(selection: &Selection, mut each: impl FnMut(Vec<Row>) -> Result<()>) -> Result<()> {
    let plan = Plan::of(selection)?;
    let rows = |point: &Point| {
        let systems = selection.systems.iter().copied();
        let row = |system| Row {
            system,
            point: *point,
            samples: Vec::new(),
        };
        systems
            .filter(|system| (system.measures)(*point))
            .map(row)
            .collect::<Vec<_>>()
    };
    let all: usize = selection.points.iter().map(|point| rows(point).len()).sum();
    if all == 0 {
        return Err("none of the chosen systems is measured in these cases and sizes; choose others".into());
    }
    // It is drawn on standard error, if that is a terminal.
    let bar = ProgressBar::new(all as u64 * u64::from(selection.repeats));
    bar.set_style(ProgressStyle::with_template(
        "{bar:24} {pos}/{len}, {eta} left: {msg}",
    )?);
    for point in &selection.points {
        let mut rows = rows(point);
        for _ in 0..selection.repeats {
            for row in &mut rows {
                bar.set_message(format!(
                    "{} {} B, {}",
                    point.label(),
                    point.payload,
                    row.system.name
                ));
                row.samples.push(measure(&plan, row.system, *point)?);
                bar.inc(1);
            }
        }
        if !rows.is_empty() {
            bar.suspend(|| each(rows))?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// A process that does not outlive its measurement.
struct Worker {
    child: Child,
    /// Closed when it may leave.
    input: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
}

impl Worker {
    fn start(plan: &Plan, role: Role, system: &System, point: Point, dir: &Path) -> Result<Self> {
        let run = Run {
            role,
            system: system.name.into(),
            point,
            shape: plan.shape,
            seconds: plan.seconds,
            pin: plan.pin,
            dir: dir.into(),
        };
        let mut child = Command::new(&plan.program)
            .arg(WORKER)
            .arg(serde_json::to_string(&run)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self {
            input: child.stdin.take(),
            lines: BufReader::new(child.stdout.take().ok_or("a child without output")?),
            child,
        })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err(format!("a process of the measurement ended early: {}", self.child.wait()?).into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Lets it leave on its own, so that it leaves nothing behind.
    fn dismiss(&mut self) -> Result<()> {
        self.input = None;
        let deadline = Instant::now() + FAREWELL;
        while self.child.try_wait()?.is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has ended already, unless the measurement failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One measurement in new processes.
///
/// # Errors
/// As [`measure_all`].
pub fn measure(plan: &Plan, system: &System, point: Point) -> Result<Sample> {
    let dir = tempfile::Builder::new().prefix("shmbus-bench-").tempdir()?;
    let start = |role| Worker::start(plan, role, system, point, dir.path());
    let named = |error: Box<dyn std::error::Error>| {
        format!(
            "{}, {} of {} bytes: {error}",
            system.name,
            point.label(),
            point.payload
        )
    };
    let outcome = (|| {
        let mut servers = Vec::new();
        for index in 0..point.receivers {
            let mut server = start(Role::Server(index))?;
            if server.line()? != READY {
                return Err("a server said something else than that it is ready".into());
            }
            servers.push(server);
        }
        let mut clients = Vec::new();
        for index in 0..plan.shape.clients {
            clients.push(start(Role::Client(index as usize))?);
        }
        let mut driven = Driven::default();
        for client in &mut clients {
            driven = driven.plus(Driven::parse(&client.line()?)?);
        }
        let mut all = Served::default();
        for server in &mut servers {
            // The first line is the warm-up's.
            server.line()?;
            let served = Served::parse(&server.line()?)?;
            if (driven.messages, driven.sum) != (served.messages, served.sum) {
                return Err(format!("sent is not what arrived: {driven:?}, {served:?}").into());
            }
            all = all.plus(served);
        }
        for worker in clients.iter_mut().chain(&mut servers) {
            worker.dismiss()?;
        }
        Ok(Sample { driven, served: all })
    })();
    systems::forget(dir.path());
    outcome.map_err(named).map_err(Into::into)
}

/// Waits, in a process of a measurement, until everything it has said was read.
pub async fn dismissed() {
    // What comes does not matter; what matters is that it ends.
    let wait = || std::io::stdin().read_to_end(&mut Vec::new());
    let _ = tokio::task::spawn_blocking(wait).await;
}

/// The life of a server or client.
fn work(run: &Run) -> Result<()> {
    // Neither a launcher that was killed nor a measurement that hangs leaves a process behind.
    set_pdeathsig(Signal::SIGKILL)?;
    alarm::set(PATIENCE + 4 * run.seconds as u32);
    if run.pin {
        let mut cores = CpuSet::new();
        cores.set(usize::from(matches!(run.role, Role::Client(_))))?;
        sched_setaffinity(Pid::from_raw(0), &cores)?;
    }
    let system = systems::named(&run.system)?;
    match run.role {
        Role::Server(_) => (system.serve)(run, || println!("{READY}")),
        Role::Client(_) => {
            (system.drive)(run)?.print();
            Ok(())
        }
    }
}
