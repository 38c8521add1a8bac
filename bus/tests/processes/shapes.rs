//! Every shape of message, there and back.

use std::collections::{BTreeMap, HashMap};

use actix::prelude::*;
use shmbus::prelude::*;

use crate::{
    service::set,
    support::{Place, Stage, settled, soon, system, threads},
};

/// No content at all.
#[derive(ShmMessage, Debug, Clone, PartialEq)]
#[shm(reply = Empty)]
struct Empty;

/// Fits into a slot.
#[derive(ShmMessage, Debug, Clone, PartialEq)]
#[shm(reply = Small)]
struct Small(u8, i64, Option<u32>, [u16; 3], bool);

#[derive(ShmMessage, Debug, Clone, PartialEq)]
#[shm(reply = Shape)]
enum Shape {
    Unit,
    Text(String),
    Texts(Vec<String>),
    Nested {
        name: String,
        inner: Box<Shape>,
        all: Vec<Shape>,
    },
    Maybe(Option<String>, Option<Box<Shape>>),
    Outcome(Result<u8, String>),
    Tuple((u8, f64, char), [Point; 2]),
    Map(HashMap<String, Vec<u64>>, BTreeMap<u32, Point>),
    Signed(i8, i16, i32, i64, i128, f32),
}

#[derive(ShmType, Debug, Clone, Copy, PartialEq)]
struct Point {
    x: f64,
    y: f64,
}

/// Any size.
#[derive(ShmMessage, Debug, Clone, PartialEq)]
#[shm(reply = Bytes)]
struct Bytes(Vec<u8>);

/// Generic over what it carries.
#[derive(ShmMessage, Debug, Clone, PartialEq)]
#[shm(name = "tests.carry", reply = Carry<u64>)]
struct Carry<T> {
    what: Vec<T>,
}

struct Echo;

impl Actor for Echo {
    type Context = Context<Self>;
}

macro_rules! echoes {
    ($($message:ty),*) => {$(
        impl Handler<Received<$message>> for Echo {
            type Result = MessageResult<Received<$message>>;
            fn handle(&mut self, message: Received<$message>, _: &mut Context<Self>) -> Self::Result {
                MessageResult(message.to_owned())
            }
        }
    )*};
}
echoes!(Empty, Small, Shape, Bytes, Carry<u64>);

/// Role: answers each message with itself.
pub fn echo(mut stage: Stage) {
    system(async move {
        let bus = set(stage.config("echo"), stage.arg(0))
            .join()
            .await
            .expect("join");
        let actor = bus.bind("echo", Echo).handles::<Empty>().handles::<Small>();
        let actor = actor
            .handles::<Shape>()
            .handles::<Bytes>()
            .handles::<Carry<u64>>();
        actor.start().await.expect("bind");
        stage.say("ready");
        stage.wait().await;
    });
}

fn shapes() -> Vec<Shape> {
    let text = |len| Shape::Text("tschüß ".repeat(len));
    let points = [
        Point { x: 1.5, y: -0.0 },
        Point {
            x: f64::MAX,
            y: f64::MIN_POSITIVE,
        },
    ];
    let nested = Shape::Nested {
        name: "outer".into(),
        inner: Box::new(Shape::Maybe(Some("in".into()), Some(Box::new(Shape::Unit)))),
        all: vec![Shape::Unit, text(1), Shape::Texts(vec![])],
    };
    vec![
        Shape::Unit,
        text(0),
        text(1),
        text(10),
        text(10_000),
        Shape::Texts(vec![]),
        Shape::Texts(vec![String::new(), "a".into(), "b".repeat(100)]),
        nested.clone(),
        Shape::Maybe(None, None),
        Shape::Maybe(Some(String::new()), Some(Box::new(nested))),
        Shape::Outcome(Ok(7)),
        Shape::Outcome(Err("no".into())),
        Shape::Tuple((255, 0.1, '€'), points),
        Shape::Map(HashMap::new(), BTreeMap::new()),
        Shape::Map(
            (0..50).map(|n| (format!("key {n}"), (0..n).collect())).collect(),
            (0..50).map(|n| (n * n, points[n as usize % 2])).collect(),
        ),
        Shape::Signed(i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN, f32::MIN),
    ]
}

#[test]
fn messages_of_every_shape_come_back_as_they_were() {
    let place = Place::new();
    system(async {
        let _server = place.ready("shapes::echo", &["default"]).await;
        let bus = place.config("client").join().await.unwrap();
        let echo = bus
            .address::<(Empty, Small, Shape, Bytes, Carry<u64>)>("echo")
            .await
            .unwrap();
        assert_eq!(echo.ask(&Empty).await.unwrap().to_owned(), Empty);
        for small in [
            Small(0, 0, None, [0; 3], false),
            Small(255, -1, Some(9), [1, 2, u16::MAX], true),
        ] {
            assert_eq!(echo.ask(&small).await.unwrap().to_owned(), small);
        }
        for shape in shapes() {
            assert_eq!(echo.ask(&shape).await.unwrap().to_owned(), shape);
        }
        for count in [0, 1, 2, 1000] {
            let carry = Carry {
                what: (0..count).collect(),
            };
            assert_eq!(echo.ask(&carry).await.unwrap().to_owned(), carry);
        }
        settled(&bus).await;
    });
}

#[test]
fn messages_of_every_size_come_back_as_they_were() {
    let place = Place::new();
    threads(async {
        let _server = place.ready("shapes::echo", &["default"]).await;
        let bus = place.config("client").join().await.unwrap();
        let echo = bus.address::<Bytes>("echo").await.unwrap();
        // Around the slot's inline room and every size class, up to 8 MiB.
        let mut sizes: Vec<usize> = (0..80).collect();
        for class in 6..=23 {
            sizes.extend([(1 << class) - 17, (1 << class) - 8, (1 << class) - 1, 1 << class]);
        }
        // Above the largest class each has a segment of its own.
        sizes.extend([(8 << 20) + 1, 9 << 20]);
        for size in sizes {
            let bytes = Bytes(crate::service::bytes(size as u64, size));
            let reply = soon("an echo", echo.ask(&bytes)).await.unwrap();
            assert!(reply.0 == *bytes.0, "{size} bytes");
            assert!(reply.to_owned() == bytes, "{size} bytes, decoded");
        }
        settled(&bus).await;
    });
}

/// Replies have the answering end's ring to themselves, and are never too many for it: not even if each takes two slots,
/// the ring is small, and askers ask again while others' replies are being read.
#[test]
fn replies_of_two_slots_always_find_room() {
    const ASKERS: u64 = 32;
    const EACH: u64 = 300;
    for slots in [16, 64] {
        let place = Place::new();
        threads(async {
            let _server = place.ready("shapes::echo", &[&format!("ring={slots}")]).await;
            let bus = place.config("client").join().await.unwrap();
            let echo = bus.address::<Bytes>("echo").await.unwrap();
            let askers: Vec<_> = (0..ASKERS)
                .map(|asker| {
                    let echo = echo.clone();
                    tokio::spawn(async move {
                        for n in 0..EACH {
                            let bytes = Bytes(crate::service::bytes(asker * EACH + n, 80));
                            assert!(echo.ask(&bytes).await.unwrap().0 == *bytes.0);
                        }
                    })
                })
                .collect();
            for asker in askers {
                soon("all its asks", asker).await.unwrap();
            }
            settled(&bus).await;
        });
    }
}
