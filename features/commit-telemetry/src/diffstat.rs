//! The size of a changeset's change: a streaming parser of hgweb's `raw-rev` that counts what `hg diff --git --stat` counts.
//!
//! The parser holds a few bytes of each line, so a line of any length takes no memory.
//!
//! Two parts resemble a diff and are none:
//!
//! * Content: a removed `-- x` reads `--- x`, and files contain diffs. The ranges of a hunk (`@@ -1,3 +1,4 @@`) give the number
//!   of its lines, and none of those is a header, whatever it contains.
//! * The description, which `raw-rev` prints verbatim between its header and the diff, without a mark at its end. `json-rev`
//!   has the description, and so its number of lines. The parser counts the lines and does not compare them, because the
//!   server may use another encoding than in JSON; no encoding of Mercurial adds or removes a line. An empty line and a diff
//!   must follow, else the diff is not counted at all: no number is better than a wrong one.
//!
//! There is one difference. `hg diff --stat` takes a carriage return within a line as its end, so that the rest of the line
//! counts again if it begins with `+` or `-`. Here, as in the diff itself, lines end with a line feed.

use memchr::memchr;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most bytes of a line that are held. The headers that the parser reads are shorter.
const MAX_HELD: usize = 200;
/// The prefixes of the lines of the header of `raw-rev`. The last line names all parents, or is empty.
const HEADER: [&[u8]; 5] = [
    b"# HG changeset patch",
    b"# User ",
    b"# Date ",
    b"# Node ID ",
    b"",
];

/// The size of a changeset's change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Diffstat {
    /// The number of changed files. A renamed file counts once.
    pub changed_files: u64,
    /// The number of added lines.
    pub additions: u64,
    /// The number of removed lines.
    pub deletions: u64,
}

/// The reason why a diff cannot be counted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DiffFault {
    /// The header is not that of a changeset.
    #[error("line {line} of its header is not as hgweb writes it")]
    Header {
        /// The line, from 1.
        line: usize,
    },
    /// No diff follows the lines of the description.
    #[error("its description does not end where its length says")]
    Description,
    /// A hunk has no file, or invalid ranges.
    #[error("its hunk number {hunk} has an invalid header")]
    HunkHeader {
        /// The hunk, from 1.
        hunk: u64,
    },
    /// A hunk is not as long as its header says.
    #[error("its hunk number {hunk} is not as long as it says")]
    HunkLength {
        /// The hunk, from 1.
        hunk: u64,
    },
    /// The answer ends too early.
    #[error("it is truncated")]
    Truncated,
}

/// The position of the next line.
#[derive(Debug, Clone, Copy)]
enum State {
    /// In the header, at this line of it.
    Header(usize),
    /// In the description, with this number of its lines to come.
    Description(usize),
    /// Between description and diff.
    Gap,
    /// At the beginning of the diff.
    Start,
    /// In the header of a file, or in a binary one.
    File,
    /// After a complete hunk.
    AfterHunk,
    /// In a hunk, with these numbers of lines of the old and of the new file to come.
    Hunk { old: u64, new: u64 },
}

/// Counts a `raw-rev` that arrives in chunks.
#[derive(Debug)]
pub(crate) struct DiffstatParser {
    state: State,
    description_lines: usize,
    /// The beginning of the current line.
    line: Vec<u8>,
    hunks: u64,
    stat: Diffstat,
}

impl DiffstatParser {
    /// A parser for the changeset with this description, as `json-rev` has it.
    pub(crate) fn new(description: &[u8]) -> Self {
        Self {
            state: State::Header(0),
            description_lines: 1 + description.iter().filter(|&&byte| byte == b'\n').count(),
            line: Vec::with_capacity(MAX_HELD),
            hunks: 0,
            stat: Diffstat::default(),
        }
    }

    /// Parses the next chunk.
    pub(crate) fn feed(&mut self, mut chunk: &[u8]) -> Result<(), DiffFault> {
        while let Some(end) = memchr(b'\n', chunk) {
            self.hold(&chunk[..end]);
            self.end_line()?;
            chunk = &chunk[end + 1..];
        }
        self.hold(chunk);
        Ok(())
    }

    /// The counts, after the last chunk.
    pub(crate) fn finish(self) -> Result<Diffstat, DiffFault> {
        match self.state {
            // hgweb ends every line, the last one too.
            State::Start | State::File | State::AfterHunk if self.line.is_empty() => Ok(self.stat),
            _ => Err(DiffFault::Truncated),
        }
    }

    fn hold(&mut self, part: &[u8]) {
        let room = MAX_HELD - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_line(&mut self) -> Result<(), DiffFault> {
        self.state = self.next_state()?;
        self.line.clear();
        Ok(())
    }

    fn next_state(&mut self) -> Result<State, DiffFault> {
        let line = self.line.as_slice();
        Ok(match self.state {
            // The templates of hgweb begin with an empty line.
            State::Header(0) if line.is_empty() => State::Header(0),
            State::Header(at) => match HEADER.get(at) {
                Some(prefix) if !line.starts_with(prefix) => {
                    return Err(DiffFault::Header { line: at + 1 });
                }
                Some(_) if at + 1 < HEADER.len() => State::Header(at + 1),
                _ => State::Description(self.description_lines),
            },
            State::Description(left) if left > 1 => State::Description(left - 1),
            State::Description(_) => State::Gap,
            State::Gap if line.is_empty() => State::Start,
            State::Gap => return Err(DiffFault::Description),
            State::Start if line.is_empty() => State::Start,
            State::Start | State::File | State::AfterHunk if is_file_header(line) => {
                self.stat.changed_files += 1;
                State::File
            }
            State::File | State::AfterHunk if line.starts_with(b"@@ ") => {
                self.hunks += 1;
                let (old, new) = ranges(line).ok_or(DiffFault::HunkHeader { hunk: self.hunks })?;
                within_hunk(old, new)
            }
            State::Start => return Err(DiffFault::Description),
            State::File => State::File,
            // "\ No newline at end of file", and the empty line at the end of the answer.
            State::AfterHunk if line.is_empty() || line.starts_with(b"\\") => State::AfterHunk,
            State::AfterHunk => return Err(DiffFault::HunkLength { hunk: self.hunks }),
            State::Hunk { old, new } => {
                let wrong_length = DiffFault::HunkLength { hunk: self.hunks };
                let (removed, added) = match line.first() {
                    Some(b'-') => (1, 0),
                    Some(b'+') => (0, 1),
                    Some(b' ') => (1, 1),
                    // "\ No newline at end of file"
                    Some(b'\\') => (0, 0),
                    _ => return Err(wrong_length),
                };
                let (Some(old), Some(new)) = (old.checked_sub(removed), new.checked_sub(added))
                else {
                    return Err(wrong_length);
                };
                if removed != added {
                    self.stat.deletions += removed;
                    self.stat.additions += added;
                }
                within_hunk(old, new)
            }
        })
    }
}

/// The state in a hunk with these numbers of lines to come.
fn within_hunk(old: u64, new: u64) -> State {
    if (old, new) == (0, 0) {
        State::AfterHunk
    } else {
        State::Hunk { old, new }
    }
}

/// Whether the changes of a file begin here, in Git's format, or in Mercurial's where hgweb is configured so.
fn is_file_header(line: &[u8]) -> bool {
    line.starts_with(b"diff --git ") || line.starts_with(b"diff -r ")
}

/// The numbers of lines of a hunk in the old and in the new file: `@@ -1,3 +1,4 @@`, where `,1` may be omitted.
fn ranges(line: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(
        line.strip_prefix(b"@@ -")?
            .split(|&byte| byte == b'@')
            .next()?,
    )
    .ok()?;
    let (old, new) = text.trim_end().split_once(" +")?;
    Some((lines_in(old)?, lines_in(new)?))
}

fn lines_in(range: &str) -> Option<u64> {
    let (start, lines) = range.split_once(',').unwrap_or((range, "1"));
    start.parse::<u64>().ok()?;
    lines.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER_TEXT: &str = "\n# HG changeset patch\n# User A <a@example.com>\n# Date 1571000900 14400\n# Node ID d0220b3e673e1dcddb7380c9b94b6ac085400f1d\n# Parent  45a95dd7c1b3c75381b9cff4a05b0e08b22c31bf\n";

    fn parse(description: &str, text: &[u8]) -> Result<Diffstat, DiffFault> {
        let mut parser = DiffstatParser::new(description.as_bytes());
        parser.feed(text)?;
        parser.finish()
    }

    /// Counts a diff below an ordinary header and description.
    fn count(diff: &str) -> Result<Diffstat, DiffFault> {
        parse(
            "Bug 5\n\nMore",
            format!("{HEADER_TEXT}Bug 5\n\nMore\n\n{diff}\n").as_bytes(),
        )
    }

    fn stat(changed_files: u64, additions: u64, deletions: u64) -> Result<Diffstat, DiffFault> {
        Ok(Diffstat {
            changed_files,
            additions,
            deletions,
        })
    }

    #[test]
    fn count_is_independent_of_chunk_boundaries() {
        let text = include_bytes!("../tests/fixtures/hg/raw-rev-rename-binary-unicode.txt");
        for cut in 0..text.len() {
            let mut parser = DiffstatParser::new(
                "Bug 1400005 - Renames, a binary and ünïcode. r=eve,frank".as_bytes(),
            );
            let (head, tail) = text.split_at(cut);
            parser.feed(head).unwrap();
            parser.feed(tail).unwrap();
            assert_eq!(parser.finish(), stat(3, 1, 0), "cut at {cut}");
        }
    }

    #[test]
    fn content_lines_are_never_headers() {
        let diff = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,4 +1,5 @@ fn\n diff --git a/y b/y\n--- a/y\n-@@ -1 +1 @@\n+++ b/y\n+diff --git a/z b/z\n+@@ -7,7 +7,7 @@\n same\n";
        assert_eq!(count(diff), stat(1, 3, 2));
    }

    #[test]
    fn range_without_length_counts_one_line() {
        assert_eq!(
            count("diff --git a/x b/x\n@@ -1 +1,2 @@\n-a\n+b\n+c\n@@ -9,0 +10 @@\n+d\n"),
            stat(1, 3, 1)
        );
        for header in [
            "@@ -1,2 @@",
            "@@ +1 -1 @@",
            "@@ -a,b +c,d @@",
            "@@ -1,99999999999999999999 +1 @@",
            "@@ -,1 +1 @@",
        ] {
            let diff = format!("diff --git a/x b/x\n{header}\n");
            assert_eq!(
                count(&diff),
                Err(DiffFault::HunkHeader { hunk: 1 }),
                "{header}"
            );
        }
    }

    #[test]
    fn missing_final_newline_is_counted() {
        let diff = "diff --git a/x b/x\n@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+b\n\\ No newline at end of file\n";
        assert_eq!(count(diff), stat(1, 1, 1));
    }

    #[test]
    fn carriage_return_does_not_end_a_line() {
        assert_eq!(
            count("diff --git a/x b/x\n@@ -0,0 +1,2 @@\n+a\r+b\r-c\r\n+d\r\n"),
            stat(1, 2, 0)
        );
        // Mercurial removes them from descriptions; other programs that write changesets do not.
        let description = "Bug 5\r\rmore\r\n\rend";
        let text =
            format!("{HEADER_TEXT}{description}\n\ndiff --git a/x b/x\n@@ -0,0 +1,1 @@\n+a\n\n");
        assert_eq!(parse(description, text.as_bytes()), stat(1, 1, 0));
    }

    #[test]
    fn mercurial_file_headers_are_counted() {
        assert_eq!(
            count(
                "diff -r 123 -r 456 a b.txt\n--- a/a b.txt\n+++ b/a b.txt\n@@ -0,0 +1,1 @@\n+x\n"
            ),
            stat(1, 1, 0)
        );
    }

    #[test]
    fn description_resembling_a_diff_is_skipped() {
        let description = "Bug 5\n\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -0,0 +1,2 @@\n+a\n+b";
        let diff = "diff --git a/y b/y\n@@ -0,0 +1,1 @@\n+x\n";
        let text = format!("{HEADER_TEXT}{description}\n\n{diff}\n");
        assert_eq!(parse(description, text.as_bytes()), stat(1, 1, 0));
        // The description of the request has another number of lines.
        for wrong in [
            "Bug 5\n\nMore",
            &format!("{description}\n"),
            &format!("{description}\nMore\nand more"),
        ] {
            assert!(parse(wrong, text.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn empty_description_and_empty_diff_are_counted() {
        assert_eq!(
            parse("", format!("{HEADER_TEXT}\n\n\n").as_bytes()),
            stat(0, 0, 0)
        );
        assert_eq!(
            parse("\n\nBug", format!("{HEADER_TEXT}\n\nBug\n\n\n").as_bytes()),
            stat(0, 0, 0)
        );
    }

    #[test]
    fn truncated_diff_is_not_counted() {
        let whole =
            format!("{HEADER_TEXT}Bug 5\n\ndiff --git a/x b/x\n@@ -0,0 +1,2 @@\n+a\n+b\n\n");
        let diff = whole.find("diff").unwrap();
        for cut in 0..diff - 1 {
            assert_eq!(
                parse("Bug 5", &whole.as_bytes()[..cut]),
                Err(DiffFault::Truncated),
                "cut at {cut}"
            );
        }
        let hunk = whole.find("+a").unwrap();
        assert_eq!(
            parse("Bug 5", &whole.as_bytes()[..hunk + 3]),
            Err(DiffFault::Truncated)
        );
        let header = whole.trim_end().to_owned() + "\ndiff --git a/y b/y";
        assert_eq!(
            parse("Bug 5", header.as_bytes()),
            Err(DiffFault::Truncated),
            "within the header of the next file"
        );
    }

    #[test]
    fn content_other_than_a_changeset_is_rejected() {
        for text in [
            "<html>\n",
            "error: no such thing\n",
            "\n# HG changeset patch\nUser\n",
        ] {
            assert!(
                matches!(
                    parse("Bug 5", text.as_bytes()),
                    Err(DiffFault::Header { .. })
                ),
                "{text}"
            );
        }
        assert_eq!(count("@@ -0,0 +1,1 @@\n+x\n"), Err(DiffFault::Description));
        let length = Err(DiffFault::HunkLength { hunk: 1 });
        assert_eq!(
            count("diff --git a/x b/x\n@@ -1,1 +1,1 @@\n-a\n-b\n"),
            length
        );
        assert_eq!(
            count("diff --git a/x b/x\n@@ -1,1 +1,1 @@\n-a\n+b\n+c\n"),
            length
        );
        assert_eq!(
            count("diff --git a/x b/x\n@@ -2,2 +1,1 @@\n-a\ndiff --git a/y b/y\n"),
            length
        );
    }

    #[test]
    fn endless_line_takes_bounded_memory() {
        let mut parser = DiffstatParser::new(b"Bug 5");
        parser
            .feed(
                format!("{HEADER_TEXT}Bug 5\n\ndiff --git a/x b/x\n@@ -0,0 +1,1 @@\n+").as_bytes(),
            )
            .unwrap();
        for _ in 0..1000 {
            parser.feed(&[b'x'; 100_000]).unwrap();
        }
        assert!(parser.line.capacity() <= MAX_HELD);
        parser.feed(b"\n\n").unwrap();
        assert_eq!(parser.finish(), stat(1, 1, 0));
    }
}
