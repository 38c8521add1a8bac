use super::*;

#[test]
fn a_role_gets_what_was_set() {
    let line = [
        "work-queue",
        "--file",
        "a b",
        "--dir",
        "/d",
        "--bus",
        "b",
        "--block",
        "100",
        "--depth",
        "2",
    ];
    let args = Args::parse_from(line);
    let line = args.options.command_line(&["worker", "2"], 1_000);
    let role = Args::parse_from([OsString::from("work-queue")].into_iter().chain(line));
    assert_eq!(role.role, Some(Role::Worker { number: 2 }));
    let expected = Options {
        bytes: 1_000,
        ..args.options
    };
    assert_eq!(role.options, expected);
}

#[test]
fn nonsense_is_refused() {
    for line in [
        ["--block", "0"],
        ["--block", "3000000"],
        ["--workers", "0"],
        ["--depth", "0"],
        ["--kill", "all"],
    ] {
        assert!(
            Args::try_parse_from(["work-queue"].into_iter().chain(line)).is_err(),
            "{line:?}"
        );
    }
}
