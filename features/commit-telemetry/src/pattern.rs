//! Regular expressions of this program, and where words end.

use std::sync::LazyLock;

use regex::Regex;
use tracing::error;

/// A regular expression of ours. One that cannot be read, which tests would show, matches nothing.
macro_rules! pattern {
    ($pattern:expr) => {
        std::sync::LazyLock::new(|| crate::pattern::compile($pattern))
    };
}
pub(crate) use pattern;

pub(crate) fn compile(pattern: &str) -> Option<Regex> {
    Regex::new(pattern)
        .inspect_err(|problem| error!("a pattern of this program is wrong: {problem}"))
        .ok()
}

/// What is a part of a word to the original.
static WORD: LazyLock<Option<Regex>> = pattern!(r"^[\p{L}\p{N}_]");

/// Whether the text matches; a pattern that could not be read matches nothing.
pub(crate) fn matches(pattern: &Option<Regex>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|regex| regex.is_match(text))
}

/// Whether a part of a word stands right before the place `at`.
pub(crate) fn word_before(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_some_and(is_word)
}

/// Whether a part of a word stands right after the place `at`.
pub(crate) fn word_after(text: &str, at: usize) -> bool {
    text[at..].chars().next().is_some_and(is_word)
}

/// What `\w` is to Python: letters, numbers of all kinds, and the low line. It differs from the `\w` of `regex` (and so
/// would `\b`) in marks and in numbers like ①.
fn is_word(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_alphanumeric() || c == '_'
    } else {
        matches(&WORD, c.encode_utf8(&mut [0; 4]))
    }
}
