//! Every way in which a handler answers, and what becomes of it if it panics or stops.

use actix::prelude::*;
use shmbus::{error::AskError, prelude::*};

use crate::{
    service::{Later, Note, Panic, Ping, start},
    support::{Place, Stage, eventually, settled, soon, system},
};

macro_rules! questions {
    ($($name:ident: $reply:ty;)*) => {$(
        #[derive(ShmMessage, Debug)]
        #[shm(reply = $reply)]
        struct $name {
            n: u64,
        }
    )*};
}

questions! {
    Nothing: ();
    Plain: u64;
    Truth: bool;
    Wrapped: String;
    Fallible: Result<u64, String>;
    Perhaps: Option<u64>;
    Many: Vec<u64>;
    Future: u64;
    FallibleFuture: Result<String, u64>;
    ActFuture: u64;
    Atomic: u64;
    PanicInFuture: u64;
    PanicInActFuture: u64;
    StopNow: u64;
}

struct Answers {
    sum: u64,
}

impl Actor for Answers {
    type Context = Context<Self>;
}

macro_rules! answers {
    ($($name:ident -> $result:ty: |$actor:ident, $n:ident, $ctx:ident| $answer:expr;)*) => {$(
        impl Handler<Received<$name>> for Answers {
            type Result = $result;
            fn handle(&mut self, message: Received<$name>, ctx: &mut Context<Self>) -> Self::Result {
                let ($actor, $n, $ctx) = (self, message.n.to_native(), ctx);
                let _ = (&$actor, $n, &$ctx);
                $answer
            }
        }
    )*};
}

answers! {
    Nothing -> (): |actor, n, ctx| actor.sum += n;
    Plain -> u64: |actor, n, ctx| actor.sum + n;
    Truth -> bool: |actor, n, ctx| n > 0;
    Wrapped -> MessageResult<Received<Wrapped>>: |actor, n, ctx| MessageResult("x".repeat(n as usize));
    Fallible -> Result<u64, String>: |actor, n, ctx| n.checked_sub(1).ok_or("zero".into());
    Perhaps -> Option<u64>: |actor, n, ctx| n.checked_sub(1);
    Many -> Vec<u64>: |actor, n, ctx| (0..n).collect();
    Future -> ResponseFuture<u64>: |actor, n, ctx| Box::pin(async move {
        tokio::task::yield_now().await;
        n * 2
    });
    FallibleFuture -> ResponseFuture<Result<String, u64>>: |actor, n, ctx| Box::pin(async move {
        tokio::task::yield_now().await;
        if n == 0 { Err(7) } else { Ok("y".repeat(n as usize)) }
    });
    ActFuture -> ResponseActFuture<Self, u64>: |actor, n, ctx| {
        let later = async move {
            tokio::task::yield_now().await;
            n
        };
        Box::pin(later.into_actor(actor).map(|n, actor, _| {
            actor.sum += n;
            actor.sum
        }))
    };
    // No other message is handled between its two halves.
    Atomic -> AtomicResponse<Self, u64>: |actor, n, ctx| {
        let before = actor.sum;
        let later = async move {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        };
        AtomicResponse::new(Box::pin(later.into_actor(actor).map(move |(), actor, _| {
            assert_eq!(actor.sum, before, "another message came in between");
            actor.sum += n;
            actor.sum
        })))
    };
    PanicInFuture -> ResponseFuture<u64>: |actor, n, ctx| Box::pin(async move {
        tokio::task::yield_now().await;
        panic!("as the test wants it, {n}")
    });
    PanicInActFuture -> ResponseActFuture<Self, u64>: |actor, n, ctx| {
        Box::pin(tokio::task::yield_now().into_actor(actor).map(move |(), _, _| panic!("as wanted, {n}")))
    };
    StopNow -> u64: |actor, n, ctx| { ctx.stop(); n };
}

/// Role: `stop` or `continue` after a panic.
pub fn answers(mut stage: Stage) {
    std::panic::set_hook(Box::new(|_| ()));
    system(async move {
        let bus = stage.config("answers").join().await.expect("join");
        let policy = if stage.arg(0) == "stop" {
            OnPanic::Stop
        } else {
            OnPanic::Continue
        };
        let bind = bus.bind("answers", Answers { sum: 0 }).on_panic(policy);
        let bind = bind
            .handles::<Nothing>()
            .handles::<Plain>()
            .handles::<Truth>()
            .handles::<Wrapped>();
        let bind = bind
            .handles::<Fallible>()
            .handles::<Perhaps>()
            .handles::<Many>()
            .handles::<Future>();
        let bind = bind
            .handles::<FallibleFuture>()
            .handles::<ActFuture>()
            .handles::<Atomic>();
        let bind = bind
            .handles::<PanicInFuture>()
            .handles::<PanicInActFuture>()
            .handles::<StopNow>();
        bind.start().await.expect("bind");
        stage.say("ready");
        loop {
            match stage.hear().await.as_str() {
                "panics" => stage.say(bus.stats().panics),
                other => panic!("unknown command {other}"),
            }
        }
    });
}

#[test]
fn every_actix_response_type_answers() {
    let place = Place::new();
    system(async {
        let _server = place.ready("responses::answers", &["continue"]).await;
        let bus = place.config("client").join().await.unwrap();
        let one = bus
            .address::<(Nothing, Plain, Truth, Wrapped, Fallible, Perhaps, Many)>("answers")
            .await
            .unwrap();
        let two = bus
            .address::<(Future, FallibleFuture, ActFuture, Atomic)>("answers")
            .await
            .unwrap();
        one.ask(&Nothing { n: 1 }).await.unwrap();
        assert_eq!(one.ask(&Plain { n: 1 }).await.unwrap().to_native(), 2);
        assert!(*one.ask(&Truth { n: 1 }).await.unwrap());
        assert!(!*one.ask(&Truth { n: 0 }).await.unwrap());
        assert_eq!(one.ask(&Wrapped { n: 0 }).await.unwrap().as_str(), "");
        assert_eq!(
            one.ask(&Wrapped { n: 500 }).await.unwrap().as_str(),
            "x".repeat(500)
        );
        assert_eq!(one.ask(&Fallible { n: 1 }).await.unwrap().to_owned(), Ok(0));
        assert_eq!(
            one.ask(&Fallible { n: 0 }).await.unwrap().to_owned(),
            Err("zero".into())
        );
        assert_eq!(one.ask(&Perhaps { n: 1 }).await.unwrap().to_owned(), Some(0));
        assert_eq!(one.ask(&Perhaps { n: 0 }).await.unwrap().to_owned(), None);
        assert_eq!(
            one.ask(&Many { n: 0 }).await.unwrap().to_owned(),
            Vec::<u64>::new()
        );
        assert_eq!(
            one.ask(&Many { n: 300 }).await.unwrap().to_owned(),
            (0..300).collect::<Vec<_>>()
        );
        assert_eq!(two.ask(&Future { n: 4 }).await.unwrap().to_native(), 8);
        assert_eq!(
            two.ask(&FallibleFuture { n: 0 }).await.unwrap().to_owned(),
            Err(7)
        );
        assert_eq!(
            two.ask(&FallibleFuture { n: 2 }).await.unwrap().to_owned(),
            Ok("yy".into())
        );
        assert_eq!(two.ask(&ActFuture { n: 10 }).await.unwrap().to_native(), 11);
        assert_eq!(two.ask(&Atomic { n: 10 }).await.unwrap().to_native(), 21);
        // All of them as tells too: nobody is answered, nothing is kept.
        one.tell(&Plain { n: 1 }).await.unwrap();
        two.tell(&Future { n: 1 }).await.unwrap();
        two.tell(&ActFuture { n: 1 }).await.unwrap();
        two.tell(&Atomic { n: 1 }).await.unwrap();
        assert_eq!(two.ask(&Atomic { n: 0 }).await.unwrap().to_native() & !1, 22);
        settled(&bus).await;
    });
}

#[test]
fn an_atomic_response_holds_back_the_messages_behind_it() {
    let place = Place::new();
    system(async {
        let _server = place.ready("responses::answers", &["continue"]).await;
        let bus = place.config("client").join().await.unwrap();
        let answers = bus.address::<(Nothing, Atomic, Plain)>("answers").await.unwrap();
        // The handler itself asserts that no `Nothing` came in between.
        for n in 0..200 {
            answers.tell(&Atomic { n: 1 }).await.unwrap();
            answers.tell(&Nothing { n: 1 }).await.unwrap();
            if n % 50 == 0 {
                assert_eq!(
                    answers.ask(&Plain { n: 0 }).await.unwrap().to_native(),
                    2 * (n + 1)
                );
            }
        }
        assert_eq!(answers.ask(&Plain { n: 0 }).await.unwrap().to_native(), 400);
    });
}

#[test]
fn after_a_panic_the_actor_goes_on_where_that_is_the_policy() {
    let place = Place::new();
    system(async {
        let mut server = place.ready("responses::answers", &["continue"]).await;
        let bus = place.config("client").join().await.unwrap();
        let answers = bus
            .address::<(PanicInFuture, PanicInActFuture, Plain)>("answers")
            .await
            .unwrap();
        let name = || "answers".to_owned();
        for n in 0..3 {
            let failed = answers.ask(&PanicInFuture { n }).await.map(|_| ());
            assert_eq!(failed, Err(AskError::HandlerPanicked { name: name() }));
            let failed = answers.ask(&PanicInActFuture { n }).await.map(|_| ());
            assert_eq!(failed, Err(AskError::HandlerPanicked { name: name() }));
            answers.tell(&PanicInFuture { n }).await.unwrap();
            assert_eq!(answers.ask(&Plain { n }).await.unwrap().to_native(), n);
        }
        server.until("panics", "9").await;
        settled(&bus).await;
    });
    let mut server = system(start(&place, &["plain", "plain", "continue", "quiet"]));
    system(async {
        let bus = place.config("again").join().await.unwrap();
        let plain = bus.address::<(Panic, Ping)>("plain").await.unwrap();
        for n in 0..3 {
            let failed = plain.ask(&Panic).await.map(|_| ());
            assert_eq!(failed, Err(AskError::HandlerPanicked { name: "plain".into() }));
            assert_eq!(plain.ask(&Ping { n }).await.unwrap().to_native(), n + 1);
        }
        assert_eq!(server.stat("panics").await, 3);
        settled(&bus).await;
    });
}

#[test]
fn after_a_panic_the_actor_stops_where_that_is_the_policy() {
    let place = Place::new();
    for what in ["handler", "future"] {
        system(async {
            let bus = place.config(what).join().await.unwrap();
            let mut watch = bus.watch("answers");
            assert_eq!(watch.next().await, Some(Presence::Down));
            let _server = place.ready("responses::answers", &["stop"]).await;
            assert_eq!(soon("up", watch.next()).await, Some(Presence::Up));
            let answers = bus
                .address::<(PanicInFuture, PanicInActFuture, Plain)>("answers")
                .await
                .unwrap();
            let failed = if what == "future" {
                answers.ask(&PanicInFuture { n: 1 }).await.map(|_| ())
            } else {
                answers.ask(&PanicInActFuture { n: 1 }).await.map(|_| ())
            };
            assert_eq!(
                failed,
                Err(AskError::HandlerPanicked {
                    name: "answers".into()
                })
            );
            assert_eq!(soon("down", watch.next()).await, Some(Presence::Down));
            assert!(stopped(
                answers.ask(&Plain { n: 1 }).await.map(|_| ()).unwrap_err()
            ));
            settled(&bus).await;
            bus.leave().await;
        });
    }
}

fn stopped(error: AskError) -> bool {
    use shmbus::error::SendError;
    matches!(
        error,
        AskError::Stopped { .. } | AskError::Send(SendError::Stopped { .. })
    )
}

#[test]
fn an_actor_that_stops_fails_the_asks_in_its_queue_and_counts_its_dead_letters() {
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor", "quiet"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<(Panic, Ping, Note, Later)>("actor").await.unwrap();
        // An ask whose answer is still being computed when the actor stops.
        let asker = actor.clone();
        let computing = actix::spawn(async move { asker.ask(&Later { bytes: 1 }).await.map(|_| ()) });
        eventually("it is sent", || bus.stats().sent == 1).await;
        // The actor's thread holds still, so all of these are in its queue together.
        server.ask("block").await;
        let asker = actor.clone();
        let fatal = actix::spawn(async move { asker.ask(&Panic).await.map(|_| ()) });
        eventually("it is sent", || bus.stats().sent == 2).await;
        for seq in 0..5 {
            actor.tell(&Note { from: 1, seq }).await.unwrap();
        }
        let asks = (0..3).map(|n| {
            let asker = actor.clone();
            actix::spawn(async move { asker.ask(&Ping { n }).await.map(|_| ()) })
        });
        let queued: Vec<_> = asks.collect();
        eventually("all are sent", || bus.stats().sent == 10).await;
        server.expect_after("go", "unblocked").await;
        let (computing, fatal) = (computing.await.unwrap(), fatal.await.unwrap());
        assert_eq!(fatal, Err(AskError::HandlerPanicked { name: "actor".into() }));
        assert!(stopped(computing.unwrap_err()));
        for ask in queued {
            assert!(stopped(soon("an answer", ask).await.unwrap().unwrap_err()));
        }
        assert_eq!(server.stat("dead_letters").await, 8, "five tells and three asks");
        assert_eq!(server.count().await, 0);
        settled(&bus).await;
    });
}

#[test]
fn an_actor_may_answer_and_stop() {
    let place = Place::new();
    system(async {
        let _server = place.ready("responses::answers", &["continue"]).await;
        let bus = place.config("client").join().await.unwrap();
        let answers = bus.address::<(StopNow, Plain)>("answers").await.unwrap();
        assert_eq!(answers.ask(&StopNow { n: 5 }).await.unwrap().to_native(), 5);
        assert!(stopped(
            answers.ask(&Plain { n: 1 }).await.map(|_| ()).unwrap_err()
        ));
        settled(&bus).await;
    });
}
