//! Patterns of routing keys.

use std::{fmt, str::FromStr};

use crate::{PulseError, error::check_name};

/// A pattern of routing keys as AMQP has them: words between dots, where `*` stands for one word and `#` for any number
/// of words, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pattern: String,
}

impl Topic {
    /// Whether a routing key matches. As in RabbitMQ, an empty key has no words.
    pub fn matches(&self, key: &str) -> bool {
        let (pattern, key) = (words(&self.pattern), words(key));
        let (mut at, mut word) = (0, 0);
        // The position of the last `#`, and the first word after those that it matches so far. Backtracking to the last one
        // is enough: it can match whatever an earlier one could.
        let mut last: Option<(usize, usize)> = None;
        while word < key.len() {
            match pattern.get(at) {
                Some(&"#") => {
                    last = Some((at, word));
                    at += 1;
                }
                Some(&expected) if expected == "*" || expected == key[word] => {
                    at += 1;
                    word += 1;
                }
                _ => {
                    let Some((hash, end)) = last else {
                        return false;
                    };
                    last = Some((hash, end + 1));
                    at = hash + 1;
                    word = end + 1;
                }
            }
        }
        pattern[at..].iter().all(|rest| *rest == "#")
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }
}

fn words(text: &str) -> Vec<&str> {
    if text.is_empty() {
        Vec::new()
    } else {
        text.split('.').collect()
    }
}

impl FromStr for Topic {
    type Err = PulseError;

    /// [`PulseError::Unusable`] when it is longer than AMQP allows.
    fn from_str(pattern: &str) -> Result<Self, PulseError> {
        check_name("the topic", pattern)?;
        Ok(Self {
            pattern: pattern.to_owned(),
        })
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pattern)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// AMQP's definition, word for word.
    fn reference(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => (0..=key.len()).any(|taken| reference(rest, &key[taken..])),
            (Some((&"*", rest)), Some((_, others))) => reference(rest, others),
            (Some((word, rest)), Some((other, others))) => word == other && reference(rest, others),
            _ => false,
        }
    }

    fn text(words: &'static [&'static str]) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(words), 0..7).prop_map(|words| words.join("."))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn topic_matches_as_amqp_defines(pattern in text(&["a", "b", "", "*", "#", "#"]), key in text(&["a", "b", "", "#"])) {
            let expected = reference(&words(&pattern), &words(&key));
            prop_assert_eq!(pattern.parse::<Topic>().unwrap().matches(&key), expected);
        }
    }

    #[test]
    fn level_is_matched_between_dots() {
        let topic: Topic = "#.gecko-level-3.#".parse().unwrap();
        for key in [
            "gecko-level-3",
            "primary.x.gecko-level-3._",
            "gecko-level-3._",
            "primary.gecko-level-3",
        ] {
            assert!(topic.matches(key), "{key}");
        }
        for key in ["", "primary.gecko-level-3x._", "primary.x-gecko-level-3._"] {
            assert!(!topic.matches(key), "{key}");
        }
    }

    #[test]
    fn hostile_key_is_matched_in_linear_time() {
        let topic: Topic = ["#.a"; 60].join(".").parse().unwrap();
        let key = ["a"; 127].join(".");
        assert!(topic.matches(&key));
        assert!(
            !topic.matches(&format!("{key}.b")),
            "backtracking over every `#` would take years"
        );
    }

    #[test]
    fn pattern_too_long_for_amqp_is_refused() {
        let error = "x".repeat(256).parse::<Topic>().unwrap_err().to_string();
        assert!(error.contains("256 bytes"), "{error}");
    }
}
