//! The sums over all ledgers.
//!
//! Bounds are exact: of what a killed process had begun, at most the last step is unknown. What a survivor was told was
//! sent has arrived at every survivor that is still there for it, and of what was sent nothing arrived twice.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use crate::{
    identity::{Realm, TopicId, Who, is_stream},
    ledger::{Books, Entry, Policy, told, topic},
};

const OPEN: u64 = 1;

/// Why the sums do not hold.
#[derive(Debug)]
pub enum Verdict {
    /// They never will.
    Wrong(String),
    /// Something may still be on its way.
    NotYet(String),
}

/// Asks, and what became of them.
#[derive(Debug, Default)]
struct Asks {
    made: u64,
    answered: u64,
    unsent: u64,
    late: u64,
    lost: u64,
    stopped: u64,
    /// Not waited for, or the asker has left.
    dropped: u64,
}

impl fmt::Display for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            made,
            answered,
            unsent,
            late,
            lost,
            stopped,
            dropped,
        } = self;
        write!(
            f,
            "{made} made, {answered} ran; {unsent} not sent, {late} late, {lost} lost with their process, \
             {stopped} with their actor, {dropped} dropped"
        )
    }
}

/// What was counted in all.
#[derive(Debug, Default)]
pub struct Sums {
    told: u64,
    handled: u64,
    singly: Asks,
    by_streams: Asks,
    published: u64,
    received: u64,
    lost: u64,
    jobs: u64,
    again: u64,
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            told,
            handled,
            singly,
            by_streams,
            published,
            received,
            lost,
            jobs,
            again,
        } = self;
        writeln!(f, "tells     {told} acknowledged, {handled} handled")?;
        writeln!(f, "asks      {singly}")?;
        writeln!(f, "ask_all   {by_streams}")?;
        writeln!(
            f,
            "topics    {published} published, {received} received, {lost} lost and counted"
        )?;
        writeln!(f, "groups    {jobs} handled, {again} of them given again")
    }
}

struct Books_ {
    lines: HashMap<(Who, Entry), [u64; 8]>,
    alive: HashSet<Who>,
}

impl Books_ {
    fn get(&self, who: Who, entry: Entry) -> Option<&[u64; 8]> {
        self.lines.get(&(who, entry))
    }
}

macro_rules! hold {
    ($verdict:ident, $condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err(Verdict::$verdict(format!($($what)+)));
        }
    };
}

pub fn reckon(books: &Books, all: &[Who], survivors: &[Who]) -> Result<Sums, Verdict> {
    let mut lines = HashMap::new();
    for who in all {
        let read = books.read(*who);
        let read = read.map_err(|error| Verdict::Wrong(format!("the ledger of {who}: {error}")))?;
        lines.extend(read.into_iter().map(|(entry, counts)| ((*who, entry), counts)));
    }
    let kept = Books_ {
        lines,
        alive: survivors.iter().copied().collect(),
    };
    let mut sums = Sums::default();
    for ((who, entry), counts) in &kept.lines {
        match *entry {
            Entry::Told { to, mailbox, flow } => tells(&kept, &mut sums, *who, to, mailbox, flow, counts)?,
            Entry::Asked { to, mailbox, flow } => asks(&kept, &mut sums, *who, to, mailbox, flow, counts)?,
            // That what arrived was sent.
            Entry::Handled { mailbox, from, flow } => {
                let to = *who;
                let sent = kept.get(from, Entry::Told { to, mailbox, flow });
                hold!(
                    Wrong,
                    sent.is_some(),
                    "{who} handled messages of {from}/{flow}, which sent none"
                );
            }
            Entry::Answered { mailbox, from, flow } => {
                let to = *who;
                let asked = kept.get(from, Entry::Asked { to, mailbox, flow });
                hold!(
                    Wrong,
                    asked.is_some(),
                    "{who} was asked by {from}/{flow}, which did not ask"
                );
            }
            Entry::Got { number, from, topic } => {
                topics(&kept, &mut sums, *who, number, from, topic, counts)?
            }
            Entry::Topic { .. } => sums.published += counts[topic::DONE],
            Entry::Mailbox { .. } | Entry::Subscription { .. } => {}
        }
    }
    within(&kept)?;
    jobs(books, &kept, &mut sums, all)?;
    Ok(sums)
}

fn tells(
    kept: &Books_,
    sums: &mut Sums,
    from: Who,
    to: Who,
    mailbox: u64,
    flow: u64,
    counts: &[u64; 8],
) -> Result<(), Verdict> {
    let (begun, done) = (counts[told::BEGUN], counts[told::DONE]);
    let handled = kept
        .get(to, Entry::Handled { mailbox, from, flow })
        .map_or(0, |counts| counts[0]);
    sums.told += done;
    sums.handled += handled;
    let what = format!("{from}/{flow} told {done} messages (and began {begun}) to mailbox {mailbox} of {to}");
    hold!(Wrong, handled <= begun, "{what}, which handled {handled}");
    hold!(
        Wrong,
        !kept.alive.contains(&from) || begun == done,
        "{what} and does nothing any more"
    );
    let state = kept
        .get(to, Entry::Mailbox { mailbox })
        .map_or(0, |counts| counts[0]);
    if kept.alive.contains(&to) && state == OPEN {
        hold!(
            NotYet,
            handled >= done,
            "{what}, which is open and handled {handled}"
        );
    }
    Ok(())
}

fn asks(
    kept: &Books_,
    sums: &mut Sums,
    from: Who,
    to: Who,
    mailbox: u64,
    flow: u64,
    counts: &[u64; 8],
) -> Result<(), Verdict> {
    let [begun, ran, unsent, late, lost, stopped, closed, dropped] = *counts;
    let unknown = late + lost + stopped + closed + dropped;
    let answered = kept
        .get(to, Entry::Answered { mailbox, from, flow })
        .map_or(0, |counts| counts[0]);
    let asks = match is_stream(flow) {
        true => &mut sums.by_streams,
        false => &mut sums.singly,
    };
    asks.made += begun;
    asks.answered += answered;
    asks.unsent += unsent;
    asks.late += late;
    asks.lost += lost;
    asks.stopped += stopped;
    asks.dropped += closed + dropped;
    let what = format!(
        "{from}/{flow} asked mailbox {mailbox} of {to} {begun} times ({ran} ran, {unsent} were not sent, {unknown} may have)"
    );
    let asker_lives = kept.alive.contains(&from);
    hold!(
        Wrong,
        !asker_lives || begun == ran + unsent + unknown,
        "{what}, and some had no outcome"
    );
    hold!(Wrong, answered <= begun - unsent, "{what}, and {answered} came");
    hold!(Wrong, answered >= ran, "{what}, and {answered} came");
    if kept.alive.contains(&to) {
        hold!(
            Wrong,
            !asker_lives || lost == 0,
            "{what}: {lost} failed because a process had gone that is there"
        );
        let state = kept
            .get(to, Entry::Mailbox { mailbox })
            .map_or(0, |counts| counts[0]);
        hold!(
            Wrong,
            state != OPEN || stopped == 0,
            "{what}: {stopped} failed because an actor had stopped that is there"
        );
    }
    Ok(())
}

fn topics(
    kept: &Books_,
    sums: &mut Sums,
    who: Who,
    number: u64,
    from: Who,
    topic: TopicId,
    counts: &[u64; 8],
) -> Result<(), Verdict> {
    let [first, next, count, gaps, lost, least, most, _] = *counts;
    let name = topic.name(from);
    let what =
        format!("subscription {number} of {who} got {count} of {name} ({first} to {next}, {gaps} missing)");
    sums.received += count;
    sums.lost += gaps;
    let subscription = kept
        .get(who, Entry::Subscription { number })
        .copied()
        .unwrap_or_default();
    let policy = Policy::of(subscription[1]);
    let Some(published) = kept.get(from, Entry::Topic { topic }) else {
        return Err(Verdict::Wrong(format!("{what}, which nobody published")));
    };
    let (begun, done) = (published[topic::BEGUN], published[topic::DONE]);
    hold!(Wrong, next <= begun, "{what}, of which {begun} were begun");
    if !kept.alive.contains(&who) || subscription[0] != OPEN {
        // A killed one may not have counted its last message.
        return Ok(());
    }
    hold!(
        Wrong,
        count + gaps == next - first,
        "{what}, which does not add up"
    );
    hold!(
        Wrong,
        first >= least,
        "{what}, and began when {least} were published and not kept"
    );
    hold!(
        Wrong,
        policy != Some(Policy::Wait) || first <= most,
        "{what}; {most} were begun when its await returned, and it is waited for"
    );
    let lives = kept.alive.contains(&from) && published[topic::STATE] == OPEN;
    if !lives {
        return Ok(());
    }
    // What waits for room at a publisher goes with its topic.
    if policy == Some(Policy::Wait) {
        hold!(
            NotYet,
            next >= done,
            "{what}; {done} were published, and it is waited for"
        );
        hold!(Wrong, lost <= 1, "{what}, is waited for, and lost {}", lost - 1);
    }
    // All of it is there: what is missing before the first one, in between and after the last one was counted.
    hold!(NotYet, lost > 0, "{what}, and does not know its publisher");
    let lost = lost - 1;
    let certain = gaps + first.saturating_sub(most) + (done - next.min(done));
    let possible = gaps + (first - least) + (done - next.min(done));
    hold!(
        NotYet,
        (certain..=possible).contains(&lost),
        "{what}; {done} were published, {lost} are said to be lost, and {certain} to {possible} are"
    );
    sums.lost += lost - gaps;
    Ok(())
}

/// A process gets its own messages too: the last one of each of its topics, if it keeps the last.
fn within(kept: &Books_) -> Result<(), Verdict> {
    for ((who, entry), published) in &kept.lines {
        let Entry::Topic { topic } = *entry else { continue };
        let begun = published[topic::STATE] == OPEN && published[topic::DONE] > 0;
        if topic.realm() != Some(Realm::Own) || !begun || !kept.alive.contains(who) {
            continue;
        }
        let lasting = kept.lines.iter().filter_map(|((of, entry), counts)| match entry {
            Entry::Subscription { number } if of == who && counts[..3] == [OPEN, Policy::Keep as u64, 1] => {
                Some(*number)
            }
            _ => None,
        });
        for number in lasting {
            let got = Entry::Got {
                number,
                from: *who,
                topic,
            };
            hold!(
                NotYet,
                kept.get(*who, got).is_some(),
                "subscription {number} of {who} got nothing of its {}; {} were published",
                topic.name(*who),
                published[topic::DONE]
            );
        }
    }
    Ok(())
}

/// Every job of a publisher that is there was handled; by one member, unless that one has gone and another was told so.
fn jobs(books: &Books, kept: &Books_, sums: &mut Sums, all: &[Who]) -> Result<(), Verdict> {
    let mut handled: HashMap<(Who, TopicId, u64), (u32, u32)> = HashMap::new();
    for who in all {
        let read = books.jobs(*who);
        let read = read.map_err(|error| Verdict::Wrong(format!("the jobs of {who}: {error}")))?;
        for (from, topic, seq, again) in read {
            let times = handled.entry((from, topic, seq)).or_default();
            match again {
                true => times.1 += 1,
                false => times.0 += 1,
            }
            sums.jobs += 1;
            sums.again += u64::from(again);
        }
    }
    for ((from, topic, seq), (first, _)) in &handled {
        let name = topic.name(*from);
        hold!(
            Wrong,
            *first <= 1,
            "job {seq} of {name} was handled {first} times as a new one"
        );
    }
    for ((who, entry), counts) in &kept.lines {
        let Entry::Topic { topic } = *entry else { continue };
        if topic.realm() != Some(Realm::Jobs) || !kept.alive.contains(who) || counts[topic::STATE] != OPEN {
            continue;
        }
        let missing: Vec<u64> = (0..counts[topic::DONE])
            .filter(|seq| !handled.contains_key(&(*who, topic, *seq)))
            .collect();
        hold!(
            NotYet,
            missing.is_empty(),
            "jobs {missing:?} of {} were handled by nobody; {} were published",
            topic.name(*who),
            counts[topic::DONE]
        );
    }
    Ok(())
}
