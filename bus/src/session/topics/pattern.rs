//! Topic names and the patterns that match them.

use crate::error::NameError;

/// Longest topic name or pattern, in bytes.
pub(crate) const TOPIC_MAX: usize = 255;

/// Whether `name` may name a topic: tokens of ASCII letters, digits, `-` and `_`, joined by dots.
///
/// # Errors
/// The first thing wrong, and where.
pub(crate) fn check_topic(name: &str) -> Result<(), NameError> {
    check("topic", name, false, "")
}

/// Whether `pattern` may select topics: like a topic, but a token may be `*` (any one token) and the last
/// one `>` (one or more tokens).
///
/// # Errors
/// The first thing wrong, and where.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), NameError> {
    check("topic pattern", pattern, true, "")
}

/// Whether `names` may select names of actors, by the same rules: those may also contain `/` and `:`.
///
/// # Errors
/// The first thing wrong, and where.
pub(crate) fn check_names(names: &str) -> Result<(), NameError> {
    check("actor name pattern", names, true, "/:")
}

fn check(what: &'static str, name: &str, wild: bool, also: &str) -> Result<(), NameError> {
    let fail = |problem, at| {
        Err(NameError {
            what,
            name: name.to_owned(),
            problem,
            at,
        })
    };
    if name.is_empty() {
        return fail("it is empty", 0);
    }
    if name.len() > TOPIC_MAX {
        let at = (0..=TOPIC_MAX)
            .rev()
            .find(|at| name.is_char_boundary(*at))
            .unwrap_or(0);
        return fail("it is longer than 255 bytes", at);
    }
    let mut at = 0;
    for token in name.split('.') {
        let end = at + token.len();
        match token {
            "" => return fail("a token between dots is empty", at),
            "*" if wild => {}
            ">" if wild && end == name.len() => {}
            ">" if wild => return fail("`>` stands for the rest, so it must be the last token", at),
            _ => {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || also.contains(c);
                if let Some((inside, c)) = token.char_indices().find(|(_, c)| !plain(*c)) {
                    let problem = match c {
                        '*' | '>' if wild => "a wildcard must be a token of its own",
                        '*' | '>' => "wildcards are for subscribers only",
                        _ if also.is_empty() => "only ASCII letters, digits, `-`, `_` and dots are allowed",
                        _ => "only ASCII letters, digits, `-`, `_`, dots, `/` and `:` are allowed",
                    };
                    return fail(problem, at + inside);
                }
            }
        }
        at = end + 1;
    }
    Ok(())
}

/// Whether a (valid) pattern has wildcards.
pub(crate) fn is_wild(pattern: &str) -> bool {
    pattern.contains(['*', '>'])
}

/// Whether a (valid) pattern selects a (valid) topic.
pub(crate) fn matches(pattern: &str, topic: &str) -> bool {
    let mut tokens = topic.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Whether there may be a topic that both of two (valid) patterns select.
pub(crate) fn meet(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.split('.'), other.split('.'));
    loop {
        match (ones.next(), others.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wildcards_select_whole_tokens() {
        for (pattern, topic, yes) in [
            ("md.ticks", "md.ticks", true),
            ("md.ticks", "md.tick", false),
            ("md.*", "md.ticks", true),
            ("md.*", "md", false),
            ("md.*", "md.ticks.nasdaq", false),
            ("*.ticks", "md.ticks", true),
            ("md.>", "md.ticks.nasdaq", true),
            ("md.>", "md", false),
            (">", "md", true),
            ("*.*.>", "a.b", false),
            ("*.*.>", "a.b.c", true),
        ] {
            assert_eq!(matches(pattern, topic), yes, "{pattern} {topic}");
        }
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        for (pattern, at) in [
            ("", 0),
            ("a..b", 2),
            (".a", 0),
            ("a.", 2),
            ("a.b c", 3),
            ("a.>.b", 2),
            ("a.b*", 3),
            ("a.ü", 2),
        ] {
            assert_eq!(check_pattern(pattern).unwrap_err().at, at, "{pattern}");
        }
        assert_eq!(check_topic("a.*").unwrap_err().at, 2);
        assert_eq!(check_topic(&"x".repeat(256)).unwrap_err().at, 255);
        assert!(check_pattern("a.*.b_2.>").is_ok() && check_topic("A-1.b").is_ok());
    }

    #[test]
    fn patterns_meet_where_a_topic_is_selected_by_both() {
        for (one, other, yes) in [
            ("md.>", "md.ticks", true),
            ("md.>", "md", false),
            ("*.ticks", "md.*", true),
            ("*.ticks", "md.trades", false),
            ("a.>", "*.b.c", true),
            ("a.*", "a.b.c", false),
            (">", "*", true),
        ] {
            assert_eq!(meet(one, other), yes, "{one} {other}");
            assert_eq!(meet(other, one), yes, "{other} {one}");
        }
        assert!(check_names("shop/eu:1.*").is_ok() && check_names("a b").is_err());
    }

    proptest! {
        #[test]
        fn checking_never_panics_and_points_inside(name in ".{0,300}") {
            for checked in [check_topic(&name), check_pattern(&name)] {
                if let Err(error) = checked {
                    prop_assert!(name.is_char_boundary(error.at));
                }
            }
        }

        /// Against the definition: `*` is one token, `>` the rest.
        #[test]
        fn a_pattern_made_from_a_topic_matches_it(tokens in proptest::collection::vec("[a-z]{1,3}", 1..6), stars: u8, cut in 0usize..6) {
            let topic = tokens.join(".");
            let mut pattern: Vec<_> = tokens.iter().enumerate()
                .map(|(at, token)| if stars >> at & 1 == 1 { "*" } else { token }).collect();
            prop_assert!(matches(&pattern.join("."), &topic));
            if cut < pattern.len() {
                pattern.truncate(cut);
                pattern.push(">");
                prop_assert!(matches(&pattern.join("."), &topic));
            }
            if pattern.last() != Some(&">") {
                pattern.push("more");
                prop_assert!(!matches(&pattern.join("."), &topic));
            }
        }
    }
}
