//! Replies whose payload is produced in place.

use std::rc::Rc;

use actix::prelude::*;
use futures_util::FutureExt;
use shmbus::{Protocol, error::AskError, prelude::*};
use tokio::sync::Semaphore;

use crate::{
    service::{Ping, bytes, configured},
    support::{Child, Place, Stage, settled, soon, system},
};

/// What the reply is made of.
#[derive(ShmType, Debug, Clone, Copy, PartialEq)]
enum Way {
    /// At once.
    Now,
    /// By a future that waits for the test to say `paint`.
    Later,
    /// Lent, and not used.
    Nothing,
}

/// Answered with so many bytes of paint, and so many of text.
#[derive(ShmMessage, Debug)]
#[shm(reply = Painted)]
struct Paint {
    seed: u64,
    len: u64,
    note: u64,
    way: Way,
}

#[derive(ShmMessage, Debug, Default, PartialEq)]
struct Painted {
    seed: u64,
    paint: Bulk,
    note: String,
}

struct Painter {
    may_paint: Rc<Semaphore>,
}

impl Actor for Painter {
    type Context = Context<Self>;
}

impl Handler<Received<Paint>> for Painter {
    type Result = ResponseFuture<Painted>;
    fn handle(&mut self, paint: Received<Paint>, _: &mut Context<Self>) -> ResponseFuture<Painted> {
        let Paint { seed, len, note, way } = paint.to_owned();
        let mut loan = paint.reply_loan(len as usize);
        drop(paint);
        let may_paint = self.may_paint.clone();
        Box::pin(async move {
            match way {
                Way::Now => {}
                Way::Nothing => return Painted::default(),
                Way::Later => may_paint.acquire().await.expect("never closed").forget(),
            }
            loan.copy_from_slice(&bytes(seed, len as usize));
            Painted {
                seed,
                paint: loan.into(),
                note: "n".repeat(note as usize),
            }
        })
    }
}

/// Handled by a plain return.
#[derive(ShmMessage, Debug)]
#[shm(reply = Dab)]
struct Dip {
    len: u64,
}

#[derive(ShmMessage, Debug)]
struct Dab {
    paint: Bulk,
}

impl Handler<Received<Dip>> for Painter {
    type Result = MessageResult<Received<Dip>>;
    fn handle(&mut self, dip: Received<Dip>, _: &mut Context<Self>) -> Self::Result {
        let mut loan = dip.reply_loan(dip.len.to_native() as usize);
        loan.fill(7);
        MessageResult(Dab { paint: loan.into() })
    }
}

impl Handler<Received<Ping>> for Painter {
    type Result = u64;
    fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
        ping.n.to_native()
    }
}

/// Role: `setting=value..`; says `ready`, then does what the test says.
pub fn painter(mut stage: Stage) {
    system(async move {
        let bus = configured(&stage, "server").join().await.expect("join");
        let may_paint = Rc::new(Semaphore::new(0));
        let painter = Painter {
            may_paint: may_paint.clone(),
        };
        let bind = bus.bind("painter", painter).handles::<Paint>();
        let bind = bind.handles::<Dip>().handles::<Ping>();
        let _bound = bind.start().await.expect("bind");
        stage.say("ready");
        loop {
            match stage.hear().await.as_str() {
                "paint" => {
                    may_paint.add_permits(1);
                    stage.say("ok");
                }
                "copied" => stage.say(bus.stats().loans_copied),
                "buffers" => stage.say(bus.stats().pool_buffers),
                other => panic!("unknown command {other}"),
            }
        }
    });
}

/// A painter, and who asks it.
async fn meet<P: Protocol>(place: &Place, args: &[&str]) -> (Child, Bus, Address<P>) {
    let child = place.ready("loans::replies::painter", args).await;
    let bus = place.config("client").join().await.unwrap();
    let painter = bus.address::<P>("painter").await.unwrap();
    (child, bus, painter)
}

fn paint(len: usize, note: usize, way: Way) -> Paint {
    Paint {
        seed: len as u64 % 251,
        len: len as u64,
        note: note as u64,
        way,
    }
}

/// Whether it is what [`paint`] asked for.
fn is_right(asked: &Paint, painted: &Received<Painted>) -> bool {
    let right = match asked.way {
        Way::Nothing => Painted::default(),
        Way::Now | Way::Later => Painted {
            seed: asked.seed,
            paint: bytes(asked.seed, asked.len as usize).into(),
            note: "n".repeat(asked.note as usize),
        },
    };
    painted.to_owned() == right
}

#[test]
fn a_reply_is_read_where_it_was_written_whatever_its_length() {
    let place = Place::new();
    system(async {
        let (mut child, _bus, painter) = meet::<(Paint, Dip)>(&place, &[]).await;
        for len in [
            0,
            1,
            60,
            96,
            97,
            5_000,
            100_000,
            (4 << 20) - 100,
            4 << 20,
            9 << 20,
        ] {
            for note in [0, 1, 200] {
                let asked = paint(len, note, Way::Now);
                let reply = painter.ask(&asked).await.unwrap();
                assert!(is_right(&asked, &reply), "{asked:?}");
            }
            let reply = painter.ask(&Dip { len: len as u64 }).await.unwrap();
            assert!(reply.paint.len() == len && reply.paint.iter().all(|byte| *byte == 7));
        }
        child.expect_after("copied", "0").await;

        // What does not fit behind it moves once, and is counted.
        let asked = paint(5_000, 20_000, Way::Now);
        assert!(is_right(&asked, &painter.ask(&asked).await.unwrap()));
        child.expect_after("copied", "1").await;
        child.until("buffers", "0").await;
    });
}

#[test]
fn many_replies_written_in_place_come_in_the_order_of_their_asks() {
    let place = Place::new();
    system(async {
        let (mut child, _bus, painter) = meet::<Dip>(&place, &[]).await;
        let asks: Vec<_> = (0..500).map(|n| Dip { len: n * 37 % 3_000 }).collect();
        let mut replies = painter.ask_all(&asks);
        for ask in &asks {
            let reply = replies.next().await.unwrap().unwrap();
            assert_eq!(reply.paint.len() as u64, ask.len);
        }
        child.expect_after("copied", "0").await;
        child.until("buffers", "0").await;
    });
}

#[test]
fn a_reply_loan_that_is_kept_or_given_up_goes_back() {
    let place = Place::new();
    system(async {
        let (mut child, bus, painter) = meet::<Paint>(&place, &[]).await;
        let nothing = paint(5_000, 0, Way::Nothing);
        assert!(is_right(&nothing, &painter.ask(&nothing).await.unwrap()));
        child.expect_after("buffers", "0").await;

        // Kept by a future, across other messages.
        {
            let later = paint(5_000, 0, Way::Later);
            let mut asked = std::pin::pin!(painter.ask(&later));
            assert!((&mut asked).now_or_never().is_none());
            child.until("buffers", "1").await;
            assert!(is_right(&nothing, &painter.ask(&nothing).await.unwrap()));
            child.expect_after("paint", "ok").await;
            assert!(is_right(&later, &soon("the reply", asked).await.unwrap()));
            child.until("buffers", "0").await;
        }

        // Written for somebody who is gone, with the last address.
        let asked = actix::spawn(async move {
            let _ = painter.ask(&paint(5_000, 0, Way::Later)).await;
        });
        child.until("buffers", "1").await;
        bus.leave().await;
        soon("the ask ends", asked).await.unwrap();
        child.expect_after("paint", "ok").await;
        child.until("buffers", "0").await;
    });
}

#[test]
fn without_shared_memory_a_reply_is_written_on_the_heap() {
    let place = Place::new();
    system(async {
        let args = [&format!("pool={}", 8 << 20)[..], &format!("message={}", 3 << 20)];
        let (mut child, bus, painter) = meet::<(Paint, Ping)>(&place, &args).await;
        // The pool is full of kept replies.
        let large = paint(2 << 20, 0, Way::Now);
        let mut kept = Vec::new();
        let why = loop {
            match painter.ask(&large).await {
                Ok(reply) => kept.push(reply),
                Err(why) => break why,
            }
        };
        assert!(
            matches!(&why, AskError::Reply { problem, .. } if problem.contains("memory")),
            "{why:?}"
        );
        assert!(!kept.is_empty() && kept.iter().all(|reply| is_right(&large, reply)));
        // What was lent then lies on the heap; sent when there is room again, it is whole.
        let later = Paint {
            way: Way::Later,
            ..large
        };
        let mut asked = std::pin::pin!(painter.ask(&later));
        assert!((&mut asked).now_or_never().is_none());
        // Handled after it.
        assert_eq!(*painter.ask(&Ping { n: 3 }).await.unwrap(), 3);
        kept.clear();
        child.until("buffers", "0").await;
        child.expect_after("paint", "ok").await;
        assert!(is_right(&later, &soon("the reply", asked).await.unwrap()));

        // What no reply can hold is refused by its length.
        let why = painter.ask(&paint(4 << 20, 0, Way::Now)).await.unwrap_err();
        assert!(
            matches!(&why, AskError::Reply { problem, .. } if problem.contains("message_bytes")),
            "{why:?}"
        );
        settled(&bus).await;
    });
}
