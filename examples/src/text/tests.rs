use super::*;

#[test]
fn sizes() {
    for (count, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (3 << 30, "3.0 GiB"),
    ] {
        assert_eq!(bytes(count), text);
    }
    assert_eq!(bytes(u64::MAX), "16384.0 PiB");
}

#[test]
fn times() {
    for (count, text) in [
        (999, "999 ns"),
        (41_230, "41.2 us"),
        (3_500_000, "3.5 ms"),
        (1_200_000_000, "1.20 s"),
    ] {
        assert_eq!(nanos(count), text);
    }
    assert_eq!(clock(Duration::from_secs(245)), "4:05");
    assert_eq!(clock(Duration::from_secs(3609)), "1:00:09");
}

#[test]
fn names_cannot_steer_the_terminal() {
    assert_eq!(printable("a\u{1b}[2Jb\nc"), "a?[2Jb?c");
}
