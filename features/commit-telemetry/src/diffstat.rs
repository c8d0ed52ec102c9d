//! How much a changeset changes: a `raw-rev` of hgweb, counted as it streams by.
//!
//! What is counted is what `hg diff --git --stat` counts. A few bytes of each line are held, so a line of any length takes no
//! memory.
//!
//! Two things look like a diff and are none:
//!
//! * Lines of files: a removed `-- x` reads `--- x`, and files hold diffs. So the ranges of a hunk (`@@ -1,3 +1,4 @@`) say
//!   how many lines are its own, and whatever they hold, they are no headers.
//! * The description, which `raw-rev` prints as it is between its header and the diff. Nothing in the text itself tells
//!   where it ends, but `json-rev` tells the description, and with it how many lines it has. They are counted rather than
//!   compared, since the server may print another encoding than it uses in JSON; no encoding of Mercurial's adds or takes a
//!   line. What follows has to be an empty line and a diff, else the diff is not counted at all: a wrong number helps nobody.
//!
//! There is one difference. `hg diff --stat` takes a carriage return in the middle of a line for its end, so that what
//! follows it counts once more if it begins with `+` or `-`. Here, as in the diff itself, lines end with a line feed.

use memchr::memchr;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How much of a line is held, in bytes. Headers that the parser reads are shorter.
const HELD: usize = 200;
/// The lines of the header of `raw-rev`, by what they begin with. The last one names the parents, all of them, or is empty.
const HEADER: [&[u8]; 5] = [
    b"# HG changeset patch",
    b"# User ",
    b"# Date ",
    b"# Node ID ",
    b"",
];

/// How much a changeset changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Diffstat {
    /// How many files were touched. A renamed file is one.
    pub changed_files: u64,
    /// How many lines were added.
    pub additions: u64,
    /// How many lines were removed.
    pub deletions: u64,
}

/// Why a diff cannot be counted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DiffFault {
    /// The answer does not begin as every changeset does.
    #[error("line {line} of its header is not as hgweb writes it")]
    Header {
        /// The line, from 1.
        line: usize,
    },
    /// No diff begins where the description ends.
    #[error("its description does not end where its length says")]
    Description,
    /// A hunk without a file, or with ranges that cannot be read.
    #[error("its hunk number {hunk} has a header that cannot be read")]
    HunkHeader {
        /// The hunk, from 1.
        hunk: u64,
    },
    /// A hunk that is not as long as its header says.
    #[error("its hunk number {hunk} is not as long as it says")]
    HunkLength {
        /// The hunk, from 1.
        hunk: u64,
    },
    /// It ended too soon.
    #[error("it is cut short")]
    CutShort,
}

/// Where the next line stands.
#[derive(Debug, Clone, Copy)]
enum Place {
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
    /// After a hunk that is whole.
    AfterHunk,
    /// In a hunk, with these numbers of lines of the old and of the new file to come.
    Hunk { old: u64, new: u64 },
}

/// Counts a `raw-rev` that comes in pieces.
#[derive(Debug)]
pub struct DiffstatParser {
    place: Place,
    lines_of_description: usize,
    line: Vec<u8>,
    hunks: u64,
    stat: Diffstat,
}

impl DiffstatParser {
    /// A parser of the changeset with this description, as `json-rev` tells it.
    pub fn new(description: &[u8]) -> Self {
        Self {
            place: Place::Header(0),
            lines_of_description: 1 + description.iter().filter(|&&byte| byte == b'\n').count(),
            line: Vec::with_capacity(HELD),
            hunks: 0,
            stat: Diffstat::default(),
        }
    }

    /// Takes the next piece.
    pub fn feed(&mut self, mut piece: &[u8]) -> Result<(), DiffFault> {
        while let Some(end) = memchr(b'\n', piece) {
            self.hold(&piece[..end]);
            self.end_line()?;
            piece = &piece[end + 1..];
        }
        self.hold(piece);
        Ok(())
    }

    /// The figures, after the last piece.
    pub fn finish(self) -> Result<Diffstat, DiffFault> {
        match self.place {
            // hgweb ends every line, the last one too.
            Place::Start | Place::File | Place::AfterHunk if self.line.is_empty() => Ok(self.stat),
            _ => Err(DiffFault::CutShort),
        }
    }

    fn hold(&mut self, part: &[u8]) {
        let room = HELD - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_line(&mut self) -> Result<(), DiffFault> {
        self.place = self.next_place()?;
        self.line.clear();
        Ok(())
    }

    fn next_place(&mut self) -> Result<Place, DiffFault> {
        let line = self.line.as_slice();
        Ok(match self.place {
            // The templates of hgweb put an empty line before all.
            Place::Header(0) if line.is_empty() => Place::Header(0),
            Place::Header(at) => match HEADER.get(at) {
                Some(begin) if !line.starts_with(begin) => {
                    return Err(DiffFault::Header { line: at + 1 });
                }
                Some(_) if at + 1 < HEADER.len() => Place::Header(at + 1),
                _ => Place::Description(self.lines_of_description),
            },
            Place::Description(left) if left > 1 => Place::Description(left - 1),
            Place::Description(_) => Place::Gap,
            Place::Gap if line.is_empty() => Place::Start,
            Place::Gap => return Err(DiffFault::Description),
            Place::Start if line.is_empty() => Place::Start,
            Place::Start | Place::File | Place::AfterHunk if is_file(line) => {
                self.stat.changed_files += 1;
                Place::File
            }
            Place::File | Place::AfterHunk if line.starts_with(b"@@ ") => {
                self.hunks += 1;
                let (old, new) = ranges(line).ok_or(DiffFault::HunkHeader { hunk: self.hunks })?;
                inside(old, new)
            }
            Place::Start => return Err(DiffFault::Description),
            Place::File => Place::File,
            // No newline at the end of the file, and the end of all.
            Place::AfterHunk if line.is_empty() || line.starts_with(b"\\") => Place::AfterHunk,
            Place::AfterHunk => return Err(DiffFault::HunkLength { hunk: self.hunks }),
            Place::Hunk { old, new } => {
                let (removed, added) = match line.first() {
                    Some(b'-') => (1, 0),
                    Some(b'+') => (0, 1),
                    Some(b' ') => (1, 1),
                    // No newline at the end of the file.
                    Some(b'\\') => (0, 0),
                    _ => return Err(DiffFault::HunkLength { hunk: self.hunks }),
                };
                let too_long = DiffFault::HunkLength { hunk: self.hunks };
                let (Some(old), Some(new)) = (old.checked_sub(removed), new.checked_sub(added))
                else {
                    return Err(too_long);
                };
                if removed != added {
                    self.stat.deletions += removed;
                    self.stat.additions += added;
                }
                inside(old, new)
            }
        })
    }
}

/// Where the next line stands when these numbers of lines of a hunk are to come.
fn inside(old: u64, new: u64) -> Place {
    if (old, new) == (0, 0) {
        Place::AfterHunk
    } else {
        Place::Hunk { old, new }
    }
}

/// Whether the changes of a file begin here: as Git writes it, or as Mercurial does where hgweb is not set to.
fn is_file(line: &[u8]) -> bool {
    line.starts_with(b"diff --git ") || line.starts_with(b"diff -r ")
}

/// How many lines a hunk has of the old and of the new file: `@@ -1,3 +1,4 @@`, where `,1` may be left out.
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
        // Mercurial takes them out of descriptions, other programs that write changesets do not.
        let description = "Bug 5\r\rmore\r\n\rend";
        let text =
            format!("{HEADER_TEXT}{description}\n\ndiff --git a/x b/x\n@@ -0,0 +1,1 @@\n+a\n\n");
        assert_eq!(parse(description, text.as_bytes()), stat(1, 1, 0));
    }

    #[test]
    fn mercurial_style_headers_count_as_files() {
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
        // A description of other length is not believed.
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
                Err(DiffFault::CutShort),
                "cut at {cut}"
            );
        }
        let hunk = whole.find("+a").unwrap();
        assert_eq!(
            parse("Bug 5", &whole.as_bytes()[..hunk + 3]),
            Err(DiffFault::CutShort)
        );
        let header = whole.trim_end().to_owned() + "\ndiff --git a/y b/y";
        assert_eq!(
            parse("Bug 5", header.as_bytes()),
            Err(DiffFault::CutShort),
            "within the header of the next file"
        );
    }

    #[test]
    fn foreign_content_is_not_counted_as_diff() {
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
    fn endless_line_needs_bounded_memory() {
        let mut parser = DiffstatParser::new(b"Bug 5");
        parser
            .feed(
                format!("{HEADER_TEXT}Bug 5\n\ndiff --git a/x b/x\n@@ -0,0 +1,1 @@\n+").as_bytes(),
            )
            .unwrap();
        for _ in 0..1000 {
            parser.feed(&[b'x'; 100_000]).unwrap();
        }
        assert!(parser.line.capacity() <= HELD);
        parser.feed(b"\n\n").unwrap();
        assert_eq!(parser.finish(), stat(1, 1, 0));
    }
}
