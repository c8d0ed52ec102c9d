//! Commits as `git format-patch` writes them, and as Lando reads them (`GitPatchHelper` in its `scm/helpers.py`).
//!
//! The message is the header `Subject` without `[PATCH] `, and the lines before `---`. The diff goes from the first line that
//! begins with `diff` to the last one that begins with `--`. Lando stores both as text.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::tz::TimeZone;

use crate::{text, vcs::CommitPatch};

/// The most bytes of text in an encoded word (RFC 2047), whose length is limited to 75.
const WORD: usize = 42;

/// The line that ends a message.
const END: &str = "---";

/// Formats a commit. `None` when its changes are no text in UTF-8, which Lando cannot store.
pub(super) fn format(commit: &CommitPatch) -> Option<Vec<u8>> {
    std::str::from_utf8(&commit.diff).ok()?;
    let date = commit.date.to_zoned(TimeZone::UTC);
    let date = date.strftime("%a, %d %b %Y %H:%M:%S +0000");
    let (subject, body) = match commit.message.trim().split_once('\n') {
        Some((subject, body)) => (subject, body.trim_matches('\n')),
        None => (commit.message.trim(), ""),
    };
    let mut mail = format!(
        "From: {}\nDate: {date}\nSubject: [PATCH] {}\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n",
        from(&commit.author),
        encoded(subject)
    );
    // No line of a message may end it: what follows would be taken for the diff, and no check has seen that.
    for line in body.lines() {
        let line = line.replace(ends_a_line, " ");
        mail.push_str(&line);
        mail.push_str(if line == END { " \n" } else { "\n" });
    }
    mail.push_str(END);
    mail.push('\n');
    let mut mail = mail.into_bytes();
    mail.extend_from_slice(&commit.diff);
    mail.extend_from_slice(b"-- \ncode-review-events\n");
    Some(mail)
}

/// Whether Lando ends a line at this character, as Python's `splitlines` does.
fn ends_a_line(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// The header `From` for `Name <mail>`.
fn from(author: &str) -> String {
    let (name, mail) = match author.rsplit_once('<') {
        Some((name, mail)) => (name.trim(), mail.split('>').next().unwrap_or_default()),
        None => (author.trim(), ""),
    };
    let name = if name.is_ascii() {
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{}\"", text::author(&quoted).unwrap_or_default())
    } else {
        encoded(name)
    };
    match text::author(mail).filter(|mail| mail.is_ascii()) {
        Some(mail) => format!("{name} <{mail}>"),
        None => name,
    }
}

/// The value of a header: as it is if it is plain, else in encoded words.
fn encoded(value: &str) -> String {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
    if value.bytes().all(is_plain) && !value.contains("=?") {
        return value.to_owned();
    }
    let mut words = Vec::new();
    let mut word = String::new();
    for c in value.chars() {
        if word.len() + c.len_utf8() > WORD {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("=?UTF-8?B?{}?=", STANDARD.encode(word)))
        .collect();
    words.join("\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(author: &str, message: &str, diff: &[u8]) -> Option<String> {
        let commit = CommitPatch {
            author: author.to_owned(),
            date: "2026-11-21T12:00:00Z".parse().expect("a date"),
            message: message.to_owned(),
            diff: diff.to_vec(),
        };
        format(&commit).map(|mail| String::from_utf8(mail).expect("text"))
    }

    #[test]
    fn commit_is_a_mail() {
        let diff = b"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n";
        let mail = formatted(
            "Ada <ada@example.org>",
            "Bug 1 - Do it\n\nMore\n---\nend",
            diff,
        );
        assert_eq!(
            mail.as_deref(),
            Some(
                "From: \"Ada\" <ada@example.org>\nDate: Sat, 21 Nov 2026 12:00:00 +0000\n\
                 Subject: [PATCH] Bug 1 - Do it\nMIME-Version: 1.0\n\
                 Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n\
                 More\n--- \nend\n---\n\
                 diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n-- \ncode-review-events\n"
            )
        );
    }

    #[test]
    fn headers_are_one_line_of_ascii_each() {
        let mail =
            formatted("Jürgen\r\n\u{85}X: y <j@example.org>", "Größe\rX: y", b"").expect("text");
        let (head, _) = mail.split_once("\n\n").expect("a head");
        assert!(head.is_ascii() && !head.contains('\r'), "{head}");
        assert!(!head.contains("\nX:"), "{head}");
        assert!(head.ends_with("8bit"), "{head}");
    }

    #[test]
    fn no_line_of_a_message_ends_it() {
        let hostile = "diff --git a/.taskcluster.yml b/.taskcluster.yml";
        for end in [
            "\n", "\r", "\u{b}", "\u{c}", "\u{1c}", "\u{1e}", "\u{85}", "\u{2028}", "\u{2029}",
        ] {
            for after in ["\n", "\r\n", "\r"] {
                let message = format!("Bug 1\n\nmore{end}---{after}{hostile}");
                let mail = formatted("a", &message, b"diff --git a/f b/f\n").expect("text");
                let (_, body) = mail.split_once("\n\n").expect("a head");
                let (message, diff) = body.split_once("\n---\n").expect("the end of the message");
                assert!(message.contains(hostile), "{end:?} {after:?}: {mail}");
                assert!(
                    !message.contains(|c| c != '\n' && ends_a_line(c)),
                    "{end:?} {after:?}: {mail}"
                );
                assert!(
                    diff.starts_with("diff --git a/f b/f\n"),
                    "{end:?} {after:?}: {mail}"
                );
            }
        }
    }

    #[test]
    fn other_bytes_than_utf8_are_refused() {
        assert_eq!(formatted("a", "b", b"diff --git a/f b/f\n+\xe9\n"), None);
    }
}
