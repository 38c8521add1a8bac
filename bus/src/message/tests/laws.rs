//! What holds for every value.

use std::fmt::Debug;

use rkyv::rancor;

use super::*;

/// Archives, reads back and compares; with every buffer that is too small, too.
fn laws<T: ShmType + PartialEq + Debug>(value: &T, theirs: &[u8]) {
    let bytes = archived(value);
    assert_eq!(&bytes[..], theirs, "not what rkyv writes");

    let bound = value.size_bound();
    assert!(
        bound.is_none_or(|bound| bound >= bytes.len()),
        "{bound:?} is no bound of {}",
        bytes.len()
    );

    let needed = bytes.len();
    for len in (0..needed).step_by(needed / 40 + 1) {
        let mut room = buffer(needed + 64);
        assert_eq!(
            archive_into(value, &mut room[..len]),
            Err(ArchiveError::TooSmall { needed })
        );
        assert!(
            room[len..].iter().all(|byte| *byte == 0xa5),
            "wrote past {len} bytes"
        );
    }
    let mut room = buffer(needed + 64);
    assert_eq!(archive_into(value, &mut room), Ok(needed));
    assert_eq!(room[..needed], bytes[..], "the archive depends on the room");

    assert_eq!(receive::<T>(&bytes, Trust::Checked).unwrap().to_owned(), *value);
    assert_eq!(Received::local(value).to_owned(), *value);
}

macro_rules! laws {
    ($value:expr) => {{
        let value = $value;
        laws(&value, &rkyv::to_bytes::<rancor::Error>(&value).unwrap())
    }};
}

proptest! {
    #[test]
    fn everything_comes_back(value in everything()) {
        laws!(value);
    }

    #[test]
    fn choices_come_back(value in choice()) {
        laws!(value);
    }

    #[test]
    fn bounded_types_come_back(
        words in collection::vec(".{0,20}", 0..20),
        plain in any::<Vec<(u32, u32, u64)>>(),
        leaves in any::<Vec<(u32, u8)>>(),
    ) {
        laws!(words.clone());
        laws!(Some(Box::new(words.clone())));
        laws!(words.into_iter().map(|it| (7u8, it)).collect::<Vec<_>>());
        laws!(plain.into_iter().map(|(a, b, c)| Plain { a, b, c }).collect::<Vec<_>>());
        laws!(leaves.into_iter().map(|it| (it.0, Leaf(it.0, it.1))).collect::<Vec<_>>());
    }
}

#[test]
fn small_things_come_back() {
    laws!(());
    laws!(true);
    laws!(Some(1u8));
    laws!(None::<u128>);
    laws!([[1u16, 2], [3, 4]]);
    laws!((1u8,));
    laws!((
        1u8,
        2u16,
        3u32,
        4u64,
        5u8,
        6u8,
        7u8,
        8u8,
        9u8,
        10u8,
        11u8,
        "12".to_owned()
    ));
    laws!(vec![(); 3]);
    laws!(Vec::<String>::new());
    laws!(Ok::<u8, String>(1));
    laws!(Err::<u8, String>("a reason too long to lie inline".into()));
    // Nine bytes, then seven of padding.
    laws!(("123456789".to_owned(), vec![1u64]));
    laws!(("123456789".to_owned(), Box::new(1u64)));
    laws!(Fixed {
        words: [1, 2, 3, 4, 5, 6, 7, 8]
    });
}

#[test]
fn the_bound_of_fixed_types_is_exact() {
    assert_eq!(Fixed { words: [0; 8] }.size_bound(), Some(64));
    assert_eq!(Plain { a: 1, b: 2, c: 3 }.size_bound(), Some(16));
    assert_eq!(Leaf(1, 2).size_bound(), Some(8));
    assert_eq!("short".to_owned().size_bound(), Some(8));
    assert_eq!(().size_bound(), Some(0));
    assert_eq!(HashMap::<u8, u8>::new().size_bound(), None);
}

#[test]
fn lists_of_plain_structures_are_copied() {
    use rkyv::Archive;
    assert!(Plain::COPY_OPTIMIZATION.is_enabled());
    assert!(Fixed::COPY_OPTIMIZATION.is_enabled());
    // It has padding.
    assert!(!Leaf::COPY_OPTIMIZATION.is_enabled());
}

#[test]
fn padding_carries_nothing_of_the_sender() {
    // Byte 5 to 7 of the archive is padding.
    let mut room = buffer(8);
    archive_into(&Leaf(u32::MAX, u8::MAX), &mut room).unwrap();
    assert_eq!(room[..], [255, 255, 255, 255, 255, 0, 0, 0]);
}

#[test]
fn archiving_allocates_nothing() {
    let order = Order {
        id: 1,
        sku: "text that does not lie inline".into(),
        lines: vec![1, 2, 3],
    };
    let words = vec!["text that does not lie inline".to_owned(); 50];
    let mut room = buffer(8 << 10);
    let mut send = || {
        archive_into(&order, &mut room).unwrap();
        archive_into(&words, &mut room).unwrap();
        archive_into(&order, &mut room[..16]).unwrap_err();
        order.size_bound().unwrap();
    };
    send();
    assert_eq!(counting::allocations(send), 0);
}

#[test]
fn reading_allocates_nothing() {
    let bytes = archived(&Order {
        id: 1,
        sku: "text that does not lie inline".into(),
        lines: vec![1, 2, 3],
    });
    let lease = Lease::heap(bytes);
    let mut sum = 0;
    let allocations = counting::allocations(|| {
        let received = Received::<Order>::new(lease, Trust::Checked)
            .map_err(|refused| refused.1)
            .unwrap();
        sum = received.lines.iter().map(|line| line.to_native()).sum();
    });
    assert_eq!((allocations, sum), (0, 6));
}

#[test]
fn a_serializer_may_send_while_it_serializes() {
    // Scratch is taken twice on one thread.
    use rkyv::{Archive, Place, Serialize, rancor::Fallible, ser::Writer};

    #[derive(PartialEq, Debug)]
    struct Inner;
    impl Archive for Inner {
        type Archived = ();
        type Resolver = ();
        fn resolve(&self, (): (), _: Place<()>) {}
    }
    impl<S: Fallible + Writer + ?Sized> Serialize<S> for Inner {
        fn serialize(&self, _: &mut S) -> Result<(), S::Error> {
            archived(&vec!["other text, and not short".to_owned(); 300]);
            Ok(())
        }
    }
    impl<D: Fallible + ?Sized> rkyv::Deserialize<Inner, D> for () {
        fn deserialize(&self, _: &mut D) -> Result<Inner, D::Error> {
            Ok(Inner)
        }
    }
    #[derive(crate::ShmType, PartialEq, Debug)]
    struct Outer(#[shm(opaque = "inner@1")] Inner, String);

    let value = || {
        vec![(), (), ()]
            .into_iter()
            .map(|()| Outer(Inner, "more text, and not short".into()))
    };
    let value: Vec<Outer> = value().collect();
    assert_eq!(
        receive::<Vec<Outer>>(&archived(&value), Trust::Checked)
            .unwrap()
            .to_owned(),
        value
    );
}

#[test]
fn hidden_shared_pointers_are_refused() {
    use std::sync::Arc;
    type Shared = Arc<String>;
    #[derive(crate::ShmType, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[shm(archive = manual)]
    struct Sneaky(#[shm(opaque = "shared@1")] Shared);

    let error = archive_into(&Sneaky(Arc::new("text".into())), &mut buffer(256)).unwrap_err();
    assert!(
        matches!(&error, ArchiveError::Failed(problem) if problem.contains("shared pointers")),
        "{error:?}"
    );
}
