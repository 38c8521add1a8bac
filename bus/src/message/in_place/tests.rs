use std::sync::Arc;

use proptest::prelude::*;
use rkyv::util::AlignedVec;

use super::*;
use crate::{
    message::{Received, Trust},
    shm::{lease::Lease, pool::Pool},
};

#[derive(crate::ShmType, Debug, Clone, PartialEq)]
enum Mode {
    Off,
    On { since: u64, by: Option<u16> },
    Both(f32, char),
}

/// Of every alignment, with padding.
#[derive(crate::ShmMessage, Debug, Clone, PartialEq)]
struct Reading {
    flag: bool,
    seq: u64,
    mode: Mode,
    wide: (u8, u128),
    ranges: [i16; 300],
}

#[derive(crate::ShmMessage)]
struct Nothing;

const START: Reading = Reading {
    flag: false,
    seq: 1,
    mode: Mode::Off,
    wide: (2, 3),
    ranges: [-1; 300],
};

fn pool() -> Arc<Pool> {
    Pool::new(8 << 20, 64 << 20)
}

fn place(pool: &Arc<Pool>, initial: &Reading) -> InPlace<Reading> {
    InPlace::new(initial, pool.take(InPlace::<Reading>::LEN).unwrap()).unwrap()
}

/// What a receiver would read.
fn read(written: InPlace<Reading>) -> Reading {
    let (buffer, len) = written.into_parts();
    let mut bytes = AlignedVec::<16>::new();
    bytes.extend_from_slice(&buffer.bytes()[..len]);
    Received::<Reading>::new(Lease::heap(bytes), Trust::Checked)
        .unwrap_or_else(|refused| panic!("{}", refused.1))
        .to_owned()
}

#[test]
fn it_begins_with_the_initial_value_and_lies_in_the_buffer() {
    let pool = pool();
    let written = place(&pool, &START);
    let at = std::ptr::from_ref(written.get()).addr();
    assert_eq!(at, written.buffer.bytes().as_ptr().addr());
    assert!(at.is_multiple_of(64));
    assert_eq!(read(written), START);
    assert_eq!(pool.usage().0, 0);
}

#[test]
fn two_can_change_places() {
    let pool = pool();
    let other = Reading {
        mode: Mode::On {
            since: 7,
            by: Some(8),
        },
        ..START
    };
    let (mut one, mut two) = (place(&pool, &START), place(&pool, &other));
    std::mem::swap(one.get_mut(), two.get_mut());
    assert_eq!((read(one), read(two)), (other, START));
}

#[test]
fn what_is_not_sent_is_as_it_was() {
    let pool = pool();
    let mut written = place(&pool, &START);
    written.get_mut().seq = 9.into();
    let at = std::ptr::from_ref(written.get());
    let (written, why) = written.send(|buffer, _| Err((buffer, "full"))).unwrap_err();
    assert_eq!(why, "full");
    assert!(std::ptr::eq(written.get(), at) && written.get().seq == 9);
    assert_eq!(pool.usage().0, 1);
    written
        .send(|buffer, len| {
            assert_eq!(len, InPlace::<Reading>::LEN);
            drop(buffer);
            Ok::<(), (Buffer, ())>(())
        })
        .unwrap();
    drop(place(&pool, &START));
    assert_eq!(pool.usage().0, 0);
}

#[test]
#[should_panic(expected = "a refused buffer stays with its sender")]
fn another_buffer_is_not_taken_for_it() {
    let pool = pool();
    let other = pool.take(InPlace::<Reading>::LEN).unwrap();
    let _ = place(&pool, &START).send(|_, _| Err((other, ())));
}

#[test]
fn a_buffer_that_is_too_small_is_not_written_past() {
    let pool = pool();
    let error = InPlace::new(&START, pool.take(64).unwrap()).unwrap_err();
    let needed = InPlace::<Reading>::LEN;
    assert_eq!(error, ArchiveError::TooSmall { needed });
}

#[test]
fn a_message_of_no_bytes_has_a_place_too() {
    let pool = pool();
    let mut written = InPlace::new(&Nothing, pool.take(0).unwrap()).unwrap();
    *written.get_mut() = ArchivedNothing;
    assert_eq!(written.into_parts().1, 0);
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Off),
        any::<(u64, Option<u16>)>().prop_map(|(since, by)| Mode::On { since, by }),
        // Not NaN, which equals nothing.
        (-1e6f32..1e6, any::<char>()).prop_map(|(a, b)| Mode::Both(a, b)),
    ]
}

proptest! {
    #[test]
    fn what_was_written_is_what_is_read(
        (flag, seq, wide) in any::<(bool, u64, (u8, u128))>(),
        (before, after) in (mode(), mode()),
        at in 0usize..300,
        range in any::<i16>(),
    ) {
        let pool = pool();
        let initial = Reading { mode: before, ..START };
        let mut expected = Reading { flag, seq, mode: after, wide, ..START };
        expected.ranges[at] = range;

        let source = place(&pool, &expected);
        let mut written = place(&pool, &initial);
        let out = written.get_mut();
        out.flag = flag;
        out.seq = seq.into();
        out.wide.0 = wide.0;
        out.wide.1 = wide.1.into();
        out.ranges[at] = range.into();
        // An enum has no other way in than to be assigned as a whole.
        out.mode = match &source.get().mode {
            ArchivedMode::Off => ArchivedMode::Off,
            ArchivedMode::On { since, by } => ArchivedMode::On {
                since: *since,
                by: match by.as_ref() {
                    Some(by) => rkyv::option::ArchivedOption::Some(*by),
                    None => rkyv::option::ArchivedOption::None,
                },
            },
            ArchivedMode::Both(a, b) => ArchivedMode::Both(*a, *b),
        };
        prop_assert_eq!(read(written), expected);
    }
}
