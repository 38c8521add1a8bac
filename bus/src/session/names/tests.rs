use proptest::prelude::*;

use super::*;

fn problem(what: &'static str, name: &str) -> (&'static str, usize) {
    let error = check(what, name).expect_err(name);
    assert_eq!((error.what, error.name.as_str()), (what, name));
    (error.problem, error.at)
}

#[test]
fn ordinary_names_pass() {
    for name in [
        "a",
        "shop",
        "md-feed_2",
        "v1.2",
        "9",
        "-x",
        "a..b",
        &"n".repeat(64),
    ] {
        for what in ["bus", "node", "actor"] {
            assert_eq!(check(what, name), Ok(()), "{what} {name}");
        }
    }
    assert_eq!(check("actor", "shop/shelf:12"), Ok(()));
    assert_eq!(check("actor", &"n".repeat(128)), Ok(()));
}

#[test]
fn what_could_leave_or_hide_in_the_directory_fails() {
    for name in [".", "..", ".hidden", "../up"] {
        assert_eq!(problem("node", name), ("it starts with `.`", 0));
    }
    assert_eq!(problem("bus", "a/b").1, 1);
    assert_eq!(problem("node", "a:b").1, 1);
    assert_eq!(problem("node", "nul\0").1, 3);
}

#[test]
fn the_place_of_the_problem_is_named() {
    assert_eq!(problem("bus", ""), ("it is empty", 0));
    assert_eq!(
        problem("node", &"n".repeat(65)),
        ("it is longer than 64 bytes", 64)
    );
    assert_eq!(
        problem("actor", &"n".repeat(129)),
        ("it is longer than 128 bytes", 128)
    );
    assert_eq!(problem("actor", "caf\u{e9}").1, 3);
    // A wide character at the limit: too long and not allowed; either way the place is its start.
    assert_eq!(problem("node", &("n".repeat(64) + "\u{e9}")).1, 64);
    assert_eq!(problem("node", &("n".repeat(63) + "\u{e9}")).1, 63);
}

#[test]
fn a_text_is_cut_between_characters() {
    assert_eq!(cut("abc", 3), "abc");
    assert_eq!(cut("abc", 2), "ab");
    assert_eq!(cut("a\u{e9}", 2), "a");
    assert_eq!(cut("\u{e9}", 1), "");
}

proptest! {
    #[test]
    fn any_text_is_judged_and_the_place_is_inside(name in any::<String>(), what in 0usize..3) {
        if let Err(error) = check(["bus", "node", "actor"][what], &name) {
            prop_assert!(name.is_char_boundary(error.at));
            prop_assert!(error.at < name.len() || name.is_empty());
        }
    }

    #[test]
    fn names_of_allowed_characters_pass_up_to_the_limit(name in "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,100}") {
        prop_assert_eq!(check("node", &name).is_ok(), name.len() <= NODE_MAX);
        prop_assert!(check("actor", &name).is_ok());
    }
}
