//! The senders: one on this thread, or several on arbiters of their own.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Instant,
};

use actix::Arbiter;
use shmbus::{error::AskError, prelude::*};
use tokio::sync::oneshot;

use super::{
    actor, config,
    messages::{Ask, Ask32, Ask64, Load, LoanAsk, LoanTell, Mark, Mixed, Question, Tell, Tell32, Tell64},
};
use crate::{
    Result,
    case::{Case, IN_FLIGHT, Kind, PERIOD, Run, SILENCE},
    meter::{Meter, phases},
    pace::{Pace, Waiting},
    payload,
    report::Driven,
};

/// See [`crate::systems::System::drive`].
pub(super) async fn drive(run: &Run, spin: Spin) -> Result<Driven> {
    let bus = config(run, "client", spin).join().await?;
    let meters = match (run.case().is_round_trip(), run.shape.kind, run.payload()) {
        (true, _, 32) => senders(&bus, run, round_trips::<Ask32>).await?,
        (true, _, 64) => senders(&bus, run, round_trips::<Ask64>).await?,
        (true, ..) => senders(&bus, run, round_trips::<Ask>).await?,
        (false, Kind::Mixed, _) => senders(&bus, run, one_way::<Mixed>).await?,
        (false, _, 32) if run.shape.held == 0 => senders(&bus, run, one_way::<Tell32>).await?,
        (false, _, 64) if run.shape.held == 0 => senders(&bus, run, one_way::<Tell64>).await?,
        (false, ..) => senders(&bus, run, one_way::<Tell>).await?,
    };
    bus.leave().await;
    Ok(Meter::report(meters))
}

/// The same, with many messages told by one call.
pub(super) async fn drive_batches(run: &Run, spin: Spin) -> Result<Driven> {
    let bus = config(run, "client", spin).join().await?;
    let meters = match (run.shape.kind, run.payload()) {
        (_, 32) if run.case().is_round_trip() => senders(&bus, run, asked_together::<Ask32>).await?,
        (_, 64) if run.case().is_round_trip() => senders(&bus, run, asked_together::<Ask64>).await?,
        _ if run.case().is_round_trip() => senders(&bus, run, asked_together::<Ask>).await?,
        (Kind::Mixed, _) => senders(&bus, run, batches::<Mixed>).await?,
        (_, 32) if run.shape.held == 0 => senders(&bus, run, batches::<Tell32>).await?,
        (_, 64) if run.shape.held == 0 => senders(&bus, run, batches::<Tell64>).await?,
        _ => senders(&bus, run, batches::<Tell>).await?,
    };
    bus.leave().await;
    Ok(Meter::report(meters))
}

/// The same, with payloads written where they are sent from.
pub(in crate::systems) fn drive_loans(run: &Run, spin: Spin) -> Result<Driven> {
    actix::System::new().block_on(async {
        let bus = config(run, "client", spin).join().await?;
        let meters = if run.case().is_round_trip() {
            senders(&bus, run, loan_asks).await?
        } else {
            senders(&bus, run, loan_tells).await?
        };
        bus.leave().await;
        Ok(Meter::report(meters))
    })
}

/// Runs as many senders as are wanted, and gives their counts.
async fn senders<F, S>(bus: &Bus, run: &Run, sender: F) -> Result<Vec<Meter>>
where
    F: FnOnce(Bus, Run, usize) -> S + Copy + Send + 'static,
    S: Future<Output = Result<Meter>> + 'static,
{
    if run.shape.senders == 1 {
        return Ok(vec![sender(bus.clone(), run.clone(), 0).await?]);
    }
    let mut threads = Vec::new();
    for index in 0..run.shape.senders as usize {
        let (arbiter, (report, reported)) = (Arbiter::new(), oneshot::channel());
        let (bus, run) = (bus.clone(), run.clone());
        arbiter.spawn_fn(move || {
            actix::spawn(async move {
                let meter = sender(bus, run, index).await;
                // Where nobody waits the process is about to end.
                let _ = report.send(meter.map_err(|error| error.to_string()));
            });
        });
        threads.push((arbiter, reported));
    }
    let mut meters = Vec::new();
    for (arbiter, reported) in threads {
        meters.push(reported.await??);
        arbiter.stop();
    }
    Ok(meters)
}

/// What one sender sends to.
struct Actors<M: ShmMessage> {
    addresses: Vec<Address<(Mark, M)>>,
    /// Whose turn it is.
    turn: usize,
}

impl<M: ShmMessage> Actors<M> {
    async fn open(bus: &Bus, run: &Run, index: usize) -> Result<Self> {
        let mut addresses = Vec::new();
        for number in 0..run.shape.mailboxes {
            addresses.push(bus.address::<(Mark, M)>(actor(number)).await?);
        }
        // Not all begin with the same.
        let turn = index % addresses.len();
        Ok(Self { addresses, turn })
    }

    #[inline]
    fn next(&mut self) -> &Address<(Mark, M)> {
        let turn = self.turn;
        self.turn = if turn + 1 == self.addresses.len() {
            0
        } else {
            turn + 1
        };
        &self.addresses[turn]
    }

    /// Waits for all other senders.
    async fn begin(&self) -> Result<(), AskError> {
        self.addresses[0].ask(&Mark { end: false }).await?;
        Ok(())
    }

    /// Messages of one sender to one actor arrive in order: when this is answered, all were handled.
    async fn end(&self) -> Result<(), AskError> {
        for address in &self.addresses {
            address.ask(&Mark { end: true }).await?;
        }
        Ok(())
    }
}

/// Both phases of a sender whose messages are not answered; gives the second one's count.
macro_rules! one_way {
    ($run:expr, $actors:expr, |$meter:ident| $messages:expr) => {{
        let mut done = None;
        for lasts in phases($run) {
            $actors.begin().await?;
            let mut $meter = Meter::start($run, lasts);
            $messages;
            $actors.end().await?;
            $meter.stop();
            done = Some($meter);
        }
        done.ok_or_else(|| "nothing was measured".into())
    }};
}

/// The same, of one whose messages are: the clock stops with the last reply.
macro_rules! round_trips {
    ($run:expr, $actors:expr, |$meter:ident| $messages:expr) => {{
        let mut done = None;
        for lasts in phases($run) {
            $actors.begin().await?;
            let mut $meter = Meter::start($run, lasts);
            $messages;
            $meter.stop();
            $actors.end().await?;
            done = Some($meter);
        }
        done.ok_or_else(|| "nothing was measured".into())
    }};
}

async fn one_way<M: Load>(bus: Bus, run: Run, index: usize) -> Result<Meter> {
    let mut actors = Actors::<M>::open(&bus, &run, index).await?;
    let mut message = M::new(run.payload());
    one_way!(&run, actors, |meter| {
        if run.case() == Case::Cpu {
            tell_paced(&mut actors, &mut message, &mut meter).await?;
        } else {
            tell(&mut actors, &mut message, &mut meter).await?;
        }
    })
}

/// Told by one call in [`batches`].
const BATCH: usize = 128;

async fn batches<M: Load>(bus: Bus, run: Run, index: usize) -> Result<Meter> {
    let mut actors = Actors::<M>::open(&bus, &run, index).await?;
    let mut messages: Vec<M> = (0..BATCH).map(|_| M::new(run.payload())).collect();
    one_way!(&run, actors, |meter| while !meter.is_over() {
        for message in &mut messages {
            message.write(meter.send_as(M::expected));
        }
        actors.next().tell_all(&messages).await?;
    })
}

/// As fast as the receivers take them.
async fn tell<M: Load>(actors: &mut Actors<M>, message: &mut M, meter: &mut Meter) -> Result<()> {
    while !meter.is_over() {
        message.write(meter.send_as(M::expected));
        actors.next().tell(message).await?;
    }
    Ok(())
}

async fn tell_paced<M: Load>(actors: &mut Actors<M>, message: &mut M, meter: &mut Meter) -> Result<()> {
    let mut pace = Pace::start(PERIOD, Waiting::Async)?;
    while !meter.is_over() {
        for _ in 0..pace.next().await? {
            message.write(meter.send_as(M::expected));
            actors.next().tell(message).await?;
        }
    }
    Ok(())
}

async fn round_trips<M: Question>(bus: Bus, run: Run, index: usize) -> Result<Meter> {
    let mut actors = Actors::<M>::open(&bus, &run, index).await?;
    let mut message = M::new(run.payload());
    round_trips!(&run, actors, |meter| {
        if run.case() == Case::Ask64 {
            meter = in_flight(&actors, run.payload(), meter).await?;
        } else {
            let mut now = Instant::now();
            while !meter.is_over_at(now) {
                if run.case() == Case::IdleWake {
                    Waiting::Async.pause(SILENCE).await;
                    now = Instant::now();
                }
                message.write(meter.send_as(M::expected));
                let reply = actors.next().ask(&message).await?;
                now = meter.reply(now, M::read_reply(&reply));
            }
        }
    })
}

/// One task per ask in flight, all on this thread; each asks one of the actors.
async fn in_flight<M: Question>(actors: &Actors<M>, payload: usize, meter: Meter) -> Result<Meter> {
    let meter = Rc::new(RefCell::new(meter));
    let addresses = actors.addresses.iter().cycle().skip(actors.turn);
    let tasks: Vec<_> = addresses
        .take(IN_FLIGHT)
        .map(|address| {
            let (address, meter) = (address.clone(), meter.clone());
            actix::spawn(async move {
                let mut message = M::new(payload);
                let mut now = Instant::now();
                while !meter.borrow().is_over_at(now) {
                    let seq = meter.borrow_mut().send_as(M::expected);
                    message.write(seq);
                    let reply = address.ask(&message).await?;
                    now = meter.borrow_mut().reply(now, M::read_reply(&reply));
                }
                Ok::<_, AskError>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let meter = Rc::into_inner(meter).ok_or("a task still holds the clock")?;
    Ok(meter.into_inner())
}

/// Asked by one call in [`asked_together`].
const ASKED: usize = 1024;

/// As many in flight as single asks are, each timed from the reply before it, as those are.
async fn asked_together<M: Question>(bus: Bus, run: Run, index: usize) -> Result<Meter> {
    let mut actors = Actors::<M>::open(&bus, &run, index).await?;
    let mut messages: Vec<M> = (0..ASKED).map(|_| M::new(run.payload())).collect();
    let begun = RefCell::new(VecDeque::with_capacity(IN_FLIGHT));
    let now = Cell::new(Instant::now());
    round_trips!(&run, actors, |meter| {
        now.set(Instant::now());
        while !meter.is_over_at(now.get()) {
            for message in &mut messages {
                message.write(meter.send_as(M::expected));
            }
            let timed = messages
                .iter()
                .inspect(|_| begun.borrow_mut().push_back(now.get()));
            let mut replies = actors.next().ask_all(timed).in_flight(IN_FLIGHT);
            while let Some(reply) = replies.next().await {
                let begun = begun.borrow_mut().pop_front().ok_or("a reply too many")?;
                now.set(meter.reply(begun, M::read_reply(&reply?)));
            }
        }
    })
}

async fn loan_tells(bus: Bus, run: Run, index: usize) -> Result<Meter> {
    let mut actors = Actors::<LoanTell>::open(&bus, &run, index).await?;
    one_way!(&run, actors, |meter| while !meter.is_over() {
        let seq = meter.send();
        let mut loan = actors.next().loan::<LoanTell>(run.payload()).await?;
        payload::write(&mut loan, seq);
        loan.send(|bytes| LoanTell { seq, bytes }).await?;
    })
}

async fn loan_asks(bus: Bus, run: Run, index: usize) -> Result<Meter> {
    let mut actors = Actors::<LoanAsk>::open(&bus, &run, index).await?;
    round_trips!(&run, actors, |meter| {
        let mut now = Instant::now();
        while !meter.is_over_at(now) {
            let seq = meter.send();
            let mut loan = actors.next().loan::<LoanAsk>(run.payload()).await?;
            payload::write(&mut loan, seq);
            let reply = loan.ask(|bytes| LoanAsk { seq, bytes }).await?;
            now = meter.reply(now, payload::read(&reply.bytes));
        }
    })
}
