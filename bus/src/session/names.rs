//! What a name may look like.
//!
//! Bus and node names become file names in the runtime directory, so they are restricted to
//! characters that need no quoting anywhere and can neither climb out of the directory nor hide in
//! it. Actor names live in messages only and may also be structured with `/` and `:`.

use crate::error::NameError;

/// Longest bus or node name, in bytes. Two of them and the runtime directory share the 107 bytes of
/// a socket address, so the directory decides what is possible in practice.
pub(crate) const NODE_MAX: usize = 64;

/// Longest actor name, in bytes.
pub(crate) const ACTOR_MAX: usize = 128;

/// Whether `name` may name a `what`: `bus`, `node` or `actor`.
///
/// A name has at least one byte, consists of ASCII letters, digits, `-`, `_` and `.` (for actors
/// also `/` and `:`) and does not start with `.`.
///
/// # Errors
/// The first thing wrong, and where: `at` is a character boundary of the name (its end if it is empty).
pub(crate) fn check(what: &'static str, name: &str) -> Result<(), NameError> {
    let actor = what == "actor";
    let limit = if actor { ACTOR_MAX } else { NODE_MAX };
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
    if name.starts_with('.') {
        return fail("it starts with `.`", 0);
    }
    for (at, c) in name.char_indices() {
        // All characters before this one are single bytes, so `at == limit` is hit exactly.
        if at == limit {
            return fail(
                if actor {
                    "it is longer than 128 bytes"
                } else {
                    "it is longer than 64 bytes"
                },
                at,
            );
        }
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => {}
            '/' | ':' if actor => {}
            _ if actor => {
                return fail(
                    "only ASCII letters, digits, `-`, `_`, `.`, `/` and `:` are allowed",
                    at,
                );
            }
            _ => return fail("only ASCII letters, digits, `-`, `_` and `.` are allowed", at),
        }
    }
    Ok(())
}

/// The longest beginning of `text` that is at most `limit` bytes long and ends between characters.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
