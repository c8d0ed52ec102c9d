//! Finds out whether Mercurial has to search for the places of a patch's hunks.
//!
//! Mercurial compares a hunk with the lines at the line number that it names. If they differ, Mercurial compares the
//! hunk with each place that begins with the same line, up to six times. It does the same for each later hunk of the
//! file. In a file of equal lines that can take hours, for a patch of a few kB. So before the import, the worker
//! compares the files for which that could take long. If a hunk is not at its line, the import gets little time. A
//! large patch whose hunks are all at their lines needs no search, and gets all of the time.

use std::cmp::Reverse;
use worker::{
    WorkerError,
    patch::reject_report::{self, RejectReport},
    patch::{self, FileChange, Kind, ParsedPatch},
};

use crate::{changeset::Changeset, clone::HgClone};

/// The number of comparisons of lines that are harmless: Mercurial makes some millions per second.
const HARMLESS: u64 = 10_000_000;

/// The most files that are compared, those with the most comparisons first.
const MAX_FILES: usize = 100;
/// The largest file that is compared, in bytes.
const MAX_FILE: usize = 32 << 20;

/// The report on the first hunk that is not at its line, in a file where a search can take long. `content` is the
/// patch, and `sizes` are those of its files in `parent`.
pub(crate) async fn misplaced(
    clone: &mut HgClone,
    parent: &Changeset,
    content: &[u8],
    scanned: &ParsedPatch,
    sizes: &[u64],
) -> Result<Option<RejectReport>, WorkerError> {
    for file in costly(content, scanned, sizes) {
        let source = reject_report::source(file);
        let old = clone.read_file(parent, source, MAX_FILE + 1).await?;
        // Mercurial itself reports a missing file.
        let compared = old.filter(|old| old.len() <= MAX_FILE);
        let number =
            compared.and_then(|old| first_misplaced(&old, patch::old_texts(content, file)));
        if let Some(number) = number {
            return Ok(Some(reject_report::hunk(content, scanned, file, number)));
        }
    }
    Ok(None)
}

/// The files for whose hunks a search could take long, those with the most comparisons first.
fn costly<'a>(content: &[u8], scanned: &'a ParsedPatch, sizes: &[u64]) -> Vec<&'a FileChange> {
    let searched = scanned
        .files
        .iter()
        .zip(sizes)
        .filter(|(file, _)| file.hunks.is_some() && file.kind != Kind::Add);
    let mut costly: Vec<_> = searched
        .map(|(file, size)| (comparisons(content, file, *size), file))
        .filter(|(comparisons, _)| *comparisons > HARMLESS)
        .collect();
    costly.sort_by_key(|(comparisons, _)| Reverse(*comparisons));
    costly.truncate(MAX_FILES);
    costly.into_iter().map(|(_, file)| file).collect()
}

/// The most comparisons of lines for a file of `size` bytes: each byte can be a line that equals the first one of each
/// hunk.
fn comparisons(content: &[u8], file: &FileChange, size: u64) -> u64 {
    let most = |lines: usize| size.saturating_mul(u64::try_from(lines).unwrap_or(u64::MAX));
    if most(content.len()) <= HARMLESS {
        return 0;
    }
    let lines = |text: &[u8]| memchr::memchr_iter(b'\n', text).count() + 1;
    most(
        patch::old_texts(content, file)
            .map(|(_, text)| lines(&text))
            .sum(),
    )
}

/// The number of the first hunk that is not at its line, from 1. `hunks` has the number of lines before each hunk, and
/// its old text.
fn first_misplaced(content: &[u8], hunks: impl Iterator<Item = (usize, Vec<u8>)>) -> Option<usize> {
    // The number of lines that were read, and the rest of the file.
    let (mut passed, mut rest) = (0, content);
    for ((start, text), number) in hunks.zip(1..) {
        let Some(ahead) = start.checked_sub(passed) else {
            return Some(number);
        };
        let lines = memchr::memchr_iter(b'\n', rest);
        match ahead.checked_sub(1).map(|last| lines.clone().nth(last)) {
            Some(None) => return Some(number),
            Some(Some(end)) => rest = &rest[end + 1..],
            None => {}
        }
        passed = start;
        let fits = if text.is_empty() || text.ends_with(b"\n") {
            rest.starts_with(&text)
        } else {
            rest == text.as_slice()
        };
        if !fits {
            return Some(number);
        }
        // Of two hunks that overlap, the second is not at its line once the first is applied.
        passed += memchr::memchr_iter(b'\n', &text).count();
        rest = &rest[text.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_hunk_that_is_not_at_its_line_is_found() {
        type Case<'a> = (&'a str, &'a str, &'a [(usize, &'a str)], Option<usize>);
        let table: [Case<'_>; 12] = [
            (
                "at their places",
                "a\nb\nc\nd\n",
                &[(0, "a\n"), (2, "c\nd\n")],
                None,
            ),
            ("the next line", "a\nb\nb\n", &[(0, "b\n")], Some(1)),
            (
                "the second",
                "a\nb\nc\n",
                &[(0, "a\n"), (1, "c\n")],
                Some(2),
            ),
            ("another end", "a\nb\nc\n", &[(0, "a\nb\nx\n")], Some(1)),
            ("behind the end", "a\nb\n", &[(3, "a\n")], Some(1)),
            ("only added lines", "a\nb\n", &[(1, ""), (2, "")], None),
            (
                "in a wrong order",
                "a\nb\nc\n",
                &[(2, "c\n"), (0, "a\n")],
                Some(2),
            ),
            (
                "twice the same",
                "a\nb\nc\n",
                &[(0, "a\nb\n"), (1, "b\n")],
                Some(2),
            ),
            ("without a last line break", "a\nb", &[(1, "b")], None),
            ("a line break too much", "a\nb", &[(1, "b\n")], Some(1)),
            ("a line break too few", "a\nb\n", &[(1, "b")], Some(1)),
            ("an empty file", "", &[(0, "")], None),
        ];
        for (case, content, hunks, expected) in table {
            let hunks = hunks
                .iter()
                .map(|(start, text)| (*start, text.as_bytes().to_vec()));
            assert_eq!(
                first_misplaced(content.as_bytes(), hunks),
                expected,
                "{case}"
            );
        }
    }
}
