//! The hunks of a text file.

use super::{FileChange, Kind, Lines, Place, Refusal, number};

/// The head of a hunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HunkHead<'a> {
    /// `@@ -4,3 +4,3 @@ fn x`
    pub(crate) text: &'a [u8],
    /// The line of the patch, from 1.
    pub(crate) line: usize,
}

/// The head of a file's `number`th hunk, from 1. `content` is the patch that `file` was read from. `None` when the file
/// has no such hunk.
///
/// Only a file's own hunks are read again: a place for each of them would take more room than the patch.
pub(crate) fn hunk_head<'a>(content: &'a [u8], file: &FileChange, number: usize) -> Option<HunkHead<'a>> {
    let mut lines = Lines::from(content, file.hunks?);
    for _ in 1..number {
        scan_hunk(&mut lines).ok()?;
    }
    let text = lines.next().filter(|line| number > 0 && hunk_ranges(line).is_some())?;
    Some(HunkHead { text, line: lines.place().line })
}

/// Reads the names and hunks of a file, and returns where the hunks begin.
pub(super) fn scan_text(old: &[u8], new: &[u8], kind: &Kind, lines: &mut Lines<'_>) -> Result<Place, Refusal> {
    let from = lines.next().and_then(|line| line.strip_prefix(b"--- ")).map(name_of);
    let to = lines.next().and_then(|line| line.strip_prefix(b"+++ ")).map(name_of);
    let nothing = Some(b"/dev/null".as_slice());
    let is = |name: Option<&[u8]>, prefix: &[u8], expected: &[u8]| {
        name.and_then(|name| name.strip_prefix(prefix)).is_some_and(|name| name == expected)
    };
    let from_fits = is(from, b"a/", old) || (*kind == Kind::Add && from == nothing);
    let to_fits = is(to, b"b/", new) || (*kind == Kind::Delete && to == nothing);
    if !from_fits || !to_fits {
        return Err(lines.refuse("the names in its `---` and `+++` lines differ from those in its `diff --git` line"));
    }
    let hunks = lines.place();
    if *kind == Kind::Delete && lines.next_starts_with(b"@") {
        // Mercurial keeps a file whose lines it finds elsewhere than it is told, and what is left when the first of
        // several hunks has taken it away.
        let whole = lines.peek().and_then(hunk_ranges).is_some_and(|(old, new)| old.start <= 1 && new.count == 0);
        scan_hunk(lines)?;
        if !whole || lines.next_starts_with(b"@") {
            return Err(lines.refuse("the file goes, but not from its first line to its last in one hunk"));
        }
    }
    while lines.next_starts_with(b"@") {
        scan_hunk(lines)?;
    }
    if lines.place() == hunks { Err(lines.refuse("a hunk (`@@ … @@`) is missing")) } else { Ok(hunks) }
}

/// The name on a `---` or `+++` line: up to the tab, or without one up to the first space. A name with spaces is
/// written with a tab behind it.
fn name_of(rest: &[u8]) -> &[u8] {
    let end = rest.iter().position(|&byte| byte == b'\t').or_else(|| rest.iter().position(|&byte| byte == b' '));
    &rest[..end.unwrap_or(rest.len())]
}

fn scan_hunk(lines: &mut Lines<'_>) -> Result<(), Refusal> {
    let ranges = lines.next().and_then(hunk_ranges);
    let Some((Range { count: mut old, .. }, Range { count: mut new, .. })) = ranges else {
        return Err(lines.refuse("the head of a hunk is not `@@ -<line>,<count> +<line>,<count> @@`"));
    };
    let mut signed = false;
    while old > 0 || new > 0 {
        let Some(line) = lines.next_raw() else {
            return Err(lines.refuse("the patch ends within a hunk"));
        };
        let (from_old, from_new) = match line {
            b"" | b"\r" | [b' ', ..] => (1, 1),
            [b'-', ..] => (1, 0),
            [b'+', ..] => (0, 1),
            b"\\ No newline at end of file" if signed => (0, 0),
            _ => return Err(lines.refuse("a line of a hunk begins with none of ` `, `+`, `-`")),
        };
        if from_old > old || from_new > new {
            return Err(lines.refuse("a hunk has other lines than its head says"));
        }
        signed = true;
        old -= from_old;
        new -= from_new;
    }
    if lines.next_starts_with(b"\\ ") {
        lines.next();
    }
    Ok(())
}

/// The lines of one side of a hunk.
struct Range {
    start: u32,
    count: u32,
}

/// The old and new lines that the head of a hunk promises.
fn hunk_ranges(line: &[u8]) -> Option<(Range, Range)> {
    let rest = line.strip_prefix(b"@@ -")?;
    let (old, rest) = hunk_range(rest)?;
    let (new, rest) = hunk_range(rest.strip_prefix(b" +")?)?;
    rest.starts_with(b" @@").then_some((old, new))
}

fn hunk_range(text: &[u8]) -> Option<(Range, &[u8])> {
    let (start, rest) = number(text)?;
    let (count, rest) = match rest.strip_prefix(b",") {
        Some(rest) => number(rest)?,
        None => (1, rest),
    };
    Some((Range { start, count }, rest))
}
