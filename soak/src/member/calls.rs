//! Tells and asks, in every way there is.

use std::{collections::HashMap, sync::Arc, time::Duration};

use shmbus::{
    error::{AskError, LookupError, SendError},
    message::ShmMessage,
    prelude::*,
};

use super::{Member, PATIENCE, fault, mailboxes::NAMES};
use crate::{
    clock::Span,
    dice::Dice,
    identity::{ALL_LANES, LANES, Who, lane_of, mailbox},
    ledger::{Entry, Line, asked, told},
    messages::{Answer, CELLS, Call, Digest, EMPTY, Frame, Hello, Later, Note, Table, data, fill, wish},
};

pub type Everything = (Note, Frame, Table, Hello, Call, Later);

/// How much later than its deadline an ask may end, in a process that runs: the machine is busy.
pub const LATE: Duration = Duration::from_secs(15);

/// One incarnation of an actor.
pub struct Target {
    pub owner: Who,
    mailbox: u64,
    told: Line,
    pub asked: Vec<Line>,
}

pub struct Caller {
    member: Arc<Member>,
    flow: u64,
    pub dice: Dice,
    targets: HashMap<(Who, u64), Target>,
}

/// Whether the address is still of use.
pub type Goes = bool;

fn note(from: Who, flow: u64, seq: u64, len: usize) -> Note {
    let data = data(from.0 ^ seq, len);
    let digest = Digest::of(&[from.0, flow, seq]).bytes(&data);
    Note {
        from: from.0,
        flow,
        seq,
        digest,
        data,
    }
}

/// Calls until there is to be peace.
pub async fn run(member: Arc<Member>, flow: u64) {
    let dice = member.dice(0x100 + flow);
    let mut caller = Caller {
        member,
        flow,
        dice,
        targets: HashMap::new(),
    };
    while caller.member.is_busy() {
        caller.visit().await;
        let pause = caller.dice.millis(1, 30);
        caller.member.pause(pause).await;
    }
}

impl Caller {
    async fn visit(&mut self) {
        let slot = self.dice.below(u64::from(self.member.place.places)) as u16;
        let name = mailbox(slot, self.dice.below(NAMES));
        let within = self.dice.millis(1, 150);
        let span = Span::new();
        let opened = self
            .member
            .bus
            .address::<Everything>(&name)
            .deadline(within)
            .await;
        let address = match opened {
            Ok(address) => address,
            Err(LookupError::Unknown { .. }) => {
                if span.exceeds(within + LATE).await {
                    fault(format_args!("a lookup of {within:?} took much longer"));
                }
                return;
            }
            Err(LookupError::PeerLost { .. } | LookupError::Closed) => return,
            Err(LookupError::Refused { reason, .. }) if reason.contains("closed") => return,
            Err(error) => return fault(format_args!("a lookup: {error}")),
        };
        let Some(key) = self.greet(&address).await else {
            return;
        };
        for _ in 0..1 + self.dice.below(12) {
            // Taken out, so that it is not borrowed; it has to be put back.
            let Some(target) = self.targets.remove(&key) else {
                return;
            };
            let goes = self.step(&address, &target).await;
            self.targets.insert(key, target);
            if !goes || !self.member.is_busy() {
                return;
            }
            if self.dice.one_in(3) {
                let pause = self.dice.millis(0, 8);
                self.member.pause(pause).await;
            }
        }
    }

    /// Which incarnation this address is of.
    async fn greet(&mut self, address: &Address<Everything>) -> Option<(Who, u64)> {
        let from = self.member.who().0;
        let hello = Hello { from };
        let answer = address.ask(&hello).deadline(Duration::from_secs(2)).await.ok()?;
        let (owner, mailbox) = (Who(answer.owner.to_native()), answer.mailbox.to_native());
        if address.node() != owner.to_string() {
            fault(format_args!(
                "{} is at {} and not at {owner}",
                address.name(),
                address.node()
            ));
        }
        let (member, flow) = (&self.member, self.flow);
        self.targets.entry((owner, mailbox)).or_insert_with(|| {
            let line = |entry| member.ledger.line(entry, [0; 8]);
            let ask = |lane| Entry::Asked {
                to: owner,
                mailbox,
                flow: lane_of(flow, lane),
            };
            Target {
                owner,
                mailbox,
                told: line(Entry::Told {
                    to: owner,
                    mailbox,
                    flow,
                }),
                asked: (0..ALL_LANES).map(|lane| line(ask(lane))).collect(),
            }
        });
        Some((owner, mailbox))
    }

    async fn step(&mut self, address: &Address<Everything>, target: &Target) -> Goes {
        match self.dice.below(24) {
            0..=4 => self.tell(address, target).await,
            5..=6 => self.flood(address, target),
            7..=8 => self.tell_all(address, target).await,
            9..=10 => self.lend(address, target).await,
            11..=12 => self.write_in_place(address, target).await,
            13..=15 => self.ask(address, target).await,
            16..=17 => self.ask_many(address, target).await,
            18..=19 => self.ask_later(address, target).await,
            20..=22 => self.ask_all(address, target).await,
            _ => self.ask_all_twice(address, target).await,
        }
    }

    /// From nothing to a message with a segment of its own, which is rare.
    pub fn len(&mut self) -> usize {
        let most = match self.dice.below(200) {
            0 => return (4 << 20) + self.dice.below(2 << 20) as usize,
            1..=3 => 1 << 20,
            4..=20 => 100_000,
            21..=80 => 3000,
            _ => 64,
        };
        self.dice.below(most) as usize
    }

    /// What has become of a told message. `None`: it was not sent, because nobody waited long enough.
    fn told(&self, target: &Target, messages: u64, sent: Option<Result<(), SendError>>) -> Goes {
        let line = &target.told;
        let goes = match sent {
            Some(Ok(())) => {
                line.add(told::DONE, messages);
                return true;
            }
            None | Some(Err(SendError::Full { .. } | SendError::Memory { .. })) => true,
            Some(Err(SendError::PeerLost { .. } | SendError::Stopped { .. } | SendError::Closed { .. })) => {
                false
            }
            Some(Err(error)) => {
                fault(format_args!("a tell: {error}"));
                false
            }
        };
        line.set(told::BEGUN, line.get(told::DONE));
        goes
    }

    fn begin(target: &Target, messages: u64) -> u64 {
        let seq = target.told.get(told::DONE);
        target.told.set(told::BEGUN, seq + messages);
        seq
    }

    async fn tell(&mut self, address: &Address<Everything>, target: &Target) -> Goes {
        let (len, within) = (self.len(), self.dice.millis(1, 300));
        let seq = Self::begin(target, 1);
        let note = note(self.member.who(), self.flow, seq, len);
        let sent = tokio::time::timeout(within, address.tell(&note)).await.ok();
        self.told(target, 1, sent)
    }

    /// Until something is full, or enough.
    fn flood(&mut self, address: &Address<Everything>, target: &Target) -> Goes {
        let len = self.dice.pick(&[0, 40, 300, 5000]);
        for _ in 0..self.dice.pick(&[10, 100, 1500]) {
            let seq = Self::begin(target, 1);
            let sent = address.try_tell(&note(self.member.who(), self.flow, seq, len));
            let full = matches!(sent, Err(SendError::Full { .. }));
            let goes = self.told(target, 1, Some(sent));
            if full || !goes {
                return goes;
            }
        }
        true
    }

    async fn tell_all(&mut self, address: &Address<Everything>, target: &Target) -> Goes {
        let count = 1 + self.dice.below(80);
        let len = self.dice.pick(&[0, 40, 300, 5000]);
        let seq = Self::begin(target, count);
        let (who, flow) = (self.member.who(), self.flow);
        let notes: Vec<Note> = (seq..seq + count).map(|seq| note(who, flow, seq, len)).collect();
        match tokio::time::timeout(PATIENCE, address.tell_all(&notes)).await {
            Ok(Ok(())) => self.told(target, count, Some(Ok(()))),
            Ok(Err(stopped)) => {
                self.told(target, stopped.sent as u64, Some(Ok(())));
                self.told(target, 0, Some(Err(stopped.error)))
            }
            Err(_) => {
                // What others meet there now, for the report.
                let tried = address.try_tell(&note(who, flow, u64::MAX, 0));
                let hello = Hello { from: who.0 };
                let asked = address
                    .ask(&hello)
                    .deadline(Duration::from_secs(2))
                    .await
                    .map(|_| ());
                let (name, owner, stats) = (address.name(), target.owner, self.member.bus.stats());
                fault(format_args!(
                    "tell_all to {name} of {owner} had no end; now a tell: {tried:?}, an ask: {asked:?}, {stats:?}"
                ));
                false
            }
        }
    }

    async fn lend(&mut self, address: &Address<Everything>, target: &Target) -> Goes {
        let (len, within) = (self.len(), self.dice.millis(1, 300));
        let lent = tokio::time::timeout(within, address.loan::<Frame>(len)).await;
        let mut loan = match lent {
            Err(_) => return true,
            Ok(Err(SendError::Memory { .. })) => return true,
            Ok(Err(error)) => return self.told(target, 0, Some(Err(error))),
            Ok(Ok(loan)) => loan,
        };
        if self.dice.one_in(4) {
            // Kept for a while, and not sent.
            let pause = self.dice.millis(0, 20);
            self.member.pause(pause).await;
            return true;
        }
        let seq = Self::begin(target, 1);
        let (from, flow) = (self.member.who().0, self.flow);
        fill(from ^ seq, &mut loan);
        let digest = Digest::of(&[from, flow, seq]).bytes(&loan);
        let send = loan.send(|data| Frame {
            from,
            flow,
            seq,
            digest,
            data,
        });
        let sent = tokio::time::timeout(within, send).await.ok();
        self.told(target, 1, sent)
    }

    async fn write_in_place(&mut self, address: &Address<Everything>, target: &Target) -> Goes {
        let within = self.dice.millis(1, 300);
        let taken = tokio::time::timeout(within, address.in_place::<Table>(&EMPTY)).await;
        let mut table = match taken {
            Err(_) => return true,
            Ok(Err(error)) => return self.told(target, 0, Some(Err(error))),
            Ok(Ok(table)) => table,
        };
        let seq = Self::begin(target, 1);
        let (from, flow) = (self.member.who().0, self.flow);
        let cell = |at: usize| (at as u64).wrapping_mul(seq + 1) ^ from;
        for (at, place) in table.cells.iter_mut().enumerate() {
            *place = cell(at).into();
        }
        let digest = Digest::of(&[from, flow, seq]).words((0..CELLS).map(cell));
        (table.from, table.flow) = (from.into(), flow.into());
        (table.seq, table.digest) = (seq.into(), digest.into());
        let sent = tokio::time::timeout(within, table.send()).await.ok();
        self.told(target, 1, sent)
    }

    pub fn call(&mut self, seq: u64, lane: u64, len: usize) -> Call {
        let (who, flow) = (self.member.who(), lane_of(self.flow, lane));
        let note = note(who, flow, seq, len);
        Call {
            from: note.from,
            flow,
            seq,
            digest: note.digest,
            wish: if self.dice.one_in(60) {
                wish::PANIC
            } else {
                wish::NOTHING
            },
            reply: self.len() as u32,
            data: note.data,
        }
    }

    async fn ask(&mut self, address: &Address<Everything>, target: &Target) -> Goes {
        let len = self.len();
        let call = self.call(target.asked[0].get(asked::BEGUN), 0, len);
        let within = self.dice.pick(&[1, 30, 2000]);
        ask(address, target, 0, &call, call.seq, Duration::from_millis(within)).await
    }

    /// Several at a time.
    async fn ask_many(&mut self, address: &Address<Everything>, target: &Target) -> Goes {
        let mut calls = Vec::new();
        for lane in 0..LANES {
            let len = self.len();
            calls.push(self.call(target.asked[lane as usize].get(asked::BEGUN), lane, len));
        }
        let within = Duration::from_millis(self.dice.pick(&[5, 200, 2000]));
        let ask = |lane: u64| {
            let call = &calls[lane as usize];
            ask(address, target, lane, call, call.seq, within)
        };
        let (a, b, c, d, e, f, g, h) =
            tokio::join!(ask(0), ask(1), ask(2), ask(3), ask(4), ask(5), ask(6), ask(7));
        a && b && c && d && e && f && g && h
    }

    async fn ask_later(&mut self, address: &Address<Everything>, target: &Target) -> Goes {
        let seq = target.asked[0].get(asked::BEGUN);
        let len = self.len();
        let Call {
            from,
            flow,
            digest,
            reply,
            data,
            ..
        } = self.call(seq, 0, len);
        let later = Later {
            from,
            flow,
            seq,
            digest,
            after_ms: self.dice.below(30) as u32,
            reply,
            data,
        };
        let within = self.dice.pick(&[10, 300]);
        ask(address, target, 0, &later, seq, Duration::from_millis(within)).await
    }
}

/// One ask has one outcome, by its deadline.
async fn ask<M, At>(
    address: &Address<Everything>,
    target: &Target,
    lane: u64,
    message: &M,
    seq: u64,
    within: Duration,
) -> Goes
where
    M: ShmMessage<Reply = Answer>,
    Everything: shmbus::Accepts<M, At>,
{
    let line = &target.asked[lane as usize];
    line.add(asked::BEGUN, 1);
    let span = Span::new();
    let outcome = tokio::time::timeout(PATIENCE, address.ask(message).deadline(within)).await;
    let Ok(outcome) = outcome else {
        fault(format_args!(
            "an ask of {within:?} to {} had no outcome",
            address.name()
        ));
        return false;
    };
    if let Some(late) = span.excess(within + LATE).await {
        let (name, late) = (address.name(), late + LATE);
        let outcome = outcome.as_ref().map(|_| ());
        fault(format_args!(
            "an ask of {within:?} to {name} ended {late:?} late: {outcome:?}"
        ));
    }
    if let Ok(answer) = &outcome {
        check(target, seq, answer);
    }
    count(line, outcome.map(|_| ()))
}

/// What has become of an ask.
pub fn count(line: &Line, outcome: Result<(), AskError>) -> Goes {
    let (what, goes) = match outcome {
        Ok(()) => (asked::RAN, true),
        Err(AskError::HandlerPanicked { .. }) => (asked::RAN, true),
        Err(AskError::Reply { .. }) => (asked::RAN, true),
        Err(AskError::Deadline { .. }) => (asked::LATE, true),
        // The bus was left, maybe while the ask was under way.
        Err(AskError::Send(SendError::Closed { .. })) => (asked::CLOSED, false),
        Err(AskError::PeerLost { .. }) => (asked::LOST, false),
        Err(AskError::Stopped { .. }) => (asked::STOPPED, false),
        Err(AskError::Send(SendError::Memory { .. } | SendError::Full { .. })) => (asked::UNSENT, true),
        Err(AskError::Send(SendError::PeerLost { .. } | SendError::Stopped { .. })) => (asked::UNSENT, false),
        Err(error) => {
            fault(format_args!("an ask: {error}"));
            (asked::DROPPED, false)
        }
    };
    line.add(what, 1);
    goes
}

pub fn check(target: &Target, seq: u64, answer: &Received<Answer>) {
    let (owner, mailbox) = (answer.owner.to_native(), answer.mailbox.to_native());
    let digest = Digest::of(&[owner, mailbox, answer.seq.to_native()]).bytes(&answer.data);
    if digest != answer.digest.to_native() {
        fault(format_args!("a reply to ask {seq} came corrupted"));
    }
    if (owner, mailbox, answer.seq.to_native()) != (target.owner.0, target.mailbox, seq) {
        fault(format_args!("a reply to ask {seq} is that of another ask"));
    }
}
