use std::time::Duration;

use ratatui::{Terminal, backend::TestBackend};

use super::*;
use crate::messages::{Busy, Load, Memory, Totals, View};

fn model(cpus: usize) -> Model {
    let mut model = Model::new("b");
    model.running = Duration::from_secs(75);
    model.answered(Duration::from_micros(40));
    model.view = View {
        cpus: vec![
            CpuShare {
                user: 25.0,
                system: 25.0,
                steal: 0.0
            };
            cpus
        ],
        memory: Memory {
            total: 4 << 30,
            available: 1 << 30,
            swap_total: 0,
            swap_free: 0,
        },
        load: Load {
            one: 0.5,
            five: 0.25,
            fifteen: 0.0,
        },
        busiest: vec![
            Busy {
                pid: 7,
                name: "spinner".into(),
                state: b'R',
                cpu: 99.5,
                rss: 2 << 20,
            },
            Busy {
                pid: 1234,
                name: "sleeper".into(),
                state: b'S',
                cpu: 0.0,
                rss: 1 << 30,
            },
        ],
        processes: 80,
        silent_ms: Some(3),
        totals: Totals {
            runs: 1,
            sent: 250,
            received: 249,
            lost: 1,
            finished: false,
        },
    };
    model
}

fn render(width: u16, height: u16, model: &Model) -> (Vec<String>, ratatui::buffer::Buffer) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y| {
        (0..width)
            .map(|x| buffer[(x, y)].symbol())
            .collect::<String>()
            .trim_end()
            .to_owned()
    };
    ((0..height).map(line).collect(), buffer)
}

#[test]
fn a_whole_screen() {
    let (lines, _) = render(67, 18, &model(2));
    let expected = [
        "telemetry  bus b  1:15  user system steal  q ends",
        "",
        "cpu0   [|||||||||||||||||||||||||                         ]  50.0 %",
        "cpu1   [|||||||||||||||||||||||||                         ]  50.0 %",
        "memory [||||||||||||||||||||||||        ]     3.0 GiB / 4.0 GiB",
        "load   0.50 0.25 0.00   80 processes",
        "",
        "    PID  NAME              S    CPU %          RSS",
        "      7  spinner           R     99.5      2.0 MiB",
        "   1234  sleeper           S      0.0      1.0 GiB",
        "",
        "",
        "",
        "",
        "",
        "messages    sent 250, received 249, lost 1, runs 1",
        "asks        answered 1, failed 0, p50 40.0 us, p99 40.0 us",
        "live",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn user_and_system_time_have_their_colours() {
    let (_, buffer) = render(67, 18, &model(1));
    let color = |x: u16| buffer[(x, 2)].style().fg;
    assert_eq!((color(8), color(8 + 12)), (Some(USER), Some(USER)));
    assert_eq!((color(8 + 13), color(8 + 24)), (Some(SYSTEM), Some(SYSTEM)));
    assert_eq!(buffer[(8 + 25, 2)].symbol(), " ");
}

#[test]
fn many_cpus_stand_in_columns() {
    let (lines, _) = render(110, 30, &model(24));
    assert!(
        lines[2].starts_with("cpu0 ") && lines[2].contains("cpu8 ") && lines[2].contains("cpu16 "),
        "{lines:#?}"
    );
    assert!(lines[9].contains("cpu23 "), "{lines:#?}");
    assert!(lines[10].starts_with("memory"), "{lines:#?}");
}

#[test]
fn no_size_is_too_small() {
    for (width, height) in [(1, 1), (5, 40), (200, 2), (26, 10)] {
        for cpus in [0, 1, 64] {
            render(width, height, &model(cpus));
        }
    }
}

#[test]
fn a_bar_is_never_longer_than_its_width() {
    for parts in [
        [60.0, 60.0, 60.0],
        [33.4, 33.3, 33.3],
        [0.0, 0.0, 0.1],
        [f32::NAN, 1.0, 1.0],
    ] {
        let spans = bar(12, &parts.map(|part| (part, USER)));
        assert_eq!(spans.iter().map(Span::width).sum::<usize>(), 12, "{parts:?}");
    }
    assert_eq!(bar(0, &[(50.0, USER)]).iter().map(Span::width).sum::<usize>(), 2);
}
