use super::*;

#[test]
fn a_frame_counts_once() {
    let mut ledger = Ledger::default();
    assert!(ledger.enter(0, 1, 10));
    assert!(ledger.enter(1, 2, 20));
    assert!(!ledger.enter(0, 2, 10));
    assert_eq!((ledger.frames(), ledger.bytes(), ledger.repeated()), (2, 30, 1));
    assert_eq!(ledger.by_worker().collect::<Vec<_>>(), [(1, 1), (2, 1)]);
}
