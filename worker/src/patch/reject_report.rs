//! The report on a patch that does not apply, for its author: the places that do not fit, and their causes.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
};

use memchr::memmem;

use crate::{
    patch::{self, FileChange, Kind, ParsedPatch},
    text,
};

/// The most places that a report names.
pub const MAX_PLACES: usize = 5;

/// The most lines of a tool's own output that a report shows.
const MAX_WORDS: usize = 5;

/// The most lines of a file that is searched for the place that is most like a hunk.
const MAX_LINES: usize = 200_000;

/// The most places of one line in a hunk that this search compares.
const MAX_REPEATS: usize = 8;

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
    /// Another problem, in words for the author.
    Other(&'static str),
}

/// What a comparison of a hunk with its file shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Note {
    /// The cause, where it is known.
    pub cause: Option<Cause>,
    /// The place where the file is most like the hunk.
    pub nearest: Option<Nearest>,
}

impl From<Option<Cause>> for Note {
    fn from(cause: Option<Cause>) -> Self {
        Self {
            cause,
            nearest: None,
        }
    }
}

/// The place where a file is most like a hunk that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nearest {
    /// The first line there, from 1.
    pub line: usize,
    /// The number of lines that are as the hunk has them.
    pub same: usize,
    /// The number of lines that the hunk has.
    pub all: usize,
    /// The first line that is not as the hunk has it, from 1.
    pub differs: Option<usize>,
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

/// The report on these places. `notes` are about the first places. `others` are the lines of the output of `tool`
/// that name no place.
pub fn describe(
    content: &[u8],
    scanned: &ParsedPatch,
    places: &[Place<'_>],
    notes: &[Note],
    tool: &str,
    others: &[&str],
) -> RejectReport {
    let named: Vec<String> = places
        .iter()
        .zip(notes)
        .map(|(place, note)| shown_place(content, scanned, place, *note))
        .collect();
    let parts = [counted(places), named.join("\n"), own_words(tool, others)];
    // The hunks at further places count as explained if all of the first ones are.
    let is_hunk = |place: &Place<'_>| matches!(place.problem, Problem::Hunk(_));
    let unexplained = places.is_empty()
        || notes.iter().any(|note| note.cause.is_none())
        || !places.iter().all(is_hunk);
    RejectReport {
        details: parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("\n"),
        causes: notes.iter().filter_map(|note| note.cause).collect(),
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
        details: shown_place(content, scanned, &place, Note::default()),
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

fn shown_place(content: &[u8], scanned: &ParsedPatch, place: &Place<'_>, note: Note) -> String {
    let file = shown(place.file);
    let number = match place.problem {
        Problem::Missing => return format!("{file}: the file does not exist"),
        Problem::Exists => return format!("{file}: the file exists already"),
        Problem::Other(words) => return format!("{file}: {words}"),
        Problem::Hunk(number) => number,
    };
    let why = match note.cause {
        None => "",
        Some(Cause::LineEndings) => ": only the line endings differ",
        Some(Cause::Encoding) => ": only bytes beyond ASCII differ, and the file is not UTF-8",
    };
    let head = place
        .change(scanned)
        .and_then(|change| patch::hunk_head(content, change, number));
    let near = note.nearest.map_or_else(String::new, shown_nearest);
    let Some(head) = head else {
        return format!("{file}: hunk #{number} does not fit{why}{near}");
    };
    let text = String::from_utf8_lossy(head.text);
    let line: String = text
        .trim_start_matches("@@ -")
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    format!(
        "{file}, line {line}: hunk #{number} does not fit{why}\n  {}{near}",
        text::cut(&shown(&text), 100)
    )
}

fn shown_nearest(nearest: Nearest) -> String {
    let Nearest {
        line,
        same,
        all,
        differs,
    } = nearest;
    match differs {
        Some(differs) => format!(
            "\n  The file is most like it at line {line}: it has {same} of the {all} lines that the hunk expects, and \
             line {differs} is the first other one."
        ),
        None => format!(
            "\n  The file has these lines from line {line} on. Either the hunk is for the beginning or the end of the file, or \
             another hunk changes these lines, or the line break at the end of the file is missing on one side."
        ),
    }
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
    // A name that is not UTF-8 is not found: no file has an empty name.
    str::from_utf8(source_path(change)).unwrap_or_default()
}

/// As [`source`], in bytes.
pub fn source_path(change: &FileChange) -> &[u8] {
    match &change.kind {
        Kind::Copy(source) | Kind::Rename(source) => source,
        Kind::Add | Kind::Modify | Kind::Delete => &change.path,
    }
}

/// The place where a file with this content is most like these lines; the one nearest to line `expected` if there are
/// several. `None` if it has less than half of the lines at any place, or more than `MAX_LINES`.
pub fn nearest(lines: &[&[u8]], content: &[u8], expected: usize) -> Option<Nearest> {
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    let file: Vec<&[u8]> = content
        .split(|&byte| byte == b'\n')
        .take(MAX_LINES + 1)
        .collect();
    if file.len() > MAX_LINES {
        return None;
    }
    let mut places: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (index, line) in lines.iter().enumerate() {
        let places = places.entry(line).or_default();
        if places.len() < MAX_REPEATS {
            places.push(index);
        }
    }
    // For each line of the file, the number of the hunk's lines that are at their places if the hunk begins there.
    let mut same = vec![0_usize; file.len()];
    for (index, line) in file.iter().enumerate() {
        let starts = places.get(line).into_iter().flatten();
        for start in starts.filter_map(|place| index.checked_sub(*place)) {
            same[start] += 1;
        }
    }
    let far = |start: usize| start.abs_diff(expected.saturating_sub(1));
    let start = (0..file.len()).min_by_key(|&start| (Reverse(same[start]), far(start)))?;
    let is_same = |index: &usize| file.get(start + index) == Some(&lines[*index]);
    let same: Vec<usize> = (0..lines.len()).filter(is_same).collect();
    let is_blank = |index: &usize| lines[*index].trim_ascii().is_empty();
    if same.iter().all(is_blank) || same.len() * 2 < lines.len() {
        return None;
    }
    Some(Nearest {
        line: start + 1,
        same: same.len(),
        all: lines.len(),
        differs: (0..lines.len())
            .find(|index| !is_same(index))
            .map(|index| start + index + 1),
    })
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

    #[test]
    fn nearest_place_has_most_of_the_lines() {
        let file = b"x\na\nb\nc\nd\nx\n\n}\n\na\nb\nX\nd\n";
        let at = |line, same, all, differs| {
            Some(Nearest {
                line,
                same,
                all,
                differs,
            })
        };
        let lines = |text: &'static str| text.split(' ').map(str::as_bytes).collect::<Vec<_>>();
        let table = [
            ("all lines", lines("a b c"), 1, at(2, 3, 3, None)),
            ("most lines", lines("a Q c d"), 1, at(2, 3, 4, Some(3))),
            (
                "one of two places",
                lines("a b Q d"),
                9,
                at(10, 3, 4, Some(12)),
            ),
            ("the other one", lines("a b Q d"), 3, at(2, 3, 4, Some(4))),
            ("beyond the end", lines("X d e"), 1, at(12, 2, 3, Some(14))),
            ("fewer than half of the lines", lines("a Q R"), 1, None),
            ("blank lines alone", vec![b"".as_slice(), b"y"], 1, None),
            ("no lines", Vec::new(), 1, None),
        ];
        for (case, lines, expected, found) in table {
            assert_eq!(nearest(&lines, file, expected), found, "{case}");
        }
        let long = b"a\n".repeat(MAX_LINES + 1);
        assert_eq!(nearest(&[b"a"], &long, 1), None, "a file that is too long");
    }
}
