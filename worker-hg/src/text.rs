//! Making foreign text fit to be shown or passed on.

/// The most characters of a tool's words, or of a name, that are shown.
const MAX_SHOWN: usize = 4000;

/// A tool's output in one line, for errors and logs.
pub(crate) fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(shown).collect();
    cut(&lines.join("; "), MAX_SHOWN)
}

/// A tool's output as it stands, for a block of code.
pub(crate) fn block(bytes: &[u8]) -> String {
    let lines: Vec<String> = String::from_utf8_lossy(bytes).lines().map(|line| shown(line.trim_end())).collect();
    cut(lines.join("\n").trim_matches('\n'), MAX_SHOWN)
}

/// The most characters of a file's name that are shown.
const MAX_PATH: usize = 300;

/// A file's name as it can be shown: what cannot be seen is written out.
pub(crate) fn path(bytes: &[u8]) -> String {
    // What is taken for a name can be a patch of 64 MB in one line. No character has more than four bytes.
    let start = &bytes[..bytes.len().min(4 * (MAX_PATH + 1))];
    cut(&shown(&String::from_utf8_lossy(start)), MAX_PATH)
}

/// Whether a character takes no room or changes the ones around it. File systems ignore many of these.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
    )
}

/// A text for a commit: NUL ends arguments and is replaced.
pub(crate) fn message(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A name for a commit: one line without control characters. `None` when nothing is left.
pub(crate) fn author(name: &str) -> Option<String> {
    let words: Vec<&str> =
        name.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The first `max` characters.
pub(crate) fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn shown(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    for c in line.chars() {
        if c != '\t' && (c.is_control() || is_invisible(c)) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authors_are_one_line() {
        let table = [
            ("Ada <ada@example.org>", Some("Ada <ada@example.org>")),
            (" Ada\n<ada@example.org>\0\r\n", Some("Ada <ada@example.org>")),
            ("A\u{2028}B", Some("A B")),
            ("\n\0 ", None),
            ("", None),
        ];
        for (name, expected) in table {
            assert_eq!(author(name).as_deref(), expected, "{name:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        assert_eq!(path(".h\u{200c}g/hgrc\r".as_bytes()), r".h\u{200c}g/hgrc\u{d}");
        assert_eq!(path("日本/\u{1b}[31m".as_bytes()), r"日本/\u{1b}[31m");
        assert_eq!(one_line(b"abort: a\r\n\n(b)\n"), "abort: a; (b)");
        assert_eq!(block(b"patching file f\nHunk #1 FAILED at 0\n"), "patching file f\nHunk #1 FAILED at 0");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöü", 2), "äö…");
        assert_eq!(path("🎉".repeat(400).as_bytes()), format!("{}…", "🎉".repeat(300)));
    }
}
