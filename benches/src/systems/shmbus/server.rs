//! The actors that count, on one arbiter.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use actix::prelude::*;
use shmbus::prelude::*;
use tokio::sync::oneshot;

use super::{
    actor, config,
    messages::{
        Ask, Ask32, Ask64, Load, LoanAnswer, LoanAsk, LoanTell, Mark, Mixed, Question, Tell, Tell32, Tell64,
    },
};
use crate::{Result, case::Run, launch, meter::Tally, payload, report::Served};

/// What all actors of the server count together.
struct Shared {
    tally: RefCell<Tally>,
    /// Sending threads of all clients, and actors.
    senders: usize,
    mailboxes: usize,
    ended: Cell<usize>,
    /// Who waits until all senders are connected.
    waiting: RefCell<Vec<oneshot::Sender<()>>>,
}

impl Shared {
    /// A sender is about to start, and does so when all are.
    fn begin(&self) -> oneshot::Receiver<()> {
        let (go, all_here) = oneshot::channel();
        let mut waiting = self.waiting.borrow_mut();
        waiting.push(go);
        if waiting.len() == self.senders {
            self.tally.borrow_mut().begin();
            for go in waiting.drain(..) {
                // One that has died meanwhile fails the measurement by its own report.
                let _ = go.send(());
            }
        }
        all_here
    }

    /// A sender has sent everything to one of the actors, which has counted so much.
    fn end(&self, served: &mut Served) {
        let mut tally = self.tally.borrow_mut();
        tally.take(served);
        self.ended.set(self.ended.get() + 1);
        if self.ended.get() == self.senders * self.mailboxes {
            self.ended.set(0);
            tally.end();
        }
    }
}

struct Server {
    served: Served,
    shared: Rc<Shared>,
    /// The last so many messages, unreleased.
    held: VecDeque<Received<Tell>>,
    most_held: usize,
}

impl Actor for Server {
    type Context = Context<Self>;
}

impl Handler<Received<Mark>> for Server {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, mark: Received<Mark>, _: &mut Context<Self>) -> Self::Result {
        if mark.end {
            self.shared.end(&mut self.served);
            return Box::pin(std::future::ready(()));
        }
        let all_here = self.shared.begin();
        Box::pin(async {
            // Nobody else drops the other end.
            let _ = all_here.await;
        })
    }
}

macro_rules! counts {
    ($($tell:ident)*) => {$(
        impl Handler<Received<$tell>> for Server {
            type Result = ();
            fn handle(&mut self, tell: Received<$tell>, _: &mut Context<Self>) {
                self.served.add(1, $tell::read(&tell));
            }
        }
    )*};
}

counts!(Tell32 Tell64 Mixed);

impl Handler<Received<Tell>> for Server {
    type Result = ();
    fn handle(&mut self, tell: Received<Tell>, _: &mut Context<Self>) {
        self.served.add(1, Tell::read(&tell));
        if self.most_held > 0 {
            if self.held.len() == self.most_held {
                self.held.pop_front();
            }
            self.held.push_back(tell);
        }
    }
}

impl Handler<Received<LoanTell>> for Server {
    type Result = ();
    fn handle(&mut self, tell: Received<LoanTell>, _: &mut Context<Self>) {
        self.served.add(1, payload::read(&tell.bytes));
    }
}

macro_rules! answers {
    ($($ask:ident)*) => {$(
        impl Handler<Received<$ask>> for Server {
            type Result = MessageResult<Received<$ask>>;
            fn handle(&mut self, ask: Received<$ask>, _: &mut Context<Self>) -> Self::Result {
                self.served.add(1, $ask::read(&ask));
                MessageResult($ask::reply(&ask))
            }
        }
    )*};
}

answers!(Ask32 Ask64 Ask);

impl Handler<Received<LoanAsk>> for Server {
    type Result = MessageResult<Received<LoanAsk>>;
    fn handle(&mut self, ask: Received<LoanAsk>, _: &mut Context<Self>) -> Self::Result {
        self.served.add(1, payload::read(&ask.bytes));
        let mut bytes = ask.reply_loan(ask.bytes.len());
        bytes.copy_from_slice(&ask.bytes);
        MessageResult(LoanAnswer {
            seq: ask.seq.to_native(),
            bytes: bytes.into(),
        })
    }
}

/// See [`crate::systems::System::serve`].
pub(super) async fn serve(run: &Run, ready: fn(), spin: Spin) -> Result<()> {
    let bus = config(run, "server", spin).join().await?;
    let shape = &run.shape;
    let shared = Rc::new(Shared {
        tally: RefCell::default(),
        senders: (shape.clients * shape.senders) as usize,
        mailboxes: shape.mailboxes as usize,
        ended: Cell::new(0),
        waiting: RefCell::default(),
    });
    for number in 0..shape.mailboxes {
        let server = Server {
            served: Served::default(),
            shared: shared.clone(),
            held: VecDeque::with_capacity(shape.held as usize),
            most_held: shape.held as usize,
        };
        bus.bind(actor(number), server)
            .handles::<Mark>()
            .handles::<Ask32>()
            .handles::<Tell32>()
            .handles::<Ask64>()
            .handles::<Tell64>()
            .handles::<Ask>()
            .handles::<Tell>()
            .handles::<LoanAsk>()
            .handles::<LoanTell>()
            .handles::<Mixed>()
            .start()
            .await?;
    }
    ready();
    launch::dismissed().await;
    bus.leave().await;
    Ok(())
}
