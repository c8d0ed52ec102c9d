//! Makes foreign text safe to log, to print and to send as plain text.
//!
//! Control characters steer terminals and protocols. Format characters (Unicode's category Cf) are invisible, and some of
//! them reverse the direction of the following text. [`one_line`] and [`plain`] remove both, [`escape`] shows both.

use std::borrow::Cow;

/// At most `bytes` bytes of `text`, cut between characters, with `…` in place of the rest.
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

/// `text` on one line of at most `bytes` bytes, without control and format characters. Line ends and tabs become single
/// spaces. For headers of mails, lines of IRC, logs and errors.
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
        } else if !character.is_control() && !is_format(character) {
            line.push(character);
        }
    }
    bounded(line.trim_end(), bytes)
}

/// `text` with its lines and tabs, without other control and format characters. For bodies of plain text.
pub fn plain(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let kept = |character: &char| {
        matches!(character, '\n' | '\t') || !(character.is_control() || is_format(*character))
    };
    text.chars()
        .map(|character| {
            if is_line_end(character) {
                '\n'
            } else {
                character
            }
        })
        .filter(kept)
        .collect()
}

/// `text` with each control and format character as its escape, such as `\u{202e}`, also line feeds and tabs (`\n`, `\t`).
/// For a terminal or a log, where the reader needs to see the sender's characters.
pub fn escape(text: &str) -> Cow<'_, str> {
    let hidden =
        |character: char| character.is_control() || is_line_end(character) || is_format(character);
    // Most lines are printable ASCII: their bytes need no decoding.
    let printable = |byte: u8| (b' '..=b'~').contains(&byte);
    if text.bytes().all(printable) || !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => escaped.extend(character.escape_default()),
            character if hidden(character) => escaped.extend(character.escape_unicode()),
            character => escaped.push(character),
        }
    }
    Cow::Owned(escaped)
}

/// JSON text, compact or pretty, with each control and format character as JSON's escape (`\u202e`). A parser reads the same
/// value.
pub fn json(text: &str) -> Cow<'_, str> {
    let hidden = |character: char| {
        character != '\n'
            && (character.is_control() || is_line_end(character) || is_format(character))
    };
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if hidden(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

fn is_line_end(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{85}')
}

/// Whether `character` is an invisible format character: Unicode 17's category Cf, without the marks that Arabic, Syriac and
/// Kaithi show with the number after them.
pub fn is_format(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_holds_no_second_header_or_command() {
        for (text, expected) in [
            (
                "built\r\nBcc: all@example.com",
                "built Bcc: all@example.com",
            ),
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
    fn text_is_cut_between_characters() {
        assert_eq!(bounded("abcdef", 6), "abcdef");
        assert_eq!(bounded("abcdefg", 6), "abc…");
        assert_eq!(bounded("ääää", 6), "ä…");
        assert_eq!(one_line(&"ä".repeat(1000), 11), "ääää…");
    }

    #[test]
    fn plain_text_keeps_its_lines() {
        assert_eq!(
            plain("one\r\ntwo\tthree\u{1b}[31m\u{202e}\u{2028}four"),
            "one\ntwo\tthree[31m\nfour"
        );
    }

    #[test]
    fn format_characters_are_removed_or_escaped() {
        let hidden = "\u{ad}\u{61c}\u{200b}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2060}\u{2066}\u{2067}\
                      \u{2068}\u{2069}\u{206f}\u{feff}\u{fff9}\u{e0001}\u{e0041}";
        let text = format!("a{hidden}b");
        assert_eq!(one_line(&text, 100), "ab");
        assert_eq!(plain(&text), "ab");
        let escaped = escape(&text);
        assert!(
            escaped.starts_with("a\\u{ad}\\u{61c}") && escaped.ends_with("\\u{e0041}b"),
            "{escaped}"
        );
        assert!(escaped.is_ascii(), "{escaped}");
    }

    #[test]
    fn json_keeps_its_value_and_escapes_invisible_characters() {
        let text = "a\n\t\u{1b}[2J\u{9b}2J\u{7f}\u{202e}\u{2028}\u{e0041}ü";
        for written in [
            serde_json::to_string(text).unwrap(),
            serde_json::to_string_pretty(&[text]).unwrap(),
        ] {
            let shown = json(&written);
            let hidden = |c: char| c != '\n' && (c.is_control() || is_line_end(c) || is_format(c));
            assert!(
                !shown.contains(hidden) && shown.contains("\\u202e") && shown.contains('ü'),
                "{shown}"
            );
            let (before, after): (serde_json::Value, serde_json::Value) = (
                serde_json::from_str(&written).unwrap(),
                serde_json::from_str(&shown).unwrap(),
            );
            assert_eq!(before, after);
        }
        assert!(matches!(json("{\n  \"a\": 1\n}"), Cow::Borrowed(_)));
    }

    #[test]
    fn escaped_text_is_on_one_line() {
        assert_eq!(
            escape("a\tb\r\nc\u{1b}[2J\u{2029}ü"),
            "a\\tb\\r\\nc\\u{1b}[2J\\u{2029}ü"
        );
        assert!(matches!(escape("plain ünïcode ✓"), Cow::Borrowed(_)));
    }
}
