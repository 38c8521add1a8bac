use std::path::Path;

use super::*;

fn parse(line: &[&str]) -> Result<Args, clap::Error> {
    Args::try_parse_from([&["telemetry"], line].concat())
}

#[test]
fn the_command_is_well_formed() {
    <Args as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn nothing_means_all_three_with_the_defaults() {
    let args = parse(&[]).unwrap();
    assert_eq!(args.role, None);
    assert_eq!(args.options.seconds, None);
    assert_eq!(args.options.rate, 20.0);
    assert_eq!(args.options.bus_name(), "telemetry");
    assert_eq!(args.options.launched_by, None);
}

#[test]
fn options_may_stand_on_either_side_of_the_role() {
    let before = parse(&["--bus", "b", "--seconds", "3", "viewer"]).unwrap();
    let after = parse(&["viewer", "--bus", "b", "--seconds", "3"]).unwrap();
    assert_eq!(before.role, Some(Role::Viewer));
    assert_eq!(before.role, after.role);
    assert_eq!(before.options, after.options);
    assert_eq!(after.options.bus_name(), "b");
}

#[test]
fn a_child_gets_what_its_parent_was_given() {
    let parent = parse(&["--dir", "/a b", "--rate", "12.5", "--top", "3", "--seconds", "9"])
        .unwrap()
        .options;
    let line = parent.command_line(Role::Sampler, "private", 77);
    let child = Args::try_parse_from([OsString::from("telemetry")].into_iter().chain(line)).unwrap();
    assert_eq!(child.role, Some(Role::Sampler));
    assert_eq!(child.options.dir.as_deref(), Some(Path::new("/a b")));
    let expected = Options {
        bus: Some("private".into()),
        seconds: None,
        launched_by: Some(77),
        ..parent
    };
    assert_eq!(child.options, expected);
}

#[test]
fn senseless_numbers_are_refused() {
    for line in [
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--asks", "-1"],
        ["--draws", "1e9"],
        ["--top", "1000"],
    ] {
        assert!(parse(&line).is_err(), "{line:?}");
    }
    assert!(parse(&["watcher"]).is_err());
}
