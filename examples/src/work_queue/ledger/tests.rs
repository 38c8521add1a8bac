use super::*;
use crate::blocks::hash;

fn done(job: u64, worker: u32, redelivered: bool) -> Done {
    Done {
        job,
        worker,
        redelivered,
        bytes: 10 + job,
        hash: hash(&job.to_le_bytes()),
    }
}

#[test]
fn a_job_counts_once_however_often_it_was_done() {
    let mut once = Ledger::default();
    let mut twice = Ledger::default();
    for job in 0..10 {
        once.enter(&done(job, 1, false));
    }
    // In another order, by others, with two of them repeated and one of those finished by the second alone.
    for job in (0..10).rev().filter(|job| *job != 4) {
        twice.enter(&done(job, 1 + job as u32 % 2, false));
    }
    twice.enter(&done(4, 3, true));
    twice.enter(&done(7, 3, true));
    assert_eq!(once.total(), twice.total());
    assert_eq!((twice.jobs(), twice.redelivered(), twice.repeated()), (10, 2, 1));
    assert_eq!([1, 2, 3, 4].map(|worker| twice.by_worker(worker)), [4, 5, 2, 0]);
    assert_eq!((once.redelivered(), once.repeated()), (0, 0));
}

#[test]
fn a_missing_job_shows() {
    let (mut whole, mut part) = (Ledger::default(), Ledger::default());
    for job in 0..3 {
        whole.enter(&done(job, 1, false));
    }
    for job in 0..2 {
        part.enter(&done(job, 1, false));
    }
    assert_ne!(whole.total(), part.total());
}
