//! Texts that strangers wrote, made harmless for where they go.

/// At most `bytes` bytes of `text`, cut between characters, with `…` where something is missing.
pub fn bounded(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut end = bytes.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// On one line of at most `bytes` bytes, without control characters: line ends and tabs become single spaces, and what
/// would reverse the direction of the rest is left out. For headers of mails, lines of IRC, logs and errors.
pub fn one_line(text: &str, bytes: usize) -> String {
    let mut line = String::new();
    for character in text.chars() {
        if line.len() > bytes {
            break;
        }
        if character.is_whitespace() || is_line_end(character) {
            if !line.ends_with(' ') && !line.is_empty() {
                line.push(' ');
            }
        } else if !character.is_control() && !is_invisible(character) {
            line.push(character);
        }
    }
    bounded(line.trim_end(), bytes)
}

/// Many lines, without control characters but line feeds and tabs. For bodies of plain text.
pub fn plain(text: &str) -> String {
    let kept = |character: &char| matches!(character, '\n' | '\t') || !character.is_control();
    text.replace("\r\n", "\n").chars().filter(kept).filter(|character| !is_invisible(*character)).collect()
}

/// For mrkdwn, the markup of Slack: no link, no mention and no format comes of it.
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
            '_' if !(in_word && characters.peek().is_some_and(|next| next.is_alphanumeric())) => escaped.push('＿'),
            other => escaped.push(other),
        }
        in_word = character.is_alphanumeric();
    }
    escaped
}

fn is_line_end(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{85}')
}

/// Marks of direction: what follows them is not read as it is written.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_no_second_header_and_no_second_command() {
        for (text, expected) in [
            ("built\r\nBcc: all@example.com", "built Bcc: all@example.com"),
            ("a\u{2028}b\u{85}c\u{b}d\u{c}e", "a b c d e"),
            ("\u{2}bold\u{3}04red\u{f}\u{0}\u{7}", "bold04red"),
            ("\u{202e}txt.exe", "txt.exe"),
            ("\u{61c}a\u{2066}b\u{feff}c", "abc"),
            ("  many   spaces\t\n ", "many spaces"),
            ("plain ünïcode ✓", "plain ünïcode ✓"),
        ] {
            assert_eq!(one_line(text, 100), expected);
        }
    }

    #[test]
    fn a_cut_falls_between_characters() {
        assert_eq!(bounded("abcdef", 6), "abcdef");
        assert_eq!(bounded("abcdefg", 6), "abc…");
        assert_eq!(bounded("ääää", 6), "ä…");
        assert_eq!(one_line(&"ä".repeat(1000), 11), "ääää…");
    }

    #[test]
    fn a_text_keeps_its_lines() {
        assert_eq!(plain("one\r\ntwo\tthree\u{1b}[31m\u{202e}"), "one\ntwo\tthree[31m");
    }

    #[test]
    fn slack_finds_nothing_to_do_in_it() {
        for (text, expected) in [
            ("<!channel> <https://evil.example|log>", "&lt;!channel&gt; &lt;https://evil.example|log&gt;"),
            ("&lt;!here&gt;", "&amp;lt;!here&amp;gt;"),
            ("*done* ~not~ `rm` ```x```", "∗done∗ ∼not∼ ˋrmˋ ˋˋˋxˋˋˋ"),
            ("_green_ test_linux_opt __init__", "＿green＿ test_linux_opt ＿＿init＿＿"),
        ] {
            assert_eq!(mrkdwn(text), expected);
        }
    }
}
