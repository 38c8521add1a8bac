//! From a mailbox to a handler: no envelope, no box, no lookup per message.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use actix::{
    Actor, ActorContext, ActorFuture, AsyncContext, Context, Handler, MessageResult, ResponseActFuture,
    ResponseFuture,
    dev::MessageResponse,
    fut::{ActorFutureExt, wrap_future},
};

use super::bind::OnPanic;
use crate::{
    message::{Received, ShmMessage, Trust},
    session::{
        asks::Failure,
        counters::Counters,
        delivery::{Deliveries, Front, Responder},
        mailbox::{Mailbox, Taken},
        node::Node,
        port::{Helper, Step, Turn},
        replies::Replies,
    },
    shm::inbound::ReleaseBatch,
};

/// Most messages handled in one poll; then the arbiter's other tasks get their turn.
const BUDGET: usize = 128;

/// What a dispatched message needs besides itself.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) trust: Trust,
    pub(crate) on_panic: OnPanic,
    pub(crate) counters: Arc<Counters>,
}

/// Calls the handler of one message type for a message and, where that is of a batch, for those behind it, at most so many.
/// Returns how many.
pub(crate) type Dispatch<A> = fn(&mut A, &mut Context<A>, Front<'_>, &Terms, usize) -> usize;

/// The [`Dispatch`] of `M`.
pub(crate) fn dispatch<A, M>(
    actor: &mut A,
    ctx: &mut Context<A>,
    message: Front<'_>,
    terms: &Terms,
    most: usize,
) -> usize
where
    A: Actor<Context = Context<A>> + Handler<Received<M>>,
    M: ShmMessage,
{
    let batch = match message {
        Front::Alone(delivery) => {
            let responder = delivery.responder();
            handle::<A, M>(actor, ctx, responder, terms, |actor, ctx| {
                delivery.open_for(terms.trust, |message| actor.handle(message, ctx))
            });
            return 1;
        }
        Front::OfBatch(batch) => batch,
    };
    let mut handled = 0;
    loop {
        let responder = batch.responder();
        handle::<A, M>(actor, ctx, responder, terms, |actor, ctx| {
            batch.open(terms.trust, |message| actor.handle(message, ctx))
        });
        handled += 1;
        if handled >= most || ctx.waiting() || !batch.advance() {
            return handled;
        }
    }
}

/// Opens a message into its handler's argument, and sends the reply.
#[inline(always)]
fn handle<A, M>(
    actor: &mut A,
    ctx: &mut Context<A>,
    responder: Option<Responder>,
    terms: &Terms,
    open: impl FnOnce(&mut A, &mut Context<A>) -> Option<<A as Handler<Received<M>>>::Result>,
) where
    A: Actor<Context = Context<A>> + Handler<Received<M>>,
    M: ShmMessage,
{
    // The actor may be left half-changed by a panic; what then happens to it is `OnPanic`'s to say. The message is
    // opened inside, so that it is made as the handler's argument and not moved there.
    match catch_unwind(AssertUnwindSafe(|| open(actor, ctx))) {
        Ok(Some(response)) => respond::<A, M>(response, responder, ctx, terms),
        Ok(None) => {}
        Err(_) => panicked(ctx, responder, terms),
    }
}

fn panicked<A: Actor<Context = Context<A>>>(
    ctx: &mut Context<A>,
    responder: Option<Responder>,
    terms: &Terms,
) {
    terms.counters.panics.add(1);
    if let Some(responder) = responder {
        responder.fail(Failure::Panicked);
    }
    tracing::error!(actor = std::any::type_name::<A>(), policy = ?terms.on_panic, "a handler panicked");
    if terms.on_panic == OnPanic::Stop {
        ctx.stop();
    }
}

/// Takes `value` as a `T`, if that is what it is; the compiler knows the answer for each pair of types.
fn take<T: 'static, U: 'static>(value: &mut Option<T>) -> Option<U> {
    (value as &mut dyn Any)
        .downcast_mut::<Option<U>>()
        .and_then(Option::take)
}

/// Sends the reply: at once where the handler returned it, through one task where it returned a future.
fn respond<A, M>(
    response: <A as Handler<Received<M>>>::Result,
    responder: Option<Responder>,
    ctx: &mut Context<A>,
    terms: &Terms,
) where
    A: Actor<Context = Context<A>> + Handler<Received<M>>,
    M: ShmMessage,
{
    let mut response = Some(response);
    if let Some(MessageResult(mut reply)) = take::<_, MessageResult<Received<M>>>(&mut response) {
        if let Some(responder) = responder {
            responder.reply(&mut reply);
        }
    } else if let Some(mut reply) = take::<_, M::Reply>(&mut response) {
        if let Some(responder) = responder {
            responder.reply(&mut reply);
        }
    } else if let Some(future) = take::<_, ResponseFuture<M::Reply>>(&mut response) {
        let guarded = Guarded {
            future: wrap_future::<_, A>(future),
            responder,
            terms: terms.clone(),
        };
        ctx.spawn(guarded);
    } else if let Some(future) = take::<_, ResponseActFuture<A, M::Reply>>(&mut response) {
        ctx.spawn(Guarded {
            future,
            responder,
            terms: terms.clone(),
        });
    } else if let Some(response) = response {
        // AtomicResponse and types of others: actix's own way, with its channel.
        let Some(responder) = responder else {
            return response.handle(ctx, None);
        };
        let (reply, replied) = tokio::sync::oneshot::channel();
        response.handle(ctx, Some(reply));
        ctx.spawn(wrap_future::<_, A>(replied).map(move |reply, _, _| match reply {
            Ok(mut reply) => responder.reply(&mut reply),
            // Dropped: the responder's own drop tells the asker.
            Err(_) => drop(responder),
        }));
    }
}

/// A handler's future, with its panics caught and its result sent.
struct Guarded<F> {
    future: F,
    responder: Option<Responder>,
    terms: Terms,
}

impl<A, F> ActorFuture<A> for Guarded<F>
where
    A: Actor<Context = Context<A>>,
    F: ActorFuture<A> + Unpin,
    F::Output: crate::message::ShmRoot,
{
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut Context<A>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let this = self.get_mut();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            Pin::new(&mut this.future).poll(actor, ctx, task)
        }));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(mut reply)) => {
                if let Some(responder) = this.responder.take() {
                    responder.reply(&mut reply);
                }
                Poll::Ready(())
            }
            Err(_) => {
                panicked(ctx, this.responder.take(), &this.terms);
                Poll::Ready(())
            }
        }
    }
}

/// Empties a mailbox in its actor's context, and helps its port while there is nothing.
pub(crate) struct Drain<A: Actor<Context = Context<A>>> {
    mailbox: Arc<Mailbox>,
    /// The bus is joined as long as one of its actors lives.
    node: Arc<Node>,
    table: Vec<Dispatch<A>>,
    terms: Terms,
    taken: Deliveries,
    helper: Helper,
}

impl<A: Actor<Context = Context<A>>> Drain<A> {
    pub(crate) fn new(node: Arc<Node>, mailbox: Arc<Mailbox>, table: Vec<Dispatch<A>>, terms: Terms) -> Self {
        Self {
            mailbox,
            node,
            table,
            terms,
            taken: Deliveries::default(),
            helper: Helper::default(),
        }
    }

    /// Handles what was taken. Returns how many messages; fewer than `budget` if the actor waits.
    fn handle(&mut self, actor: &mut A, ctx: &mut Context<A>, budget: usize) -> usize {
        let batch = ReleaseBatch::begin();
        let replies = Replies::begin();
        let mut handled = 0;
        while handled < budget && !ctx.waiting() {
            let Some(message) = self.taken.front() else {
                break;
            };
            // The port refuses numbers beyond the table.
            handled += match self.table.get(usize::from(message.message())) {
                Some(dispatch) => dispatch(actor, ctx, message, &self.terms, budget - handled),
                None => 1,
            };
            self.taken.pass();
        }
        drop(replies);
        match batch {
            Some(batch) if !self.taken.is_empty() && !ctx.waiting() => batch.go_on(),
            batch => drop(batch),
        }
        self.node.counters.handled.add(handled as u64);
        handled
    }
}

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for Drain<A> {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut Context<A>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let this = self.get_mut();
        let mut budget = BUDGET;
        // What was left by the last poll is not handled any more.
        if !this.taken.is_empty() && this.mailbox.is_closed() {
            return Poll::Ready(());
        }
        loop {
            // Polled again when what the actor waits for is done.
            if ctx.waiting() {
                return Poll::Pending;
            }
            if this.taken.is_empty() {
                let (mailbox, taken) = (&this.mailbox, &mut this.taken);
                let mut take = |register: bool| mailbox.take(taken, register.then_some(&*task));
                // What others have brought needs no look at the port.
                let step = match take(false) {
                    Some(found) => Step::Found(found),
                    None => mailbox
                        .port
                        .help(&mut this.helper, Turn::AfterActors, |_, register| take(register)),
                };
                match step {
                    Step::Found(Taken::Messages) => {}
                    Step::Found(Taken::Closed) => return Poll::Ready(()),
                    Step::Again => {
                        task.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Step::Sleep => return Poll::Pending,
                }
            }
            budget -= this.handle(actor, ctx, budget);
            if budget == 0 {
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl<A: Actor<Context = Context<A>>> Drop for Drain<A> {
    fn drop(&mut self) {
        ReleaseBatch::settle();
        self.mailbox.port.abandon(&mut self.helper);
        self.node.counters.dead_letters.add(self.taken.messages());
        self.mailbox.close();
    }
}
