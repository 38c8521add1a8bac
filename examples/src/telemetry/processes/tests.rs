use super::*;

fn seen(pid: i32, name: &str, cpu_ms: u64, rss: u64) -> Seen<'_> {
    Seen {
        pid,
        started: 1,
        name,
        state: b'S',
        cpu_ms,
        rss,
    }
}

fn order(table: &ProcessTable) -> Vec<i32> {
    table.busiest(10).iter().map(|busy| busy.pid).collect()
}

#[test]
fn the_busiest_come_first_then_the_biggest() {
    let mut table = ProcessTable::default();
    table.update(
        0,
        [
            seen(1, "idle", 10, 5),
            seen(2, "half", 0, 1),
            seen(3, "big", 7, 9),
        ]
        .into_iter(),
    );
    assert_eq!(order(&table), [3, 1, 2], "no rate yet: by memory");
    table.update(
        500_000,
        [
            seen(1, "idle", 10, 5),
            seen(2, "half", 250, 1),
            seen(3, "big", 7, 9),
        ]
        .into_iter(),
    );
    assert_eq!(order(&table), [2, 3, 1]);
    assert_eq!(table.busiest(1)[0].cpu, 50.0);
    assert_eq!(table.busiest(1)[0].name, "half");
}

#[test]
fn those_that_ended_are_forgotten() {
    let mut table = ProcessTable::default();
    table.update(0, [seen(1, "a", 0, 0), seen(2, "b", 0, 0)].into_iter());
    table.update(1, [seen(2, "b", 0, 0)].into_iter());
    assert_eq!(table.len(), 1);
    assert_eq!(order(&table), [2]);
}

#[test]
fn a_reused_pid_is_another_process() {
    let mut table = ProcessTable::default();
    table.update(0, [seen(7, "old", 9_000, 0)].into_iter());
    let reused = Seen {
        started: 2,
        ..seen(7, "new", 9_500, 0)
    };
    table.update(500_000, [reused].into_iter());
    assert_eq!(table.busiest(1)[0].cpu, 0.0);
    assert_eq!(table.busiest(1)[0].name, "new");
}

#[test]
fn a_renamed_process_keeps_its_rate() {
    let mut table = ProcessTable::default();
    table.update(0, [seen(7, "before", 0, 0)].into_iter());
    table.update(1_000_000, [seen(7, "after", 300, 0)].into_iter());
    assert_eq!(
        (table.busiest(1)[0].name.as_str(), table.busiest(1)[0].cpu),
        ("after", 30.0)
    );
}

#[test]
fn only_so_many_are_ranked_and_they_are_the_right_ones() {
    let mut table = ProcessTable::default();
    let many = || (0..RANKED as i32 * 3).map(|pid| seen(pid, "p", 0, pid as u64));
    table.update(0, many());
    assert_eq!(table.len(), RANKED * 3);
    let ranked: Vec<i32> = table.busiest(usize::MAX).iter().map(|busy| busy.pid).collect();
    assert_eq!(
        ranked,
        (RANKED as i32 * 2..RANKED as i32 * 3).rev().collect::<Vec<_>>()
    );
}
