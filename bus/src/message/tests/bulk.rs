//! Payloads that lie where they are sent.

use proptest::{collection::vec, prelude::*};
use rkyv::util::AlignedVec;

use super::super::{
    ArchiveError, Bulk, Mark, Memory, Received, ShmRoot, Trust, archive_behind, archive_into, check,
    schema::Schema,
};
use crate::shm::{lease::Lease, pool::Pool};

#[derive(crate::ShmMessage, Debug, Clone, PartialEq)]
struct Frame {
    seq: u64,
    size: (u32, Option<u16>),
    data: Bulk,
    camera: String,
    marks: Vec<u64>,
}

/// Nothing but the payload.
#[derive(crate::ShmMessage, Debug)]
struct Raw(Bulk);

#[derive(crate::ShmMessage, Debug)]
struct Of<T> {
    head: Option<u8>,
    data: Bulk,
    more: Vec<T>,
}

/// A hand-made archived form is bound by the same order, and checked at run time too.
#[derive(crate::ShmMessage, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug)]
#[shm(archive = manual)]
#[rkyv(crate = rkyv)]
struct Manual {
    data: Bulk,
    more: String,
}

fn aligned(len: usize) -> AlignedVec<16> {
    let mut bytes = AlignedVec::new();
    bytes.resize(len, 0xee);
    bytes
}

fn frame(data: Bulk, camera: &str) -> Frame {
    Frame {
        seq: 7,
        size: (640, Some(480)),
        data,
        camera: camera.into(),
        marks: vec![1, 2, 3],
    }
}

/// Archives `make`'s message behind this payload and reads it back.
fn lend<T: ShmRoot>(payload: &[u8], make: impl FnOnce(Bulk) -> T) -> Received<T> {
    let mark = Mark::new(payload.len());
    let value = make(Bulk::lent(mark));
    let mut bytes = aligned(payload.len());
    bytes.copy_from_slice(payload);
    let Err(ArchiveError::TooSmall { needed }) = archive_behind(&value, &mut bytes, mark) else {
        panic!("the root fits nowhere");
    };
    assert_eq!(bytes[..], *payload, "the payload is not touched");
    bytes.resize(needed, 0xee);
    assert_eq!(archive_behind(&value, &mut bytes, mark), Ok(needed));
    Received::new(Lease::heap(bytes), Trust::Checked).unwrap_or_else(|refused| panic!("{}", refused.1))
}

fn failure<T: ShmRoot>(value: &T, payload: Option<Mark>) -> String {
    let mut bytes = aligned(256);
    let result = match payload {
        Some(mark) => archive_behind(value, &mut bytes, mark),
        None => archive_into(value, &mut bytes),
    };
    match result {
        Err(ArchiveError::Failed(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn a_payload_is_read_where_it_was_written(
        payload in vec(any::<u8>(), 0..300),
        camera in ".{0,40}",
    ) {
        let received = lend(&payload, |data| frame(data, &camera));
        prop_assert_eq!(&received.data[..], &payload[..]);
        let expected = frame(payload.clone().into(), &camera);
        prop_assert_eq!(received.to_owned(), expected.clone());

        // Owned bytes arrive the same.
        prop_assert_eq!(Received::local(&expected).to_owned(), expected);
    }

    #[test]
    fn damage_is_noticed_or_harmless(at in 0usize..200, byte: u8, len in 0usize..60) {
        let mark = Mark::new(len);
        let mut bytes = aligned(400);
        let needed = archive_behind(&frame(Bulk::lent(mark), "front"), &mut bytes, mark).unwrap();
        bytes.resize(needed, 0);
        let at = at % needed;
        bytes[at] = byte;
        if let Ok(received) = Received::<Frame>::new(Lease::heap(bytes), Trust::Checked) {
            let _ = received.to_owned();
        }
    }
}

#[test]
fn the_payload_comes_first_and_is_not_copied() {
    let received = lend(&[5; 100], Raw);
    let start = std::ptr::from_ref(&received.0).addr() - 100;
    assert!(received.0.as_ptr().addr() <= start && received.0[..] == [5; 100]);
    assert!(lend(&[], Raw).0.is_empty());
    let generic = lend(&[1, 2], |data| Of {
        head: None,
        data,
        more: vec![String::from("some text, not short"); 2],
    });
    assert_eq!(
        (&generic.data[..], generic.more[1].as_str()),
        (&[1, 2][..], "some text, not short")
    );
    let manual = lend(&[1, 2], |data| Manual {
        data,
        more: "text that is not so short".into(),
    });
    assert_eq!(manual.data[..], [1, 2]);
}

#[test]
fn a_loan_is_sent_once_and_by_itself() {
    let (mark, other) = (Mark::new(8), Mark::new(8));
    let of_another = frame(Bulk::lent(other), "front");
    let elsewhere = "its `Bulk` lies in the memory of a loan, and can be sent by that loan only";
    assert!(failure(&of_another, Some(mark)).contains(elsewhere));
    assert!(failure(&of_another, None).contains(elsewhere));
    // Owned bytes may be sent by a loan: its own payload is then there in vain.
    let received = lend(&[1; 64], |_| frame(vec![2; 3].into(), "front"));
    assert_eq!(received.data[..], [2; 3]);
}

#[test]
fn a_payload_longer_than_an_archive_can_be_is_refused() {
    let mark = Mark::new(i32::MAX as usize + 1);
    assert!(failure(&Raw(Bulk::lent(mark)), Some(mark)).contains("longer than 2147483647 bytes"));
    // The root behind it is what does not fit any more.
    let mark = Mark::new(i32::MAX as usize - 4);
    assert!(failure(&Raw(Bulk::lent(mark)), Some(mark)).contains("longer than 2147483647 bytes"));
}

#[test]
fn it_has_a_schema_of_its_own() {
    let shown = Schema::of::<Frame>().to_string();
    assert!(shown.contains("data: Bulk<u8>"), "{shown}");
    assert!(!Frame::nests() && !Of::<u32>::nests());
    assert_eq!(
        frame(vec![0; 100].into(), "")
            .size_bound()
            .map(|bound| bound >= 100),
        Some(true)
    );
    assert!(check::check::<Raw>(&[]).is_err());
}

#[test]
fn it_tells_what_it_holds() {
    let (owned, lent) = (Bulk::from(&[1, 2][..]), Bulk::lent(Mark::new(3)));
    assert_eq!(
        (owned.len(), owned.is_loaned(), owned.as_slice()),
        (2, false, Some(&[1, 2][..]))
    );
    assert_eq!((lent.len(), lent.is_loaned(), lent.as_slice()), (3, true, None));
    assert_eq!(
        format!("{owned:?} {lent:?}"),
        "Bulk(2 bytes) Bulk(3 bytes, loaned)"
    );
    assert_eq!(
        (owned.clone().into_vec(), lent.clone().into_vec()),
        (Some(vec![1, 2]), None)
    );
    assert!(Bulk::default().is_empty() && owned != lent && lent == lent.clone());
}

#[test]
fn what_lies_in_shared_memory_is_like_owned_bytes_but_for_who_sends_it() {
    let pool = Pool::new(8 << 20, 8 << 20);
    let shared = |bytes: &[u8]| {
        let mut memory = Memory::new(pool.take(bytes.len()).unwrap(), bytes.len());
        memory.payload_mut().copy_from_slice(bytes);
        Bulk::shared(memory)
    };
    let (bulk, owned) = (shared(&[1, 2, 3]), Bulk::from(&[1, 2, 3][..]));
    assert_eq!(
        (bulk.len(), bulk.is_loaned(), bulk.as_slice()),
        (3, false, Some(&[1, 2, 3][..]))
    );
    assert_eq!(bulk, owned);
    assert_ne!(bulk, shared(&[1, 2, 4]));
    assert_ne!(bulk, Bulk::lent(Mark::new(3)));
    assert_eq!(
        Received::local(&frame(bulk, "front")).to_owned(),
        frame(owned.clone(), "front")
    );
    assert_eq!(pool.usage().0, 0);

    // A clone has bytes of its own.
    let bulk = shared(&[1, 2, 3]);
    let clone = bulk.clone();
    assert_eq!(bulk.into_vec(), Some(vec![1, 2, 3]));
    assert_eq!((pool.usage().0, clone), (0, owned));

    // Its memory is taken by who wants it, once.
    let mut frame = frame(shared(&[4]), "");
    let bulk = frame.bulk_mut().unwrap();
    assert!(bulk.take_memory(|_| false).is_none() && bulk.is_shared());
    let memory = bulk.take_memory(|memory| memory.payload() == [4]).unwrap();
    assert!(bulk.is_loaned() && !bulk.is_shared() && bulk.take_memory(|_| true).is_none());
    assert_eq!((memory.mark.len(), pool.usage().0), (1, 1));
    assert!(Bulk::default().take_memory(|_| true).is_none());
}

#[test]
fn a_message_knows_where_its_payload_is() {
    assert!(matches!(Raw(Bulk::from(vec![1])).bulk_mut(), Some(bulk) if bulk.len() == 1));
    let mut generic = Of::<u8> {
        head: None,
        data: vec![1, 2].into(),
        more: Vec::new(),
    };
    assert_eq!(generic.bulk_mut().map(|bulk| bulk.len()), Some(2));
    assert!(ShmRoot::bulk_mut(&mut vec![7u8]).is_none());
}
