//! Bytes that no honest peer sends.

use rkyv::rancor;

use super::{
    super::{CheckError, check, check::MAX_DEPTH},
    *,
};

/// Reads everything there is, as a handler might.
fn use_up<T: ShmType<Archived: std::fmt::Debug> + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(received) = receive::<T>(bytes, Trust::Checked) {
        let _ = format!("{received:?}{:?}", received.to_owned());
    }
}

proptest! {
    #[test]
    fn flipped_bytes_are_refused_or_harmless(
        value in everything(),
        flips in collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = archived(&value);
        for (index, byte) in flips {
            *index.get_mut(&mut bytes) = byte;
        }
        use_up::<Everything>(&bytes);
    }

    #[test]
    fn truncated_bytes_are_refused_or_harmless(value in everything(), index in any::<prop::sample::Index>()) {
        let bytes = archived(&value);
        use_up::<Everything>(&bytes[..index.index(bytes.len())]);
        use_up::<Everything>(&bytes[index.index(bytes.len()) & !15..]);
    }

    #[test]
    fn noise_is_refused_or_harmless(bytes in collection::vec(any::<u8>(), 0..200)) {
        use_up::<Order>(&bytes);
        use_up::<Choice>(&bytes);
        use_up::<Vec<Tree>>(&bytes);
        use_up::<Option<Box<Choice>>>(&bytes);
        use_up::<HashMap<String, u8>>(&bytes);
    }
}

/// Points nowhere, and is not valid whatever its bytes are.
#[derive(crate::ShmType, Debug, Clone, PartialEq)]
struct Picky {
    on: bool,
    level: Level,
    letter: Option<char>,
    nonzero: NonZeroU16,
}

#[derive(crate::ShmType, Debug, Clone, PartialEq)]
enum Level {
    Low,
    High { by: (bool, u32) },
}

proptest! {
    /// What points nowhere is checked by a shorter way: with the same outcome.
    #[test]
    fn the_short_check_refuses_what_the_long_one_does(
        mut bytes in collection::vec(prop_oneof![Just(0u8), Just(1), 2u8..4, any::<u8>()], 64),
        len in 0usize..=64,
    ) {
        const { assert!(!<Picky as ShmType>::POINTS) }
        bytes.truncate(len);
        let mut aligned = AlignedVec::<16>::new();
        aligned.extend_from_slice(&bytes);
        let long = check::check_root::<Picky>(&aligned).is_ok()
            && check::check_archived::<<Picky as rkyv::Archive>::Archived>(&aligned).is_ok();
        prop_assert_eq!(check::check::<Picky>(&aligned).is_ok(), long);
        use_up::<Picky>(&bytes);
    }
}

#[test]
fn both_ways_of_checking_accept_and_refuse() {
    let picky = Picky {
        on: true,
        level: Level::High { by: (false, 7) },
        letter: Some('x'),
        nonzero: NonZeroU16::MAX,
    };
    let bytes = archived(&picky);
    assert_eq!(
        receive::<Picky>(&bytes, Trust::Checked).unwrap().to_owned(),
        picky
    );
    for at in 0..bytes.len() {
        // At the least the bools, the tags and the letter are not what they must be.
        let mut broken = bytes.clone();
        broken[at] = 0xee;
        use_up::<Picky>(&broken);
    }
    let first = bytes.iter().position(|byte| *byte == 1).unwrap();
    let mut broken = bytes.clone();
    broken[first] = 2;
    assert!(matches!(
        receive::<Picky>(&broken, Trust::Checked),
        Err(CheckError::Invalid(_))
    ));
}

#[test]
fn a_flipped_length_is_refused() {
    // A check that refuses nothing would pass the tests above.
    let mut bytes = archived(&vec![1u32, 2, 3]);
    let len = bytes.len() - 4;
    bytes[len] = 200;
    assert!(matches!(
        receive::<Vec<u32>>(&bytes, Trust::Checked),
        Err(CheckError::Invalid(_))
    ));
    let bytes = archived(&7u8);
    assert!(matches!(
        receive::<bool>(&bytes, Trust::Checked),
        Err(CheckError::Invalid(_))
    ));
    assert!(matches!(
        receive::<Choice>(&[9; 48], Trust::Checked),
        Err(CheckError::Invalid(_))
    ));
}

#[test]
fn length_and_alignment_are_checked_even_if_trusted() {
    // SAFETY: nothing is read through it but what was archived here.
    let trust = unsafe { Trust::unchecked() };
    for trust in [trust, Trust::Checked] {
        assert_eq!(
            receive::<u64>(&[0; 7], trust).err(),
            Some(CheckError::TooShort { len: 7, root: 8 })
        );
        assert_eq!(
            receive::<u64>(&[0; 9], trust).err(),
            Some(CheckError::Misaligned { len: 9, align: 8 })
        );
        assert_eq!(
            receive::<u64>(&[], trust).err(),
            Some(CheckError::TooShort { len: 0, root: 8 })
        );
        receive::<()>(&[], trust).unwrap();
        assert_eq!(receive::<u64>(&archived(&5u64), trust).unwrap().to_owned(), 5);
    }
}

#[test]
fn the_lease_comes_back_with_the_error() {
    let refused = Received::<u64>::new(Lease::heap(buffer(3)), Trust::Checked)
        .err()
        .unwrap();
    assert_eq!(refused.0.bytes(), [0xa5; 3]);
}

fn chain(depth: usize) -> Tree {
    let leaf = Tree {
        name: String::new(),
        children: vec![],
    };
    (0..depth).fold(leaf, |tree, _| Tree {
        name: String::new(),
        children: vec![tree],
    })
}

#[test]
fn nesting_is_bounded_on_both_sides() {
    // Each level has one list, the innermost an empty one.
    let deepest = chain(MAX_DEPTH - 1);
    assert_eq!(
        receive::<Tree>(&archived(&deepest), Trust::Checked)
            .unwrap()
            .to_owned(),
        deepest
    );

    let deeper = chain(MAX_DEPTH);
    let error = archive_into(&deeper, &mut buffer(64 << 10)).unwrap_err();
    assert!(matches!(error, ArchiveError::Failed(_)), "{error:?}");
    // Somebody who does not ask.
    let bytes = rkyv::to_bytes::<rancor::Error>(&chain(1000)).unwrap();
    assert!(matches!(
        receive::<Tree>(&bytes, Trust::Checked),
        Err(CheckError::Invalid(_))
    ));
}

#[test]
fn what_may_nest_is_known() {
    assert!(Tree::nests());
    assert!(Option::<Vec<Tree>>::nests());
    assert!(<(u8, Tree)>::nests());
    assert!(Everything::nests());
    assert!(Generic::<Tree, 1>::nests());
    assert!(!Generic::<String, 1>::nests());
    assert!(!Choice::nests());
    assert!(!Order::nests());
}
