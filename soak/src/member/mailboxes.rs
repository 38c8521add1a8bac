//! Actors that are bound, unbound, stopped, and panic.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use actix::prelude::*;
use shmbus::{Bound, prelude::*};

use super::{Member, fault};
use crate::{
    dice::Dice,
    identity::{Who, mailbox},
    ledger::{Entry, Line},
    messages::{Answer, Call, Digest, Frame, Hello, Later, Note, ON_PURPOSE, Table, data, wish},
};

/// How many names each place has.
pub const NAMES: u64 = 3;

const BOUND: u64 = 1;
const CLOSING: u64 = 2;

/// An actor, and what it has got of whom.
struct Box_ {
    member: Arc<Member>,
    number: u64,
    state: Arc<Line>,
    on_panic: OnPanic,
    told: HashMap<(u64, u64), Line>,
    asked: HashMap<(u64, u64), Line>,
    dice: Dice,
}

impl Actor for Box_ {
    type Context = Context<Self>;
}

impl Box_ {
    /// A told message: the next one of its flow, and whole.
    fn told(&mut self, from: u64, flow: u64, seq: u64, is_whole: bool) {
        self.member.handled.fetch_add(1, Ordering::Relaxed);
        let (mailbox, who) = (self.number, Who(from));
        if !is_whole {
            fault(format_args!(
                "{mailbox} got message {seq} of {who}/{flow} corrupted"
            ));
        }
        let line = self.told.entry((from, flow)).or_insert_with(|| {
            let entry = Entry::Handled {
                mailbox,
                from: who,
                flow,
            };
            self.member.ledger.line(entry, [0; 8])
        });
        let wanted = line.get(0);
        if seq != wanted {
            fault(format_args!(
                "mailbox {mailbox} got message {seq} of {who}/{flow} instead of {wanted}"
            ));
        }
        line.set(0, seq + 1);
    }

    /// An asked message: later than the last one of its flow, and whole.
    fn asked(&mut self, from: u64, flow: u64, seq: u64, is_whole: bool) {
        self.member.handled.fetch_add(1, Ordering::Relaxed);
        let (mailbox, who) = (self.number, Who(from));
        if !is_whole {
            fault(format_args!("{mailbox} got ask {seq} of {who}/{flow} corrupted"));
        }
        let line = self.asked.entry((from, flow)).or_insert_with(|| {
            let entry = Entry::Answered {
                mailbox,
                from: who,
                flow,
            };
            self.member.ledger.line(entry, [0; 8])
        });
        // Those in between were not sent, or are told as unknown to their asker.
        let next = line.get(1);
        if seq < next {
            fault(format_args!(
                "mailbox {mailbox} got ask {seq} of {who}/{flow} after {}",
                next - 1
            ));
        }
        line.set(1, seq + 1);
        line.add(0, 1);
    }

    fn answer(&self, seq: u64, len: u32) -> Answer {
        answer(self.member.who(), self.number, seq, len)
    }
}

fn answer(owner: Who, mailbox: u64, seq: u64, len: u32) -> Answer {
    let data = data(mailbox ^ seq, len as usize);
    Answer {
        owner: owner.0,
        mailbox,
        seq,
        digest: Digest::of(&[owner.0, mailbox, seq]).bytes(&data),
        data,
    }
}

macro_rules! is_whole {
    ($msg:expr) => {
        Digest::of(&[$msg.from.to_native(), $msg.flow.to_native(), $msg.seq.to_native()]).bytes(&$msg.data)
            == $msg.digest.to_native()
    };
}

fn is_whole_table(msg: &Received<Table>) -> bool {
    Digest::of(&[msg.from.to_native(), msg.flow.to_native(), msg.seq.to_native()])
        .words(msg.cells.iter().map(|cell| cell.to_native()))
        == msg.digest.to_native()
}

impl Handler<Received<Note>> for Box_ {
    type Result = ();
    fn handle(&mut self, msg: Received<Note>, _: &mut Context<Self>) {
        self.told(
            msg.from.to_native(),
            msg.flow.to_native(),
            msg.seq.to_native(),
            is_whole!(msg),
        );
        self.member.held.maybe(&mut self.dice, move || is_whole!(msg));
    }
}

impl Handler<Received<Frame>> for Box_ {
    type Result = ();
    fn handle(&mut self, msg: Received<Frame>, _: &mut Context<Self>) {
        self.told(
            msg.from.to_native(),
            msg.flow.to_native(),
            msg.seq.to_native(),
            is_whole!(msg),
        );
        self.member.held.maybe(&mut self.dice, move || is_whole!(msg));
    }
}

impl Handler<Received<Table>> for Box_ {
    type Result = ();
    fn handle(&mut self, msg: Received<Table>, _: &mut Context<Self>) {
        let is_whole = is_whole_table(&msg);
        self.told(
            msg.from.to_native(),
            msg.flow.to_native(),
            msg.seq.to_native(),
            is_whole,
        );
        self.member
            .held
            .maybe(&mut self.dice, move || is_whole_table(&msg));
    }
}

impl Handler<Received<Hello>> for Box_ {
    type Result = MessageResult<Received<Hello>>;
    fn handle(&mut self, _: Received<Hello>, _: &mut Context<Self>) -> Self::Result {
        self.member.handled.fetch_add(1, Ordering::Relaxed);
        MessageResult(self.answer(0, 0))
    }
}

impl Handler<Received<Call>> for Box_ {
    type Result = MessageResult<Received<Call>>;
    fn handle(&mut self, msg: Received<Call>, _: &mut Context<Self>) -> Self::Result {
        let seq = msg.seq.to_native();
        self.asked(msg.from.to_native(), msg.flow.to_native(), seq, is_whole!(msg));
        if msg.wish == wish::PANIC {
            self.member.panics.fetch_add(1, Ordering::Relaxed);
            if self.on_panic == OnPanic::Stop {
                self.state.set(0, CLOSING);
            }
            std::panic::panic_any(ON_PURPOSE);
        }
        let reply = self.answer(seq, msg.reply.to_native());
        self.member.held.maybe(&mut self.dice, move || is_whole!(msg));
        MessageResult(reply)
    }
}

impl Handler<Received<Later>> for Box_ {
    type Result = ResponseFuture<Answer>;
    fn handle(&mut self, msg: Received<Later>, _: &mut Context<Self>) -> Self::Result {
        let seq = msg.seq.to_native();
        self.asked(msg.from.to_native(), msg.flow.to_native(), seq, is_whole!(msg));
        let (owner, number) = (self.member.who(), self.number);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(msg.after_ms.to_native().into())).await;
            if !is_whole!(msg) {
                fault("an ask has changed while it was kept");
            }
            answer(owner, number, seq, msg.reply.to_native())
        })
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Box_ {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

struct Open {
    bound: Bound<Box_>,
    state: Arc<Line>,
}

/// The actors of this process, by their names' index.
#[derive(Default)]
pub struct Boxes([Option<Open>; NAMES as usize]);

impl Boxes {
    async fn open(
        &mut self,
        member: &Arc<Member>,
        at: usize,
        dice: &mut Dice,
        arbiter: Option<&ArbiterHandle>,
    ) {
        let number = member.number();
        let entry = Entry::Mailbox { mailbox: number };
        let state = Arc::new(member.ledger.line(entry, [BOUND, 0, 0, 0, 0, 0, 0, 0]));
        let lasts = member.place.is_steady() && at == 0;
        let on_panic = match lasts || dice.one_in(2) {
            true => OnPanic::Continue,
            false => OnPanic::Stop,
        };
        let actor = Box_ {
            member: member.clone(),
            number,
            state: state.clone(),
            on_panic,
            told: HashMap::new(),
            asked: HashMap::new(),
            dice: member.dice(0x1000 + number),
        };
        let bind = member
            .bus
            .bind(mailbox(member.who().slot(), at as u64), actor)
            .handles::<Note>()
            .handles::<Frame>()
            .handles::<Table>()
            .handles::<Hello>()
            .handles::<Call>()
            .handles::<Later>()
            .window(dice.pick(&[2, 16, 300]))
            .on_panic(on_panic);
        let started = match arbiter {
            Some(arbiter) if dice.one_in(2) => bind.start_on(arbiter).await,
            _ => bind.start().await,
        };
        match started {
            Ok(bound) => self.0[at] = Some(Open { bound, state }),
            // One of that name stops just now, or the bus is left.
            Err(_) => state.set(0, CLOSING),
        }
    }

    pub async fn close(self, _member: &Member) {
        for open in self.0.into_iter().flatten() {
            open.state.set(0, CLOSING);
            open.bound.unbind();
            let addr = open.bound.addr().clone();
            addr.do_send(Stop);
            drop(open);
            // Its task ends with it.
            while addr.connected() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// Binds and unbinds, until there is to be peace.
pub async fn run(member: Arc<Member>, arbiter: Option<ArbiterHandle>) -> Boxes {
    let mut dice = member.dice(1);
    let mut boxes = Boxes::default();
    boxes.open(&member, 0, &mut dice, arbiter.as_ref()).await;
    while member.is_busy() {
        member.pause(dice.millis(5, 300)).await;
        let at = dice.below(NAMES) as usize;
        let lasts = member.place.is_steady() && at == 0;
        match &boxes.0[at] {
            None => boxes.open(&member, at, &mut dice, arbiter.as_ref()).await,
            Some(open) if !open.bound.addr().connected() => boxes.0[at] = None,
            Some(open) if !lasts && dice.one_in(2) => {
                open.state.set(0, CLOSING);
                match dice.one_in(2) {
                    true => {
                        open.bound.unbind();
                        open.bound.addr().do_send(Stop);
                    }
                    false => open.bound.addr().do_send(Stop),
                }
                boxes.0[at] = None;
            }
            Some(_) => {}
        }
    }
    boxes
}
