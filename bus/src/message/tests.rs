//! Archiving, checking and reading of every kind of type.

mod bulk;
pub(crate) mod counting;
mod foreign;
mod hostile;
mod laws;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    net::{IpAddr, Ipv4Addr},
    num::{NonZeroI64, NonZeroU16},
    time::Duration,
};

use proptest::{collection, option, prelude::*, result};
use rkyv::util::AlignedVec;

use super::{ArchiveError, Received, ShmType, Trust, archive_into};
use crate::shm::lease::Lease;

/// Every shape and every type of the standard library.
#[derive(crate::ShmType, Debug, Clone, PartialEq)]
struct Everything {
    unit: (),
    truth: bool,
    letter: char,
    small: (i8, u8, i16, u16),
    large: (i32, u32, i64, u64, i128, u128),
    reals: [f32; 3],
    real: f64,
    nonzero: (NonZeroU16, Option<NonZeroI64>),
    text: String,
    boxed_text: Box<str>,
    bytes: Vec<u8>,
    words: Vec<String>,
    ring: VecDeque<u16>,
    boxed: Box<Leaf>,
    slice: Box<[Leaf]>,
    maybe: Option<Leaf>,
    outcome: Result<String, Choice>,
    choices: Vec<Choice>,
    pairs: [(u8, String); 2],
    hashed: HashMap<String, Vec<u32>>,
    sorted: BTreeMap<u32, String>,
    set: HashSet<u64>,
    sorted_set: BTreeSet<String>,
    span: Duration,
    address: IpAddr,
    tree: Tree,
    generic: Generic<String, 3>,
}

#[derive(crate::ShmType, Debug, Clone, Copy, PartialEq)]
struct Leaf(u32, u8);

/// Its bytes are its archive, so lists of it are copied.
#[derive(crate::ShmType, Debug, Clone, Copy, PartialEq)]
#[repr(C)]
struct Plain {
    a: u32,
    b: u32,
    c: u64,
}

#[derive(crate::ShmType, Debug, Clone, PartialEq)]
enum Choice {
    Nothing,
    Text(String),
    Point { x: f64, y: f64, tag: Option<String> },
    Wide(u128),
}

#[derive(crate::ShmType, Debug, Clone, PartialEq)]
struct Tree {
    name: String,
    children: Vec<Tree>,
}

#[derive(crate::ShmType, Debug, Clone, PartialEq)]
struct Generic<T, const N: usize> {
    items: Vec<T>,
    fixed: [u16; N],
}

#[derive(crate::ShmMessage, Debug, Clone, PartialEq)]
struct Order {
    id: u64,
    sku: String,
    lines: Vec<u32>,
}

#[derive(crate::ShmMessage, Debug, Clone, Copy, PartialEq)]
struct Fixed {
    words: [u64; 8],
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        Just(Choice::Nothing),
        ".{0,20}".prop_map(Choice::Text),
        (-1e9..1e9, -1e9..1e9, option::of(".{0,12}")).prop_map(|(x, y, tag)| Choice::Point { x, y, tag }),
        any::<u128>().prop_map(Choice::Wide),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = ".{0,10}".prop_map(|name| Tree {
        name,
        children: vec![],
    });
    leaf.prop_recursive(5, 24, 4, |inner| {
        (".{0,10}", collection::vec(inner, 0..4)).prop_map(|(name, children)| Tree { name, children })
    })
}

prop_compose! {
    fn scalars()(
        (truth, letter) in any::<(bool, char)>(),
        small in any::<(i8, u8, i16, u16)>(),
        large in any::<(i32, u32, i64, u64, i128, u128)>(),
        reals in [-1e9f32..1e9, -1e9f32..1e9, -1e9f32..1e9],
        real in -1e9..1e9,
        nonzero in any::<(NonZeroU16, Option<NonZeroI64>)>(),
        (seconds, nanos) in (any::<u64>(), 0..1_000_000_000u32),
        address in any::<[u8; 4]>(),
    ) -> Everything {
        Everything {
            unit: (), truth, letter, small, large, reals, real, nonzero,
            span: Duration::new(seconds, nanos),
            address: IpAddr::V4(Ipv4Addr::from(address)),
            ..nothing()
        }
    }
}

prop_compose! {
    fn everything()(
        base in scalars(),
        (text, boxed_text) in (".{0,30}", ".{0,30}"),
        bytes in collection::vec(any::<u8>(), 0..40),
        (words, ring) in (collection::vec(".{0,12}", 0..5), collection::vec_deque(any::<u16>(), 0..5)),
        (leaf, leaves, maybe) in any::<((u32, u8), Vec<(u32, u8)>, Option<(u32, u8)>)>(),
        outcome in result::maybe_ok(".{0,20}", choice()),
        choices in collection::vec(choice(), 0..5),
        pairs in [(any::<u8>(), ".{0,12}"), (any::<u8>(), ".{0,12}")],
        (hashed, sorted) in (
            collection::hash_map(".{0,12}", any::<Vec<u32>>(), 0..4),
            collection::btree_map(any::<u32>(), ".{0,12}", 0..20),
        ),
        (set, sorted_set) in (collection::hash_set(any::<u64>(), 0..6), collection::btree_set(".{0,12}", 0..9)),
        (tree, items, fixed) in (tree(), collection::vec(".{0,12}", 0..4), any::<[u16; 3]>()),
    ) -> Everything {
        Everything {
            text, boxed_text: boxed_text.into(), bytes, words, ring,
            boxed: Box::new(Leaf(leaf.0, leaf.1)),
            slice: leaves.into_iter().map(|it| Leaf(it.0, it.1)).collect(),
            maybe: maybe.map(|it| Leaf(it.0, it.1)),
            outcome, choices, pairs, hashed, sorted, set, sorted_set, tree,
            generic: Generic { items, fixed },
            ..base
        }
    }
}

fn nothing() -> Everything {
    Everything {
        unit: (),
        truth: false,
        letter: 'x',
        small: (0, 0, 0, 0),
        large: (0, 0, 0, 0, 0, 0),
        reals: [0.0; 3],
        real: 0.0,
        nonzero: (NonZeroU16::MIN, None),
        text: String::new(),
        boxed_text: "".into(),
        bytes: vec![],
        words: vec![],
        ring: VecDeque::new(),
        boxed: Box::new(Leaf(0, 0)),
        slice: Box::default(),
        maybe: None,
        outcome: Ok(String::new()),
        choices: vec![],
        pairs: [(0, String::new()), (0, String::new())],
        hashed: HashMap::new(),
        sorted: BTreeMap::new(),
        set: HashSet::new(),
        sorted_set: BTreeSet::new(),
        span: Duration::ZERO,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        tree: Tree {
            name: String::new(),
            children: vec![],
        },
        generic: Generic {
            items: vec![],
            fixed: [0; 3],
        },
    }
}

fn buffer(len: usize) -> AlignedVec<16> {
    let mut bytes = AlignedVec::new();
    bytes.resize(len, 0xa5);
    bytes
}

/// The archive of a value, in a buffer of exactly its size.
fn archived<T: ShmType>(value: &T) -> AlignedVec<16> {
    let needed = match archive_into(value, &mut []) {
        Ok(len) => len,
        Err(ArchiveError::TooSmall { needed }) => needed,
        Err(error) => panic!("{error:?}"),
    };
    let mut bytes = buffer(needed);
    assert_eq!(archive_into(value, &mut bytes), Ok(needed));
    bytes
}

fn receive<T: ShmType>(bytes: &[u8], trust: Trust) -> Result<Received<T>, super::CheckError> {
    let mut own = AlignedVec::new();
    own.extend_from_slice(bytes);
    Received::new(Lease::heap(own), trust).map_err(|refused| refused.1)
}
