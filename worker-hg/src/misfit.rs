//! Where and why a patch does not fit the files that it is for, as Mercurial's words and the files themselves tell.

use std::collections::{BTreeSet, HashMap};

use memchr::memmem;

use crate::{
    HgError,
    clone::{Changeset, HgClone},
    outcome,
    patch::{self, FileChange, Kind, Scanned},
    process::CommandOutput,
    text,
};

/// The most places that are named.
const MAX_PLACES: usize = 5;

/// The most lines of Mercurial's own words that are shown.
const MAX_WORDS: usize = 5;

/// The most bytes of a file that are compared with a hunk. Larger files are not looked at.
const MAX_FILE: usize = 4 << 20;

/// What does not fit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Misfits {
    /// Places, and the words of Mercurial that say more. The names in it are hostile.
    pub(crate) details: String,
    /// The causes that were found.
    pub(crate) causes: BTreeSet<Cause>,
    /// Whether places are left of which no cause was found.
    pub(crate) unexplained: bool,
}

/// Why a hunk does not fit, when that can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// Its lines are there, with other line endings.
    LineEndings,
    /// Its lines are there, with other bytes that are not ASCII, and the file is not UTF-8.
    Encoding,
}

/// A place that Mercurial names.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    file: &'a str,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// The hunk with this number.
    Hunk(usize),
    Missing,
    Exists,
}

impl Place<'_> {
    fn change<'a>(&self, scanned: &'a Scanned) -> Option<&'a FileChange> {
        scanned
            .files
            .iter()
            .find(|change| change.path == self.file.as_bytes())
    }
}

/// What is wrong with a patch of this `content` that Mercurial could not apply on `parent`.
pub(crate) async fn find(
    clone: &mut HgClone,
    parent: &Changeset,
    content: &[u8],
    scanned: &Scanned,
    output: &CommandOutput,
) -> Result<Misfits, HgError> {
    let words = String::from_utf8_lossy(&output.stderr);
    let said = read(&words);
    let mut files: HashMap<&str, Option<Vec<u8>>> = HashMap::new();
    let mut causes = Vec::new();
    for place in said.places.iter().take(MAX_PLACES) {
        let mut cause = None;
        if let (Some(change), What::Hunk(number)) = (place.change(scanned), place.what) {
            let source = source(change);
            if !files.contains_key(source) {
                let old = clone.read_file(parent, source, MAX_FILE + 1).await?;
                files.insert(source, old.filter(|old| old.len() <= MAX_FILE));
            }
            let lines = patch::old_lines(content, change, number);
            cause = lines
                .zip(files[source].as_deref())
                .and_then(|(lines, old)| compare(&lines, old));
        }
        causes.push(cause);
    }
    Ok(describe(content, scanned, &said, &causes))
}

/// What the author reads of Mercurial's output. `causes` are those of the first places.
fn describe(
    content: &[u8],
    scanned: &Scanned,
    said: &Said<'_>,
    causes: &[Option<Cause>],
) -> Misfits {
    let Said { places, others } = said;
    let named: Vec<String> = places
        .iter()
        .zip(causes)
        .map(|(place, cause)| shown_place(content, scanned, place, *cause))
        .collect();
    let parts = [counted(places), named.join("\n"), own_words(others)];
    // The hunks that were not looked at are taken to be like those that were.
    let is_hunk = |place: &Place<'_>| matches!(place.what, What::Hunk(_));
    let unexplained = places.is_empty() || causes.contains(&None) || !places.iter().all(is_hunk);
    Misfits {
        details: parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("\n"),
        causes: causes.iter().copied().flatten().collect(),
        unexplained,
    }
}

/// A hunk that is not where it says.
pub(crate) fn hunk(content: &[u8], scanned: &Scanned, file: &FileChange, number: usize) -> Misfits {
    let name = String::from_utf8_lossy(&file.path);
    let place = Place {
        file: &name,
        what: What::Hunk(number),
    };
    Misfits {
        details: shown_place(content, scanned, &place, None),
        unexplained: true,
        ..Misfits::default()
    }
}

/// A file that the patch deletes and that has other lines, or more.
pub(crate) fn other_lines(path: &[u8], more: bool) -> Misfits {
    let what = if more { "more" } else { "other" };
    let details = format!(
        "{}: the patch deletes the file, but the file has {what} lines",
        text::path(path)
    );
    Misfits {
        details,
        unexplained: true,
        ..Misfits::default()
    }
}

/// What Mercurial says: places, and lines that name none.
struct Said<'a> {
    places: Vec<Place<'a>>,
    others: Vec<&'a str>,
}

fn read(words: &str) -> Said<'_> {
    let mut file = "";
    let (mut places, mut others) = (Vec::new(), Vec::new());
    for line in words.lines() {
        if let Some(name) = line.strip_prefix("patching file ") {
            file = name;
        } else if let Some(number) = failed_hunk(line) {
            places.push(Place {
                file,
                what: What::Hunk(number),
            });
        } else if let Some(file) = missing(line) {
            places.push(Place {
                file,
                what: What::Missing,
            });
        } else if let Some(file) = existing(line) {
            places.push(Place {
                file,
                what: What::Exists,
            });
        } else if !is_noise(line) {
            others.push(line);
        }
    }
    if !places.is_empty() {
        others.retain(|line| *line != "abort: patch failed to apply");
    }
    Said { places, others }
}

fn failed_hunk(line: &str) -> Option<usize> {
    line.strip_prefix("Hunk #")?
        .split_once(" FAILED at ")?
        .0
        .parse()
        .ok()
}

fn missing(line: &str) -> Option<&str> {
    let between = |start, end| line.strip_prefix(start)?.strip_suffix(end);
    between("unable to find '", "' for patching")
        .or_else(|| between("abort: cannot patch ", ": file is not tracked"))
        .or_else(|| between("abort: source file '", "' does not exist"))
        .or_else(|| outcome::without_file(line))
}

fn existing(line: &str) -> Option<&str> {
    let line = line.strip_prefix("abort: ").unwrap_or(line);
    let file = line
        .strip_prefix("file ")
        .and_then(|rest| rest.strip_suffix(" already exists"));
    file.or_else(|| {
        line.strip_prefix("cannot create ")?
            .strip_suffix(": destination already exists")
    })
}

/// Hints, which are for whoever runs Mercurial, and hunks that did fit.
fn is_noise(line: &str) -> bool {
    line.starts_with('(') || (line.starts_with("Hunk #") && line.contains(" succeeded at "))
}

/// How much does not fit, when that is more than one place.
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
        .filter(|place| matches!(place.what, What::Hunk(_)))
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
    scanned: &Scanned,
    place: &Place<'_>,
    cause: Option<Cause>,
) -> String {
    let file = shown(place.file);
    let number = match place.what {
        What::Missing => return format!("{file}: the file does not exist"),
        What::Exists => return format!("{file}: the file exists already"),
        What::Hunk(number) => number,
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

/// The words of Mercurial that name no place.
fn own_words(others: &[&str]) -> String {
    if others.is_empty() {
        return String::new();
    }
    let words = others[..others.len().min(MAX_WORDS)].join("\n");
    format!("Mercurial says:\n{}", text::block(words.as_bytes()))
}

fn shown(name: &str) -> String {
    text::path(name.as_bytes())
}

/// The file whose lines the hunks of a change begin with.
pub(crate) fn source(change: &FileChange) -> &str {
    let path = match &change.kind {
        Kind::Copy(source) | Kind::Rename(source) => source,
        Kind::Add | Kind::Modify | Kind::Delete => &change.path,
    };
    // No file has an empty name.
    str::from_utf8(path).unwrap_or_default()
}

/// Why a file with this content does not have these lines.
fn compare(lines: &[&[u8]], content: &[u8]) -> Option<Cause> {
    let there = |normalize: fn(&[u8], &mut Vec<u8>)| {
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
    if lines.is_empty() || there(|line, joined| joined.extend_from_slice(line)) {
        None
    } else if there(|line, joined| joined.extend_from_slice(without_cr(line))) {
        Some(Cause::LineEndings)
    } else if str::from_utf8(content).is_err() && there(in_ascii) {
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
    use crate::Limits;

    const PATCH: &str = "diff --git a/a b b/a b\n--- a/a b\t\n+++ b/a b\t\n@@ -3,1 +3,1 @@ fn first()\n-x\n+y\n@@ -90,1 +90,1 @@\n-x\n+y\n";

    fn described(stderr: &str, causes: &[Option<Cause>]) -> Misfits {
        let content = PATCH.as_bytes();
        let scanned = patch::scan(content, &Limits::default()).expect("a good patch");
        describe(content, &scanned, &read(stderr), causes)
    }

    #[test]
    fn a_place_is_named_by_file_line_and_the_head_of_the_hunk() {
        let table: [(&str, &[&str]); 9] = [
            (
                "patching file a b\nHunk #1 FAILED at 2\nHunk #2 FAILED at 80\nabort: patch failed to apply\n",
                &[
                    "What does not fit (1 file, 2 hunks):",
                    "a b, line 3: hunk #1 does not fit",
                    "  @@ -3,1 +3,1 @@ fn first()",
                    "a b, line 90: hunk #2 does not fit",
                    "  @@ -90,1 +90,1 @@",
                ],
            ),
            (
                "patching file other\nHunk #1 FAILED at 2\n",
                &["other: hunk #1 does not fit"],
            ),
            (
                "patching file a b\nHunk #3 FAILED at 2\n",
                &["a b: hunk #3 does not fit"],
            ),
            (
                "unable to find 'c' for patching\n(use '--prefix' to apply patch relative to the current directory)\n",
                &["c: the file does not exist"],
            ),
            ("file d already exists\n", &["d: the file exists already"]),
            (
                "abort: cannot create d: destination already exists\n",
                &["d: the file exists already"],
            ),
            (
                "abort: cannot patch q: file is not tracked\n",
                &["q: the file does not exist"],
            ),
            (
                "abort: source file 'q' does not exist\n",
                &["q: the file does not exist"],
            ),
            (
                "Hunk #1 succeeded at 7 with fuzz 1 (offset 2 lines).\nfile d already exists\nabort: oh\n(do this)\n",
                &["d: the file exists already", "Mercurial says:", "abort: oh"],
            ),
        ];
        for (stderr, expected) in table {
            let found = described(stderr, &[None, None]);
            assert_eq!(
                found.details.lines().collect::<Vec<_>>(),
                expected,
                "{stderr}"
            );
            assert!(found.unexplained, "{stderr}");
        }
    }

    #[test]
    fn of_many_places_the_first_are_named_and_all_are_counted() {
        let mut stderr: String = (0..25)
            .map(|number| format!("file f{number} already exists\n"))
            .collect();
        stderr += "patching file f1\nHunk #1 FAILED at 1\nHunk #2 FAILED at 2\nabort: patch failed to apply\n";
        let details = described(&stderr, &[None; MAX_PLACES]).details;
        assert!(
            details.starts_with("What does not fit (25 files, 2 hunks; the first 5 places):\nf0: "),
            "{details}"
        );
        assert!(
            details.ends_with("\nf4: the file exists already"),
            "{details}"
        );
    }

    #[test]
    fn words_of_mercurial_without_a_place_are_few() {
        let stderr: String = (0..25).map(|number| format!("abort: {number}\n")).collect();
        assert_eq!(
            described(&stderr, &[]).details.lines().count(),
            1 + MAX_WORDS
        );
    }

    #[test]
    fn a_cause_explains_its_places() {
        let hunks = "patching file a b\nHunk #1 FAILED at 2\nHunk #2 FAILED at 80\n";
        let (endings, encoding) = (Some(Cause::LineEndings), Some(Cause::Encoding));
        let missing = format!("{hunks}unable to find 'c' for patching\n");
        for (stderr, causes, unexplained) in [
            (hunks, vec![endings, endings], false),
            (hunks, vec![endings, encoding], false),
            (hunks, vec![endings, None], true),
            (&missing, vec![endings, endings, None], true),
        ] {
            let found = described(stderr, &causes);
            assert_eq!(
                (found.unexplained, &found.causes),
                (unexplained, &causes.iter().copied().flatten().collect())
            );
            assert!(
                found
                    .details
                    .contains("hunk #1 does not fit: only the line endings differ\n"),
                "{}",
                found.details
            );
        }
    }

    #[test]
    fn line_endings_and_encodings_are_told_from_other_lines() {
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
