//! What a message costs besides its time: no heap allocation and no wait in the kernel while both sides are
//! busy, and nothing at all while both are idle.
#![cfg(not(loom))]

#[path = "../support/mod.rs"]
mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use shmbus::prelude::*;
use support::{Child, PATIENCE, Place, Stage, system};

/// Counts the allocations of this process.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Relaxed: a count orders nothing.
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps to `GlobalAlloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, bytes) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The tests of this file measure, so they take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Travels in its slot.
#[derive(ShmMessage, Debug)]
#[shm(reply = u64)]
struct Small {
    n: u64,
}

/// Travels in a buffer.
#[derive(ShmMessage, Debug)]
#[shm(reply = u64)]
struct Large {
    data: Vec<u8>,
}

/// What has this process counted?
#[derive(ShmMessage, Debug)]
#[shm(reply = Counts)]
struct Count;

#[derive(ShmMessage, Debug, Clone, Copy)]
struct Counts {
    allocations: u64,
    handled: u64,
}

struct Counter {
    handled: u64,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Received<Small>> for Counter {
    type Result = u64;
    fn handle(&mut self, message: Received<Small>, _: &mut Context<Self>) -> u64 {
        self.handled += 1;
        message.n.to_native()
    }
}

impl Handler<Received<Large>> for Counter {
    type Result = u64;
    fn handle(&mut self, message: Received<Large>, _: &mut Context<Self>) -> u64 {
        self.handled += 1;
        message.data.iter().map(|byte| u64::from(*byte)).sum()
    }
}

impl Handler<Received<Count>> for Counter {
    type Result = MessageResult<Received<Count>>;
    fn handle(&mut self, _: Received<Count>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(Counts {
            allocations: ALLOCATIONS.load(Ordering::Relaxed),
            handled: self.handled,
        })
    }
}

fn spin(name: &str) -> Spin {
    match name {
        "never" => Spin::Never,
        "always" => Spin::Always,
        _ => Spin::default(),
    }
}

/// Role `spin`: counts what its actor handles.
fn server(mut stage: Stage) {
    system(async move {
        let bus = stage
            .config("server")
            .spin(spin(stage.arg(0)))
            .join()
            .await
            .expect("join");
        let bind = bus.bind("counter", Counter { handled: 0 });
        bind.handles::<Small>()
            .handles::<Large>()
            .handles::<Count>()
            .start()
            .await
            .expect("bind");
        stage.say("ready");
        stage.wait().await;
    });
}

/// Messages of one call.
const TOGETHER: u64 = 500;

/// Role `spin`: does what the test says, so many times, and says what that has cost on both sides.
fn client(mut stage: Stage) {
    system(async move {
        let bus = stage
            .config("client")
            .spin(spin(stage.arg(0)))
            .join()
            .await
            .expect("join");
        let counter = bus
            .address::<(Small, Large, Count)>("counter")
            .await
            .expect("lookup");
        let large = Large { data: vec![1; 300] };
        let many: Vec<_> = (0..TOGETHER).map(|n| Small { n }).collect();
        stage.say("ready");
        loop {
            let line = stage.hear().await;
            let (what, count) = line.split_once(' ').expect("what and how often");
            let count: u64 = count.parse().expect("a number");
            let before = counter.ask(&Count).await.expect("counts").to_owned();
            let ours = ALLOCATIONS.load(Ordering::Relaxed);
            match what {
                "tell" => {
                    for n in 0..count {
                        counter.tell(&Small { n }).await.expect("tell");
                    }
                }
                "tell-buffer" => {
                    for _ in 0..count {
                        counter.tell(&large).await.expect("tell");
                    }
                }
                "ask" => {
                    for n in 0..count {
                        assert_eq!(counter.ask(&Small { n }).await.expect("ask").to_native(), n);
                    }
                }
                "ask-buffer" => {
                    for _ in 0..count {
                        assert_eq!(counter.ask(&large).await.expect("ask").to_native(), 300);
                    }
                }
                "tell-all" => {
                    for _ in 0..count / TOGETHER {
                        counter.tell_all(&many).await.expect("tell");
                    }
                }
                "ask-all" => {
                    for _ in 0..count / TOGETHER {
                        let mut replies = counter.ask_all(&many);
                        for n in 0..TOGETHER {
                            assert_eq!(*replies.next().await.expect("an outcome").expect("ask"), n);
                        }
                    }
                }
                other => panic!("unknown command {other}"),
            }
            // Answered behind everything that was told.
            let after = counter.ask(&Count).await.expect("counts").to_owned();
            let ours = ALLOCATIONS.load(Ordering::Relaxed) - ours;
            assert_eq!(after.handled - before.handled, count);
            stage.say(format!("{ours} {}", after.allocations - before.allocations));
        }
    });
}

roles![server, client];

async fn pair(place: &Place, spin: &str) -> (Child, Child) {
    let server = place.ready("server", &[spin]).await;
    let client = place.ready("client", &[spin]).await;
    (server, client)
}

/// Voluntary context switches of all threads: each wait in the kernel is one.
fn waits(child: &Child) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", child.pid())).expect("its threads");
    let of_task = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok())
            .unwrap_or(0)
    };
    tasks.filter_map(Result::ok).map(of_task).sum()
}

/// CPU time, in clock ticks (10 ms each).
fn cpu(child: &Child) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).expect("its times");
    let (_, fields) = stat.rsplit_once(") ").expect("a command in brackets");
    let times = fields.split(' ').skip(11).take(2);
    times.map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
}

#[test]
fn a_busy_pair_allocates_nothing_per_message() {
    /// At most so many in all: growth of tables, and the runtime's own.
    const ALLOWED: u64 = 60;
    let _turn = turn();
    for spin in ["always", "adaptive", "never"] {
        let place = Place::new();
        system(async {
            let (_server, mut client) = pair(&place, spin).await;
            for what in ["tell", "tell-buffer", "ask", "ask-buffer", "tell-all", "ask-all"] {
                // Two processes that spin on a machine with other work lose a time slice per ask.
                let messages = match (spin, what.starts_with("ask") && what != "ask-all") {
                    (_, false) => 20_000,
                    ("always", true) => 400,
                    (_, true) => 5000,
                };
                // A call of many has its tables, and a batch what its messages share.
                let allowed = match what.ends_with("all") {
                    true => messages / 50,
                    false => ALLOWED.min(messages / 50),
                };
                client.ask(format!("{what} {}", messages / 4)).await;
                let cost = client.ask(format!("{what} {messages}")).await;
                println!("{spin}: {messages} x {what}: allocations (sender, receiver): {cost}");
                let (sender, receiver) = cost.split_once(' ').expect("two numbers");
                for count in [sender, receiver] {
                    let count: u64 = count.parse().expect("a number");
                    assert!(
                        count <= allowed,
                        "{spin}: {what}: {cost} allocations in {messages} messages"
                    );
                }
            }
        });
    }
}

#[test]
fn a_spinning_pair_does_not_wait_in_the_kernel() {
    const ASKS: u64 = 400;
    let _turn = turn();
    let place = Place::new();
    system(async {
        let (server, mut client) = pair(&place, "always").await;
        client.ask("ask 100").await;
        let before = (waits(&client), waits(&server));
        client.ask(format!("ask {ASKS}")).await;
        // A thread that has ended takes its count with it.
        let ours = waits(&client).saturating_sub(before.0);
        let theirs = waits(&server).saturating_sub(before.1);
        println!("{ASKS} asks: waits (client, server): {ours} {theirs}");
        assert!(ours < ASKS / 10 && theirs < ASKS / 10, "{ours} {theirs}");
    });
}

#[test]
fn an_idle_pair_does_nothing() {
    let _turn = turn();
    for spin in ["adaptive", "never"] {
        let place = Place::new();
        system(async {
            let (server, mut client) = pair(&place, spin).await;
            client.ask("ask 1000").await;
            client.ask("tell-buffer 1000").await;
            let now = || (waits(&client), waits(&server), cpu(&client), cpu(&server));
            // First they come to rest; then half a second is watched.
            let deadline = std::time::Instant::now() + PATIENCE;
            let mut before = now();
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let after = now();
                let waited = after.0.abs_diff(before.0) + after.1.abs_diff(before.1);
                let worked = after.2.abs_diff(before.2) + after.3.abs_diff(before.3);
                println!("{spin}: in half a second: {waited} waits, {worked} ticks");
                if (waited, worked) == (0, 0) {
                    break;
                }
                assert!(
                    std::time::Instant::now() < deadline,
                    "never idle: {waited} waits, {worked} ticks"
                );
                before = after;
            }
        });
    }
}
