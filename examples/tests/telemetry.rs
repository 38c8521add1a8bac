//! Runs the whole program: three processes on one bus.

use std::{
    io::{BufRead, BufReader, Lines, Read},
    path::Path,
    process::{Child, ChildStderr, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use procfs::process::Process;

/// Long enough for a busy machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn telemetry(dir: &Path, line: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_telemetry"));
    command
        .args(line)
        .env("SHMBUS_DIR", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).unwrap();
}

/// The numbers of a line such as `messages    sent 250, received 250, lost 0`.
fn numbers<const N: usize>(output: &Output, line: &str, names: [&str; N]) -> [u64; N] {
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text
        .lines()
        .find(|found| found.starts_with(line))
        .unwrap_or_else(|| panic!("no {line}: {output:?}"));
    names.map(|name| {
        let words: Vec<&str> = found.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let at = words
            .iter()
            .position(|word| *word == name)
            .unwrap_or_else(|| panic!("no {name} in {found}"));
        words[at + 1]
            .parse()
            .unwrap_or_else(|_| panic!("no number after {name} in {found}"))
    })
}

/// Nothing was lost, and something was sent.
fn assert_whole(output: &Output) {
    assert_complete(output);
    let [samples, lost] = numbers(output, "cpu samples", ["received", "lost"]);
    assert!(samples > 0 && lost == 0, "{output:?}");
}

/// The same of the analyst's numbers alone: a viewer that came after the sampler had ended has no samples.
fn assert_complete(output: &Output) {
    let [sent, received, lost] = numbers(output, "messages", ["sent", "received", "lost"]);
    assert!(sent > 0 && sent == received && lost == 0, "{output:?}");
    let [answered] = numbers(output, "asks", ["answered"]);
    assert!(answered > 0, "{output:?}");
}

/// The child of `launcher` in that role, once it takes SIGTERM for a request.
fn member(launcher: &Child, role: &str) -> u32 {
    let is_it = |process: Process| {
        let is_it = process.stat().ok()?.ppid == launcher.id() as i32
            && process.cmdline().ok()?.get(1)? == role
            && process.status().ok()?.sigcgt & 1 << (Signal::SIGTERM as i32 - 1) != 0;
        is_it.then_some(process.pid as u32)
    };
    wait_for(role, || {
        procfs::process::all_processes()
            .unwrap()
            .flatten()
            .find_map(is_it)
    })
}

fn members(launcher: &Child) -> [u32; 3] {
    ["sampler", "analyst", "viewer"].map(|role| member(launcher, role))
}

/// Waits until a look brings something.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited for {what} in vain");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn two_seconds_without_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let output = telemetry(dir.path(), &["--seconds", "2"]).output().unwrap();
    let took = began.elapsed();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_whole(&output);
    assert!(took >= Duration::from_secs(2), "{took:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["cpu0 ", "memory ", "load ", "PID", "round trip  p50 "] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn two_at_once_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = [(); 2].map(|()| telemetry(dir.path(), &["--seconds", "1"]).spawn().unwrap());
    for child in [one, other] {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_whole(&output);
    }
}

#[test]
fn ctrl_c_ends_all_three_in_order() {
    for ends in [Signal::SIGINT, Signal::SIGTERM] {
        let dir = tempfile::tempdir().unwrap();
        let launcher = telemetry(dir.path(), &["--seconds", "0"]).spawn().unwrap();
        let members = members(&launcher);
        signal(launcher.id(), ends);
        let output = launcher.wait_with_output().unwrap();
        assert!(output.status.success(), "{ends}: {output:?}");
        assert!(
            members.iter().all(|pid| !is_alive(*pid)),
            "{ends}: somebody is left"
        );
        numbers(&output, "messages", ["lost"]);
    }
}

#[test]
fn a_child_that_dies_is_named() {
    for role in ["sampler", "analyst", "viewer"] {
        let dir = tempfile::tempdir().unwrap();
        let launcher = telemetry(dir.path(), &["--seconds", "0"]).spawn().unwrap();
        let members = members(&launcher);
        signal(member(&launcher, role), Signal::SIGKILL);
        let output = launcher.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            complaint.contains(&format!("the {role} ended early (signal: 9")),
            "{complaint}"
        );
        assert!(
            members.iter().all(|pid| !is_alive(*pid)),
            "{role}: somebody is left"
        );
    }
}

#[test]
fn no_child_outlives_a_launcher_that_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut launcher = telemetry(dir.path(), &["--seconds", "0"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let members = members(&launcher);
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    for pid in members {
        // Whoever adopts an orphan may take its time to wait for it, so a zombie counts as ended.
        wait_for("an orphan to end", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        });
    }
}

/// One role started by hand; killed if the test fails.
struct Role {
    process: Child,
    said: Lines<BufReader<ChildStderr>>,
}

impl Role {
    fn start(dir: &Path, role: &str) -> Self {
        Self::start_with(dir, &[role])
    }

    fn start_with(dir: &Path, line: &[&str]) -> Self {
        let seconds = PATIENCE.as_secs().to_string();
        let line = [line, &["--seconds", &seconds]].concat();
        let mut process = telemetry(dir, &line).spawn().unwrap();
        let said = BufReader::new(process.stderr.take().unwrap()).lines();
        Self { process, said }
    }

    /// Waits until it says this.
    fn says(&mut self, what: &str) {
        assert!(
            self.said.any(|line| line.unwrap().contains(what)),
            "it never said: {what}"
        );
    }

    fn end(mut self, ends: Signal) -> Output {
        signal(self.process.id(), ends);
        let mut stdout = Vec::new();
        self.process
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut stdout)
            .unwrap();
        let stderr = self
            .said
            .by_ref()
            .map_while(Result::ok)
            .collect::<Vec<_>>()
            .join("\n")
            .into_bytes();
        Output {
            status: self.process.wait().unwrap(),
            stdout,
            stderr,
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // Both fail if it has ended, as it should have.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a viewer sees that looks until the analyst has something to show that contains `part`.
fn look(dir: &Path, part: &str) -> Output {
    wait_for(part, || {
        let seen = telemetry(dir, &["viewer", "--seconds", "1"]).output().unwrap();
        assert!(seen.status.success(), "{seen:?}");
        let text = String::from_utf8_lossy(&seen.stdout);
        (numbers(&seen, "messages", ["sent"])[0] > 0 && text.contains(part)).then_some(seen)
    })
}

#[test]
fn roles_by_hand_in_the_worst_order_and_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // The viewer waits for the analyst, who comes last. The sampler waits for nobody: the analyst gets what it
    // published last, and misses nothing of what was before.
    let mut viewer = Role::start(dir, "viewer");
    let mut sampler = Role::start(dir, "sampler");
    viewer.says("looking for the analyst");
    sampler.says("publishing");
    let mut analyst = Role::start(dir, "analyst");
    analyst.says("ready");
    viewer.says("found the analyst");
    let output = viewer.end(Signal::SIGINT);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(numbers(&output, "messages", ["lost"]), [0]);
    assert_whole(&look(dir, "so far"));

    // Another sampler is another run, not a gap.
    assert!(sampler.end(Signal::SIGKILL).status.code().is_none());
    let mut sampler = Role::start(dir, "sampler");
    sampler.says("publishing");
    assert_whole(&look(dir, "in 2 runs so far"));

    // Another analyst knows nothing of the past, and misses nothing either. The others notice and go on.
    let mut viewer = Role::start(dir, "viewer");
    viewer.says("found the analyst");
    assert!(analyst.end(Signal::SIGKILL).status.code().is_none());
    viewer.says("looking for another analyst");
    let analyst = Role::start(dir, "analyst");
    viewer.says("found the analyst");
    let output = viewer.end(Signal::SIGTERM);
    assert!(output.status.success(), "{output:?}");
    assert_whole(&look(dir, "so far"));

    // Without a sampler, its totals stay; without an analyst, that is said.
    let output = sampler.end(Signal::SIGINT);
    assert!(output.status.success(), "{output:?}");
    assert_complete(&look(dir, "lost 0\n"));
    let output = analyst.end(Signal::SIGINT);
    assert!(output.status.success(), "{output:?}");
    let output = telemetry(dir, &["viewer", "--seconds", "1"]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("(there was no analyst)"),
        "{output:?}"
    );
}

#[test]
fn who_comes_late_gets_the_last_state_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // The next sample is due in ten seconds; a viewer that saw only what is published live would see nothing.
    let mut sampler = Role::start_with(dir, &["sampler", "--rate", "0.1", "--process-rate", "0.1"]);
    sampler.says("publishing");
    let began = Instant::now();
    let mut analyst = Role::start(dir, "analyst");
    analyst.says("ready");
    let viewers = [(); 2].map(|()| Role::start_with(dir, &["viewer"]));
    for mut viewer in viewers {
        viewer.says("found the analyst");
        look(dir, "PID");
        let output = viewer.end(Signal::SIGINT);
        assert!(output.status.success(), "{output:?}");
        assert!(began.elapsed() < Duration::from_secs(9), "too slow to tell");
        // One of each topic, published before any of them was there.
        assert_eq!(
            numbers(&output, "messages", ["sent", "received", "lost"]),
            [3, 3, 0]
        );
        assert_eq!(numbers(&output, "cpu samples", ["received", "lost"]), [1, 0]);
    }
}
