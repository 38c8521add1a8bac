use proptest::prelude::*;
use rkyv::util::AlignedVec;

use super::*;
use crate::{
    message::{Received, Trust},
    shm::{lease::Lease, pool::DEDICATED},
};

#[derive(crate::ShmMessage, Debug, PartialEq)]
struct Frame {
    seq: u32,
    data: Bulk,
    note: String,
}

fn pool() -> Arc<Pool> {
    Pool::new(8 << 20, 64 << 20)
}

fn source(pool: &Arc<Pool>) -> Source<'_> {
    Source {
        pool,
        limit: 48 << 20,
    }
}

fn take(pool: &Arc<Pool>, len: usize) -> Result<Lent, Packing> {
    Lent::take(
        len,
        Layout::new::<<Frame as rkyv::Archive>::Archived>(),
        source(pool),
        |_| (),
    )
}

fn frame(data: Bulk, note: &str) -> Frame {
    Frame {
        seq: 9,
        data,
        note: note.into(),
    }
}

/// What a receiver would read.
fn read(sealed: Sealed) -> (Frame, bool) {
    let Parcel::Buffer(buffer, len) = sealed.into_parcel() else {
        panic!("a loan is a buffer");
    };
    let mut bytes = AlignedVec::<16>::new();
    bytes.extend_from_slice(&buffer.bytes()[..len]);
    let received = Received::<Frame>::new(Lease::heap(bytes), Trust::Checked)
        .unwrap_or_else(|refused| panic!("{}", refused.1));
    (received.to_owned(), buffer.segment() & DEDICATED != 0)
}

/// Lends `len` bytes, fills them, sends a note along. Returns how often the payload was copied.
fn round(len: usize, note: &str) -> u32 {
    let pool = pool();
    let mut lent = take(&pool, len).unwrap();
    assert_eq!(lent.bytes().len(), len);
    assert!(lent.bytes().as_ptr().addr().is_multiple_of(64));
    let payload: Vec<u8> = (0..len).map(|at| (at * 7 + at / 256) as u8).collect();
    lent.bytes_mut().copy_from_slice(&payload);
    let value = frame(lent.bulk(), note);
    let mut copied = 0;
    let sealed = lent
        .pack(&value, source(&pool), || copied += 1)
        .map_err(|(_, why)| why)
        .unwrap();
    assert_eq!(pool.usage().0, 1, "one buffer however it was made");
    let (got, dedicated) = read(sealed);
    assert_eq!(
        dedicated,
        len + size_of::<<Frame as rkyv::Archive>::Archived>() + note.len() > pool.largest()
    );
    assert_eq!(got, frame(payload.into(), note));
    assert_eq!(pool.usage().0, 0);
    copied
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_length_and_any_note(len in 0usize..20_000, note in 0usize..6_000) {
        let copied = round(len, &"n".repeat(note));
        prop_assert!(copied <= 1 && (note > 200 || copied == 0));
    }

    #[test]
    fn around_each_class(class in 6u32..22, by in -300i64..60) {
        let len = usize::try_from((1 << class) + by).unwrap_or(0);
        prop_assert_eq!(round(len, ""), 0);
    }
}

#[test]
fn a_header_that_does_not_fit_costs_one_copy() {
    assert_eq!(round(0, &"n".repeat(10_000)), 1);
    // The buffer has 4 KiB, of which the slack is a part.
    assert_eq!(round(3_800, &"n".repeat(200)), 0);
    assert_eq!(round(3_800, &"n".repeat(1_000)), 1);
    // From the largest class to a segment of its own.
    assert_eq!(round((4 << 20) - 100, &"n".repeat(1_000)), 1);
}

#[test]
fn a_loan_comes_back_from_whatever_fails() {
    let pool = Pool::new(8 << 20, 8 << 20);
    let mut lent = take(&pool, 1000).unwrap();
    lent.bytes_mut().fill(3);
    let value = frame(Bulk::lent(Mark::new(1000)), "");
    let (lent, why) = lent.pack(&value, source(&pool), || ()).unwrap_err();
    assert!(matches!(why, Packing::Archive(problem) if problem.contains("by that loan only")));

    // No memory for the larger buffer.
    let _rest = [take(&pool, 4 << 19).unwrap()];
    let value = frame(lent.bulk(), &"n".repeat(5 << 20));
    let (lent, why) = lent
        .pack(&value, source(&pool), || panic!("no copy"))
        .unwrap_err();
    assert!(matches!(why, Packing::Beyond { left: 0, .. }), "{why:?}");

    let value = frame(lent.bulk(), &"n".repeat(2000));
    let tight = Source {
        pool: &pool,
        limit: 2_000,
    };
    let (lent, why) = lent.pack(&value, tight, || panic!("no copy")).unwrap_err();
    assert!(
        matches!(
            why,
            Packing::TooLarge {
                bytes: 3_020,
                limit: 2_000
            }
        ),
        "{why:?}"
    );

    let value = frame(lent.bulk(), "");
    let sealed = lent
        .pack(&value, source(&pool), || ())
        .map_err(|(_, why)| why)
        .unwrap();
    let (lent, why) = sealed
        .send(|parcel| if parcel.is_some() { Err("full") } else { Ok(()) })
        .unwrap_err();
    assert!(why == "full" && lent.bytes() == [3; 1000]);
    drop(lent);
    assert_eq!(pool.usage().0, 1);
}

#[test]
fn what_no_message_can_hold_is_refused_at_once() {
    let pool = pool();
    assert!(matches!(
        take(&pool, 48 << 20),
        Err(Packing::TooLarge {
            limit: 0x300_0000,
            ..
        })
    ));
    assert!(matches!(take(&pool, usize::MAX), Err(Packing::TooLarge { .. })));
    assert_eq!(pool.usage(), (0, 0, 0));
}

#[test]
fn a_reply_is_sent_in_the_memory_it_was_written_in_if_that_is_for_its_asker() {
    let (pool, other) = (pool(), pool());
    let written = || {
        let Lent(memory) = take(&pool, 1000).unwrap();
        let at = memory.payload().as_ptr();
        (frame(Bulk::shared(memory), "front"), at)
    };
    let (mut reply, _) = written();
    assert!(Lent::of_reply(&mut reply, &other).is_none());
    assert!(Lent::of_reply(&mut frame(vec![1].into(), ""), &pool).is_none());
    assert_eq!(reply.data.as_slice().map(<[u8]>::len), Some(1000));

    let (mut reply, at) = written();
    let lent = Lent::of_reply(&mut reply, &pool).unwrap();
    let sealed = lent.pack(&reply, source(&pool), || panic!("no copy"));
    let Parcel::Buffer(buffer, _) = sealed.map_err(|(_, why)| why).unwrap().into_parcel() else {
        panic!("a loan is a buffer");
    };
    assert_eq!(buffer.bytes().as_ptr(), at);
}
