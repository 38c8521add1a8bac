//! Messages of every shape, through the public interface, in a crate without `unsafe`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
    rc::Rc,
};

use proptest::{collection, option, prelude::*};
use shmbus::{
    ShmMessage, ShmType,
    message::{Received, schema::Schema},
};

/// A message with a reply.
#[derive(ShmMessage, Debug, Clone, PartialEq)]
#[shm(reply = Result<Level, Shortage>)]
pub struct Reserve {
    /// What.
    pub sku: String,
    qty: u32,
}

/// A reply.
#[derive(ShmType, Debug, Clone, PartialEq)]
pub struct Level {
    left: u32,
}

/// An error.
#[derive(ShmType, Debug, Clone, PartialEq)]
pub enum Shortage {
    /// Without fields.
    Unknown,
    /// With named fields.
    Only {
        /// How many.
        left: u32,
        /// Of what.
        of: String,
    },
    /// With unnamed fields, one of them the enum itself.
    Other(Box<Shortage>, u64),
}

/// A message with a name of its own.
#[derive(ShmMessage, Debug, Clone, Copy, PartialEq)]
#[shm(name = "tests.ping")]
struct Ping;

#[derive(ShmType, Debug, Clone, PartialEq)]
struct Node {
    children: Vec<Node>,
    next: Option<Box<Node>>,
    by: BTreeMap<String, Node>,
}

/// Generic, with a bound, a default and a where clause.
#[derive(ShmType, Debug, Clone, PartialEq)]
pub struct Pair<A, B: Clone = u8>(
    /// One.
    pub A,
    Vec<B>,
)
where
    A: Clone;

#[derive(ShmType, Debug, Clone, PartialEq)]
enum Either<A, B> {
    Left(A),
    Right { it: Option<B> },
    Neither,
}

#[derive(ShmType, Debug, Clone, PartialEq)]
struct Frame<const N: usize> {
    data: [u8; N],
}

/// Generic and containing itself.
#[derive(ShmType, Debug, Clone, PartialEq)]
struct List<T> {
    head: T,
    tail: Option<Box<List<T>>>,
}

#[derive(ShmType, Debug, Clone, PartialEq)]
struct Raw {
    r#type: u8,
    r#match: String,
}

/// A key of maps.
#[derive(ShmType, Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[shm(derive(PartialEq, Eq, Hash, PartialOrd, Ord))]
struct Symbol(String);

#[derive(ShmType, Debug, Clone, PartialEq)]
struct Book {
    levels: HashMap<Symbol, u64>,
    sorted: BTreeMap<Symbol, u64>,
    seen: HashSet<Symbol>,
}

/// Names that the generated code might use itself.
#[allow(clippy::enum_variant_names)]
#[derive(ShmType, Debug, Clone, PartialEq)]
enum Resolver {
    Tag {
        out: u8,
        resolver: u16,
        at: u32,
        serializer: u64,
    },
    Archived(u8),
    Some(Tag),
    None,
    Ok,
}

#[derive(ShmType, Debug, Clone, PartialEq)]
struct Tag {
    schema: u8,
    f: u8,
    sum: u8,
    value: u8,
}

/// As another crate would have it: rkyv knows it, this library does not.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug, Clone, PartialEq)]
struct Foreign {
    text: Vec<String>,
}

#[derive(ShmType, Debug, Clone, PartialEq)]
struct Holder {
    id: u8,
    #[shm(opaque = "foreign@1")]
    foreign: Foreign,
}

#[derive(ShmType, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug, Clone, PartialEq)]
#[shm(archive = manual)]
#[rkyv(archived = HandMade, derive(Debug))]
struct Manual {
    text: String,
    #[rkyv(with = rkyv::with::AsBox)]
    number: u32,
}

#[derive(ShmType, Debug, Clone, PartialEq)]
struct HasManual(Manual, u8);

/// Reads back what was written.
fn comes_back<T: ShmType + PartialEq + Debug>(value: &T) -> Received<T> {
    let received = Received::local(value);
    assert_eq!(received.to_owned(), *value);
    assert!(
        value
            .size_bound()
            .is_none_or(|bound| bound >= size_of::<T::Archived>())
    );
    received
}

#[test]
fn fields_are_read_in_place() {
    let received = comes_back(&Reserve {
        sku: "a text that does not lie inline".into(),
        qty: 3,
    });
    assert_eq!(received.sku.as_str(), "a text that does not lie inline");
    assert_eq!(received.qty.to_native(), 3);
    assert_eq!(
        format!("{received:?}"),
        "Received(Reserve { sku: \"a text that does not lie inline\", qty: 3 })"
    );
}

#[test]
fn enums_are_matched_in_place() {
    let received = comes_back(&Shortage::Only {
        left: 4,
        of: "nut".into(),
    });
    assert!(matches!(&*received, ArchivedShortage::Only { left, of } if *left == 4 && of == "nut"));
    let received = comes_back(&Shortage::Other(Box::new(Shortage::Unknown), 7));
    assert!(
        matches!(&*received, ArchivedShortage::Other(inner, _) if matches!(**inner, ArchivedShortage::Unknown))
    );
    let reply = comes_back(&Err::<Level, _>(Shortage::Unknown));
    assert!(reply.as_ref().is_err());
}

#[test]
fn every_shape_comes_back() {
    comes_back(&Ping);
    comes_back(&Pair(Shortage::Unknown, vec![Frame { data: [1, 2, 3] }]));
    comes_back(&Pair::<_>("text".to_owned(), vec![1]));
    comes_back(&Either::<u8, String>::Left(4));
    comes_back(&Either::<u8, String>::Right {
        it: Some("text".into()),
    });
    comes_back(&Either::<u8, String>::Neither);
    comes_back(&List {
        head: "a".to_owned(),
        tail: Some(Box::new(List {
            head: "b".to_owned(),
            tail: None,
        })),
    });
    comes_back(&Raw {
        r#type: 1,
        r#match: "text".into(),
    });
    comes_back(&Resolver::Tag {
        out: 1,
        resolver: 2,
        at: 3,
        serializer: 4,
    });
    comes_back(&Resolver::Some(Tag {
        schema: 1,
        f: 2,
        sum: 3,
        value: 4,
    }));
    for unit in [Resolver::None, Resolver::Ok, Resolver::Archived(1)] {
        comes_back(&unit);
    }
    comes_back(&HasManual(
        Manual {
            text: "text".into(),
            number: 9,
        },
        1,
    ));
}

#[test]
fn derived_types_are_keys() {
    let symbol = |it: &str| Symbol(it.to_owned());
    let book = Book {
        levels: [(symbol("a"), 1), (symbol("a longer symbol"), 2)].into(),
        sorted: [(symbol("b"), 3)].into(),
        seen: [symbol("c")].into(),
    };
    let received = comes_back(&book);
    let found = received
        .levels
        .iter()
        .find(|(key, _)| key.0 == "a longer symbol")
        .unwrap();
    assert_eq!(found.1.to_native(), 2);
}

#[test]
fn opaque_types_are_carried() {
    let received = comes_back(&Holder {
        id: 1,
        foreign: Foreign {
            text: vec!["text".into()],
        },
    });
    assert_eq!(received.foreign.text[0].as_str(), "text");
    // `ArchivedForeign` has no `Debug`.
    assert_eq!(format!("{received:?}"), "Received(Holder { id: 1, foreign: .. })");
    assert!(
        Schema::of::<Holder>()
            .to_string()
            .contains("foreign: opaque `foreign@1`")
    );
}

#[test]
fn names_are_stable() {
    assert_eq!(Reserve::NAME, "shmbus::Reserve");
    assert_eq!(Ping::NAME, "tests.ping");
    fn reply<M: ShmMessage<Reply = R>, R>() {}
    reply::<Reserve, Result<Level, Shortage>>();
    reply::<Ping, ()>();
}

#[test]
fn received_messages_go_anywhere() {
    fn anywhere<T: Send + Sync + Unpin + 'static>(_: &T) {}
    let received = Received::local(&Reserve {
        sku: "nut".into(),
        qty: 1,
    });
    anywhere(&received);
    let sku = std::thread::spawn(move || received.sku.as_str().to_owned())
        .join()
        .unwrap();
    assert_eq!(sku, "nut");
    // Shared by tasks of one thread, too.
    let shared = Rc::new(Received::local(&Ping));
    assert_eq!(Received::to_owned(&shared), Ping);
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = Just(Node {
        children: vec![],
        next: None,
        by: BTreeMap::new(),
    });
    leaf.prop_recursive(4, 20, 3, |inner| {
        (
            collection::vec(inner.clone(), 0..3),
            option::of(inner.clone().prop_map(Box::new)),
            collection::btree_map("[a-z]{0,12}", inner, 0..3),
        )
            .prop_map(|(children, next, by)| Node { children, next, by })
    })
}

proptest! {
    #[test]
    fn trees_come_back(node in node()) {
        comes_back(&node);
    }

    #[test]
    fn messages_come_back(sku in ".*", qty: u32, left: u32, number: u64) {
        comes_back(&Reserve { sku: sku.clone(), qty });
        comes_back(&Shortage::Other(Box::new(Shortage::Only { left, of: sku.clone() }), number));
        comes_back(&vec![Pair(Level { left }, vec![sku.clone(), sku]); 3]);
    }
}
