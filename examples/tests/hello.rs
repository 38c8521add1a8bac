//! Runs `hello-server` and `hello-client`, in both orders.

use std::{
    io::{BufRead, BufReader, Lines},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A program that is killed if the test fails.
struct Program {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(path: &str, dir: &Path) -> Self {
        let mut process = Command::new(path)
            .env("SHMBUS_DIR", dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line of output").unwrap()
    }

    fn assert_success(&mut self) {
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail if it has ended, as it should have.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn server(dir: &Path) -> Program {
    Program::start(env!("CARGO_BIN_EXE_hello-server"), dir)
}

fn client(dir: &Path) -> Program {
    Program::start(env!("CARGO_BIN_EXE_hello-client"), dir)
}

fn assert_they_talk(server: &mut Program, client: &mut Program, before: u32) {
    assert_eq!(client.line(), format!("Hello, world! ({before} greeted before)"));
    client.assert_success();
    assert_eq!(
        server.line(),
        format!("note: process {} says goodbye", client.process.id())
    );
}

fn assert_ends(server: &mut Program) {
    kill(Pid::from_raw(server.process.id() as i32), Signal::SIGINT).unwrap();
    server.assert_success();
}

#[test]
fn server_first_and_two_clients() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = server(dir.path());
    assert_eq!(server.line(), "ready; Ctrl-C ends");
    for before in 0..2 {
        assert_they_talk(&mut server, &mut client(dir.path()), before);
    }
    assert_ends(&mut server);
}

#[test]
fn client_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = client(dir.path());
    // Its joining leaves a trace in the runtime directory.
    let began = Instant::now();
    while std::fs::read_dir(dir.path()).unwrap().next().is_none() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "the client does not join"
        );
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let mut server = server(dir.path());
    assert_eq!(server.line(), "ready; Ctrl-C ends");
    assert_they_talk(&mut server, &mut client, 0);
    assert_ends(&mut server);
}
