use super::*;

#[test]
fn a_role_gets_what_was_set() {
    let line = [
        "frames",
        "--picture",
        "a b",
        "--dir",
        "/d",
        "--bus",
        "b",
        "--frames",
        "9",
        "--depth",
        "2",
        "--decode",
        "once",
    ];
    let args = Args::parse_from(line);
    let line = args.options.command_line(&["worker", "2"]);
    let role = Args::parse_from([OsString::from("frames")].into_iter().chain(line));
    assert_eq!(role.role, Some(Role::Worker { number: 2 }));
    assert_eq!(role.options, args.options);
}

#[test]
fn names_of_results() {
    let args = Args::parse_from(["frames", "--out", "/tmp/a.b.png"]);
    let names = [0, 1, 9].map(|picture| args.options.out(picture));
    assert_eq!(
        names,
        ["/tmp/a.b.png", "/tmp/a.b-2.png", "/tmp/a.b-10.png"].map(PathBuf::from)
    );
    let args = Args::parse_from(["frames", "--bus", "b"]);
    assert_eq!(args.options.out(0), std::env::temp_dir().join("b.png"));
}

#[test]
fn a_place_where_no_file_can_be_is_found_out_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let checked = |out: PathBuf| {
        let args = Args::parse_from([OsString::from("frames"), "--out".into(), out.into()]);
        args.options.check_out()
    };
    assert_eq!(checked(dir.path().join("x.png")), Ok(()));
    assert_eq!(checked("x.png".into()), Ok(()));
    assert!(
        checked(dir.path().into())
            .unwrap_err()
            .contains("this is a folder")
    );
    assert!(
        checked(dir.path().join("none/x.png"))
            .unwrap_err()
            .contains("there is no folder")
    );
}
