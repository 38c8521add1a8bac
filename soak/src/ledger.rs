//! What a process knows of its own messages, in a file that outlives it.
//!
//! A ledger is a list of lines, each of 8 words that say what it counts and 8 counts. A count is written by one system
//! call each time it changes, before or after the step that it counts: what a killed process leaves is exact to that
//! step. Words that are written are in the kernel's hands; a kill cannot take them back.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::identity::{TopicId, Who};

const WORDS: usize = 8;
const LINE: u64 = 2 * 8 * WORDS as u64;

/// What a line counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// Told by a flow of this process to a mailbox: [`told`].
    Told { to: Who, mailbox: u64, flow: u64 },
    /// Handled by a mailbox of this process: the count.
    Handled { mailbox: u64, from: Who, flow: u64 },
    /// Asked: [`asked`].
    Asked { to: Who, mailbox: u64, flow: u64 },
    /// Answered, or to be answered: the count.
    Answered { mailbox: u64, from: Who, flow: u64 },
    /// A mailbox: 1 while it is bound, 2 once it may not be.
    Mailbox { mailbox: u64 },
    /// A topic: [`topic`].
    Topic { topic: TopicId },
    /// A subscription: 1 while it is open, 2 once it may not be; then its [`Policy`], and 1 if it was there before its
    /// process published anything, and gets all of that.
    Subscription { number: u64 },
    /// What a subscription got of a topic: [`got`].
    Got { number: u64, from: Who, topic: TopicId },
}

/// Counts of [`Entry::Told`]: `BEGUN` is one ahead of `DONE` while the bus has the message in hand, many for a batch.
pub mod told {
    pub const BEGUN: usize = 0;
    pub const DONE: usize = 1;
}

/// Counts of [`Entry::Asked`].
pub mod asked {
    pub const BEGUN: usize = 0;
    /// The handler ran: it replied or panicked.
    pub const RAN: usize = 1;
    /// It never got there.
    pub const UNSENT: usize = 2;
    /// Either, from here on: not answered by its deadline.
    pub const LATE: usize = 3;
    /// The process that was asked is gone.
    pub const LOST: usize = 4;
    /// The actor has stopped.
    pub const STOPPED: usize = 5;
    /// The asker left its bus.
    pub const CLOSED: usize = 6;
    /// The asker did not wait for it.
    pub const DROPPED: usize = 7;
}

/// Counts of [`Entry::Topic`].
pub mod topic {
    pub const BEGUN: usize = 0;
    pub const DONE: usize = 1;
    /// 1 while it is open, 2 once it may not be.
    pub const STATE: usize = 2;
    pub const HISTORY: usize = 3;
}

/// Counts of [`Entry::Got`].
pub mod got {
    // At 0 the number of the first message.
    /// The number after that of the last one.
    pub const NEXT: usize = 1;
    pub const COUNT: usize = 2;
    /// Messages missing in between.
    pub const GAPS: usize = 3;
    /// What the bus says was lost, and one more; 0 if it was not asked.
    pub const LOST: usize = 4;
    // At 5 the first number that the subscription may have begun at, at 6 the last one.
}

/// What a subscription does when it is full, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Drop = 1,
    Keep = 2,
    Wait = 3,
    Group = 4,
}

impl Policy {
    pub fn of(number: u64) -> Option<Self> {
        [Policy::Drop, Policy::Keep, Policy::Wait, Policy::Group]
            .into_iter()
            .find(|policy| *policy as u64 == number)
    }
}

impl Entry {
    fn words(self) -> [u64; WORDS] {
        match self {
            Entry::Told { to, mailbox, flow } => [1, to.0, mailbox, flow, 0, 0, 0, 0],
            Entry::Handled { mailbox, from, flow } => [2, mailbox, from.0, flow, 0, 0, 0, 0],
            Entry::Asked { to, mailbox, flow } => [3, to.0, mailbox, flow, 0, 0, 0, 0],
            Entry::Answered { mailbox, from, flow } => [4, mailbox, from.0, flow, 0, 0, 0, 0],
            Entry::Mailbox { mailbox } => [5, mailbox, 0, 0, 0, 0, 0, 0],
            Entry::Topic { topic } => [6, topic.0, 0, 0, 0, 0, 0, 0],
            Entry::Subscription { number } => [7, number, 0, 0, 0, 0, 0, 0],
            Entry::Got { number, from, topic } => [8, number, from.0, topic.0, 0, 0, 0, 0],
        }
    }

    fn of(words: [u64; WORDS]) -> Option<Self> {
        let [kind, a, b, c, ..] = words;
        Some(match kind {
            1 => Entry::Told {
                to: Who(a),
                mailbox: b,
                flow: c,
            },
            2 => Entry::Handled {
                mailbox: a,
                from: Who(b),
                flow: c,
            },
            3 => Entry::Asked {
                to: Who(a),
                mailbox: b,
                flow: c,
            },
            4 => Entry::Answered {
                mailbox: a,
                from: Who(b),
                flow: c,
            },
            5 => Entry::Mailbox { mailbox: a },
            6 => Entry::Topic { topic: TopicId(a) },
            7 => Entry::Subscription { number: a },
            8 => Entry::Got {
                number: a,
                from: Who(b),
                topic: TopicId(c),
            },
            _ => return None,
        })
    }
}

/// The ledgers of a run: of processes that run, and of those before them.
#[derive(Debug, Clone)]
pub struct Books(PathBuf);

impl Books {
    pub fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    pub fn make(&self) -> io::Result<()> {
        fs::create_dir_all(self.0.join("now"))?;
        fs::create_dir_all(self.0.join("past"))
    }

    /// A process has ended: its books are closed.
    pub fn close(&self, who: Who) -> io::Result<()> {
        for kind in ["ledger", "topics", "jobs"] {
            let name = format!("{who}.{kind}");
            match fs::rename(self.0.join("now").join(&name), self.0.join("past").join(&name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn now(&self, who: Who, kind: &str) -> PathBuf {
        self.0.join("now").join(format!("{who}.{kind}"))
    }

    fn find(&self, who: Who, kind: &str) -> PathBuf {
        let now = self.now(who, kind);
        match now.exists() {
            true => now,
            false => self.0.join("past").join(format!("{who}.{kind}")),
        }
    }

    /// All counts of a process, one line after the other.
    pub fn read(&self, who: Who) -> io::Result<Vec<(Entry, [u64; WORDS])>> {
        let mut lines = read_lines(&self.find(who, "ledger"))?;
        lines.extend(read_lines(&self.find(who, "topics"))?);
        Ok(lines)
    }

    /// The topics of a process that runs; `None` if it does not.
    pub fn topics(&self, who: Who) -> Option<Vec<(Entry, [u64; WORDS])>> {
        fs::read(self.now(who, "topics")).ok().map(|bytes| lines(&bytes))
    }

    /// Who runs and has a ledger.
    pub fn running(&self) -> Vec<Who> {
        let Ok(dir) = fs::read_dir(self.0.join("now")) else {
            return Vec::new();
        };
        let who = |name: &str| {
            let (slot, incarnation) = name.strip_suffix(".topics")?.strip_prefix('n')?.split_once('-')?;
            Some(Who::new(slot.parse().ok()?, incarnation.parse().ok()?))
        };
        dir.filter_map(|entry| who(entry.ok()?.file_name().to_str()?))
            .collect()
    }

    /// What members of a group have handled: publisher, topic, number, whether it was given to another before.
    pub fn jobs(&self, who: Who) -> io::Result<Vec<(Who, TopicId, u64, bool)>> {
        let bytes = read_or_empty(&self.find(who, "jobs"))?;
        let (records, _) = bytes.as_chunks::<32>();
        let job = |record: &[u8; 32]| {
            let [from, topic, seq, again] = words(record);
            (Who(from), TopicId(topic), seq, again == 1)
        };
        Ok(records.iter().map(job).collect())
    }
}

fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|at| words.get(at).copied().map_or(0, u64::from_le_bytes))
}

fn read_or_empty(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

fn read_lines(path: &Path) -> io::Result<Vec<(Entry, [u64; WORDS])>> {
    Ok(lines(&read_or_empty(path)?))
}

fn lines(bytes: &[u8]) -> Vec<(Entry, [u64; WORDS])> {
    let (lines, _) = bytes.as_chunks::<{ LINE as usize }>();
    let line = |line: &[u8; LINE as usize]| {
        // A line that was not begun is all zeros.
        Some((Entry::of(words(&line[..64]))?, words(&line[64..])))
    };
    lines.iter().filter_map(line).collect()
}

/// The ledger of this process.
#[derive(Debug)]
pub struct Ledger {
    lines: Book,
    topics: Book,
    jobs: File,
}

#[derive(Debug)]
struct Book {
    file: Arc<File>,
    end: AtomicU64,
}

impl Book {
    fn new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Self {
            file: Arc::new(file),
            end: AtomicU64::new(0),
        })
    }

    fn line(&self, entry: Entry, counts: [u64; WORDS]) -> Line {
        let at = self.end.fetch_add(LINE, Ordering::Relaxed);
        let mut bytes = [0; LINE as usize];
        let words = entry.words().into_iter().chain(counts);
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        // At once, and within one page: a line is there or not.
        self.file
            .write_all_at(&bytes, at)
            .unwrap_or_else(|error| panic!("the ledger cannot be written: {error}"));
        Line {
            file: self.file.clone(),
            at,
            counts: Mutex::new(counts),
        }
    }
}

impl Ledger {
    pub fn new(books: &Books, who: Who) -> io::Result<Self> {
        Ok(Self {
            lines: Book::new(&books.now(who, "ledger"))?,
            topics: Book::new(&books.now(who, "topics"))?,
            jobs: OpenOptions::new()
                .append(true)
                .create_new(true)
                .open(books.now(who, "jobs"))?,
        })
    }

    /// Begins a line, with these counts.
    pub fn line(&self, entry: Entry, counts: [u64; WORDS]) -> Line {
        match entry {
            Entry::Topic { .. } => self.topics.line(entry, counts),
            _ => self.lines.line(entry, counts),
        }
    }

    /// Notes a message of a group as handled.
    pub fn job(&self, from: Who, topic: TopicId, seq: u64, again: bool) {
        let mut bytes = [0; 32];
        let words = [from.0, topic.0, seq, u64::from(again)];
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        io::Write::write_all(&mut &self.jobs, &bytes)
            .unwrap_or_else(|error| panic!("the list of jobs cannot be written: {error}"));
    }
}

/// A line of this process's ledger.
#[derive(Debug)]
pub struct Line {
    file: Arc<File>,
    at: u64,
    counts: Mutex<[u64; WORDS]>,
}

impl Line {
    pub fn get(&self, count: usize) -> u64 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)[count]
    }

    pub fn set(&self, count: usize, value: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts[count] = value;
        let at = self.at + 8 * (WORDS + count) as u64;
        self.file
            .write_all_at(&value.to_le_bytes(), at)
            .unwrap_or_else(|error| panic!("the ledger cannot be written: {error}"));
    }

    pub fn add(&self, count: usize, more: u64) {
        let value = self.get(count) + more;
        self.set(count, value);
    }
}
