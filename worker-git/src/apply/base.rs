//! The tree that a patch is applied on.

use gix::{
    ObjectId, Repository,
    objs::{Kind, TreeRefIter, tree::EntryKind},
};
use worker::WorkerError;

use crate::fault;

/// An entry of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: EntryKind,
    pub(super) id: ObjectId,
}

/// The tree. Patches name files in the order of their paths, so the directories of the last path are kept.
pub(super) struct Base<'r> {
    repository: &'r Repository,
    /// The directories from the root on: the name of each, and its data.
    open: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'r> Base<'r> {
    pub(super) fn new(repository: &'r Repository, root: ObjectId) -> Result<Self, WorkerError> {
        let data = read(repository, root, Kind::Tree)?;
        Ok(Self {
            repository,
            open: vec![(Vec::new(), data)],
        })
    }

    /// The entry at a path: a file, a directory, or another one.
    pub(super) fn entry(&mut self, path: &[u8]) -> Result<Option<Entry>, WorkerError> {
        let mut names = path.split(|&byte| byte == b'/').peekable();
        let mut depth = 0;
        while let Some(name) = names.next() {
            let is_last = names.peek().is_none();
            let is_open = self
                .open
                .get(depth + 1)
                .is_some_and(|(open, _)| open == name);
            if is_last || !is_open {
                let Some(entry) = self.find(depth, name)? else {
                    return Ok(None);
                };
                if is_last {
                    return Ok(Some(entry));
                }
                if entry.kind != EntryKind::Tree {
                    return Ok(None);
                }
                self.open.truncate(depth + 1);
                let data = read(self.repository, entry.id, Kind::Tree)?;
                self.open.push((name.to_vec(), data));
            }
            depth += 1;
        }
        Ok(None)
    }

    /// The entry at a path, unless it is a directory.
    pub(super) fn leaf(&mut self, path: &[u8]) -> Result<Option<Entry>, WorkerError> {
        let entry = self.entry(path)?;
        Ok(entry.filter(|entry| entry.kind != EntryKind::Tree))
    }

    fn find(&self, depth: usize, name: &[u8]) -> Result<Option<Entry>, WorkerError> {
        let Some((_, data)) = self.open.get(depth) else {
            return Ok(None);
        };
        for entry in TreeRefIter::from_bytes(data, self.repository.object_hash()) {
            let entry = entry.map_err(|error| fault::lost("read a tree", error.to_string()))?;
            if entry.filename == name {
                return Ok(Some(Entry {
                    kind: entry.mode.kind(),
                    id: entry.oid.to_owned(),
                }));
            }
        }
        Ok(None)
    }

    /// Whether a directory has a file, at any depth, for which `stays` holds.
    pub(super) fn has_file(
        &self,
        directory: ObjectId,
        path: &[u8],
        stays: &dyn Fn(&[u8]) -> bool,
    ) -> Result<bool, WorkerError> {
        let mut directories = vec![(directory, path.to_vec())];
        while let Some((id, path)) = directories.pop() {
            let data = read(self.repository, id, Kind::Tree)?;
            for entry in TreeRefIter::from_bytes(&data, self.repository.object_hash()) {
                let entry = entry.map_err(|error| fault::lost("read a tree", error.to_string()))?;
                let path = [&path, b"/".as_slice(), entry.filename].concat();
                if entry.mode.is_tree() {
                    directories.push((entry.oid.to_owned(), path));
                } else if stays(&path) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The content that a patch sees of an entry.
    pub(super) fn content(&self, entry: Entry) -> Result<Vec<u8>, WorkerError> {
        match entry.kind {
            EntryKind::Commit => Ok(submodule(entry.id)),
            _ => read(self.repository, entry.id, Kind::Blob),
        }
    }
}

/// The text that stands for the link of a submodule in a patch.
pub(super) fn submodule(id: ObjectId) -> Vec<u8> {
    format!("{SUBMODULE}{id}\n").into_bytes()
}

/// The commit that the text of a submodule names.
pub(super) fn submodule_commit(text: &[u8]) -> Option<ObjectId> {
    let digits = text.strip_prefix(SUBMODULE.as_bytes())?.get(..40)?;
    ObjectId::from_hex(digits).ok()
}

const SUBMODULE: &str = "Subproject commit ";

fn read(repository: &Repository, id: ObjectId, kind: Kind) -> Result<Vec<u8>, WorkerError> {
    let doing = || format!("read {id}");
    let object = repository
        .try_find_object(id)
        .map_err(fault::read(doing()))?
        .ok_or_else(|| fault::lost(doing(), "it is not there"))?;
    if object.kind != kind {
        let words = format!("it is a {} in place of a {kind}", object.kind);
        return Err(fault::lost(doing(), words));
    }
    Ok(object.detach().data)
}
