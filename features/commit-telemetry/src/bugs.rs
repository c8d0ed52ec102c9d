//! Bug numbers in descriptions of changesets.

use std::sync::LazyLock;

use regex::Regex;

use crate::pattern::{pattern, word_after, word_before};

/// Numbers from here on are timestamps and the like, not bugs.
const TOO_LARGE: u64 = 100_000_000;
/// A number of at least this many digits needs no `bug` before it.
const MIN_BARE_DIGITS: usize = 5;

/// A number, with the prefix that marks it as a bug.
///
/// The predecessor's expression is `(bug|b=|(?=\b#?\d{5,})|^(?=\d))\s*#?(\d+)\b`. [`bug_numbers`] checks the conditions of its
/// third and fourth branch and of its end: every match holds one whole run of digits and ends with it, so each run can be
/// judged alone. `\s` is Python's, which includes the information separators.
static NUMBER: LazyLock<Option<Regex>> = pattern!(r"(?i)(bug|b=)?[\s\x1c-\x1f]*#?([0-9]+)");

/// The bug numbers in `text`, each once, in the order of their first occurrence: a number after `bug` or `b=`, a
/// free-standing number of five digits or more, and a number at the very beginning.
pub(crate) fn bug_numbers(text: &str) -> Vec<u64> {
    let mut numbers = Vec::new();
    for captures in NUMBER.iter().flat_map(|regex| regex.captures_iter(text)) {
        let Some(digits) = captures.get(2) else {
            continue;
        };
        let has_prefix = captures.get(1).is_some();
        let is_bare = digits.len() >= MIN_BARE_DIGITS && !word_before(text, digits.start());
        if word_after(text, digits.end()) || !(has_prefix || is_bare || digits.start() == 0) {
            continue;
        }
        // A number that overflows is too large as well.
        if let Ok(number) = digits.as_str().parse::<u64>()
            && number < TOO_LARGE
            && !numbers.contains(&number)
        {
            numbers.push(number);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vector {
        input: String,
        mozautomation_2018_str: Vec<u64>,
    }

    #[test]
    fn bug_numbers_match_vectors_of_the_predecessor() {
        let vectors: Vec<Vector> = serde_json::from_str(include_str!(
            "../tests/fixtures/telemetry/parse_bugs-vectors.json"
        ))
        .unwrap();
        assert!(vectors.len() > 20);
        for vector in vectors {
            assert_eq!(
                bug_numbers(&vector.input),
                vector.mozautomation_2018_str,
                "{:?}",
                vector.input
            );
        }
    }

    #[test]
    fn megabyte_without_bug_number_takes_linear_time() {
        for text in [
            "1".repeat(1 << 20),
            " ".repeat(1 << 20),
            "bug ".repeat(1 << 18),
            "#".repeat(1 << 20),
        ] {
            assert!(bug_numbers(&text).is_empty());
        }
        assert_eq!(bug_numbers(&format!("bug {}7", "0".repeat(1000))), [7]);
    }

    /// The predecessor's regular expression, read like a backtracking matcher does: position by position, branch by branch.
    fn backtracking(text: &str) -> Vec<u64> {
        let text: Vec<char> = text.chars().collect();
        let word = |at: usize| {
            text.get(at)
                .is_some_and(|c| c.is_alphanumeric() || *c == '_')
        };
        let boundary = |at: usize| word(at) != (at > 0 && word(at - 1));
        let digit = |at: usize| text.get(at).is_some_and(char::is_ascii_digit);
        let run = |from: usize| (from..).take_while(|&at| digit(at)).count();
        // `\s*#?(\d+)\b` at `at`: the number, and where it ends.
        let tail = |mut at: usize| {
            at += text[at..]
                .iter()
                .take_while(|c| c.is_whitespace() || ('\x1c'..='\x1f').contains(*c))
                .count();
            at += usize::from(text.get(at) == Some(&'#'));
            let digits = run(at);
            (digits > 0 && boundary(at + digits)).then(|| {
                (
                    text[at..at + digits].iter().collect::<String>(),
                    at + digits,
                )
            })
        };
        let starts = |at: usize, literal: &str| {
            let part: String = text[at..].iter().take(literal.len()).collect();
            part.eq_ignore_ascii_case(literal)
        };
        let (mut found, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let hash = usize::from(text[at] == '#');
            let branches = [
                starts(at, "bug").then_some(at + 3),
                starts(at, "b=").then_some(at + 2),
                (boundary(at) && run(at + hash) >= 5).then_some(at),
                (at == 0 && digit(0)).then_some(0),
            ];
            match branches.into_iter().flatten().find_map(tail) {
                Some((number, end)) => {
                    let number = number.parse().unwrap_or(TOO_LARGE);
                    if number < TOO_LARGE && !found.contains(&number) {
                        found.push(number);
                    }
                    at = end;
                }
                None => at += 1,
            }
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn bug_numbers_match_backtracking_reading_of_the_regular_expression(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "bug", "BUG", "b=", "b", "=", "#", " ", "\t", "\u{1c}", "\u{a0}", "1", "12", "12345", "007", "_", "x",
                    "ü", ",", ".", "(", "\n", "-", "99999999", "100000000",
                ]),
                0..12,
            )
        ) {
            let text = pieces.concat();
            prop_assert_eq!(bug_numbers(&text), backtracking(&text), "{:?}", text);
        }
    }
}
