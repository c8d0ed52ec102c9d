//! Checks the paths of a stack against the tree: no file may lie below another file or a symbolic link. For Git, no two
//! paths may differ by case only: see `spellings.rs`.
//!
//! Mercurial commits `link/x` beside a symbolic link `link`, and a checkout of that writes through the link. The check
//! reads the paths of the base, sorted by their bytes, and keeps only those that matter to the stack.

use std::collections::{BTreeMap, BTreeSet};

use crate::patch::{
    Kind, ParsedPatch, Rules,
    spellings::{AddedNames, Relation, Spellings, prefixes},
    stack_size,
};

/// The tree that a stack is applied on, as far as its paths matter to the stack.
#[derive(Debug)]
pub struct Tree {
    base: BTreeSet<Vec<u8>>,
    /// The paths that the stack has changed, and whether each exists now.
    changes: BTreeMap<Vec<u8>, bool>,
    /// The file of the last commit.
    last: Option<Vec<u8>>,
    /// The files and directories of the base whose names the stack adds in some spelling. Empty for Mercurial.
    entries: BTreeSet<Vec<u8>>,
    /// The spellings of these, and of what the stack has added.
    spellings: Spellings,
}

/// Keeps the paths of a tree that matter to a stack. A version control either passes all paths in the order of their
/// bytes to [`Self::pass`], or looks up those that are [`Self::wanted`] and has them kept.
#[derive(Debug)]
pub struct PathFilter {
    /// The paths to keep, sorted.
    paths: Vec<Vec<u8>>,
    /// The index of the first of them that the tree's paths have not passed.
    at: usize,
    /// The directories of which some files are kept, sorted, with the number of files that were found.
    directories: Vec<(Vec<u8>, usize)>,
    /// The index of the first of them that the tree's paths have not reached.
    next: usize,
    /// The indexes of the directories that the current path is in, the innermost last.
    inside: Vec<usize>,
    /// The number of files of a directory that are kept: one more than the stack can delete or move away.
    enough: usize,
    found: BTreeSet<Vec<u8>>,
    /// The file of the last commit.
    last: Option<Vec<u8>>,
    /// The names that the stack adds, for Git.
    names: Option<AddedNames>,
    /// The entries with one of these names, in any spelling.
    entries: BTreeSet<Vec<u8>>,
    /// The number of files that were found in each directory with another spelling.
    spelled: BTreeMap<Vec<u8>, usize>,
}

/// The paths that a [`PathFilter`] asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The paths that are kept if there is a file, sorted.
    pub paths: Vec<&'a [u8]>,
    /// The directories of which files are kept, at any depth, sorted.
    pub directories: Vec<&'a [u8]>,
    /// The number of files of each directory that are kept. Further ones may be left out.
    pub enough: usize,
    /// The directories whose entries are to be passed to [`PathFilter::keep_entry`]: files and directories, at no
    /// greater depth. The root is empty.
    pub listed: Vec<&'a [u8]>,
}

impl PathFilter {
    /// A filter that keeps the paths that matter to `stack`, and to the commit of the file `last` on top of it.
    pub fn new(stack: &[ParsedPatch], last: Option<&str>) -> Self {
        let files = || stack.iter().flat_map(|patch| &patch.files);
        let added: BTreeSet<&[u8]> = files()
            .filter(|file| file.kind.adds())
            .map(|file| file.path.as_slice())
            .collect();
        let above = added.iter().flat_map(|path| ancestors(path));
        let last = last.map(str::as_bytes);
        let for_git = stack.iter().any(|patch| patch.rules != Rules::Mercurial);
        let paths: BTreeSet<&[u8]> = added
            .iter()
            .copied()
            .chain(above)
            .chain(last)
            .chain(stack_size::sized(stack))
            .collect();
        let goes = |kind: &Kind| matches!(kind, Kind::Delete | Kind::Rename(_));
        Self {
            paths: paths.into_iter().map(<[u8]>::to_vec).collect(),
            at: 0,
            directories: added
                .iter()
                .map(|path| ([path, b"/".as_slice()].concat(), 0))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            next: 0,
            inside: Vec::new(),
            enough: files().filter(|file| goes(&file.kind)).count() + 1,
            found: BTreeSet::new(),
            last: last.map(<[u8]>::to_vec),
            names: for_git.then(|| {
                let mut names = AddedNames::default();
                added.iter().for_each(|path| names.insert(path));
                names
            }),
            entries: BTreeSet::new(),
            spelled: BTreeMap::new(),
        }
    }

    /// The paths to look up in the tree.
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            paths: self.paths.iter().map(Vec::as_slice).collect(),
            directories: self
                .directories
                .iter()
                .map(|(directory, _)| directory.strip_suffix(b"/").unwrap_or(directory))
                .collect(),
            enough: self.enough,
            listed: self
                .names
                .iter()
                .flat_map(AddedNames::directories)
                .collect(),
        }
    }

    /// Keeps the path of a file that is wanted. A symbolic link or a submodule is a file here.
    pub fn keep(&mut self, path: &[u8]) {
        self.found.insert(path.to_vec());
    }

    /// Reads an entry of a directory that is listed. Returns whether it is a directory of which files are wanted, at
    /// any depth: [`Wanted::enough`] of them.
    pub fn keep_entry(&mut self, entry: &[u8], is_directory: bool) -> bool {
        let relation = match &self.names {
            Some(names) => names.relation(entry),
            None => Relation::Elsewhere,
        };
        if !matches!(relation, Relation::Same | Relation::Other) {
            return false;
        }
        self.entries.insert(entry.to_vec());
        if !is_directory {
            self.keep(entry);
        }
        is_directory && relation == Relation::Other
    }

    /// Reads the entries that this path of the tree has in the listed directories.
    fn pass_entries(&mut self, path: &[u8]) {
        for entry in prefixes(path) {
            let relation = match &self.names {
                Some(names) => names.relation(entry),
                None => Relation::Elsewhere,
            };
            if relation == Relation::Elsewhere {
                return;
            }
            if self.keep_entry(entry, entry != path) {
                let count = self.spelled.entry(entry.to_vec()).or_default();
                *count += 1;
                if *count <= self.enough {
                    self.keep(path);
                }
            }
        }
    }

    /// The paths that were kept.
    pub fn tree(self) -> Tree {
        Tree {
            base: self.found,
            changes: BTreeMap::new(),
            spellings: {
                let mut spellings = Spellings::default();
                let last = self.last.as_deref().filter(|_| self.names.is_some());
                last.into_iter()
                    .flat_map(prefixes)
                    .chain(self.entries.iter().map(Vec::as_slice))
                    .for_each(|path| spellings.insert(path));
                spellings
            },
            entries: self.entries,
            last: self.last,
        }
    }

    /// Reads the next path of the tree.
    pub fn pass(&mut self, path: &[u8]) {
        if self.names.is_some() {
            self.pass_entries(path);
        }
        while self
            .paths
            .get(self.at)
            .is_some_and(|wanted| wanted.as_slice() < path)
        {
            self.at += 1;
        }
        while self
            .directories
            .get(self.next)
            .is_some_and(|(directory, _)| directory.as_slice() <= path)
        {
            self.inside.push(self.next);
            self.next += 1;
        }
        while self
            .inside
            .last()
            .is_some_and(|&innermost| !path.starts_with(&self.directories[innermost].0))
        {
            self.inside.pop();
        }
        let mut matters = self.paths.get(self.at).is_some_and(|wanted| wanted == path);
        if let Some(&innermost) = self.inside.last() {
            let (_, count) = &mut self.directories[innermost];
            matters |= *count < self.enough;
            *count += 1;
        }
        if matters {
            self.found.insert(path.to_vec());
        }
    }
}

/// The paths of the directories that a path is in.
pub(super) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(slash, _)| &path[..slash])
}

/// A file that cannot be beside another one.
#[derive(Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The file that the patch adds.
    pub path: Vec<u8>,
    /// The file above or below it, or the other spelling.
    pub other: Vec<u8>,
    /// The reason.
    pub clash: Clash,
}

/// The reason for which two paths cannot be in one tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clash {
    /// One of both files lies below the other.
    Nesting,
    /// The path is, or lies in, another spelling of a path that is there.
    Spelling,
}

impl Tree {
    /// Applies the changes of paths in a patch. Fails if a file that it adds lies above or below another file.
    pub fn apply(&mut self, patch: &ParsedPatch) -> Result<(), Conflict> {
        let mut added = Vec::new();
        for file in &patch.files {
            match &file.kind {
                Kind::Modify => continue,
                Kind::Delete => {
                    self.changes.insert(file.path.clone(), false);
                    continue;
                }
                Kind::Rename(source) => {
                    self.changes.insert(source.clone(), false);
                }
                Kind::Add | Kind::Copy(_) => {}
            }
            added.push(&file.path);
        }
        // The source of one rename can be the target of another.
        for path in &added {
            self.changes.insert((*path).clone(), true);
        }
        let conflict = |path: &[u8], other, clash| Conflict {
            path: path.to_vec(),
            other,
            clash,
        };
        for path in &added {
            if let Some(other) = self.above(path).or_else(|| self.below(path)) {
                return Err(conflict(path, other, Clash::Nesting));
            }
        }
        if patch.rules == Rules::Mercurial {
            return Ok(());
        }
        for prefix in added.iter().flat_map(|path| prefixes(path)) {
            self.spellings.insert(prefix);
        }
        for path in added {
            if let Some(other) = self.respelled(path) {
                return Err(conflict(path, other, Clash::Spelling));
            }
        }
        Ok(())
    }

    /// Another spelling of the path, or of a directory that it is in, that is there. A base that has two spellings
    /// already keeps them.
    fn respelled(&self, path: &[u8]) -> Option<Vec<u8>> {
        prefixes(path)
            .filter(|prefix| !self.entries.contains(*prefix))
            .flat_map(|prefix| self.spellings.others(prefix))
            .find(|other| self.is_file(other) || self.below(other).is_some())
            .cloned()
    }

    /// A file where `path` needs a directory.
    fn above(&self, path: &[u8]) -> Option<Vec<u8>> {
        ancestors(path)
            .find(|directory| self.is_file(directory))
            .map(<[u8]>::to_vec)
    }

    /// A file in a directory where `path` is a file.
    fn below(&self, path: &[u8]) -> Option<Vec<u8>> {
        let directory = [path, b"/"].concat();
        let inside = |other: &[u8]| other.starts_with(&directory);
        if let Some(last) = self.last.as_ref().filter(|last| inside(last)) {
            return Some(last.clone());
        }
        let changed = self
            .changes
            .range(directory.clone()..)
            .take_while(|(other, _)| inside(other))
            .find(|(_, there)| **there);
        let kept = || {
            let mut paths = self
                .base
                .range(directory.clone()..)
                .take_while(|other| inside(other));
            paths
                .find(|other| !self.changes.contains_key(*other))
                .cloned()
        };
        changed.map(|(other, _)| other.clone()).or_else(kept)
    }

    /// Whether the base has a file at `path`, which must matter to the stack.
    pub fn was_there(&self, path: &[u8]) -> bool {
        self.base.contains(path)
    }

    /// Whether the tree has the file of the last commit already.
    pub fn has_last(&self) -> bool {
        self.last.as_ref().is_some_and(|last| self.is_there(last))
    }

    fn is_file(&self, path: &[u8]) -> bool {
        // The last commit of the build adds this file.
        self.last.as_deref() == Some(path) || self.is_there(path)
    }

    fn is_there(&self, path: &[u8]) -> bool {
        self.changes
            .get(path)
            .copied()
            .unwrap_or_else(|| self.base.contains(path))
    }
}

#[cfg(test)]
mod tests;
