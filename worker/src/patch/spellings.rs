//! The spellings of paths, as file systems without case read them.
//!
//! Windows and macOS open `README` as `readme`. A checkout there writes both files to one place: the one that is written
//! last stays, and where one of both is a symbolic link, the other is written through it. So for Git, a stack may not
//! add another spelling of a file or a directory that is there.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use super::path_tree::ancestors;
use crate::text;

/// Folded names or paths, each with its spellings.
type KnownSpellings = BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>;

/// The names that a stack adds: for each directory its names, each folded, with their spellings.
#[derive(Debug, Default)]
pub(super) struct AddedNames {
    directories: BTreeMap<Vec<u8>, KnownSpellings>,
}

impl AddedNames {
    /// Takes in a path that the stack adds, with the directories that it is in.
    pub(super) fn insert(&mut self, path: &[u8]) {
        for prefix in prefixes(path) {
            let (directory, name) = split(prefix);
            self.directories
                .entry(directory.to_vec())
                .or_default()
                .entry(folded(name).into_owned())
                .or_default()
                .insert(name.to_vec());
        }
    }

    /// The directories that the names are in. The root is empty.
    pub(super) fn directories(&self) -> impl Iterator<Item = &[u8]> {
        self.directories.keys().map(Vec::as_slice)
    }

    /// How this entry of a directory is related to the names.
    pub(super) fn relation(&self, entry: &[u8]) -> Relation {
        let (directory, name) = split(entry);
        let Some(names) = self.directories.get(directory) else {
            return Relation::Elsewhere;
        };
        match names.get(folded(name).as_ref()) {
            None => Relation::None,
            Some(spellings) if spellings.iter().all(|other| other == name) => Relation::Same,
            Some(_) => Relation::Other,
        }
    }
}

/// The relation of an entry to the names that a stack adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// No name is added to the directory.
    Elsewhere,
    /// No name that is added is folded onto it.
    None,
    /// Its own name is added, or is that of a directory in which names are added.
    Same,
    /// Another spelling is added.
    Other,
}

/// The spellings that are known of each path.
#[derive(Debug, Default)]
pub(super) struct Spellings {
    known: KnownSpellings,
}

impl Spellings {
    /// Takes in a path.
    pub(super) fn insert(&mut self, path: &[u8]) {
        self.known
            .entry(folded(path).into_owned())
            .or_default()
            .insert(path.to_vec());
    }

    /// The other spellings of a path.
    pub(super) fn others<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = &'a Vec<u8>> {
        let known = self.known.get(folded(path).as_ref());
        known
            .into_iter()
            .flatten()
            .filter(move |other| *other != path)
    }
}

/// The path and the directories that it is in.
pub(super) fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    ancestors(path).chain([path])
}

/// The directory that a path is in, which is empty for the root, and its name there.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// A path without case, and without the characters that HFS+ ignores.
fn folded(path: &[u8]) -> Cow<'_, [u8]> {
    match str::from_utf8(path) {
        Ok(path) if !path.is_ascii() => {
            let visible = path.chars().filter(|&c| !text::is_invisible(c));
            let folded: String = visible.flat_map(char::to_lowercase).collect();
            folded.into_bytes().into()
        }
        _ if path.iter().any(u8::is_ascii_uppercase) => path.to_ascii_lowercase().into(),
        _ => path.into(),
    }
}
