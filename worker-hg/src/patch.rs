//! Reads a patch before Mercurial does, and refuses what must not be committed.
//!
//! # Why
//!
//! `hg import --bypass` commits whatever a patch says: `.hg/hgrc`, `../x`, `/etc/x`, a file below a symbolic link. It
//! takes a submodule for a symbolic link, a patch without changes for an empty commit, and a patch with two export
//! headers for two commits. Its reader of patches is also lenient: it skips lines that it does not know, looks for
//! headers in mails, decodes MIME, and takes the file's name from the one or the other of five lines.
//!
//! So the check must not merely find names in a patch, it must find the ones that Mercurial will use. This reader
//! does so by being strict: every line has to be in its place in the grammar of a git patch as Phabricator writes it,
//! and the names on all the lines about one file have to agree. For a patch that passes, Mercurial's reader has no
//! choice left:
//!
//! * the first line that is not blank is `diff --git`, so there is no mail or export header to be parsed, and no line
//!   outside of hunks can be taken for one;
//! * a hunk holds exactly as many lines as it says, each with its sign, so both readers agree where it ends;
//! * `diff --git a/X b/Y` is split at the last ` b/`, as Mercurial splits it, and then has to agree with the other
//!   lines;
//! * names are as plain as [`path::check`] wants them, so that trimming changes nothing; names in quotes (which
//!   Mercurial takes literally) are refused.
//!
//! Whether a path lies below a file or a symbolic link can only be told with the repository at hand: see `tree.rs`.

mod binary;
mod path;

use std::{collections::HashSet, fmt};

pub(crate) use binary::encode;

use crate::{Limits, text};

/// A patch that can be given to Mercurial.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// What it does, file by file.
    pub(crate) files: Vec<FileChange>,
}

/// What a patch does to one file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileChange {
    /// The file afterwards, or the file that goes.
    pub(crate) path: Vec<u8>,
    /// What is done to it.
    pub(crate) kind: Kind,
}

/// What is done to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Add,
    Modify,
    Delete,
    /// From this path, which stays.
    Copy(Vec<u8>),
    /// From this path, which goes.
    Rename(Vec<u8>),
}

impl Kind {
    /// Whether there is a file afterwards that was not there.
    pub(crate) fn adds(&self) -> bool {
        !matches!(self, Self::Modify | Self::Delete)
    }
}

/// Why a patch is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The file that it is about, when it is about one.
    pub(crate) path: Option<Vec<u8>>,
    /// The line of the patch, from 1.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", text::path(path))?;
        }
        write!(f, "{} (line {} of the patch)", self.reason, self.line)
    }
}

impl Scanned {
    /// The paths whose content or name changes.
    pub(crate) fn touched(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().flat_map(|file| {
            let source = match &file.kind {
                Kind::Rename(source) => Some(source.as_slice()),
                _ => None,
            };
            [Some(file.path.as_slice()), source].into_iter().flatten()
        })
    }
}

/// Reads a patch, or says why it is refused.
pub(crate) fn scan(content: &[u8], limits: &Limits) -> Result<Scanned, Refusal> {
    let mut lines = Lines { rest: content, number: 0 };
    if content.len() > limits.patch_bytes {
        return Err(lines.refuse(format!("the patch has {} bytes, {} are allowed", content.len(), limits.patch_bytes)));
    }
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    let mut binary_bytes = limits.binary_bytes;
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let file = scan_file(line, &mut lines, &mut binary_bytes)?;
        if !seen.insert(file.path.clone()) {
            return Err(lines.refuse("the patch changes it twice").about(&file.path));
        }
        files.push(file);
        if files.len() > limits.files {
            return Err(lines.refuse(format!("the patch changes more than {} files", limits.files)));
        }
    }
    if files.is_empty() { Err(lines.refuse("the patch changes nothing")) } else { Ok(Scanned { files }) }
}

/// What the lines between `diff --git` and the content say.
#[derive(Default)]
struct Header<'a> {
    added: bool,
    deleted: bool,
    old_mode: bool,
    new_mode: bool,
    renamed: [Option<&'a [u8]>; 2],
    copied: [Option<&'a [u8]>; 2],
}

fn scan_file<'a>(first: &'a [u8], lines: &mut Lines<'a>, binary_bytes: &mut usize) -> Result<FileChange, Refusal> {
    let Some((old, new)) = names(first) else {
        return Err(lines.refuse(stray(first)));
    };
    for name in [old, new] {
        path::check(name).map_err(|reason| lines.refuse(reason).about(name))?;
    }
    scan_named(old, new, lines, binary_bytes).map_err(|refusal| refusal.about(new))
}

fn scan_named<'a>(
    old: &'a [u8],
    new: &'a [u8],
    lines: &mut Lines<'a>,
    binary_bytes: &mut usize,
) -> Result<FileChange, Refusal> {
    let mut header = Header::default();
    while lines.peek().is_some_and(|line| !line.is_empty() && !is_content(line)) {
        header.read(lines)?;
    }
    let kind = header.kind(old, new).ok_or_else(|| lines.refuse("its header contradicts itself"))?;
    let has_content = match lines.peek() {
        Some(line) if line.starts_with(b"--- ") => {
            scan_text(old, new, &kind, lines)?;
            true
        }
        Some(b"GIT binary patch") => {
            binary::scan(lines, kind == Kind::Delete, binary_bytes)?;
            true
        }
        _ => false,
    };
    if kind == Kind::Modify && !has_content && !header.new_mode {
        return Err(lines.refuse("the patch names the file but does not change it"));
    }
    Ok(FileChange { path: new.to_vec(), kind })
}

fn is_content(line: &[u8]) -> bool {
    line.starts_with(b"--- ") || line.starts_with(b"diff ") || line == b"GIT binary patch"
}

impl<'a> Header<'a> {
    fn read(&mut self, lines: &mut Lines<'a>) -> Result<(), Refusal> {
        let Some(line) = lines.next() else { return Ok(()) };
        let mut mode = None;
        let fresh = if let Some(rest) = line.strip_prefix(b"new file mode ") {
            mode = Some(rest);
            once(&mut self.added)
        } else if let Some(rest) = line.strip_prefix(b"deleted file mode ") {
            mode = Some(rest);
            once(&mut self.deleted)
        } else if let Some(rest) = line.strip_prefix(b"old mode ") {
            mode = Some(rest);
            once(&mut self.old_mode)
        } else if let Some(rest) = line.strip_prefix(b"new mode ") {
            mode = Some(rest);
            once(&mut self.new_mode)
        } else if let Some(name) = line.strip_prefix(b"rename from ") {
            self.renamed[0].replace(name).is_none()
        } else if let Some(name) = line.strip_prefix(b"rename to ") {
            self.renamed[1].replace(name).is_none()
        } else if let Some(name) = line.strip_prefix(b"copy from ") {
            self.copied[0].replace(name).is_none()
        } else if let Some(name) = line.strip_prefix(b"copy to ") {
            self.copied[1].replace(name).is_none()
        } else if let Some(rest) = line.strip_prefix(b"index ") {
            mode = rest.split(|&byte| byte == b' ').nth(1);
            true
        } else if line.starts_with(b"similarity index ") || line.starts_with(b"dissimilarity index ") {
            true
        } else {
            return Err(lines.refuse(stray(line)));
        };
        if !fresh {
            return Err(lines.refuse("its header says the same thing twice"));
        }
        match mode {
            Some(b"160000") => Err(lines.refuse("it is a git submodule, which Mercurial cannot hold")),
            Some(mode) if !is_mode(mode) => Err(lines.refuse("its mode is neither a file's nor a symbolic link's")),
            _ => Ok(()),
        }
    }

    /// What is done to the file, when the header says exactly one thing.
    fn kind(&self, old: &[u8], new: &[u8]) -> Option<Kind> {
        let same = old == new;
        let source = || Some(old.to_vec());
        let moved = |names: [Option<&[u8]>; 2]| names == [Some(old), Some(new)] && !same;
        let one = [self.added, self.deleted, self.renamed != [None; 2], self.copied != [None; 2]];
        if self.old_mode != self.new_mode {
            return None;
        }
        match one {
            [true, false, false, false] => (same && !self.new_mode).then_some(Kind::Add),
            [false, true, false, false] => (same && !self.new_mode).then_some(Kind::Delete),
            [false, false, true, false] => source().filter(|_| moved(self.renamed)).map(Kind::Rename),
            [false, false, false, true] => source().filter(|_| moved(self.copied)).map(Kind::Copy),
            [false, false, false, false] => same.then_some(Kind::Modify),
            _ => None,
        }
    }
}

fn once(flag: &mut bool) -> bool {
    !std::mem::replace(flag, true)
}

fn is_mode(mode: &[u8]) -> bool {
    let permissions = mode.strip_prefix(b"100").filter(|rest| rest.len() == 3);
    mode == b"120000" || permissions.is_some_and(|rest| rest.iter().all(|byte| (b'0'..=b'7').contains(byte)))
}

/// The two names on a `diff --git` line, split where Mercurial splits it.
fn names(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = line.strip_prefix(b"diff --git a/")?;
    let middle = rest.windows(3).rposition(|window| window == b" b/")?;
    Some((&rest[..middle], &rest[middle + 3..]))
}

fn scan_text(old: &[u8], new: &[u8], kind: &Kind, lines: &mut Lines<'_>) -> Result<(), Refusal> {
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
    let mut hunks = 0;
    while lines.peek().is_some_and(|line| line.starts_with(b"@")) {
        scan_hunk(lines)?;
        hunks += 1;
    }
    if hunks == 0 { Err(lines.refuse("a hunk (`@@ … @@`) is missing")) } else { Ok(()) }
}

/// The name on a `---` or `+++` line: up to the tab, or without one up to the first space. A name with spaces is
/// written with a tab behind it.
fn name_of(rest: &[u8]) -> &[u8] {
    let end = rest.iter().position(|&byte| byte == b'\t').or_else(|| rest.iter().position(|&byte| byte == b' '));
    &rest[..end.unwrap_or(rest.len())]
}

fn scan_hunk(lines: &mut Lines<'_>) -> Result<(), Refusal> {
    let lengths = lines.next().and_then(hunk_lengths);
    let Some((mut old, mut new)) = lengths else {
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
    if lines.peek().is_some_and(|line| line.starts_with(b"\\ ")) {
        lines.next();
    }
    Ok(())
}

/// The numbers of old and new lines that the head of a hunk promises.
fn hunk_lengths(line: &[u8]) -> Option<(u32, u32)> {
    let rest = line.strip_prefix(b"@@ -")?;
    let (old, rest) = hunk_range(rest)?;
    let (new, rest) = hunk_range(rest.strip_prefix(b" +")?)?;
    rest.starts_with(b" @@").then_some((old, new))
}

fn hunk_range(text: &[u8]) -> Option<(u32, &[u8])> {
    let (_, rest) = number(text)?;
    match rest.strip_prefix(b",") {
        Some(rest) => number(rest),
        None => Some((1, rest)),
    }
}

fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

/// What to say about a line that has no place.
fn stray(line: &[u8]) -> String {
    if line.starts_with(b"# HG changeset patch") {
        "it has a `# HG changeset patch` header, which could make one patch several commits".to_owned()
    } else if line.starts_with(b"Binary file") {
        "the content of a binary file is missing".to_owned()
    } else if line.starts_with(b"diff --git \"") {
        "a file's name stands in quotes, which Mercurial takes as part of the name".to_owned()
    } else {
        format!("this line has no place in a git patch: {}", text::cut(&text::path(line), 80))
    }
}

/// The lines of a patch. They end at `\n` only.
struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Lines<'a> {
    /// The next line as it stands, without its `\n`.
    fn next_raw(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let (line, rest) = match end {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, [].as_slice()),
        };
        self.rest = rest;
        self.number += 1;
        Some(line)
    }

    /// The next line without the carriage returns at its end, as Mercurial reads all lines but those of hunks.
    fn next(&mut self) -> Option<&'a [u8]> {
        self.next_raw().map(without_cr)
    }

    fn peek(&self) -> Option<&'a [u8]> {
        Lines { rest: self.rest, number: 0 }.next()
    }

    fn refuse(&self, reason: impl Into<String>) -> Refusal {
        Refusal { path: None, line: self.number, reason: reason.into() }
    }
}

impl Refusal {
    fn about(self, path: &[u8]) -> Self {
        Self { path: self.path.or_else(|| Some(path.to_vec())), ..self }
    }
}

fn without_cr(mut line: &[u8]) -> &[u8] {
    while let Some(shorter) = line.strip_suffix(b"\r") {
        line = shorter;
    }
    line
}

#[cfg(test)]
mod tests;
