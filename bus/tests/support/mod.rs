//! Tests across real processes.
//!
//! A test starts further processes by running its own binary again, in a named *role*: a function of the
//! test file. Test and role speak lines of text over a socket pair (the child's standard input), so what
//! the test harness prints does not disturb them. A role ends when its test closes the line, however the
//! test ends; the guard kills it as well. Each test has a runtime directory of its own.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    fmt::Display,
    future::Future,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shmbus::{Bus, Config};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// How long anything may take before a test fails; far more than it takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

const ROLE: &str = "SHMBUS_TEST_ROLE";
const ARGS: &str = "SHMBUS_TEST_ARGS";

/// One end of a line between a test and a role.
pub struct Line {
    stream: UnixStream,
    lines: UnboundedReceiver<String>,
}

impl Line {
    /// `at_end` runs when the other side is gone.
    fn new(stream: UnixStream, at_end: impl FnOnce() + Send + 'static) -> Self {
        let (sender, lines) = unbounded_channel();
        let reader = BufReader::new(stream.try_clone().expect("a second descriptor"));
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
            at_end();
        });
        Self { stream, lines }
    }

    /// Says one line.
    pub fn say(&self, text: impl Display) {
        // The other side may be gone on purpose; then whoever listens to it notices.
        let _ = writeln!(&self.stream, "{text}");
    }

    async fn next(&mut self) -> Option<String> {
        self.lines.recv().await
    }
}

/// A role's end: its arguments, and the line to its test.
pub struct Stage {
    pub args: Vec<String>,
    line: Line,
}

impl Stage {
    pub fn say(&self, text: impl Display) {
        self.line.say(text);
    }

    /// The test's next line. The process exits if there is none any more.
    pub async fn hear(&mut self) -> String {
        match self.line.next().await {
            Some(line) => line,
            None => std::process::exit(0),
        }
    }

    /// What says lines from elsewhere in this process, each in one piece.
    pub fn speaker(&self) -> impl Fn(&str) + 'static {
        let stream = self.line.stream.try_clone().expect("a second descriptor");
        move |text| {
            let _ = (&stream).write_all(format!("{text}\n").as_bytes());
        }
    }

    /// The same for another thread.
    pub fn speaker_anywhere(&self) -> impl Fn(&str) + Send + 'static {
        let stream = self.line.stream.try_clone().expect("a second descriptor");
        move |text| {
            let _ = (&stream).write_all(format!("{text}\n").as_bytes());
        }
    }

    /// Like [`hear`](Self::hear), and lets nothing else run on this thread meanwhile.
    pub fn hear_blocking(&mut self) -> String {
        futures_util::FutureExt::now_or_never(self.line.next())
            .flatten()
            .unwrap_or_else(|| {
                std::thread::scope(|scope| scope.spawn(|| self.line.lines.blocking_recv()).join())
                    .expect("no panic")
                    .unwrap_or_else(|| std::process::exit(0))
            })
    }

    /// Waits until the test ends this process.
    pub async fn wait(&mut self) {
        loop {
            self.hear().await;
        }
    }

    /// The settings of a node of this role, on its test's bus.
    pub fn config(&self, node: &str) -> Config {
        patient(Config::new(node))
    }

    pub fn arg(&self, index: usize) -> &str {
        self.args
            .get(index)
            .unwrap_or_else(|| panic!("role argument {index} is missing"))
    }

    pub fn number(&self, index: usize) -> u64 {
        self.arg(index)
            .parse()
            .unwrap_or_else(|_| panic!("role argument {index} is no number"))
    }
}

/// No deadline that a loaded machine might miss.
fn patient(config: Config) -> Config {
    config
        .ask_deadline(PATIENCE)
        .lookup_deadline(PATIENCE)
        .announce_deadline(PATIENCE / 3)
        .handshake_deadline(PATIENCE / 3)
}

/// A role: runs in a process of its own.
pub type Role = fn(Stage);

/// Runs the role that this process was started for, if it was started for one.
pub fn play(roles: &[(&str, Role)]) {
    let Ok(wanted) = std::env::var(ROLE) else { return };
    let (_, role) = roles
        .iter()
        .find(|(name, _)| *name == wanted)
        .unwrap_or_else(|| panic!("no role {wanted}"));
    let args = std::env::var(ARGS).unwrap_or_default();
    let args = args
        .split('\x1f')
        .filter(|arg| !arg.is_empty())
        .map(str::to_owned)
        .collect();
    let stdin = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .expect("a descriptor for the line");
    // A role never outlives its test.
    let line = Line::new(UnixStream::from(stdin), || std::process::exit(0));
    role(Stage { args, line });
    std::process::exit(0);
}

/// Declares the roles of a test binary.
#[macro_export]
macro_rules! roles {
    ($($role:path),* $(,)?) => {
        /// Not a test: where this binary begins when it is started for a role.
        #[test]
        fn role() {
            $crate::support::play(&[$((stringify!($role), $role)),*]);
        }
    };
}

/// Runs `main` on an actix system of this thread.
pub fn system<F: Future>(main: F) -> F::Output {
    let _watchdog = Watchdog::new();
    actix::System::new().block_on(bounded(main))
}

/// Runs `main` on a tokio runtime of several threads.
pub fn threads<F: Future>(main: F) -> F::Output {
    let _watchdog = Watchdog::new();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(bounded(main))
}

/// How long a whole test may take; a role lasts as long as its test.
fn limit() -> Option<Duration> {
    std::env::var_os(ROLE).is_none().then_some(PATIENCE * 4)
}

async fn bounded<F: Future>(main: F) -> F::Output {
    match limit() {
        None => main.await,
        Some(limit) => match tokio::time::timeout(limit, main).await {
            Ok(output) => output,
            Err(_) => panic!("the test was not over after {limit:?}"),
        },
    }
}

/// Ends the process if a test blocks its own thread, so that a hang is a failure too.
struct Watchdog {
    /// Dropped with the test.
    _over: Option<std::sync::mpsc::Sender<()>>,
}

impl Watchdog {
    fn new() -> Self {
        let Some(limit) = limit() else {
            return Self { _over: None };
        };
        let (over, is_over) = std::sync::mpsc::channel();
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        std::thread::spawn(move || {
            let waited = is_over.recv_timeout(limit + PATIENCE);
            if waited == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{test} blocks its thread; the whole run ends");
                std::process::exit(101);
            }
        });
        Self { _over: Some(over) }
    }
}

/// A process in a role. Killed when dropped.
pub struct Child {
    pub name: String,
    process: std::process::Child,
    line: Line,
}

impl Child {
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    async fn once_ready(mut self) -> Self {
        self.expect("ready").await;
        self
    }

    pub fn say(&self, text: impl Display) {
        self.line.say(text);
    }

    /// The role's next line.
    pub async fn hear(&mut self) -> String {
        let heard = tokio::time::timeout(PATIENCE, self.line.next()).await;
        match heard {
            Ok(Some(line)) => line,
            Ok(None) => panic!("role {} ended ({:?})", self.name, self.process.wait()),
            Err(_) => panic!("role {} said nothing within {PATIENCE:?}", self.name),
        }
    }

    /// The role's next line; `None` if it has ended.
    pub async fn hear_or_end(&mut self) -> Option<String> {
        self.line.next().await
    }

    /// Waits for exactly this line.
    pub async fn expect(&mut self, line: &str) {
        let heard = self.hear().await;
        assert_eq!(heard, line, "role {}", self.name);
    }

    /// Says a line and hears the answer.
    pub async fn ask(&mut self, text: impl Display) -> String {
        self.say(text);
        self.hear().await
    }

    /// Says a line again and again until the answer is this one.
    pub async fn until(&mut self, say: &str, answer: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let heard = self.ask(say).await;
            if heard == answer {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "`{say}` still says {heard}, not {answer}, after {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Says a line and hears exactly this answer.
    pub async fn expect_after(&mut self, say: &str, answer: &str) {
        self.say(say);
        self.expect(answer).await;
    }

    /// SIGKILL, and waits until the kernel is done with it.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// The signal that has ended it, once it has ended.
    pub fn ended_by(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        self.process.wait().expect("its end").signal()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).expect("a signal to a child");
    }

    /// SIGSTOP, and waits until it has stopped.
    pub async fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        eventually("the process stops", || self.is_stopped()).await;
    }

    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A bus of one test: its runtime directory, and the processes on it.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the sockets of the default bus are.
    pub fn folder(&self) -> PathBuf {
        self.dir().join("default")
    }

    pub fn socket(&self, node: &str) -> PathBuf {
        self.folder().join(format!("{node}.sock"))
    }

    /// The settings of a node of this process.
    pub fn config(&self, node: &str) -> Config {
        patient(Config::new(node).dir(self.dir()))
    }

    /// Starts a process in a role; it finds this place by `Bus::join`.
    pub fn spawn(&self, role: &str, args: &[&str]) -> Child {
        self.start(
            Command::new(std::env::current_exe().expect("this binary")),
            role,
            args,
        )
    }

    /// As [`spawn`](Self::spawn); returns when the role says that it is ready.
    pub async fn ready(&self, role: &str, args: &[&str]) -> Child {
        self.spawn(role, args).once_ready().await
    }

    /// As [`ready`](Self::ready), as another user; see [`spawn_as`](Self::spawn_as).
    pub async fn ready_as(&self, uid: u32, gid: u32, role: &str, args: &[&str]) -> Child {
        self.spawn_as(uid, gid, role, args).once_ready().await
    }

    /// As [`spawn`](Self::spawn), as another user, which only root can do.
    pub fn spawn_as(&self, uid: u32, gid: u32, role: &str, args: &[&str]) -> Child {
        use std::os::{fd::AsRawFd, unix::process::CommandExt};
        let binary = std::env::current_exe().expect("this binary");
        let binary = std::fs::File::open(binary).expect("this binary");
        // By its descriptor: that user may not be able to enter the directories that lead to it.
        let mut command = Command::new(format!("/proc/self/fd/{}", binary.as_raw_fd()));
        command.uid(uid).gid(gid);
        self.start(command, role, args)
    }

    fn start(&self, mut command: Command, role: &str, args: &[&str]) -> Child {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let process = command
            .args(["--exact", "role", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(ARGS, args.join("\x1f"))
            .env("SHMBUS_DIR", self.dir())
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .expect("a child process");
        Child {
            name: format!("{role} {args:?}"),
            process,
            line: Line::new(ours, || {}),
        }
    }
}

/// Waits for a condition; fails after [`PATIENCE`]. Looks again each millisecond: no event tells.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Awaits something that must not hang.
pub async fn soon<F: IntoFuture>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future.into_future()).await {
        Ok(output) => output,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Waits until nothing of this node is under way any more.
pub async fn settled(bus: &Bus) {
    let idle = || {
        let stats = bus.stats();
        (
            stats.open_asks,
            stats.pool_buffers,
            stats.pool_used_bytes,
            stats.unreleased,
        ) == (0, 0, 0, 0)
    };
    eventually("asks, buffers and messages are released", idle).await;
}

/// The names of all peers, in alphabetical order.
pub fn peers(bus: &Bus) -> Vec<String> {
    let mut peers = bus.peers();
    peers.sort();
    peers
}
