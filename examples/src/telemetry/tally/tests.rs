use super::*;

fn totals(runs: u32, sent: u64, received: u64, lost: u64, finished: bool) -> Totals {
    Totals {
        runs,
        sent,
        received,
        lost,
        finished,
    }
}

#[test]
fn nothing_yet() {
    assert_eq!(Tally::default().totals(), Totals::default());
}

#[test]
fn a_whole_run_loses_nothing() {
    let mut tally = Tally::default();
    assert!(tally.received(9, 0));
    assert!(!tally.received(9, 1));
    assert_eq!(tally.totals(), totals(1, 2, 2, 0, false));
    tally.finished(9, 2);
    assert_eq!(tally.totals(), totals(1, 2, 2, 0, true));
}

#[test]
fn gaps_are_losses_at_the_start_in_the_middle_and_at_the_end() {
    let mut tally = Tally::default();
    tally.received(9, 1);
    tally.received(9, 5);
    assert_eq!(tally.totals(), totals(1, 6, 2, 4, false));
    tally.finished(9, 10);
    assert_eq!(tally.totals(), totals(1, 10, 2, 8, true));
}

#[test]
fn a_restarted_sampler_begins_anew_without_loss() {
    let mut tally = Tally::default();
    tally.received(9, 0);
    tally.received(9, 1);
    assert!(tally.received(10, 0), "another run");
    assert_eq!(tally.totals(), totals(2, 3, 3, 0, false));
}

#[test]
fn a_run_ends_before_the_next_begins() {
    let mut tally = Tally::default();
    tally.received(9, 0);
    tally.finished(9, 3);
    tally.received(10, 0);
    assert_eq!(
        tally.totals(),
        totals(2, 4, 2, 2, false),
        "the first run's loss stays counted"
    );
}

#[test]
fn a_run_that_an_earlier_analyst_received_is_ignored() {
    let mut tally = Tally::default();
    tally.finished(8, 500);
    tally.received(9, 0);
    tally.finished(8, 500);
    assert_eq!(tally.totals(), totals(1, 1, 1, 0, false));
}
