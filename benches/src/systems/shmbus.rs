//! shmbus over its public interface: an actix actor on its arbiter, a client on another; default trust.

use std::{cell::RefCell, rc::Rc, time::Instant};

use actix::prelude::*;
use shmbus::prelude::*;

use crate::{
    Result,
    case::{Case, IN_FLIGHT, Run},
    meter::{Meter, Tally, phases},
    payload,
    report::Driven,
};

/// The actor's name.
const ACTOR: &str = "bench";

/// Before the first message, and after the last.
#[derive(ShmMessage)]
struct Mark {
    end: bool,
}

macro_rules! words {
    ($ask:ident, $answer:ident, $tell:ident, $words:literal) => {
        /// Answered by as much.
        #[derive(ShmMessage)]
        #[shm(reply = $answer)]
        struct $ask {
            words: [u64; $words],
        }

        #[derive(ShmType)]
        struct $answer {
            words: [u64; $words],
        }

        /// Not answered.
        #[derive(ShmMessage)]
        struct $tell {
            words: [u64; $words],
        }

        impl Handler<Received<$ask>> for Server {
            type Result = MessageResult<Received<$ask>>;
            fn handle(&mut self, ask: Received<$ask>, _: &mut Context<Self>) -> Self::Result {
                let words = ask.words.each_ref().map(|word| word.to_native());
                self.tally.add(payload::sum(words.into_iter()));
                MessageResult($answer { words })
            }
        }

        impl Handler<Received<$tell>> for Server {
            type Result = ();
            fn handle(&mut self, tell: Received<$tell>, _: &mut Context<Self>) {
                self.tally
                    .add(payload::sum(tell.words.iter().map(|word| word.to_native())));
            }
        }

        impl Load for $ask {
            fn new(_: usize) -> Self {
                Self { words: [0; $words] }
            }
            fn write(&mut self, seq: u64) {
                self.words = std::array::from_fn(|at| seq.wrapping_add(at as u64));
            }
        }

        impl Question for $ask {
            fn read(reply: &Received<$answer>) -> u64 {
                payload::sum(reply.words.iter().map(|word| word.to_native()))
            }
        }

        impl Load for $tell {
            fn new(_: usize) -> Self {
                Self { words: [0; $words] }
            }
            fn write(&mut self, seq: u64) {
                self.words = std::array::from_fn(|at| seq.wrapping_add(at as u64));
            }
        }
    };
}

// What fits into a slot of the queue, and what just does not.
words!(Ask32, Answer32, Tell32, 4);
words!(Ask64, Answer64, Tell64, 8);

/// Answered by as much.
#[derive(ShmMessage)]
#[shm(reply = Answer)]
struct Ask {
    seq: u64,
    bytes: Vec<u8>,
}

#[derive(ShmType)]
struct Answer {
    seq: u64,
    bytes: Vec<u8>,
}

/// Not answered.
#[derive(ShmMessage)]
struct Tell {
    seq: u64,
    bytes: Vec<u8>,
}

struct Server {
    tally: Tally,
}

impl Actor for Server {
    type Context = Context<Self>;
}

impl Handler<Received<Mark>> for Server {
    type Result = ();
    fn handle(&mut self, mark: Received<Mark>, _: &mut Context<Self>) {
        if mark.end {
            self.tally.end()
        } else {
            self.tally.begin()
        }
    }
}

impl Handler<Received<Ask>> for Server {
    type Result = MessageResult<Received<Ask>>;
    fn handle(&mut self, ask: Received<Ask>, _: &mut Context<Self>) -> Self::Result {
        self.tally.add(payload::read(&ask.bytes));
        MessageResult(Answer {
            seq: ask.seq.to_native(),
            bytes: ask.bytes.to_vec(),
        })
    }
}

impl Handler<Received<Tell>> for Server {
    type Result = ();
    fn handle(&mut self, tell: Received<Tell>, _: &mut Context<Self>) {
        self.tally.add(payload::read(&tell.bytes));
    }
}

/// A message of the measurement, made once and written anew for each time it is sent.
trait Load: ShmMessage {
    fn new(payload: usize) -> Self;
    fn write(&mut self, seq: u64);
}

/// One whose reply is read.
trait Question: Load {
    fn read(reply: &Received<Self::Reply>) -> u64;
}

impl Load for Ask {
    fn new(payload: usize) -> Self {
        Self {
            seq: 0,
            bytes: vec![0; payload],
        }
    }
    fn write(&mut self, seq: u64) {
        self.seq = seq;
        payload::write(&mut self.bytes, seq);
    }
}

impl Question for Ask {
    fn read(reply: &Received<Answer>) -> u64 {
        payload::read(&reply.bytes)
    }
}

impl Load for Tell {
    fn new(payload: usize) -> Self {
        Self {
            seq: 0,
            bytes: vec![0; payload],
        }
    }
    fn write(&mut self, seq: u64) {
        self.seq = seq;
        payload::write(&mut self.bytes, seq);
    }
}

fn config(run: &Run, node: &str, spin: Spin) -> Config {
    let config = Config::new(node).dir(&run.dir).spin(spin);
    match run.window {
        Some(window) => config.window(window),
        None => config,
    }
}

/// See [`super::System::serve`].
pub(super) fn serve(run: &Run, ready: fn(), spin: Spin) -> Result<()> {
    System::new().block_on(async {
        let bus = config(run, "server", spin).join().await?;
        bus.bind(
            ACTOR,
            Server {
                tally: Tally::default(),
            },
        )
        .handles::<Mark>()
        .handles::<Ask32>()
        .handles::<Tell32>()
        .handles::<Ask64>()
        .handles::<Tell64>()
        .handles::<Ask>()
        .handles::<Tell>()
        .start()
        .await?;
        ready();
        // The launcher ends this process.
        std::future::pending().await
    })
}

/// See [`super::System::drive`].
pub(super) fn drive(run: &Run, spin: Spin) -> Result<Driven> {
    System::new().block_on(async {
        let bus = config(run, "client", spin).join().await?;
        let driven = match (run.case, run.payload) {
            (Case::Tell, 32) => tells::<Tell32>(&bus, run).await?,
            (Case::Tell, 64) => tells::<Tell64>(&bus, run).await?,
            (Case::Tell, _) => tells::<Tell>(&bus, run).await?,
            (_, 32) => asks::<Ask32>(&bus, run).await?,
            (_, 64) => asks::<Ask64>(&bus, run).await?,
            _ => asks::<Ask>(&bus, run).await?,
        };
        bus.leave().await;
        Ok(driven)
    })
}

async fn tells<M: Load>(bus: &Bus, run: &Run) -> Result<Driven> {
    let address = bus.address::<(Mark, M)>(ACTOR).await?;
    let mut message = M::new(run.payload);
    let mut driven = Driven::default();
    for (_, lasts) in phases(run) {
        address.ask(&Mark { end: false }).await?;
        let mut meter = Meter::start(run, lasts);
        while !meter.is_over() {
            message.write(meter.send());
            address.tell(&message).await?;
        }
        // Messages of one sender to one actor arrive in order: when this is answered, all were handled.
        address.ask(&Mark { end: true }).await?;
        driven = meter.stop();
    }
    Ok(driven)
}

async fn asks<M: Question>(bus: &Bus, run: &Run) -> Result<Driven> {
    let address = bus.address::<(Mark, M)>(ACTOR).await?;
    let mut driven = Driven::default();
    for (_, lasts) in phases(run) {
        address.ask(&Mark { end: false }).await?;
        let mut meter = Meter::start(run, lasts);
        if run.case == Case::Ask {
            let mut message = M::new(run.payload);
            let mut now = Instant::now();
            while !meter.is_over_at(now) {
                message.write(meter.send());
                let reply = address.ask(&message).await?;
                now = meter.reply(now, M::read(&reply));
            }
        } else {
            meter = in_flight(&address, run, meter).await?;
        }
        driven = meter.stop();
        address.ask(&Mark { end: true }).await?;
    }
    Ok(driven)
}

/// One task per ask in flight, all on this thread.
async fn in_flight<M: Question>(address: &Address<(Mark, M)>, run: &Run, meter: Meter) -> Result<Meter> {
    let meter = Rc::new(RefCell::new(meter));
    let payload = run.payload;
    let tasks: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (address, meter) = (address.clone(), meter.clone());
            actix::spawn(async move {
                let mut message = M::new(payload);
                let mut now = Instant::now();
                while !meter.borrow().is_over_at(now) {
                    let seq = meter.borrow_mut().send();
                    message.write(seq);
                    let reply = address.ask(&message).await?;
                    now = meter.borrow_mut().reply(now, M::read(&reply));
                }
                Ok::<_, shmbus::error::AskError>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let meter = Rc::into_inner(meter).ok_or("a task still holds the clock")?;
    Ok(meter.into_inner())
}
