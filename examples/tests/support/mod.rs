//! What the tests of programs have in common.
#![allow(dead_code, reason = "each test uses its part")]

use std::{
    io::Read,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Long enough for a busy machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A program with a bus directory of its own, killed if the test fails.
pub struct Program {
    process: Child,
}

impl Program {
    pub fn start(path: &str, dir: &Path, line: &[&str]) -> Self {
        let process = Command::new(path)
            .args(line)
            .env("SHMBUS_DIR", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { process }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).unwrap();
    }

    /// Its running children, as their process ids.
    pub fn children(&self) -> Vec<i32> {
        let parent = self.process.id() as i32;
        let processes = procfs::process::all_processes().unwrap().flatten();
        processes
            .filter_map(|process| process.stat().ok())
            .filter(|stat| stat.ppid == parent && stat.state != 'Z')
            .map(|stat| stat.pid)
            .collect()
    }

    /// What it said, once it has ended. What it says must fit a pipe.
    pub fn output(mut self) -> Output {
        let status = wait_for("the program to end", || self.process.try_wait().unwrap());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.process
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut stdout)
            .unwrap();
        self.process
            .stderr
            .take()
            .unwrap()
            .read_to_end(&mut stderr)
            .unwrap();
        Output {
            status,
            stdout,
            stderr,
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail if it has ended, as it should have.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until a look brings something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited for {what} in vain");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// The numbers after these names in the first line that begins with `line`, such as `jobs   done 12 of 12, lost 0`.
pub fn numbers<const N: usize>(output: &Output, line: &str, names: [&str; N]) -> [u64; N] {
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text
        .lines()
        .find(|found| found.starts_with(line))
        .unwrap_or_else(|| panic!("no {line}: {output:?}"));
    let words: Vec<&str> = found.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    names.map(|name| {
        let at = words
            .iter()
            .position(|word| *word == name)
            .unwrap_or_else(|| panic!("no {name} in {found}"));
        words[at + 1]
            .parse()
            .unwrap_or_else(|_| panic!("no number after {name} in {found}"))
    })
}

/// None of them outlived its parent.
pub fn assert_no_process_is_left(children: &[i32]) {
    for pid in children {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(
            stat.is_empty() || stat.contains(") Z "),
            "process {pid} is left: {stat}"
        );
    }
}
