//! Reads a patch before Mercurial does, and refuses what must not be committed.
//!
//! # Reasons for a reader of our own
//!
//! `hg import --bypass` commits whatever a patch contains: `.hg/hgrc`, `../x`, `/etc/x`, a file below a symbolic link.
//! It reads a submodule as a symbolic link, a patch without changes as an empty commit, and a patch with two export
//! headers as two commits. Its reader of patches is also lenient: it skips unknown lines, parses headers of mails,
//! decodes MIME, and takes the name of a file from any of five lines.
//!
//! So the check has to find the names that Mercurial will use, not just any names. This reader is strict: each line
//! must be at its place in the grammar of a git patch as Phabricator writes it, and all lines about a file must agree
//! on its name. A patch that passes leaves Mercurial's reader no choice:
//!
//! * the first line that is not blank is `diff --git`, so Mercurial finds no mail or export header, and cannot take a
//!   line outside of hunks for one;
//! * a hunk has exactly the number of lines that its head gives, each with its sign, so both readers agree on its end;
//! * the line `diff --git a/X b/Y` is split at the last ` b/`, as Mercurial splits it, and must agree with the other
//!   lines;
//! * `path::check` accepts only plain names, which trimming does not change; names in quotes, which Mercurial takes
//!   literally, are refused.
//!
//! Mercurial gets a file that is deleted and added again in another form: see `replace.rs`.
//!
//! Only the repository shows whether a path lies below a file or a symbolic link: see `path_tree.rs`.

mod binary;
mod budget;
mod gitmodules;
mod header;
mod hunk;
mod lines;
mod names;
mod path;
pub mod path_tree;
mod refusal;
pub mod reject_report;
mod replace;
mod rules;
mod spellings;
pub mod stack_size;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

pub use binary::{BinaryData, binary_data, encode};
pub use budget::Budget;
pub use gitmodules::{check_gitmodules, is_gitmodules};
pub use hunk::{Hunk, HunkHead, HunkLine, HunkRange, hunk_head, hunks, old_lines, old_texts};
pub(crate) use path::check as check_path;
pub use refusal::RejectReason;
pub use replace::Prepared;
pub use rules::{Mode, Modes, Rules};

use crate::Limits;
use header::Header;
use lines::Lines;
use refusal::{CONVERT, RENAME, stray};

/// A patch that has passed the checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedPatch {
    /// The rules by which it was read.
    pub rules: Rules,
    /// The changes to files, in the order of the patch.
    pub files: Vec<FileChange>,
    /// The form that Mercurial gets instead, if it would not apply the patch as it is. Git needs no other form.
    pub prepared: Option<Prepared>,
}

/// A change to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The file after the change, or the deleted file.
    pub path: Vec<u8>,
    /// The kind of the change.
    pub kind: Kind,
    /// The modes before and after the change.
    pub modes: Modes,
    /// The place of its first hunk, if it has hunks: see [`hunks`].
    pub hunks: Option<Place>,
    /// The place of its binary data, if it has some: see [`binary_data`].
    pub binary: Option<Place>,
    /// The names of Git's objects before and after the change, if the patch has both in full, as hex digits.
    pub index: Option<[Vec<u8>; 2]>,
    /// The size of the file after the change.
    pub size: NewSize,
}

/// The size of a file after a patch, in bytes, as far as the patch gives it. A missing line break at the end of the
/// file counts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewSize {
    /// The patch has the whole file, as binary data.
    Whole {
        /// The size, in bytes.
        size: u64,
    },
    /// The patch adds and removes lines, or none.
    Changed {
        /// The bytes of added lines.
        added: u64,
        /// The bytes of removed lines.
        removed: u64,
    },
}

impl NewSize {
    /// The size after the patch of a file that had `before` bytes.
    pub fn after(self, before: u64) -> u64 {
        match self {
            Self::Whole { size } => size,
            Self::Changed { added, removed } => {
                before.saturating_add(added).saturating_sub(removed)
            }
        }
    }
}

/// The beginning of a line of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of bytes before it.
    offset: usize,
    /// The number of lines before it.
    line: usize,
}

/// The kind of a change to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The file is new.
    Add,
    /// The content or mode changes.
    Modify,
    /// The file is deleted.
    Delete,
    /// The file is a copy of the one at this path, which stays.
    Copy(Vec<u8>),
    /// The file is moved from this path.
    Rename(Vec<u8>),
}

impl Kind {
    /// Whether the change makes a file: a new one, a copy, or a renamed one.
    pub fn adds(&self) -> bool {
        !matches!(self, Self::Modify | Self::Delete)
    }
}

impl ParsedPatch {
    /// The paths whose content or name changes.
    pub fn touched(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().flat_map(|file| {
            let source = match &file.kind {
                Kind::Rename(source) => Some(source.as_slice()),
                _ => None,
            };
            [Some(file.path.as_slice()), source].into_iter().flatten()
        })
    }

    /// The files that the patch deletes by a hunk. Mercurial deletes such a file if it has just the lines of the hunk,
    /// and keeps it if it has more.
    pub fn removed_by_hunks(&self) -> impl Iterator<Item = &[u8]> {
        let replaced = replace::replaced(&self.files);
        let removed = self.files.iter().filter(move |file| {
            file.kind == Kind::Delete
                && file.hunks.is_some()
                && !replaced.contains(file.path.as_slice())
        });
        removed.map(|file| file.path.as_slice())
    }
}

/// Reads a patch that is a stack of its own.
pub fn scan(content: &[u8], limits: &Limits, rules: Rules) -> Result<ParsedPatch, RejectReason> {
    scan_next(content, limits, rules, &mut Budget::new(limits))
}

/// Refuses a patch that has more bytes than the limit.
pub fn check_size(bytes: usize, limits: &Limits) -> Result<(), RejectReason> {
    let allowed = limits.patch_bytes;
    if bytes > allowed {
        let reason = format!("the patch has {bytes} bytes, {allowed} are allowed");
        return Err(RejectReason::without_line(reason));
    }
    Ok(())
}

/// Reads the next patch of a stack, or returns the reason for refusing it.
pub fn scan_next(
    content: &[u8],
    limits: &Limits,
    rules: Rules,
    budget: &mut Budget,
) -> Result<ParsedPatch, RejectReason> {
    check_size(content.len(), limits)?;
    let mut lines = Lines::new(content);
    let mut files = Vec::new();
    let mut seen = HashMap::new();
    let mut unchanged = None;
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (path, file) = scan_file(line, rules, &mut lines, budget)?;
        let kind = file.as_ref().map(|file| &file.kind);
        match seen.insert(path.clone(), kind == Some(&Kind::Delete)) {
            None => {}
            Some(true) if kind == Some(&Kind::Add) => {}
            Some(true) if kind.is_some_and(Kind::adds) && rules != Rules::Mercurial => {}
            Some(true) if kind.is_some_and(Kind::adds) => {
                let reason = "the patch deletes it and moves or copies another file there: make two revisions of that";
                return Err(lines.refuse(reason).about(&path));
            }
            Some(_) => return Err(lines.refuse("the patch changes it twice").about(&path)),
        }
        match file {
            Some(file) => files.push(file),
            None => {
                unchanged.get_or_insert(
                    lines
                        .refuse("the patch names the file but does not change it")
                        .about(&path),
                );
            }
        }
        if seen.len() > limits.files {
            return Err(lines.refuse(format!(
                "the patch changes more than {} files",
                limits.files
            )));
        }
    }
    if files.is_empty() {
        return Err(unchanged.unwrap_or_else(|| lines.refuse("the patch changes nothing")));
    }
    if let Some(file) = moved_and_changed(&files) {
        return Err(lines
            .refuse("the patch moves it away and changes it")
            .about(&file.path));
    }
    let replaced = match rules {
        Rules::Mercurial => replace::replaced(&files),
        Rules::Git { .. } => HashSet::new(),
    };
    let prepared = match replaced.iter().next() {
        None => None,
        Some(path) => Some(replace::prepare(content, &replaced).ok_or_else(|| {
            lines.refuse("the patch takes it away and adds it again, but not as a new file of whole lines").about(path)
        })?),
    };
    Ok(ParsedPatch {
        rules,
        files,
        prepared,
    })
}

/// A file that is both the source of a rename, which deletes it, and modified, which keeps it.
fn moved_and_changed(files: &[FileChange]) -> Option<&FileChange> {
    let sources = files.iter().filter_map(|file| match &file.kind {
        Kind::Rename(source) => Some(source.as_slice()),
        _ => None,
    });
    let gone: HashSet<&[u8]> = sources.collect();
    files
        .iter()
        .find(|file| file.kind == Kind::Modify && gone.contains(file.path.as_slice()))
}

/// Reads the part of the patch about one file, and returns its path and the change, if there is one. Phabricator also
/// names files that a diff does not change, and these are skipped.
fn scan_file<'a>(
    first: &'a [u8],
    rules: Rules,
    lines: &mut Lines<'a>,
    budget: &mut Budget,
) -> Result<(Cow<'a, [u8]>, Option<FileChange>), RejectReason> {
    match rules {
        Rules::Mercurial => {
            let (path, file) = scan_for_mercurial(first, rules, lines, budget)?;
            Ok((path.into(), file))
        }
        Rules::Git { .. } => scan_for_git(first, rules, lines, budget),
    }
}

/// Mercurial takes the names of a file from the line `diff --git`.
fn scan_for_mercurial<'a>(
    first: &'a [u8],
    rules: Rules,
    lines: &mut Lines<'a>,
    budget: &mut Budget,
) -> Result<(&'a [u8], Option<FileChange>), RejectReason> {
    let Some((old, new)) = names::split_last(first) else {
        return Err(stray(first, rules, lines));
    };
    if let Some(name) = old.strip_suffix(b"\r") {
        let reason =
            "only the line endings differ: the patch has CRLF, also behind the names of files";
        return Err(lines.refuse(reason).advise(CONVERT).about(name));
    }
    for name in [old, new] {
        path::check(name, rules).map_err(|reason| lines.refuse(reason).about(name))?;
    }
    let file = Header::read(rules, lines).and_then(|header| {
        let kind = header.kind(old, new).ok_or_else(|| {
            match header::whole_name(old, new, &header) {
                Some(name) => lines
                    .refuse("its name holds ` b/`, where Mercurial ends the name in the line `diff --git`")
                    .advise(RENAME)
                    .about(name),
                None => lines.refuse("its header contradicts itself"),
            }
        })?;
        scan_change([old, new], kind, &header, rules, lines, budget)
    });
    Ok((new, file.map_err(|refusal| refusal.about(new))?))
}

/// Git takes the names of a file from the lines of its header, and from the line `diff --git` if there are none.
fn scan_for_git<'a>(
    first: &'a [u8],
    rules: Rules,
    lines: &mut Lines<'a>,
    budget: &mut Budget,
) -> Result<(Cow<'a, [u8]>, Option<FileChange>), RejectReason> {
    let start = lines.place();
    let Some(both) = first.strip_prefix(b"diff --git ") else {
        return Err(stray(first, rules, lines));
    };
    let guess = names::twice(both);
    let header = Header::read(rules, lines)
        .map_err(|refusal| refusal.about(guess.as_deref().unwrap_or(both)))?;
    let named = match (header.moved(), guess) {
        (Some(names), _) => Some(names),
        (None, Some(name)) => Some([name.clone(), name]),
        (None, None) => None,
    };
    let [old, new] = named
        .filter(|[old, new]| names::are(both, old, new))
        .ok_or_else(|| {
            lines
                .refuse_at(start, "the names of the file cannot be read")
                .about(both)
        })?;
    for name in [&old, &new] {
        path::check(name, rules).map_err(|reason| lines.refuse_at(start, reason).about(name))?;
    }
    let file = header
        .kind(&old, &new)
        .ok_or_else(|| lines.refuse("its header contradicts itself"))
        .and_then(|kind| scan_change([&old, &new], kind, &header, rules, lines, budget))
        .map_err(|refusal| refusal.about(&new))?;
    Ok((new, file))
}

/// Reads the rest of a file's part, which follows on the header.
fn scan_change(
    [old, new]: [&[u8]; 2],
    mut kind: Kind,
    header: &Header<'_>,
    rules: Rules,
    lines: &mut Lines<'_>,
    budget: &mut Budget,
) -> Result<Option<FileChange>, RejectReason> {
    let (mut hunks, mut binary) = (None, None);
    let mut size = NewSize::Changed {
        added: 0,
        removed: 0,
    };
    match lines.peek() {
        Some(line) if line.starts_with(b"--- ") => {
            let names = hunk::names(rules, lines);
            if kind == Kind::Modify && !header.changes_mode() {
                kind = names.kind(lines);
            }
            let start = hunk::scan_text(old, new, &kind, &names, rules, lines)?;
            budget.spend_lines(lines.place().line - start.line)?;
            (hunks, size) = (Some(start), hunk::new_size(lines.since(start)));
        }
        Some(b"GIT binary patch") => {
            let deleted = kind == Kind::Delete;
            let (start, new_size) = binary::scan(lines, new, deleted, rules, budget)?;
            (binary, size) = (Some(start), new_size);
        }
        _ if kind == Kind::Modify && !header.changes_mode() => return Ok(None),
        _ => {}
    }
    let file = FileChange {
        path: new.to_vec(),
        kind,
        modes: header.modes(),
        hunks,
        binary,
        index: header.index(),
        size,
    };
    if rules != Rules::Mercurial {
        gitmodules::check_change(&file, lines)?;
    }
    Ok(Some(file))
}

fn is_content(line: &[u8]) -> bool {
    line.starts_with(b"--- ") || line.starts_with(b"diff ") || line == b"GIT binary patch"
}

fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests;
