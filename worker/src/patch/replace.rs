//! Files that a patch deletes or moves away and then adds again, as Git writes a file that becomes a symbolic link.
//!
//! `hg import` applies such a patch in a working copy. With `--bypass` it compares the new file with the parent, which
//! still has the old one, and rejects the patch. So Mercurial gets a change of the mode and of the whole content
//! instead. That form has no deletion, so the worker itself compares the deleted lines with the file.

use std::collections::HashSet;

use super::{Budget, FileChange, Kind, Lines, Rules, binary, hunk, is_content, scan_file};

/// A patch in a form that Mercurial applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The text of that form.
    pub content: Vec<u8>,
    /// The deletions that the form leaves out.
    pub deletions: Vec<Deletion>,
}

/// A file that a patch deletes, and the lines that it deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The deleted file.
    pub path: String,
    lines: Vec<u8>,
}

impl Deletion {
    /// The number of bytes of the file that [`Self::fits`] needs.
    pub fn bytes(&self) -> usize {
        self.lines.len() + 1
    }

    /// Whether the file begins with these lines, as Mercurial requires. `content` is the beginning of the file.
    pub fn fits(&self, content: &[u8]) -> bool {
        content == self.lines || (self.lines.ends_with(b"\n") && content.starts_with(&self.lines))
    }
}

/// The paths that a patch deletes or moves away and then adds again.
pub(super) fn replaced(files: &[FileChange]) -> HashSet<&[u8]> {
    let (mut gone, mut replaced) = (HashSet::new(), HashSet::new());
    for file in files {
        match &file.kind {
            Kind::Delete => _ = gone.insert(file.path.as_slice()),
            Kind::Rename(source) => _ = gone.insert(source.as_slice()),
            Kind::Add if gone.contains(file.path.as_slice()) => {
                _ = replaced.insert(file.path.as_slice())
            }
            Kind::Add | Kind::Copy(_) | Kind::Modify => {}
        }
    }
    replaced
}

/// Prepares a patch that has been read and that replaces these files. `None` if a hunk that deletes or adds one of them
/// has other lines, too.
pub(super) fn prepare(content: &[u8], replaced: &HashSet<&[u8]>) -> Option<Prepared> {
    let mut prepared = Prepared {
        content: Vec::with_capacity(content.len()),
        deletions: Vec::new(),
    };
    let mut lines = Lines::new(content);
    let mut budget = Budget::unlimited();
    loop {
        let start = lines.place();
        let Some(first) = lines.next() else {
            return Some(prepared);
        };
        if first.is_empty() {
            continue;
        }
        let (path, file) = scan_file(first, Rules::Mercurial, &mut lines, &mut budget).ok()?;
        let path = path.as_ref();
        let section = lines.since(start);
        match file.filter(|_| replaced.contains(path)) {
            Some(FileChange {
                kind: Kind::Delete,
                hunks,
                ..
            }) => {
                if let Some(hunks) = hunks {
                    let lines = hunk::only(content, hunks, b'-')?;
                    // Phabricator's responses are UTF-8, and so are the names in them.
                    let path = str::from_utf8(path).ok()?.to_owned();
                    prepared.deletions.push(Deletion { path, lines });
                }
            }
            Some(FileChange {
                kind: Kind::Add,
                hunks,
                ..
            }) => {
                let data = match (hunks, binary_data(section)) {
                    (Some(hunks), _) => &binary::encode(&hunk::only(content, hunks, b'+')?).ok()?,
                    (None, Some(data)) => data,
                    (None, None) => &binary::encode(b"").ok()?,
                };
                prepared.content.extend(change(path, mode(section), data));
            }
            _ => prepared.content.extend_from_slice(section),
        }
        if prepared.content.last().is_some_and(|last| *last != b'\n') {
            prepared.content.push(b'\n');
        }
    }
}

/// The part of a patch that gives a file this mode and this content, whatever it was.
fn change(path: &[u8], mode: &[u8], data: &[u8]) -> Vec<u8> {
    [
        b"diff --git a/",
        path,
        b" b/",
        path,
        b"\nold mode 100644\nnew mode ",
        mode,
        b"\n",
        data,
    ]
    .concat()
}

/// The binary data in a part of a patch.
fn binary_data(section: &[u8]) -> Option<&[u8]> {
    let mark = b"\nGIT binary patch";
    let at = section
        .windows(mark.len())
        .position(|window| window == mark)?;
    Some(&section[at + 1..])
}

/// The mode of the file that this part of a patch adds. Without one, Mercurial makes a plain file.
fn mode(section: &[u8]) -> &[u8] {
    let mut lines = Lines::new(section);
    lines.next();
    while let Some(line) = lines.next().filter(|line| !is_content(line)) {
        if let Some(mode) = line.strip_prefix(b"new file mode ") {
            return mode;
        }
    }
    b"100644"
}
