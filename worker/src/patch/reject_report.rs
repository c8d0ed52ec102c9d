//! The report on a patch that does not apply, for its author: the places that do not fit, and their causes.

use std::collections::BTreeSet;

use memchr::memmem;

use crate::{
    patch::{self, FileChange, Kind, ParsedPatch},
    text,
};

/// The most places that a report names.
pub const MAX_PLACES: usize = 5;

/// The most lines of a tool's own output that a report shows.
const MAX_WORDS: usize = 5;

/// The report on a patch that does not apply.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RejectReport {
    /// The places, and further output of the tool. The names in it are hostile input.
    pub details: String,
    /// The known causes.
    pub causes: BTreeSet<Cause>,
    /// Whether a place has no known cause.
    pub unexplained: bool,
}

/// The cause of a hunk that does not fit, where it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The file has its lines with other line endings.
    LineEndings,
    /// The file has its lines with other bytes beyond ASCII, and is not UTF-8.
    Encoding,
}

/// A place where a patch does not fit.
#[derive(Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The file, as the tool names it.
    pub file: &'a str,
    /// The problem there.
    pub problem: Problem,
}

/// The problem at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The hunk with this number does not fit.
    Hunk(usize),
    /// The file does not exist.
    Missing,
    /// The patch adds a file that exists.
    Exists,
}

impl Place<'_> {
    /// The change of its file in the patch.
    pub fn change<'a>(&self, scanned: &'a ParsedPatch) -> Option<&'a FileChange> {
        scanned
            .files
            .iter()
            .find(|change| change.path == self.file.as_bytes())
    }
}

/// The report on these places. `causes` are those of the first places. `others` are the lines of the output of `tool`
/// that name no place.
pub fn describe(
    content: &[u8],
    scanned: &ParsedPatch,
    places: &[Place<'_>],
    causes: &[Option<Cause>],
    tool: &str,
    others: &[&str],
) -> RejectReport {
    let named: Vec<String> = places
        .iter()
        .zip(causes)
        .map(|(place, cause)| shown_place(content, scanned, place, *cause))
        .collect();
    let parts = [counted(places), named.join("\n"), own_words(tool, others)];
    // The hunks at further places count as explained if all of the first ones are.
    let is_hunk = |place: &Place<'_>| matches!(place.problem, Problem::Hunk(_));
    let unexplained = places.is_empty() || causes.contains(&None) || !places.iter().all(is_hunk);
    RejectReport {
        details: parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("\n"),
        causes: causes.iter().copied().flatten().collect(),
        unexplained,
    }
}

/// The report on a hunk that is not at the line that it names.
pub fn hunk(
    content: &[u8],
    scanned: &ParsedPatch,
    file: &FileChange,
    number: usize,
) -> RejectReport {
    let name = String::from_utf8_lossy(&file.path);
    let place = Place {
        file: &name,
        problem: Problem::Hunk(number),
    };
    RejectReport {
        details: shown_place(content, scanned, &place, None),
        unexplained: true,
        ..RejectReport::default()
    }
}

/// The report on a file that has other lines than the patch deletes, or further ones (`more`).
pub fn other_lines(path: &[u8], more: bool) -> RejectReport {
    let what = if more { "more" } else { "other" };
    let details = format!(
        "{}: the patch deletes the file, but the file has {what} lines",
        text::path(path)
    );
    RejectReport {
        details,
        unexplained: true,
        ..RejectReport::default()
    }
}

/// The heading with the numbers of files and hunks. Empty for a single place.
fn counted(places: &[Place<'_>]) -> String {
    if places.len() < 2 {
        return String::new();
    }
    let files = places
        .iter()
        .map(|place| place.file)
        .collect::<BTreeSet<_>>()
        .len();
    let hunks = places
        .iter()
        .filter(|place| matches!(place.problem, Problem::Hunk(_)))
        .count();
    let many =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let hunks = if hunks == 0 {
        String::new()
    } else {
        format!(", {}", many(hunks, "hunk"))
    };
    let first = if places.len() > MAX_PLACES {
        format!("; the first {MAX_PLACES} places")
    } else {
        String::new()
    };
    format!("What does not fit ({}{hunks}{first}):", many(files, "file"))
}

fn shown_place(
    content: &[u8],
    scanned: &ParsedPatch,
    place: &Place<'_>,
    cause: Option<Cause>,
) -> String {
    let file = shown(place.file);
    let number = match place.problem {
        Problem::Missing => return format!("{file}: the file does not exist"),
        Problem::Exists => return format!("{file}: the file exists already"),
        Problem::Hunk(number) => number,
    };
    let why = match cause {
        None => "",
        Some(Cause::LineEndings) => ": only the line endings differ",
        Some(Cause::Encoding) => ": only bytes beyond ASCII differ, and the file is not UTF-8",
    };
    let head = place
        .change(scanned)
        .and_then(|change| patch::hunk_head(content, change, number));
    let Some(head) = head else {
        return format!("{file}: hunk #{number} does not fit{why}");
    };
    let text = String::from_utf8_lossy(head.text);
    let line: String = text
        .trim_start_matches("@@ -")
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    format!(
        "{file}, line {line}: hunk #{number} does not fit{why}\n  {}",
        text::cut(&shown(&text), 100)
    )
}

/// The lines of a tool's output that name no place.
fn own_words(tool: &str, others: &[&str]) -> String {
    if others.is_empty() {
        return String::new();
    }
    let words = others[..others.len().min(MAX_WORDS)].join("\n");
    format!("{tool} says:\n{}", text::block(words.as_bytes()))
}

fn shown(name: &str) -> String {
    text::path(name.as_bytes())
}

/// The file of the parent that the hunks of a change apply to.
pub fn source(change: &FileChange) -> &str {
    let path = match &change.kind {
        Kind::Copy(source) | Kind::Rename(source) => source,
        Kind::Add | Kind::Modify | Kind::Delete => &change.path,
    };
    // A name that is not UTF-8 is not found: no file has an empty name.
    str::from_utf8(path).unwrap_or_default()
}

/// The cause of the difference between these lines and a file with this content, where it is known.
pub fn compare(lines: &[&[u8]], content: &[u8]) -> Option<Cause> {
    let fits = |normalize: fn(&[u8], &mut Vec<u8>)| {
        let joined = |lines: &mut dyn Iterator<Item = &[u8]>| {
            let mut joined = vec![b'\n'];
            lines.for_each(|line| {
                normalize(line, &mut joined);
                joined.push(b'\n');
            });
            joined
        };
        let content = joined(&mut content.split(|&byte| byte == b'\n'));
        memmem::find(&content, &joined(&mut lines.iter().copied())).is_some()
    };
    if lines.is_empty() || fits(|line, joined| joined.extend_from_slice(line)) {
        None
    } else if fits(|line, joined| joined.extend_from_slice(without_cr(line))) {
        Some(Cause::LineEndings)
    } else if str::from_utf8(content).is_err() && fits(in_ascii) {
        Some(Cause::Encoding)
    } else {
        None
    }
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Appends a line in which one byte stands for each run of bytes beyond ASCII: in another encoding a run can be
/// shorter or longer.
fn in_ascii(line: &[u8], joined: &mut Vec<u8>) {
    let mut within = false;
    for &byte in without_cr(line) {
        if byte.is_ascii() {
            joined.push(byte);
        } else if !within {
            joined.push(0x80);
        }
        within = !byte.is_ascii();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_endings_and_encodings_differ_from_other_lines() {
        let (endings, encoding) = (Some(Cause::LineEndings), Some(Cause::Encoding));
        type Case<'a> = (&'a str, &'a [&'a [u8]], &'a [u8], Option<Cause>);
        let table: [Case<'_>; 12] = [
            (
                "LF in CRLF",
                &[b"b", b"c"],
                b"a\r\nb\r\nc\r\nd\r\n",
                endings,
            ),
            ("CRLF in LF", &[b"b\r", b"c\r"], b"a\nb\nc\n", endings),
            ("a last line without an end", &[b"c"], b"a\r\nc\r", endings),
            ("a mix", &[b"a\r", b"b"], b"a\nb\r\n", endings),
            ("other lines", &[b"b", b"x"], b"a\r\nb\r\nc\r\n", None),
            ("a part of a line", &[b"b"], b"a\r\nbb\r\n", None),
            ("lines that fit", &[b"b"], b"b\n", None),
            ("no lines", &[], b"b\r\n", None),
            (
                "Latin-1",
                &["café".as_bytes(), b"x"],
                b"caf\xe9\nx\n",
                encoding,
            ),
            (
                "Latin-1 with CRLF",
                &["éé".as_bytes()],
                b"\xe9\xe9\r\n",
                encoding,
            ),
            (
                "what stands for unknown bytes",
                &["caf\u{fffd}".as_bytes()],
                b"caf\xe9\n",
                encoding,
            ),
            (
                "another letter in UTF-8",
                &["cafè".as_bytes()],
                "café\n".as_bytes(),
                None,
            ),
        ];
        for (case, lines, content, expected) in table {
            assert_eq!(compare(lines, content), expected, "{case}");
        }
    }
}
