//! Sanitizers of foreign text, by destination.

pub use runtime::sanitize::{bounded, one_line, plain};

/// Escapes mrkdwn, the markup of Slack: the text has no link, no mention and no format.
///
/// Slack wants three characters written as entities (<https://docs.slack.dev/messaging/formatting-message-text>), and has
/// nothing of that kind for the marks of formats. Look-alikes stand for those. A `_` within a word marks nothing, and stays.
pub fn mrkdwn(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut in_word = false;
    while let Some(character) = characters.next() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '*' => escaped.push('∗'),
            '~' => escaped.push('∼'),
            '`' => escaped.push('ˋ'),
            '_' if !(in_word && characters.peek().is_some_and(|next| next.is_alphanumeric())) => {
                escaped.push('＿')
            }
            other => escaped.push(other),
        }
        in_word = character.is_alphanumeric();
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_mrkdwn_is_escaped() {
        for (text, expected) in [
            (
                "<!channel> <https://evil.example|log>",
                "&lt;!channel&gt; &lt;https://evil.example|log&gt;",
            ),
            ("&lt;!here&gt;", "&amp;lt;!here&amp;gt;"),
            ("*done* ~not~ `rm` ```x```", "∗done∗ ∼not∼ ˋrmˋ ˋˋˋxˋˋˋ"),
            (
                "_green_ test_linux_opt __init__",
                "＿green＿ test_linux_opt ＿＿init＿＿",
            ),
        ] {
            assert_eq!(mrkdwn(text), expected);
        }
    }
}
