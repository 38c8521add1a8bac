use Stream::{Cpu, Memory, Processes};

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
    assert_eq!(Tally::default().totals(0), Totals::default());
}

#[test]
fn a_whole_run_loses_nothing() {
    let mut tally = Tally::default();
    assert!(tally.received(Cpu, 9, 0));
    assert!(tally.received(Memory, 9, 0), "each topic begins");
    assert!(!tally.received(Cpu, 9, 1));
    assert_eq!(tally.totals(0), totals(1, 3, 3, 0, false));
    tally.finished(9, [2, 1, 0]);
    assert_eq!(tally.totals(0), totals(1, 3, 3, 0, true));
}

#[test]
fn the_end_may_come_before_the_last_messages() {
    let mut tally = Tally::default();
    tally.received(Cpu, 9, 0);
    tally.finished(9, [3, 0, 5]);
    assert_eq!(tally.totals(0), totals(1, 3, 1, 0, false));
    tally.received(Cpu, 9, 1);
    tally.received(Cpu, 9, 2);
    assert_eq!(tally.totals(0), totals(1, 3, 3, 0, false), "a topic is missing");
    tally.received(Processes, 9, 4);
    assert_eq!(tally.totals(0), totals(1, 4, 4, 0, true));
}

#[test]
fn gaps_are_losses_in_the_middle_and_at_the_end() {
    let mut tally = Tally::default();
    tally.received(Cpu, 9, 0);
    tally.received(Cpu, 9, 5);
    assert_eq!(tally.totals(4), totals(1, 6, 2, 4, false));
    tally.finished(9, [10, 0, 0]);
    assert_eq!(
        tally.totals(4),
        totals(1, 10, 2, 4, false),
        "four may be on their way"
    );
    assert_eq!(tally.totals(8), totals(1, 10, 2, 8, true));
}

#[test]
fn a_late_analyst_misses_nothing_of_what_was_before() {
    let mut tally = Tally::default();
    tally.received(Cpu, 9, 41);
    tally.received(Cpu, 9, 42);
    tally.finished(9, [43, 0, 0]);
    assert_eq!(tally.totals(0), totals(1, 2, 2, 0, true));
}

#[test]
fn a_restarted_sampler_begins_anew_without_loss() {
    let mut tally = Tally::default();
    tally.received(Cpu, 9, 0);
    tally.received(Memory, 9, 0);
    assert!(tally.received(Cpu, 10, 0), "another run");
    assert!(
        !tally.received(Memory, 9, 1),
        "still the run before, on its topic"
    );
    assert!(tally.received(Memory, 10, 0));
    assert_eq!(tally.totals(0), totals(2, 5, 5, 0, false));
}

#[test]
fn a_run_ends_before_the_next_begins() {
    let mut tally = Tally::default();
    tally.received(Cpu, 9, 0);
    tally.finished(9, [3, 0, 0]);
    tally.received(Cpu, 10, 0);
    assert_eq!(
        tally.totals(2),
        totals(2, 4, 2, 2, false),
        "the first run's loss stays counted"
    );
}

#[test]
fn a_run_that_an_earlier_analyst_received_is_ignored() {
    let mut tally = Tally::default();
    tally.finished(8, [500, 500, 500]);
    tally.received(Cpu, 9, 0);
    tally.finished(8, [500, 500, 500]);
    assert_eq!(tally.totals(0), totals(1, 1, 1, 0, false));
}
