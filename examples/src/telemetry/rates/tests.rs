use super::*;

fn times(user: u64, system: u64, steal: u64, idle: u64) -> CpuTimes {
    CpuTimes {
        user,
        system,
        steal,
        idle,
    }
}

#[test]
fn a_share_is_what_grew() {
    let share = share(times(100, 50, 0, 1000), times(150, 70, 10, 1020));
    assert_eq!(
        share,
        CpuShare {
            user: 50.0,
            system: 20.0,
            steal: 10.0
        }
    );
    assert_eq!(share.busy(), 80.0);
}

#[test]
fn no_time_passed_and_time_going_back_are_no_share() {
    let now = times(100, 50, 5, 1000);
    assert_eq!(share(now, now), CpuShare::default());
    assert_eq!(share(now, times(100, 50, 5, 990)), CpuShare::default());
    assert_eq!(share(now, times(110, 50, 5, 990)).busy(), 100.0);
}

#[test]
fn percent_of_one_cpu() {
    let mut window = Window::default();
    assert_eq!(window.percent(), 0.0);
    window.push(0, 1000);
    assert_eq!(window.percent(), 0.0);
    window.push(200_000, 1100);
    assert_eq!(window.percent(), 50.0);
    window.push(400_000, 1700);
    assert_eq!(window.percent(), 175.0);
}

#[test]
fn a_window_spans_a_second_and_no_more_than_one_sample_beyond() {
    let mut window = Window::default();
    for step in 0..100 {
        window.push(step * 50_000, step);
    }
    let ((from, _), (to, _)) = window.ends().unwrap();
    assert_eq!(to, 99 * 50_000);
    assert_eq!(to - from, SPAN_US);
    window.push(60_000_000, 0);
    assert_eq!(
        window.ends().unwrap().0.0,
        to,
        "two samples far apart still make a rate"
    );
}

#[test]
fn time_going_back_begins_anew() {
    let mut window = Window::default();
    window.push(1_000_000, 7);
    window.push(1_500_000, 8);
    window.push(10, 0);
    assert!(window.ends().is_none());
}
