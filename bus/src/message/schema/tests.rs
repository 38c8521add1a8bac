use std::collections::HashMap;

use proptest::{collection, prelude::*};
use rkyv::rancor;

use super::*;

const ORDER: u64 = 0x91aa_3e5c_9cdd_5fac;
const ABI: u64 = 0x47b5_074e_1185_2cd7;

mod ours {
    #[derive(crate::ShmType)]
    pub struct Order {
        pub id: u64,
        pub lines: Vec<Line>,
        pub state: State,
    }
    #[derive(crate::ShmType)]
    pub struct Line {
        pub sku: String,
        pub qty: u32,
        pub price: (u32, u8),
    }
    #[derive(crate::ShmType)]
    pub enum State {
        Open,
        Closed { by: String, at: u64 },
        Failed(Result<u8, String>),
    }
    #[derive(crate::ShmType)]
    pub struct Tree {
        pub value: u32,
        pub children: Vec<Tree>,
    }
    #[derive(crate::ShmType)]
    pub struct Even(pub u8, pub Option<Box<Odd>>);
    #[derive(crate::ShmType)]
    pub struct Odd(pub u8, pub Option<Box<Even>>);
}

/// Declares a variation of `ours` and tells how it differs.
macro_rules! differs {
    ($ours:ty, $theirs:ident { $($item:item)* }, $says:literal) => {{
        mod theirs {
            #![allow(dead_code)]
            $(#[derive(crate::ShmType)] $item)*
        }
        let (ours, theirs) = (Schema::of::<$ours>(), Schema::of::<theirs::$theirs>());
        assert_eq!(Schema::difference(&ours, &theirs).as_deref(), Some($says));
        assert!(Schema::difference(&theirs, &ours).is_some());
        assert_ne!(ours.fingerprint(), theirs.fingerprint());
    }};
}

#[test]
fn the_same_types_do_not_differ() {
    mod theirs {
        #[derive(crate::ShmType)]
        #[allow(dead_code)]
        pub struct Tree {
            pub value: u32,
            pub children: Vec<Tree>,
        }
    }
    let (ours, theirs) = (Schema::of::<ours::Tree>(), Schema::of::<theirs::Tree>());
    assert_eq!(Schema::difference(&ours, &theirs), None);
    assert_eq!(ours.fingerprint(), theirs.fingerprint());
    assert_eq!(
        Schema::difference(&Schema::of::<ours::Order>(), &Schema::of::<ours::Order>()),
        None
    );
}

#[test]
fn differences_are_named() {
    differs!(ours::Line, Line { pub struct Line { sku: String, qty: u64, price: (u32, u8) } }, "field `qty`: here u32, there u64");
    differs!(ours::Line, Line { pub struct Line { qty: u32, price: (u32, u8) } }, "field `sku` is missing there");
    differs!(
        ours::Line,
        Line { pub struct Line { sku: String, qty: u32, price: (u32, u8), tax: u8 } },
        "field `tax` is missing here"
    );
    differs!(
        ours::Line,
        Line { pub struct Line { qty: u32, sku: String, price: (u32, u8) } },
        "field `sku`: number 1 here, number 2 there"
    );
    differs!(
        ours::Line,
        Line { pub struct Line { sku: String, qty: u32, price: (u32, u8, u8) } },
        "field `price`: here (u32, u8), there (u32, u8, u8)"
    );
    differs!(
        ours::Line,
        Line { pub struct Line { sku: String, qty: u32, price: (u32, i8) } },
        "field `price.1`: here u8, there i8"
    );
    differs!(ours::Line, Item { pub struct Item { sku: String, qty: u32 } }, "the type: here Line, there Item");
    differs!(
        Vec<ours::Line>,
        Line { pub struct Line { sku: String } },
        "the type: here Vec<Line>, there Line"
    );
    differs!(
        ours::Order,
        Order {
            pub struct Order { id: u64, lines: Vec<Line>, state: State }
            pub struct Line { sku: String, qty: u32, price: (i32, u8) }
            pub enum State { Open, Closed { by: String, at: u64 }, Failed(Result<u8, String>) }
        },
        "field `lines[].price.0`: here u32, there i32"
    );
}

#[test]
fn the_first_of_several_differences_is_named() {
    differs!(
        ours::Order,
        Order {
            pub struct Order { id: u64, lines: Vec<Line>, state: State }
            pub struct Line { sku: Vec<u8>, qty: u32, price: u8 }
            pub enum State { Closed }
        },
        "field `lines[].sku`: here String, there Vec<u8>"
    );
}

#[test]
fn every_kind_has_a_fingerprint_of_its_own() {
    let a = TypeRef(0);
    let kinds = [
        Kind::Scalar,
        Kind::Text,
        Kind::Struct(vec![]),
        Kind::Enum(vec![]),
        Kind::Option(a),
        Kind::Result(a, a),
        Kind::Pointer(a),
        Kind::Sequence(a),
        Kind::Array(a, 0),
        Kind::Set(a),
        Kind::Map(a, a),
        Kind::Opaque,
    ];
    let of = |kind: &Kind| {
        let ty = Type {
            name: "same".into(),
            size: 1,
            align: 1,
            kind: kind.clone(),
        };
        Schema {
            abi: abi(),
            root: a,
            types: vec![ty],
        }
    };
    let prints: std::collections::HashSet<u64> = kinds.iter().map(|kind| of(kind).fingerprint()).collect();
    assert_eq!(prints.len(), kinds.len());
    for (x, y) in kinds.iter().zip(&kinds[1..]) {
        assert!(Schema::difference(&of(x), &of(y)).is_some());
    }
}

#[test]
fn differences_of_enums_are_named() {
    differs!(
        ours::State,
        State { pub enum State { Open, Done { by: String, at: u64 }, Failed(Result<u8, String>) } },
        "the type: variant 1 is `Closed` here, `Done` there"
    );
    differs!(
        ours::State,
        State { pub enum State { Open, Closed { by: String, at: u64 } } },
        "the type: variant 2 is `Failed` here, none there"
    );
    differs!(
        ours::State,
        State { pub enum State { Open, Closed { by: String }, Failed(Result<u8, String>) } },
        "field `Closed.at` is missing there"
    );
    differs!(
        ours::State,
        State { pub enum State { Open, Closed { by: String, at: u64 }, Failed(Result<u8, u8>) } },
        "field `Failed.0.Err`: here String, there u8"
    );
}

#[test]
fn types_that_contain_themselves_end() {
    for (schema, recursive) in [
        (Schema::of::<ours::Tree>(), true),
        (Schema::of::<ours::Even>(), true),
        (Schema::of::<HashMap<String, Vec<ours::Odd>>>(), true),
        (Schema::of::<ours::Order>(), false),
        (Schema::of::<(u8, (u8, u8))>(), false),
    ] {
        assert_eq!(schema.is_recursive(), recursive, "{schema}");
        assert_eq!(Schema::difference(&schema, &schema), None);
    }
    differs!(
        ours::Tree,
        Tree { pub struct Tree { value: u32, children: Vec<Node> } pub struct Node { value: u32, children: Vec<Tree> } },
        "field `children[]`: here Tree, there Node"
    );
}

#[test]
fn the_fingerprint_is_the_same_everywhere() {
    // Computed once and written down. If this fails, nodes of this version cannot talk to older ones: then the
    // format number of the fingerprint must change too.
    assert_eq!(
        Schema::of::<ours::Order>().fingerprint(),
        ORDER,
        "{:#x}",
        Schema::of::<ours::Order>().fingerprint()
    );
    assert_eq!(abi(), ABI, "{:#x}", abi());
}

#[test]
fn offsets_are_those_of_the_archive() {
    let shown = Schema::of::<ours::Order>().to_string();
    assert_eq!(
        shown,
        "\
Order, 40 bytes

struct Order (40 bytes, aligned to 8)
    id: u64, at 0
    lines: Vec<Line>, at 8
    state: State, at 16

struct Line (20 bytes, aligned to 4)
    sku: String, at 0
    qty: u32, at 8
    price: (u32, u8), at 12

enum State (24 bytes, aligned to 8)
    Open
    Closed
        by: String, at 4
        at: u64, at 16
    Failed
        0: Result<u8, String>, at 4
"
    );
}

#[test]
fn a_schema_can_be_sent() {
    let schema = Schema::of::<ours::Order>();
    let bytes = rkyv::to_bytes::<rancor::Error>(&schema).unwrap();
    assert_eq!(rkyv::from_bytes::<Schema, rancor::Error>(&bytes).unwrap(), schema);
}

#[test]
fn another_archive_format_is_a_difference() {
    let ours = Schema::of::<u8>();
    let theirs = Schema {
        abi: 1,
        ..ours.clone()
    };
    assert!(
        Schema::difference(&ours, &theirs)
            .unwrap()
            .contains("archive format")
    );
    assert_ne!(ours.fingerprint(), theirs.fingerprint());
}

#[test]
fn text_of_a_peer_is_cut_and_escaped() {
    let mut theirs = Schema::of::<ours::Line>();
    theirs.types[0].name = "\x1b[2J".repeat(1000);
    let says = Schema::difference(&Schema::of::<ours::Line>(), &theirs).unwrap();
    assert!(says.len() < 1000 && !says.contains('\x1b'), "{says}");
    assert!(!theirs.to_string().contains('\x1b'));
}

#[test]
fn doubling_types_are_cut_short() {
    // Each type holds the next twice: written out it would be 2^1000 names.
    let pair = |next: u32| {
        let field = |name: &str| Field {
            name: name.into(),
            ty: TypeRef(next),
            offset: None,
        };
        Type {
            name: String::new(),
            size: 1,
            align: 1,
            kind: Kind::Struct(vec![field("0"), field("1")]),
        }
    };
    let schema = Schema {
        abi: abi(),
        root: TypeRef(0),
        types: (1..=1000).map(pair).collect(),
    };
    assert!(schema.to_string().len() < 100_000);
    assert!(schema.name(TypeRef(0)).len() < 1000);
    assert!(!schema.is_recursive());
    assert!(Schema::difference(&Schema::of::<ours::Tree>(), &schema).is_some());
}

fn kind(types: u32) -> impl Strategy<Value = Kind> {
    // One past the end now and then.
    let ty = || (0..=types).prop_map(TypeRef);
    let field = move || {
        ("[a-c]", ty(), any::<Option<u32>>()).prop_map(|(name, ty, offset)| Field { name, ty, offset })
    };
    let variant =
        ("[A-C]", collection::vec(field(), 0..3)).prop_map(|(name, fields)| Variant { name, fields });
    prop_oneof![
        Just(Kind::Scalar),
        Just(Kind::Text),
        Just(Kind::Opaque),
        collection::vec(field(), 0..4).prop_map(Kind::Struct),
        collection::vec(variant, 0..4).prop_map(Kind::Enum),
        ty().prop_map(Kind::Option),
        ty().prop_map(Kind::Pointer),
        ty().prop_map(Kind::Sequence),
        ty().prop_map(Kind::Set),
        (ty(), 0..3u64).prop_map(|(ty, len)| Kind::Array(ty, len)),
        (ty(), ty()).prop_map(|(a, b)| Kind::Result(a, b)),
        (ty(), ty()).prop_map(|(a, b)| Kind::Map(a, b)),
    ]
}

fn schema() -> impl Strategy<Value = Schema> {
    let ty = ("[ab]?", kind(8)).prop_map(|(name, kind)| Type {
        name,
        size: 1,
        align: 1,
        kind,
    });
    (0..=8u32, collection::vec(ty, 0..8)).prop_map(|(root, types)| Schema {
        abi: abi(),
        root: TypeRef(root),
        types,
    })
}

proptest! {
    #[test]
    fn nonsense_is_borne(a in schema(), b in schema()) {
        let _ = (a.to_string(), a.is_recursive(), a.may_nest(), a.fingerprint());
        let _ = Schema::difference(&a, &b);
        let itself = Schema::difference(&a, &a.clone());
        // It differs from itself only where a name stands twice or a reference leads nowhere.
        prop_assert!(
            itself.as_ref().is_none_or(|it| it.contains("no type") || it.contains("number")),
            "{itself:?}"
        );
        prop_assert_eq!(a == b, a.fingerprint() == b.fingerprint());
    }
}
