//! The hunks of a text file.

use std::borrow::Cow;

use super::{FileChange, Kind, Lines, NewSize, Place, RejectReason, Rules, names, number};

/// The head of a hunk.
#[derive(Debug, PartialEq, Eq)]
pub struct HunkHead<'a> {
    /// `@@ -4,3 +4,3 @@ fn x`
    pub text: &'a [u8],
    /// Its line number in the patch, from 1.
    pub line: usize,
}

/// A hunk.
#[derive(Debug)]
pub struct Hunk<'a> {
    /// Its first line.
    pub head: HunkHead<'a>,
    /// The lines that it replaces.
    pub old: HunkRange,
    /// The lines that replace them.
    pub new: HunkRange,
    /// Its further lines as they are in the patch, with their signs. There may be more of other kinds than
    /// [`Self::lines`] returns.
    pub lines: &'a [u8],
}

/// A line of a hunk, with its line break. Without one if it is the last line of a file that does not end in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HunkLine<'a> {
    /// The line is there before and after the change.
    Context(&'a [u8]),
    /// The line goes.
    Removed(&'a [u8]),
    /// The line is new.
    Added(&'a [u8]),
}

impl<'a> Hunk<'a> {
    /// Its lines.
    pub fn lines(&self) -> impl Iterator<Item = HunkLine<'a>> + use<'a> {
        let mut rest = self.lines;
        std::iter::from_fn(move || {
            let line = take_line(&mut rest)?;
            let text = |line: &'a [u8]| match rest {
                [b'\\', ..] => line.strip_suffix(b"\n").unwrap_or(line),
                _ => line,
            };
            let line = match line {
                [b' ', context @ ..] => HunkLine::Context(text(context)),
                [b'-', removed @ ..] => HunkLine::Removed(text(removed)),
                [b'+', added @ ..] => HunkLine::Added(text(added)),
                // A line of context that lost its space.
                _ => HunkLine::Context(text(line)),
            };
            while rest.starts_with(b"\\") {
                take_line(&mut rest);
            }
            Some(line)
        })
    }
}

fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if rest.is_empty() {
        return None;
    }
    let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
    let (line, others) = rest.split_at(end);
    *rest = others;
    Some(line)
}

/// The hunks of a file. `content` is the patch that `file` was read from.
pub fn hunks<'a>(content: &'a [u8], file: &FileChange) -> impl Iterator<Item = Hunk<'a>> + use<'a> {
    let mut lines = file.hunks.map(|hunks| Lines::from(content, hunks));
    std::iter::from_fn(move || {
        let lines = lines
            .as_mut()
            .filter(|lines| lines.next_starts_with(b"@"))?;
        let text = lines.peek()?;
        let (old, new) = hunk_ranges(text)?;
        let start = lines.place();
        skip_hunk(lines)?;
        let mut whole = lines.since(start);
        take_line(&mut whole);
        Some(Hunk {
            head: HunkHead {
                text,
                line: start.line + 1,
            },
            old,
            new,
            lines: whole,
        })
    })
}

/// The head of a file's `number`th hunk, from 1. `content` is the patch that `file` was read from. `None` when the file
/// has no such hunk.
///
/// This reads the hunks of the file again: a place for each hunk would take more memory than the patch.
pub fn hunk_head<'a>(content: &'a [u8], file: &FileChange, number: usize) -> Option<HunkHead<'a>> {
    let mut lines = Lines::from(content, file.hunks?);
    for _ in 1..number {
        skip_hunk(&mut lines)?;
    }
    let text = lines
        .next()
        .filter(|line| number > 0 && hunk_ranges(line).is_some())?;
    Some(HunkHead {
        text,
        line: lines.place().line,
    })
}

/// The lines that a file must have for its `number`th hunk to fit, without their signs and `\n`.
pub fn old_lines<'a>(content: &'a [u8], file: &FileChange, number: usize) -> Option<Vec<&'a [u8]>> {
    let mut lines = Lines::from(content, file.hunks?);
    for _ in 1..number {
        skip_hunk(&mut lines)?;
    }
    let start = lines.place();
    skip_hunk(&mut lines)?;
    let hunk = lines.since(start);
    let lines = hunk
        .strip_suffix(b"\n")
        .unwrap_or(hunk)
        .split(|&byte| byte == b'\n')
        .skip(1);
    let old = |line: &'a [u8]| match line {
        [b'+' | b'\\', ..] => None,
        [b' ' | b'-', old @ ..] => Some(old),
        // A line of context that lost its space.
        _ => Some(line),
    };
    Some(lines.filter_map(old).collect())
}

/// The hunks of a file: the number of lines before each in the old file, and its old text.
pub fn old_texts<'a>(
    content: &'a [u8],
    file: &FileChange,
) -> impl Iterator<Item = (usize, Vec<u8>)> + 'a {
    let mut lines = file.hunks.map(|hunks| Lines::from(content, hunks));
    std::iter::from_fn(move || {
        let lines = lines
            .as_mut()
            .filter(|lines| lines.next_starts_with(b"@"))?;
        let (old, _) = lines.peek().and_then(hunk_ranges)?;
        let start = lines.place();
        skip_hunk(lines)?;
        // A hunk without old lines names the line before it.
        let before = old.start.saturating_sub(u32::from(old.count > 0));
        Some((usize::try_from(before).ok()?, old_text(lines.since(start))))
    })
}

/// The old text of a hunk.
fn old_text(hunk: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(hunk.len());
    let mut is_old = false;
    for line in hunk.split_inclusive(|&byte| byte == b'\n').skip(1) {
        match line {
            [b'\\', ..] if is_old => {
                text.pop_if(|last| *last == b'\n');
            }
            [b'\\', ..] => {}
            [sign, old @ ..] if b" -".contains(sign) => text.extend_from_slice(old),
            [b'+', ..] => {}
            // A line of context that lost its space.
            _ => text.extend_from_slice(line),
        }
        is_old = !line.starts_with(b"+");
    }
    text
}

/// The text of a file's only hunk: the old text for the sign `-`, the new one for `+`. `None` if there are several
/// hunks, or lines with another sign.
pub(super) fn only(content: &[u8], hunks: Place, sign: u8) -> Option<Vec<u8>> {
    let mut lines = Lines::from(content, hunks);
    skip_hunk(&mut lines)?;
    if lines.next_starts_with(b"@") {
        return None;
    }
    let mut text = Vec::new();
    for line in lines
        .since(hunks)
        .split_inclusive(|&byte| byte == b'\n')
        .skip(1)
    {
        match line.split_first()? {
            (first, rest) if *first == sign => text.extend_from_slice(rest),
            // The line before has no line break; to Mercurial, a carriage return is a part of the line break.
            (b'\\', _) => {
                text.pop();
                text.pop_if(|last| *last == b'\r');
            }
            _ => return None,
        }
    }
    Some(text)
}

/// The names on the `---` and `+++` lines of a file.
pub(super) struct Names<'a> {
    from: Option<Cow<'a, [u8]>>,
    to: Option<Cow<'a, [u8]>>,
}

const NOTHING: Option<&[u8]> = Some(b"/dev/null");

impl Names<'_> {
    /// The kind of a change whose header has no mode; `lines` begin with its first hunk. Phabricator renders added and
    /// deleted files like this when the diff came without modes, as plain `hg diff` prints it. Mercurial reads a file
    /// as added or deleted only if the hunk agrees.
    pub(super) fn kind(&self, lines: &Lines<'_>) -> Kind {
        let Some((old, new)) = lines.peek().and_then(hunk_ranges) else {
            return Kind::Modify;
        };
        if self.from.as_deref() == NOTHING && old.is_empty() {
            Kind::Add
        } else if self.to.as_deref() == NOTHING && new.is_empty() {
            Kind::Delete
        } else {
            Kind::Modify
        }
    }
}

/// Reads the `---` and `+++` lines of a file.
pub(super) fn names<'a>(rules: Rules, lines: &mut Lines<'a>) -> Names<'a> {
    let mut name = |prefix: &[u8]| {
        let rest = lines.next()?.strip_prefix(prefix)?;
        names::before_tab(rest, rules)
    };
    Names {
        from: name(b"--- "),
        to: name(b"+++ "),
    }
}

/// Reads the hunks of a file, and returns the place of the first.
pub(super) fn scan_text(
    old: &[u8],
    new: &[u8],
    kind: &Kind,
    names: &Names<'_>,
    rules: Rules,
    lines: &mut Lines<'_>,
) -> Result<Place, RejectReason> {
    let is = |name: Option<&[u8]>, prefix: &[u8], expected: &[u8]| {
        name.and_then(|name| name.strip_prefix(prefix))
            .is_some_and(|name| name == expected)
    };
    let (from, to) = (names.from.as_deref(), names.to.as_deref());
    let from_fits = is(from, b"a/", old) || (*kind == Kind::Add && from == NOTHING);
    let to_fits = is(to, b"b/", new) || (*kind == Kind::Delete && to == NOTHING);
    if !from_fits || !to_fits {
        return Err(lines.refuse(
            "the names in its `---` and `+++` lines differ from those in its `diff --git` line",
        ));
    }
    let hunks = lines.place();
    if rules == Rules::Mercurial && *kind == Kind::Delete && lines.next_starts_with(b"@") {
        // Mercurial keeps a file whose lines it finds elsewhere than at the line that the hunk names. Of a file with
        // several hunks, it keeps what is left after the first one has deleted it.
        let whole = lines
            .peek()
            .and_then(hunk_ranges)
            .is_some_and(|(old, new)| old.start <= 1 && new.count == 0);
        scan_hunk(rules, lines)?;
        if !whole || lines.next_starts_with(b"@") {
            return Err(
                lines.refuse("the file goes, but not from its first line to its last in one hunk")
            );
        }
    }
    while lines.next_starts_with(b"@") {
        let (old, new) = scan_hunk(rules, lines)?;
        if rules == Rules::Mercurial {
            continue;
        }
        if *kind == Kind::Add && old.count > 0 {
            return Err(lines.refuse("the file is new, but a hunk has lines from before"));
        }
        if *kind == Kind::Delete && new.count > 0 {
            return Err(lines.refuse("the file goes, but a hunk leaves lines of it"));
        }
    }
    if lines.place() == hunks {
        Err(lines.refuse("a hunk (`@@ … @@`) is missing"))
    } else {
        Ok(hunks)
    }
}

/// The size of a file after its hunks, which have been read. The sign of a line counts as its line break.
pub(super) fn new_size(hunks: &[u8]) -> NewSize {
    let (mut added, mut removed) = (0, 0);
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', hunks).chain([hunks.len()]) {
        let bytes = u64::try_from(end - start).unwrap_or(u64::MAX);
        match hunks.get(start) {
            Some(b'+') => added += bytes,
            Some(b'-') => removed += bytes,
            _ => {}
        }
        start = end + 1;
    }
    NewSize::Changed { added, removed }
}

const NO_SIGN: &str = "a line of a hunk begins with none of ` `, `+`, `-`";

/// Reads a hunk, and returns its old and new range.
fn scan_hunk(rules: Rules, lines: &mut Lines<'_>) -> Result<(HunkRange, HunkRange), RejectReason> {
    let for_git = rules != Rules::Mercurial;
    let Some(ranges) = lines.next().and_then(hunk_ranges) else {
        return Err(
            lines.refuse("the head of a hunk is not `@@ -<line>,<count> +<line>,<count> @@`")
        );
    };
    let (mut old, mut new) = (ranges.0.count, ranges.1.count);
    let mut changes = false;
    // The line before, and whether it is the last one of its side, so that it may be without a line break.
    let (mut last, mut ends) = (b"".as_slice(), false);
    while old > 0 || new > 0 {
        let Some(line) = lines.next_raw() else {
            return Err(lines.refuse("the patch ends within a hunk"));
        };
        let (from_old, from_new) = match line {
            b"\r" if for_git => return Err(lines.refuse(NO_SIGN)),
            b"" | b"\r" | [b' ', ..] => (1, 1),
            [b'-', ..] => (1, 0),
            [b'+', ..] => (0, 1),
            b"\\ No newline at end of file" if !last.is_empty() => (0, 0),
            _ if !last.is_empty() && for_git && is_mark(line) => (0, 0),
            _ => return Err(lines.refuse(NO_SIGN)),
        };
        if from_old > old || from_new > new {
            return Err(lines.refuse("a hunk has other lines than its head says"));
        }
        if line.starts_with(b"\\") && (!ends || last.len() < 2) {
            return Err(lines.refuse(NO_LAST_LINE));
        }
        changes |= from_old != from_new;
        old -= from_old;
        new -= from_new;
        ends = (from_old == 1 && old == 0) || (from_new == 1 && new == 0);
        last = line;
    }
    if for_git && lines.lacks_end() {
        return Err(lines.refuse("the patch ends within a line of a hunk"));
    }
    if for_git && !changes {
        return Err(lines.refuse("a hunk changes nothing"));
    }
    if lines.next_starts_with(b"\\ ") {
        lines.next();
        if last.len() < 2 || last.starts_with(b"\\") {
            return Err(lines.refuse(NO_LAST_LINE));
        }
    }
    Ok(ranges)
}

const NO_LAST_LINE: &str =
    "a missing line break is marked behind a line that is not the last one of the file, or empty";

/// Whether a line tells that the line before has no line break at its end. Git writes it in the user's language.
fn is_mark(line: &[u8]) -> bool {
    line.starts_with(b"\\ ") && line.len() >= b"\\ 123456789".len()
}

/// Reads a hunk again.
fn skip_hunk(lines: &mut Lines<'_>) -> Option<()> {
    let (old, new) = lines.next().and_then(hunk_ranges)?;
    let (mut old, mut new) = (old.count, new.count);
    while old > 0 || new > 0 {
        match lines.next_raw()? {
            [b'-', ..] => old = old.checked_sub(1)?,
            [b'+', ..] => new = new.checked_sub(1)?,
            [b'\\', ..] => {}
            _ => (old, new) = (old.checked_sub(1)?, new.checked_sub(1)?),
        }
    }
    if lines.next_starts_with(b"\\ ") {
        lines.next();
    }
    Some(())
}

/// The lines of one side of a hunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HunkRange {
    /// The number of the first line, from 1. Without lines, the number of the line before, or 0.
    pub start: u32,
    /// The number of lines.
    pub count: u32,
}

impl HunkRange {
    /// Whether the file does not exist on this side.
    fn is_empty(&self) -> bool {
        self.start == 0 && self.count == 0
    }
}

/// The old and new lines that the head of a hunk names.
fn hunk_ranges(line: &[u8]) -> Option<(HunkRange, HunkRange)> {
    let rest = line.strip_prefix(b"@@ -")?;
    let (old, rest) = hunk_range(rest)?;
    let (new, rest) = hunk_range(rest.strip_prefix(b" +")?)?;
    rest.starts_with(b" @@").then_some((old, new))
}

fn hunk_range(text: &[u8]) -> Option<(HunkRange, &[u8])> {
    let (start, rest) = number(text)?;
    let (count, rest) = match rest.strip_prefix(b",") {
        Some(rest) => number(rest)?,
        None => (1, rest),
    };
    Some((HunkRange { start, count }, rest))
}
