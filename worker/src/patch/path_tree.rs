//! Checks the paths of a stack against the tree: no file may lie below another file or a symbolic link.
//!
//! Mercurial commits `link/x` beside a symbolic link `link`, and a checkout of that writes through the link. The check
//! reads the paths of the base, sorted by their bytes, and keeps only those that matter to the stack.

use std::collections::{BTreeMap, BTreeSet};

use crate::patch::{Kind, ParsedPatch, stack_size};

/// The tree that a stack is applied on, as far as its paths matter to the stack.
#[derive(Debug)]
pub struct Tree {
    base: BTreeSet<Vec<u8>>,
    /// The paths that the stack has changed, and whether each exists now.
    changes: BTreeMap<Vec<u8>, bool>,
    /// The file of the last commit.
    last: Option<Vec<u8>>,
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
        }
    }

    /// Keeps a path of the tree that is wanted.
    pub fn keep(&mut self, path: &[u8]) {
        self.found.insert(path.to_vec());
    }

    /// The paths that were kept.
    pub fn tree(self) -> Tree {
        Tree {
            base: self.found,
            changes: BTreeMap::new(),
            last: self.last,
        }
    }

    /// Reads the next path of the tree.
    pub fn pass(&mut self, path: &[u8]) {
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
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(slash, _)| &path[..slash])
}

/// A file that would lie below another one.
#[derive(Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The file that the patch adds.
    pub path: Vec<u8>,
    /// The file above or below it.
    pub other: Vec<u8>,
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
        for path in added {
            if let Some(other) = self.above(path).or_else(|| self.below(path)) {
                return Err(Conflict {
                    path: path.clone(),
                    other,
                });
            }
        }
        Ok(())
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
mod tests {
    use super::*;
    use crate::{
        TRY_CONFIG,
        patch::{FileChange, Modes, NewSize, Rules},
    };

    /// The tree with these paths, as far as it matters to `stack`.
    fn tree(paths: &[&str], stack: &[ParsedPatch]) -> Tree {
        let mut paths = paths.to_vec();
        paths.sort_unstable();
        let mut filter = PathFilter::new(stack, Some(TRY_CONFIG));
        paths.iter().for_each(|path| filter.pass(path.as_bytes()));
        filter.tree()
    }

    fn patch(changes: &[(&str, Kind)]) -> ParsedPatch {
        let file = |(path, kind): &(&str, Kind)| FileChange {
            path: path.as_bytes().to_vec(),
            kind: kind.clone(),
            modes: Modes::default(),
            hunks: None,
            binary: None,
            index: None,
            size: NewSize::Changed {
                added: 0,
                removed: 0,
            },
        };
        ParsedPatch {
            rules: Rules::Mercurial,
            files: changes.iter().map(file).collect(),
            prepared: None,
        }
    }

    #[test]
    fn no_file_lies_below_another() {
        let rename = |source: &str| Kind::Rename(source.as_bytes().to_vec());
        let copy = |source: &str| Kind::Copy(source.as_bytes().to_vec());
        let base = ["a", "d/e/f", "d/e/g", "d-e", "link", "z"];
        type Case<'a> = (
            &'a str,
            Vec<Vec<(&'a str, Kind)>>,
            Option<(&'a str, &'a str)>,
        );
        let table: Vec<Case<'_>> = vec![
            (
                "a file beside others",
                vec![vec![("d/e/h", Kind::Add), ("n/m", Kind::Add)]],
                None,
            ),
            (
                "a name that others begin with",
                vec![vec![("d/e/fg", Kind::Add), ("li", Kind::Add)]],
                None,
            ),
            (
                "below a link of the base",
                vec![vec![("link/x", Kind::Add)]],
                Some(("link/x", "link")),
            ),
            (
                "far below a file",
                vec![vec![("a/b/c/d", Kind::Add)]],
                Some(("a/b/c/d", "a")),
            ),
            (
                "a file for a directory",
                vec![vec![("d", Kind::Add)]],
                Some(("d", "d/e/f")),
            ),
            (
                "a copy for a directory",
                vec![vec![("d/e", copy("a"))]],
                Some(("d/e", "d/e/f")),
            ),
            (
                "below a link of the same patch",
                vec![vec![("l", Kind::Add), ("l/x", Kind::Add)]],
                Some(("l", "l/x")),
            ),
            (
                "below a link of an earlier patch",
                vec![vec![("l", Kind::Add)], vec![("l/x", Kind::Add)]],
                Some(("l/x", "l")),
            ),
            (
                "above a file of an earlier patch",
                vec![vec![("l/x", Kind::Add)], vec![("l", Kind::Add)]],
                Some(("l", "l/x")),
            ),
            (
                "below a file that went before",
                vec![vec![("link", Kind::Delete)], vec![("link/x", Kind::Add)]],
                None,
            ),
            (
                "below a file that moves there",
                vec![vec![("a/b", rename("a"))]],
                None,
            ),
            (
                "below a file that came back",
                vec![
                    vec![("a", Kind::Delete)],
                    vec![("a", Kind::Add)],
                    vec![("a/b", Kind::Add)],
                ],
                Some(("a/b", "a")),
            ),
            (
                "for a directory that is emptied",
                vec![vec![
                    ("d/e/f", Kind::Delete),
                    ("d/e/g", Kind::Delete),
                    ("d/e", Kind::Add),
                ]],
                None,
            ),
            (
                "for a directory that is nearly emptied",
                vec![vec![("d/e/f", Kind::Delete), ("d/e", Kind::Add)]],
                Some(("d/e", "d/e/g")),
            ),
            (
                "two files that change places",
                vec![
                    vec![("a", rename("z")), ("z", rename("a"))],
                    vec![("z/b", Kind::Add)],
                ],
                Some(("z/b", "z")),
            ),
            (
                "below our own file",
                vec![vec![("try_task_config.json/x", Kind::Add)]],
                Some(("try_task_config.json/x", "try_task_config.json")),
            ),
        ];
        for (case, patches, expected) in table {
            let stack: Vec<ParsedPatch> = patches.iter().map(|changes| patch(changes)).collect();
            let expected = expected.map_or(Ok(()), |(path, other)| {
                Err(Conflict {
                    path: path.as_bytes().to_vec(),
                    other: other.as_bytes().to_vec(),
                })
            });
            let mut tree = tree(&base, &stack);
            let found = stack.iter().try_for_each(|patch| tree.apply(patch));
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn only_paths_that_matter_to_the_stack_are_kept() {
        let paths: Vec<String> = (0..2000)
            .map(|number| format!("dir{}/file{number}", number % 7))
            .collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let gone = Kind::Delete;
        let stack = [patch(&[
            ("dir3/file3", gone),
            ("dir3", Kind::Add),
            ("dir4/file4/x", Kind::Add),
            ("new", Kind::Add),
        ])];
        let tree = tree(&paths, &stack);
        let found: Vec<_> = tree
            .base
            .iter()
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect();
        assert_eq!(found, ["dir3/file10", "dir3/file1004", "dir4/file4"]);
        assert!(!tree.has_last());
    }
}
