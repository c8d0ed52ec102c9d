//! Patches as `git format-patch` writes them, read as Lando's `GitPatchHelper` reads them.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;

/// A patch of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailedPatch {
    /// The header `From`.
    pub author: String,
    /// The header `Date`.
    pub date: Timestamp,
    /// The subject without `[PATCH] `, and the lines before `---`.
    pub message: String,
    /// From the first `diff` on, without the version of Git.
    pub diff: String,
}

impl MailedPatch {
    /// `None` for a patch that Lando refuses as invalid.
    pub(super) fn read(patch: &[u8]) -> Option<Self> {
        // Lando stores patches as text, and cannot store other bytes.
        let text = std::str::from_utf8(patch).ok()?;
        let (head, body) = text.split_once("\n\n")?;
        let head = head.replace("\n ", " ");
        let header = |name: &str| {
            let found = head
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            found.map(decoded)
        };
        let subject = header("Subject")?;
        let mut message = subject
            .strip_prefix("[PATCH] ")
            .unwrap_or(&subject)
            .to_owned();
        let (before, after) = match body.strip_prefix("---\n") {
            Some(after) => ("", after),
            None => body.split_once("\n---\n")?,
        };
        if !before.is_empty() {
            write!(message, "\n\n{before}").ok()?;
        }
        let start = if after.starts_with("diff ") {
            0
        } else {
            after.find("\ndiff ")? + 1
        };
        let diff = &after[start..];
        let end = diff.rfind("\n--")? + 1;
        Some(Self {
            author: header("From")?,
            date: jiff::fmt::rfc2822::parse(&header("Date")?)
                .ok()?
                .timestamp(),
            message,
            diff: diff[..end].to_owned(),
        })
    }
}

/// A header without its encoded words (RFC 2047), of which only base64 of UTF-8 is known.
fn decoded(header: &str) -> String {
    const BEGIN: &str = "=?UTF-8?B?";
    let mut text = String::new();
    let mut rest = header;
    while let Some((plain, word)) = rest.split_once(BEGIN) {
        let Some((word, after)) = word.split_once("?=") else {
            break;
        };
        text.push_str(plain);
        let bytes = STANDARD.decode(word).unwrap_or_default();
        text.push_str(&String::from_utf8_lossy(&bytes));
        // White space between two encoded words is not a part of the text.
        rest = match after.trim_start() {
            next if next.starts_with(BEGIN) => next,
            _ => after,
        };
    }
    text + rest
}
