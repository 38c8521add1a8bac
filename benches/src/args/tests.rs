use super::*;

fn pingpong(args: &[&str]) -> Result<Selection> {
    PingPong::try_parse_from([&["pingpong"], args].concat())?.selection()
}

fn compare(args: &[&str]) -> Result<Selection> {
    Ok(Compare::try_parse_from([&["compare"], args].concat())?.selection())
}

fn error(result: Result<Selection>) -> String {
    result.expect_err("it must be refused").to_string()
}

#[test]
fn sizes_have_units_and_limits() {
    assert_eq!(bytes("64"), Ok(64));
    assert_eq!(bytes("4K"), Ok(4096));
    assert_eq!(bytes("1m"), Ok(1 << 20));
    for text in ["3", "0", "17M", "99999999999999999999", "4KK", "-1", "", "K"] {
        assert!(bytes(text).is_err(), "{text:?}");
    }
}

#[test]
fn times_are_positive() {
    assert_eq!(positive("0.2"), Ok(0.2));
    for text in ["0", "-1", "nan", "inf", "3601", "soon"] {
        assert!(positive(text).is_err(), "{text:?}");
    }
}

#[test]
fn wrong_input_is_named() {
    assert!(error(compare(&["--size", "3"])).contains("8 bytes to 16M"));
    assert!(error(compare(&["--seconds", "0"])).contains("above 0"));
    assert!(error(compare(&["--repeat", "0"])).contains("--repeat"));
    assert!(error(compare(&["--case", "shout"])).contains("idle-wake"));
    let unknown = error(compare(&["--system", "pigeon"]));
    assert!(
        unknown.contains("pigeon") && unknown.contains("shmbus-spin"),
        "{unknown}"
    );
}

#[cfg(not(feature = "peers"))]
#[test]
fn a_peer_that_was_not_built_in_says_how_to() {
    assert!(error(compare(&["--system", "iceoryx2-poll"])).contains("--features peers"));
}

#[test]
fn by_default_everything_is_compared() {
    let selection = compare(&[]).unwrap();
    assert_eq!(selection.systems.len(), systems::ALL.len());
    let of = |case: Case| selection.points.iter().filter(move |point| point.case == case);
    for case in [Case::Ask, Case::Ask64, Case::Tell] {
        let sizes: Vec<_> = of(case).map(|point| point.payload).collect();
        assert_eq!(sizes, SIZES, "{case}");
    }
    assert_eq!(of(Case::Fanout).count(), FEW_SIZES.len() * FANOUTS.len());
    assert_eq!(of(Case::IdleWake).count(), 2);
}

#[test]
fn what_is_chosen_is_measured() {
    let args = [
        "--case",
        "tell,fanout",
        "--size",
        "64,1K",
        "--system",
        "shmbus-spin",
        "--repeat",
        "2",
    ];
    let selection = compare(&args).unwrap();
    let labels: Vec<_> = selection.points.iter().map(Point::label).collect();
    assert_eq!(
        labels,
        [
            "tell", "tell", "fanout-1", "fanout-2", "fanout-4", "fanout-1", "fanout-2", "fanout-4"
        ]
    );
    assert_eq!(selection.systems.len(), 1);
    assert_eq!(selection.repeats, 2);
}

#[test]
fn a_case_of_ones_own_is_for_shmbus() {
    let args = [
        "--payload",
        "300",
        "--senders",
        "4",
        "--mailboxes",
        "16",
        "--seconds",
        "5",
    ];
    let selection = pingpong(&args).unwrap();
    assert!(selection.systems.iter().all(|system| system.system == "shmbus"));
    assert_eq!((selection.shape.senders, selection.shape.mailboxes), (4, 16));
    assert_eq!(selection.repeats, 1);
    assert_eq!(selection.points.len(), 3);

    assert!(error(pingpong(&["--senders", "2", "--system", "unix"])).contains("unix"));
    assert!(error(pingpong(&["--senders", "2", "--case", "fanout"])).contains("fanout"));
    assert!(error(pingpong(&["--senders", "0"])).contains("--senders"));
}

#[test]
fn mixed_messages_are_told() {
    let selection = pingpong(&["--kind", "mixed", "--payload", "300"]).unwrap();
    assert_eq!(
        selection.points,
        [Point {
            case: Case::Tell,
            payload: 300,
            receivers: 1
        }]
    );
    assert!(error(pingpong(&["--kind", "mixed", "--case", "ask"])).contains("mixed"));
}
