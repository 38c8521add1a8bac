//! Loom models of the state that two processes share: every interleaving, and every value that a weakly
//! ordered machine may read, within the bounds given with each model.
//!
//! Run them by `RUSTFLAGS="--cfg loom" cargo test -p shmbus --release --lib --target-dir target/loom`. They run
//! the very code that the bus runs. Threads stand for processes as well: what two processes share is
//! here what two threads share. Beside the shared words stand loom's cells, for what the words protect (a
//! slot's or a buffer's bytes): a use of them that no ordering separates from another is an error,
//! which plain atomics would hide.

mod batch;
mod doorbell;
mod left;
mod pool;
mod returns;
mod ring;
mod room;
mod waiters;

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use loom::{cell::UnsafeCell, model::Builder, sync::Condvar};

use super::{
    cells::Cells,
    descriptor::{Descriptor, SlotKind},
    layout::{SLOT_BYTES, Slot},
    returns::{ReturnReader, ReturnWriter},
    ring::{Consumer, Producer},
    sync::{AtomicU64, Mutex, lock},
};

/// Explores `model`, with at most `preemptions` involuntary switches between threads in one run. The bounds
/// are chosen so that all models together take about a minute.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    // A run that passes this waits for something that never comes. loom's own limit is for smaller models.
    builder.max_branches = 10_000;
    builder.check(model);
}

fn words(count: usize) -> Cells<AtomicU64> {
    Cells::private((0..count).map(|_| AtomicU64::new(0)).collect())
}

fn ring(slots: usize) -> (Producer, Consumer) {
    let slots = Cells::private((0..slots).map(|_| Slot::new()).collect());
    let head = words(1);
    (
        Producer::new(slots.clone(), head.clone()),
        Consumer::new(slots, head),
    )
}

fn returns(entries: usize) -> (ReturnWriter, ReturnReader) {
    let entries = words(entries);
    (ReturnWriter::new(entries.clone()), ReturnReader::new(entries))
}

/// A message of so many bytes that says `n` in every part of it.
fn long(n: u8, len: usize) -> Descriptor {
    let mut descriptor = Descriptor::new(SlotKind::Tell, n.into(), n.into(), n.into(), n.into());
    descriptor.inline_mut()[..len].fill(n);
    descriptor.set_inline_len(len);
    descriptor
}

/// A message of one slot that says `n` in every part of it.
fn message(n: u8) -> Descriptor {
    long(n, SLOT_BYTES)
}

/// The next message, if there is one.
fn read_next(consumer: &mut Consumer) -> Option<Descriptor> {
    let head = consumer.peek().unwrap()?;
    let mut descriptor = Descriptor::EMPTY;
    consumer.read(head, &mut descriptor).unwrap();
    Some(descriptor)
}

/// What a message says; all of its parts must say the same.
fn said(descriptor: &Descriptor) -> u8 {
    let n = descriptor.correlation() as u8;
    let inline = descriptor.inline().unwrap();
    assert_eq!(descriptor.head.0[1..], message(n).head.0[1..], "a torn slot");
    assert_eq!(inline, vec![n; inline.len()], "a torn slot");
    assert_eq!(descriptor.kind(), Ok(SlotKind::Tell));
    n
}

/// What shared words protect: written and read as plain memory, and an error where nothing orders it.
struct Bytes(UnsafeCell<u64>);

// SAFETY: loom checks every access for what this line claims.
unsafe impl Sync for Bytes {}

impl Bytes {
    fn some(count: usize) -> Vec<Self> {
        (0..count).map(|_| Self(UnsafeCell::new(0))).collect()
    }

    fn write(&self, value: u64) {
        // SAFETY: loom lets this go on only if nobody else uses the cell.
        self.0.with_mut(|bytes| unsafe { *bytes = value });
    }

    fn read(&self) -> u64 {
        // SAFETY: loom lets this go on only if nobody writes the cell.
        self.0.with(|bytes| unsafe { *bytes })
    }
}

/// A task with a thread of its own: it sleeps until its waker is used.
struct Task {
    woken: Mutex<bool>,
    edge: Condvar,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        *lock(&self.woken) = true;
        self.edge.notify_one();
    }
}

impl Task {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            woken: Mutex::new(false),
            edge: Condvar::new(),
        })
    }

    fn waker(self: &Arc<Self>) -> Waker {
        self.clone().into()
    }

    fn sleep(&self) {
        let mut woken = lock(&self.woken);
        while !*woken {
            woken = self.edge.wait(woken).unwrap();
        }
        *woken = false;
    }

    /// Until `f` gives something, as everybody does who waits: a look, the waker on the list, another look.
    fn until<T>(self: &Arc<Self>, wait: impl Fn(&Waker), mut f: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(found) = f() {
                return found;
            }
            wait(&self.waker());
            if let Some(found) = f() {
                return found;
            }
            self.sleep();
        }
    }
}
