//! Sanitizes foreign text before it is shown or passed on.

/// The most characters of a tool's output that are shown.
const MAX_SHOWN: usize = 4000;

/// What [`one_line`] puts between two lines.
const SEPARATOR: &str = "; ";

/// The replacement of a secret.
const HIDDEN: &str = "***";

/// A tool's output in one line, for errors and logs, without the passwords of addresses and the path of the ssh key.
pub fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<String> = lines
        .map(|line| without_key_paths(&without_passwords(&shown(line))))
        .collect();
    cut(&lines.join(SEPARATOR), MAX_SHOWN)
}

/// The lines that [`one_line`] joined, each on its own again, for a block of code.
pub(crate) fn separate_lines(line: &str) -> String {
    line.replace(SEPARATOR, "\n")
}

/// A tool's output line by line, for a block of code.
pub fn block(bytes: &[u8]) -> String {
    let lines: Vec<String> = String::from_utf8_lossy(bytes)
        .lines()
        .map(|line| shown(line.trim_end()))
        .collect();
    cut(lines.join("\n").trim_matches('\n'), MAX_SHOWN)
}

/// The most characters of a file's name that are shown.
const MAX_PATH: usize = 300;

/// A file's name to be shown, with invisible characters escaped.
pub fn path(bytes: &[u8]) -> String {
    // The name can be a patch of 64 MB in one line. No character has more than four bytes.
    let start = &bytes[..bytes.len().min(4 * (MAX_PATH + 1))];
    cut(&shown(&String::from_utf8_lossy(start)), MAX_PATH)
}

/// Whether a character has no width, or changes the ones around it. File systems ignore many of these.
pub fn is_invisible(c: char) -> bool {
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

/// The message of a commit, with each NUL replaced: NUL ends arguments.
pub fn message(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The author of a commit: one line without control characters. `None` when nothing is left.
pub fn author(name: &str) -> Option<String> {
    let words: Vec<&str> = name
        .split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The first `max` characters.
pub fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Hides the passwords of addresses. Mercurial hides those of addresses that it can parse, and prints the others.
fn without_passwords(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, address)) = rest.split_once("://") {
        safe.extend([before, "://"]);
        let authority = address.split(is_end).next().unwrap_or_default();
        rest = address;
        if let Some((login, _)) = authority.rsplit_once('@')
            && let Some((user, _)) = login.split_once(':')
        {
            safe.extend([user, ":", HIDDEN]);
            rest = &address[login.len()..];
        }
    }
    safe + rest
}

fn is_end(c: char) -> bool {
    c == '/' || is_border(c)
}

fn is_border(c: char) -> bool {
    c.is_whitespace() || c == '"' || c == '\''
}

/// Hides the paths of keys: ssh prints the path of a key that it cannot use. Operators need the path of `known_hosts`.
fn without_key_paths(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    for word in line.split_inclusive(is_border) {
        let path = word.trim_end_matches(is_border);
        let is_key = path.contains("/.ssh/") && !path.contains("known_hosts");
        safe.push_str(if is_key { HIDDEN } else { path });
        safe.push_str(&word[path.len()..]);
    }
    safe
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

/// Whether a text is the whole hash of a changeset.
pub fn is_hash(text: &str) -> bool {
    text.len() == 40
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authors_are_one_line() {
        let table = [
            ("Ada <ada@example.org>", Some("Ada <ada@example.org>")),
            (
                " Ada\n<ada@example.org>\0\r\n",
                Some("Ada <ada@example.org>"),
            ),
            ("A\u{2028}B", Some("A B")),
            ("\n\0 ", None),
            ("", None),
        ];
        for (name, expected) in table {
            assert_eq!(author(name).as_deref(), expected, "{name:?}");
        }
    }

    #[test]
    fn invisible_characters_are_escaped() {
        assert_eq!(
            path(".h\u{200c}g/hgrc\r".as_bytes()),
            r".h\u{200c}g/hgrc\u{d}"
        );
        assert_eq!(path("日本/\u{1b}[31m".as_bytes()), r"日本/\u{1b}[31m");
        assert_eq!(one_line(b"abort: a\r\n\n(b)\n"), "abort: a; (b)");
        assert_eq!(separate_lines("abort: a; (b)"), "abort: a\n(b)");
        assert_eq!(
            block(b"patching file f\nHunk #1 FAILED at 0\n"),
            "patching file f\nHunk #1 FAILED at 0"
        );
    }

    #[test]
    fn passwords_and_the_place_of_keys_are_not_shown() {
        let table = [
            (
                "abort: repository htps://bob:secret@h:1//try not found",
                "abort: repository htps://bob:***@h:1//try not found",
            ),
            (
                "No such file: 'x://bob:se:cr@t@h'",
                "No such file: 'x://bob:***@h'",
            ),
            (
                "https://a:b@h/ and https://c:d@h",
                "https://a:***@h/ and https://c:***@h",
            ),
            (
                "ssh://hg@h/a:b@c is no login",
                "ssh://hg@h/a:b@c is no login",
            ),
            ("https://h:8080/x@y", "https://h:8080/x@y"),
            (
                "remote: Load key \"/srv/clones/.ssh/nss/key\": error in libcrypto",
                "remote: Load key \"***\": error in libcrypto",
            ),
            (
                "remote: Warning: Identity file /srv/.ssh/nss/key not accessible: No such file or directory.",
                "remote: Warning: Identity file *** not accessible: No such file or directory.",
            ),
            (
                "Add correct host key in /home/x/.ssh/known_hosts",
                "Add correct host key in /home/x/.ssh/known_hosts",
            ),
        ];
        for (said, expected) in table {
            assert_eq!(one_line(said.as_bytes()), expected);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöü", 2), "äö…");
        assert_eq!(
            path("🎉".repeat(400).as_bytes()),
            format!("{}…", "🎉".repeat(300))
        );
    }
}
