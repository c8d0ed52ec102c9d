//! Reads Mercurial's output about a patch that it could not apply.

use std::collections::HashMap;
use worker::{
    WorkerError,
    patch::{
        self, ParsedPatch,
        reject_report::{
            MAX_PLACES, Note, Place, Problem, RejectReport, compare, describe, source,
        },
    },
    process::CommandOutput,
};

use crate::{changeset::Changeset, clone::HgClone, messages};

/// The largest file that is compared with a hunk, in bytes.
const MAX_FILE: usize = 4 << 20;

/// The tool whose output an author reads.
const MERCURIAL: &str = "Mercurial";

/// The report on a patch with this `content` that Mercurial could not apply on `parent`.
pub(crate) async fn find(
    clone: &mut HgClone,
    parent: &Changeset,
    content: &[u8],
    scanned: &ParsedPatch,
    output: &CommandOutput,
) -> Result<RejectReport, WorkerError> {
    let words = String::from_utf8_lossy(&output.stderr);
    let ParsedOutput { places, others } = read(&words);
    let mut files: HashMap<&str, Option<Vec<u8>>> = HashMap::new();
    let mut notes = Vec::new();
    for place in places.iter().take(MAX_PLACES) {
        let mut cause = None;
        if let (Some(change), Problem::Hunk(number)) = (place.change(scanned), place.problem) {
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
        notes.push(Note::from(cause));
    }
    Ok(describe(
        content, scanned, &places, &notes, MERCURIAL, &others,
    ))
}

/// Mercurial's output: places, and lines that name no place.
struct ParsedOutput<'a> {
    places: Vec<Place<'a>>,
    others: Vec<&'a str>,
}

fn read(words: &str) -> ParsedOutput<'_> {
    let mut file = "";
    let (mut places, mut others) = (Vec::new(), Vec::new());
    for line in words.lines() {
        if let Some(name) = line.strip_prefix("patching file ") {
            file = name;
        } else if let Some(number) = failed_hunk(line) {
            places.push(Place {
                file,
                problem: Problem::Hunk(number),
            });
        } else if let Some(file) = missing(line) {
            places.push(Place {
                file,
                problem: Problem::Missing,
            });
        } else if let Some(file) = existing(line) {
            places.push(Place {
                file,
                problem: Problem::Exists,
            });
        } else if !is_noise(line) {
            others.push(line);
        }
    }
    if !places.is_empty() {
        others.retain(|line| *line != "abort: patch failed to apply");
    }
    ParsedOutput { places, others }
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
        .or_else(|| messages::without_file(line))
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

/// Whether a line is a hint for users of Mercurial, or about a hunk that fits.
fn is_noise(line: &str) -> bool {
    line.starts_with('(') || (line.starts_with("Hunk #") && line.contains(" succeeded at "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use worker::{
        Limits,
        patch::{Rules, reject_report::Cause},
    };

    const PATCH: &str = "diff --git a/a b b/a b\n--- a/a b\t\n+++ b/a b\t\n@@ -3,1 +3,1 @@ fn first()\n-x\n+y\n@@ -90,1 +90,1 @@\n-x\n+y\n";

    fn described(stderr: &str, causes: &[Option<Cause>]) -> RejectReport {
        let content = PATCH.as_bytes();
        let scanned =
            patch::scan(content, &Limits::default(), Rules::Mercurial).expect("a good patch");
        let ParsedOutput { places, others } = read(stderr);
        let notes: Vec<Note> = causes.iter().copied().map(Note::from).collect();
        describe(content, &scanned, &places, &notes, MERCURIAL, &others)
    }

    #[test]
    fn place_is_named_by_file_line_and_the_head_of_the_hunk() {
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
    fn first_places_are_named_and_all_are_counted() {
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
    fn output_without_a_place_is_cut_to_five_lines() {
        let stderr: String = (0..25).map(|number| format!("abort: {number}\n")).collect();
        assert_eq!(described(&stderr, &[]).details.lines().count(), 1 + 5);
    }

    #[test]
    fn cause_explains_its_places() {
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
}
