//! Queries of the tree of a commit: the paths and sizes of files. They block.

use std::collections::{BTreeMap, HashMap};

use gix::{
    ObjectId,
    bstr::{BStr, BString},
    objs::tree::EntryMode,
};
use worker::{
    WorkerError,
    patch::{path_tree::PathFilter, stack_size::Sizes},
    text,
};

use super::lookup;
use crate::fault;

/// The tree of a commit. Each directory is read once.
pub(crate) struct Files<'a> {
    repository: &'a gix::Repository,
    /// The directories that were looked up, by their paths. `None` for one that does not exist.
    directories: HashMap<Vec<u8>, Option<Directory>>,
}

/// The entries of a directory, in the order of their names.
type Directory = BTreeMap<BString, Entry>;

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) mode: EntryMode,
    pub(crate) id: ObjectId,
}

impl<'a> Files<'a> {
    /// The files of a commit.
    pub(crate) fn of(
        repository: &'a gix::Repository,
        commit: ObjectId,
    ) -> Result<Self, WorkerError> {
        let root = lookup::tree_of(repository, commit)?;
        let mut files = Self {
            repository,
            directories: HashMap::new(),
        };
        let root = files.load(root)?;
        files.directories.insert(Vec::new(), Some(root));
        Ok(files)
    }

    /// The file at this path. Directories are none.
    pub(crate) fn file(&mut self, path: &[u8]) -> Result<Option<Entry>, WorkerError> {
        Ok(self.entry(path)?.filter(|entry| !entry.mode.is_tree()))
    }

    fn entry(&mut self, path: &[u8]) -> Result<Option<Entry>, WorkerError> {
        self.read_directory(split(path).0)?;
        Ok(self.read_entry(path))
    }

    /// The entry at a path whose directory has been read.
    fn read_entry(&self, path: &[u8]) -> Option<Entry> {
        let (directory, name) = split(path);
        let entries = self.directories.get(directory)?.as_ref()?;
        entries.get(BStr::new(name)).copied()
    }

    /// Reads the directory at this path, and those above it.
    fn read_directory(&mut self, path: &[u8]) -> Result<(), WorkerError> {
        // From the root downwards: a path can have thousands of parts.
        let ends = path
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(slash, _)| slash)
            .chain([path.len()]);
        for end in ends {
            let path = &path[..end];
            if self.directories.contains_key(path) {
                continue;
            }
            let directory = match self.read_entry(path) {
                Some(entry) if entry.mode.is_tree() => Some(self.load(entry.id)?),
                _ => None,
            };
            self.directories.insert(path.to_vec(), directory);
        }
        Ok(())
    }

    fn load(&self, tree: ObjectId) -> Result<Directory, WorkerError> {
        let doing = format!("read directory {tree}");
        let reading = || -> gix::Result<Option<Directory>> {
            let Some(object) = self.repository.try_find_object(tree)? else {
                return Ok(None);
            };
            let tree = object.into_tree();
            let entries = tree.decode()?.entries;
            let entries = entries.iter().map(|entry| {
                let (mode, id) = (entry.mode, entry.oid.to_owned());
                (entry.filename.to_owned(), Entry { mode, id })
            });
            Ok(Some(entries.collect()))
        };
        reading()
            .map_err(fault::read(doing.as_str()))?
            .ok_or_else(|| fault::lost(doing, "it is not there"))
    }

    /// The entries of a directory: their paths, and whether they are directories. None if it does not exist.
    fn listed(&mut self, directory: &[u8]) -> Result<Vec<(Vec<u8>, bool)>, WorkerError> {
        self.read_directory(directory)?;
        let entries = self.directories.get(directory).and_then(Option::as_ref);
        let entries = entries.into_iter().flatten().map(|(name, entry)| {
            let path = match directory {
                b"" => name.to_vec(),
                _ => [directory, b"/", name].concat(),
            };
            (path, entry.mode.is_tree())
        });
        Ok(entries.collect())
    }

    /// Adds up to `enough` files below a directory, at any depth.
    fn below(
        &mut self,
        directory: &[u8],
        enough: usize,
        found: &mut Vec<Vec<u8>>,
    ) -> Result<(), WorkerError> {
        let Some(top) = self.entry(directory)?.filter(|entry| entry.mode.is_tree()) else {
            return Ok(());
        };
        let mut count = 0;
        let mut open = vec![(directory.to_vec(), top.id)];
        while let Some((path, tree)) = open.pop() {
            for (name, entry) in self.load(tree)? {
                let path = [&path, b"/".as_slice(), &name].concat();
                if entry.mode.is_tree() {
                    open.push((path, entry.id));
                    continue;
                }
                found.push(path);
                count += 1;
                if count == enough {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The directory of a path, and the name within.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Reads the paths of a commit that a filter wants.
pub(crate) fn filtered(
    repository: &gix::Repository,
    commit: ObjectId,
    mut filter: PathFilter,
) -> Result<PathFilter, WorkerError> {
    let mut files = Files::of(repository, commit)?;
    let mut found = Vec::new();
    let wanted = filter.wanted();
    for path in wanted.paths {
        if files.file(path)?.is_some() {
            found.push(path.to_vec());
        }
    }
    for directory in wanted.directories {
        files.below(directory, wanted.enough, &mut found)?;
    }
    let (enough, mut entries) = (wanted.enough, Vec::new());
    for directory in wanted.listed {
        entries.extend(files.listed(directory)?);
    }
    for (entry, is_directory) in entries {
        if filter.keep_entry(&entry, is_directory) {
            files.below(&entry, enough, &mut found)?;
        }
    }
    for path in found {
        filter.keep(&path);
    }
    Ok(filter)
}

/// The sizes of files that a commit has. A submodule has none.
pub(crate) fn sizes(
    repository: &gix::Repository,
    commit: ObjectId,
    paths: &[Vec<u8>],
) -> Result<Sizes, WorkerError> {
    let mut files = Files::of(repository, commit)?;
    let mut sizes = Sizes::new();
    for path in paths {
        let doing = || format!("read the size of {}", text::path(path));
        let entry = files
            .file(path)?
            .ok_or_else(|| fault::lost(doing(), format!("{commit} has no such file")))?;
        let size = if entry.mode.is_commit() {
            0
        } else {
            repository
                .try_find_header(entry.id)
                .map_err(fault::read(doing()))?
                .ok_or_else(|| fault::lost(doing(), format!("object {} is not there", entry.id)))?
                .size()
        };
        sizes.insert(path.clone(), size);
    }
    Ok(sizes)
}
