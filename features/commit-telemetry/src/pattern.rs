//! Compiled-in regular expressions, and Python's word boundaries.

use std::sync::LazyLock;

use regex::Regex;
use tracing::error;

/// A compiled-in regular expression. An invalid one, which the tests would find, matches nothing.
macro_rules! pattern {
    ($pattern:expr) => {
        std::sync::LazyLock::new(|| crate::pattern::compile($pattern))
    };
}
pub(crate) use pattern;

pub(crate) fn compile(pattern: &str) -> Option<Regex> {
    Regex::new(pattern)
        .inspect_err(|error| {
            error!(pattern, %error, "cannot compile a built-in regular expression; it matches nothing")
        })
        .ok()
}

static WORD: LazyLock<Option<Regex>> = pattern!(r"^[\p{L}\p{N}_]");

pub(crate) fn matches(pattern: &Option<Regex>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|regex| regex.is_match(text))
}

/// Whether the character right before byte `at` is a word character.
pub(crate) fn word_before(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_some_and(is_word)
}

/// Whether the character at byte `at` is a word character.
pub(crate) fn word_after(text: &str, at: usize) -> bool {
    text[at..].chars().next().is_some_and(is_word)
}

/// Python's `\w`: letters, numbers of all kinds, and the underscore. The `\w` of `regex` (and so its `\b`) differs for
/// combining marks and for numbers like ①.
fn is_word(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_alphanumeric() || c == '_'
    } else {
        matches(&WORD, c.encode_utf8(&mut [0; 4]))
    }
}
