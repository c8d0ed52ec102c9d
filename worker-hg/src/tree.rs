//! Whether the paths of a stack fit into the tree: no file may lie below another file or a symbolic link.
//!
//! Mercurial commits `link/x` beside a symbolic link `link`, and whoever checks that out writes through the link. To
//! tell, the base's manifest is read as Mercurial stores it: lines of `<path> NUL <40 hex digits><flags>`, sorted by
//! the bytes of the paths. (`hg files` and its kin walk the whole tree for each directory, which takes four times as
//! long on 100,000 files, and would be asked for each patch.)

use std::collections::BTreeMap;

use crate::{
    patch::{Kind, Scanned},
    try_config,
};

/// The tree that a stack is applied on, as far as its paths go.
#[derive(Debug)]
pub(crate) struct Tree {
    manifest: Vec<u8>,
    /// What the stack has made of paths: whether they are there.
    changes: BTreeMap<Vec<u8>, bool>,
}

/// A file that would lie below another one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The file that the patch adds.
    pub(crate) path: Vec<u8>,
    /// The file that is in its way.
    pub(crate) other: Vec<u8>,
}

impl Tree {
    /// The tree of a manifest, in its stored form.
    pub(crate) fn new(manifest: Vec<u8>) -> Self {
        Self { manifest, changes: BTreeMap::new() }
    }

    /// Applies a patch's changes of paths, and looks at what it adds.
    pub(crate) fn apply(&mut self, patch: &Scanned) -> Result<(), Conflict> {
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
                return Err(Conflict { path: path.clone(), other });
            }
        }
        Ok(())
    }

    /// A file where `path` needs a directory.
    fn above(&self, path: &[u8]) -> Option<Vec<u8>> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(position, _)| position);
        slashes.map(|end| &path[..end]).find(|directory| self.is_file(directory)).map(<[u8]>::to_vec)
    }

    /// A file in a directory where `path` is a file.
    fn below(&self, path: &[u8]) -> Option<Vec<u8>> {
        let directory = [path, b"/"].concat();
        let inside = |other: &[u8]| other.starts_with(&directory);
        let start = directory.clone();
        let changed = self.changes.range(start..).take_while(|(other, _)| inside(other)).find(|(_, there)| **there);
        let kept = || {
            let mut paths = self.paths_from(&directory).take_while(|other| inside(other));
            paths.find(|other| !self.changes.contains_key(*other)).map(<[u8]>::to_vec)
        };
        changed.map(|(other, _)| other.clone()).or_else(kept)
    }

    fn is_file(&self, path: &[u8]) -> bool {
        if path == try_config::PATH.as_bytes() {
            // The build's last commit puts it there.
            return true;
        }
        match self.changes.get(path) {
            Some(there) => *there,
            None => self.paths_from(path).next() == Some(path),
        }
    }

    /// The manifest's paths from `start` on.
    fn paths_from<'a>(&'a self, start: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        let (mut low, mut high) = (0, self.manifest.len());
        // Between two lines, `low` is behind all that are smaller and `high` before all that are not.
        while low < high {
            let middle = low + (high - low) / 2;
            let line =
                self.manifest[..middle].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1).max(low);
            let rest = &self.manifest[line..];
            if path_of(rest) < start {
                low = line + rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |end| end + 1);
            } else {
                high = line;
            }
        }
        self.manifest[low..].split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(path_of)
    }
}

fn path_of(line: &[u8]) -> &[u8] {
    line.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::FileChange;

    fn tree(paths: &[&str]) -> Tree {
        let mut paths = paths.to_vec();
        paths.sort_unstable();
        let lines = paths.iter().map(|path| format!("{path}\0{}\n", "0".repeat(40)));
        Tree::new(lines.collect::<String>().into_bytes())
    }

    fn patch(changes: &[(&str, Kind)]) -> Scanned {
        let file = |(path, kind): &(&str, Kind)| FileChange {
            path: path.as_bytes().to_vec(),
            kind: kind.clone(),
            hunks: None,
        };
        Scanned { files: changes.iter().map(file).collect() }
    }

    #[test]
    fn no_file_lies_below_another() {
        let rename = |source: &str| Kind::Rename(source.as_bytes().to_vec());
        let copy = |source: &str| Kind::Copy(source.as_bytes().to_vec());
        let base = ["a", "d/e/f", "d/e/g", "d-e", "link", "z"];
        type Case<'a> = (&'a str, Vec<Vec<(&'a str, Kind)>>, Option<(&'a str, &'a str)>);
        let table: Vec<Case<'_>> = vec![
            ("a file beside others", vec![vec![("d/e/h", Kind::Add), ("n/m", Kind::Add)]], None),
            ("a name that others begin with", vec![vec![("d/e/fg", Kind::Add), ("li", Kind::Add)]], None),
            ("below a link of the base", vec![vec![("link/x", Kind::Add)]], Some(("link/x", "link"))),
            ("far below a file", vec![vec![("a/b/c/d", Kind::Add)]], Some(("a/b/c/d", "a"))),
            ("a file for a directory", vec![vec![("d", Kind::Add)]], Some(("d", "d/e/f"))),
            ("a copy for a directory", vec![vec![("d/e", copy("a"))]], Some(("d/e", "d/e/f"))),
            ("below a link of the same patch", vec![vec![("l", Kind::Add), ("l/x", Kind::Add)]], Some(("l", "l/x"))),
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
            ("below a file that went before", vec![vec![("link", Kind::Delete)], vec![("link/x", Kind::Add)]], None),
            ("below a file that moves there", vec![vec![("a/b", rename("a"))]], None),
            (
                "below a file that came back",
                vec![vec![("a", Kind::Delete)], vec![("a", Kind::Add)], vec![("a/b", Kind::Add)]],
                Some(("a/b", "a")),
            ),
            (
                "for a directory that is emptied",
                vec![vec![("d/e/f", Kind::Delete), ("d/e/g", Kind::Delete), ("d/e", Kind::Add)]],
                None,
            ),
            (
                "for a directory that is nearly emptied",
                vec![vec![("d/e/f", Kind::Delete), ("d/e", Kind::Add)]],
                Some(("d/e", "d/e/g")),
            ),
            (
                "two files that change places",
                vec![vec![("a", rename("z")), ("z", rename("a"))], vec![("z/b", Kind::Add)]],
                Some(("z/b", "z")),
            ),
            (
                "below our own file",
                vec![vec![("try_task_config.json/x", Kind::Add)]],
                Some(("try_task_config.json/x", "try_task_config.json")),
            ),
        ];
        for (case, patches, expected) in table {
            let mut tree = tree(&base);
            let found = patches.iter().try_for_each(|changes| tree.apply(&patch(changes)));
            let expected = expected.map_or(Ok(()), |(path, other)| {
                Err(Conflict { path: path.as_bytes().to_vec(), other: other.as_bytes().to_vec() })
            });
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn every_path_of_a_manifest_is_found() {
        let paths: Vec<String> = (0..200).map(|number| format!("dir{}/file{number}", number % 7)).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let tree = tree(&paths);
        for path in &paths {
            assert!(tree.is_file(path.as_bytes()), "{path}");
            let shorter = &path[..path.len() - 1];
            assert_eq!(tree.is_file(shorter.as_bytes()), paths.contains(&shorter), "{shorter}");
        }
        assert!(!tree.is_file(b"dir0") && !tree.is_file(b"") && !tree.is_file(b"zzz"));
        assert_eq!(Tree::new(Vec::new()).paths_from(b"").next(), None);
    }
}
