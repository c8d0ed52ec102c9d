//! The changes of a patch to a tree, with the checks of `git apply --cached`.
//!
//! * Copies and renames read the tree before the patch, wherever they are in it. So two files can change places.
//! * A file may be added where another one is deleted or moved away, before or after it in the patch.
//! * The kinds (file, symbolic link, submodule) before and after a change are the same. A change of the kind is a
//!   deletion and an addition.
//! * No file may lie below another one, or below a symbolic link. Git does not see that a symbolic link goes if the patch
//!   does not name its mode.

use std::{borrow::Cow, collections::HashSet};

use gix::{
    ObjectId, Repository,
    objs::{Write as _, tree::EntryKind},
};
use worker::{
    WorkerError,
    patch::{self, FileChange, Kind, Mode, ParsedPatch, Rules},
};

use super::{
    base::{Base, Entry, submodule_commit},
    binary::{self, BinaryFault},
    text::{self, TextFault},
    time::{Over, Time},
};
use crate::fault;

/// The reason for which a change does not fit the tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// These hunks match nowhere, by their numbers from 1.
    Hunks(Vec<usize>),
    /// The file that is changed does not exist.
    Missing,
    /// The file that is added exists.
    Exists,
    /// The file is of another kind than the patch says.
    OtherKind,
    /// The change would make it a file of another kind.
    ChangesKind,
    /// The file is deleted, and has more lines than the patch removes.
    Remains,
    /// The binary data do not fit.
    Binary(BinaryFault),
    /// The path leads through another file, or is a directory with files.
    Beside,
    /// The path leads through a symbolic link that the patch does not remove for Git.
    BelowLink,
    /// The text of a submodule does not name a commit.
    NoCommit,
    /// It is a submodule, which patches of this repository may not change.
    Submodule,
    /// It is a file `.gitmodules` that Git would not take from another repository.
    Modules,
}

/// The end of a patch that is not applied, short of a misfit.
#[derive(Debug)]
pub(super) enum Stop {
    Over,
    Failed(WorkerError),
}

impl From<Over> for Stop {
    fn from(Over: Over) -> Self {
        Self::Over
    }
}

impl From<WorkerError> for Stop {
    fn from(error: WorkerError) -> Self {
        Self::Failed(error)
    }
}

/// A failure of one change.
enum Failure {
    Misfit(Misfit),
    Stop(Stop),
}

impl From<Over> for Failure {
    fn from(over: Over) -> Self {
        Self::Stop(over.into())
    }
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Self {
        Self::Stop(error.into())
    }
}

impl From<Misfit> for Failure {
    fn from(misfit: Misfit) -> Self {
        Self::Misfit(misfit)
    }
}

impl From<BinaryFault> for Failure {
    fn from(fault: BinaryFault) -> Self {
        Self::Misfit(Misfit::Binary(fault))
    }
}

impl From<TextFault> for Failure {
    fn from(fault: TextFault) -> Self {
        match fault {
            TextFault::Misfits(hunks) => Self::Misfit(Misfit::Hunks(hunks)),
            TextFault::Over => Over.into(),
        }
    }
}

/// The result of the changes: what goes, and what comes, in the order of the patch.
#[derive(Debug, Default)]
pub(super) struct Changes<'p> {
    pub(super) removed: Vec<&'p [u8]>,
    pub(super) made: Vec<(&'p [u8], Entry)>,
}

/// Makes the files of a patch, and writes their contents to the repository. The changes that do not fit are returned
/// with their indexes in the patch.
pub(super) fn make<'p>(
    repository: &Repository,
    base: &mut Base<'_>,
    content: &[u8],
    patch: &'p ParsedPatch,
    time: &Time,
) -> Result<(Changes<'p>, Vec<(usize, Misfit)>), Stop> {
    let paths = Paths::of(patch);
    let mut maker = Maker {
        repository,
        base,
        content,
        paths: &paths,
        gone: HashSet::new(),
        submodules: patch.rules == Rules::Git { submodules: true },
        time,
    };
    let mut changes = Changes::default();
    let mut misfits = Vec::new();
    for (index, file) in patch.files.iter().enumerate() {
        time.check()?;
        match maker.change(file) {
            Ok(made) => changes
                .made
                .extend(made.map(|entry| (file.path.as_slice(), entry))),
            Err(Failure::Misfit(misfit)) => misfits.push((index, misfit)),
            Err(Failure::Stop(stop)) => return Err(stop),
        }
        if let Some(path) = removed(file) {
            changes.removed.push(path);
            maker.gone.insert(path);
        }
    }
    Ok((changes, misfits))
}

/// The file that a change removes.
fn removed(file: &FileChange) -> Option<&[u8]> {
    match &file.kind {
        Kind::Delete => Some(&file.path),
        Kind::Rename(source) => Some(source),
        Kind::Add | Kind::Modify | Kind::Copy(_) => None,
    }
}

/// What the patch does to paths.
struct Paths<'p> {
    /// The files that it deletes or moves away.
    removed: HashSet<&'p [u8]>,
    /// The files that it makes.
    made: HashSet<&'p [u8]>,
    /// The directories of the files that it makes.
    above: HashSet<&'p [u8]>,
    /// The symbolic links that it removes and says so.
    removed_links: HashSet<&'p [u8]>,
    /// The symbolic links that it makes.
    made_links: HashSet<&'p [u8]>,
}

impl<'p> Paths<'p> {
    fn of(patch: &'p ParsedPatch) -> Self {
        let files = || patch.files.iter();
        let made = || {
            files()
                .filter(|file| file.kind.adds())
                .map(|file| file.path.as_slice())
        };
        let link = Some(Mode::SymbolicLink);
        Self {
            removed: files().filter_map(removed).collect(),
            made: made().collect(),
            above: made().flat_map(directories).collect(),
            removed_links: files()
                .filter(|file| file.modes.old == link)
                .filter_map(removed)
                .collect(),
            made_links: files()
                .filter(|file| file.kind != Kind::Delete && file.modes.new == link)
                .map(|file| file.path.as_slice())
                .collect(),
        }
    }
}

/// The directories that a path leads through, the innermost first.
fn directories(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().rev();
    slashes
        .filter(|(_, byte)| **byte == b'/')
        .map(|(slash, _)| &path[..slash])
}

struct Maker<'m, 'r, 'p> {
    repository: &'m Repository,
    base: &'m mut Base<'r>,
    content: &'m [u8],
    paths: &'m Paths<'p>,
    /// The files that the changes so far have deleted or moved away.
    gone: HashSet<&'p [u8]>,
    /// Whether the patch may change submodules.
    submodules: bool,
    time: &'m Time,
}

impl Maker<'_, '_, '_> {
    /// The entry that a change makes. `None` for a deletion.
    fn change(&mut self, file: &FileChange) -> Result<Option<Entry>, Failure> {
        let old = self.old(file)?;
        if file.kind.adds() {
            self.check_free(&file.path)?;
        }
        let kind = match (file.modes.new, old) {
            (Some(mode), _) => entry_kind(mode),
            (None, Some(old)) => old.kind,
            (None, None) => EntryKind::Blob,
        };
        if file.kind != Kind::Delete {
            if old.is_some_and(|old| class(old.kind) != class(kind)) {
                return Err(Misfit::ChangesKind.into());
            }
            self.check_links(&file.path)?;
            if file.kind.adds() {
                self.check_directories(&file.path)?;
            }
        }
        let id = self.new_id(file, old, kind)?;
        Ok(id.map(|id| Entry { kind, id }))
    }

    /// The entry that a change is made from, in the tree before the patch.
    fn old(&mut self, file: &FileChange) -> Result<Option<Entry>, Failure> {
        let path = match &file.kind {
            Kind::Add => return Ok(None),
            Kind::Modify | Kind::Delete => &file.path,
            Kind::Copy(source) | Kind::Rename(source) => source,
        };
        let moves = matches!(file.kind, Kind::Copy(_) | Kind::Rename(_));
        if !moves && self.gone.contains(path.as_slice()) {
            return Err(Misfit::Missing.into());
        }
        let old = self.base.leaf(path)?;
        let old = old.ok_or(Misfit::Missing)?;
        // A patch need not say that a file is a submodule, so its reader may not know.
        if old.kind == EntryKind::Commit && !self.submodules {
            return Err(Misfit::Submodule.into());
        }
        let named = file.modes.old.map(entry_kind);
        if named.is_some_and(|named| class(named) != class(old.kind)) {
            return Err(Misfit::OtherKind.into());
        }
        Ok(Some(old))
    }

    /// Refuses a new file where another one stays.
    fn check_free(&mut self, path: &[u8]) -> Result<(), Failure> {
        if !self.paths.removed.contains(path) && self.base.leaf(path)?.is_some() {
            return Err(Misfit::Exists.into());
        }
        Ok(())
    }

    /// Refuses a path that leads through a symbolic link.
    fn check_links(&mut self, path: &[u8]) -> Result<(), Failure> {
        for above in directories(path) {
            let is_link = self.paths.made_links.contains(above)
                || (!self.paths.removed_links.contains(above)
                    && self
                        .base
                        .leaf(above)?
                        .is_some_and(|entry| entry.kind == EntryKind::Link));
            if is_link {
                return Err(Misfit::BelowLink.into());
            }
        }
        Ok(())
    }

    /// Refuses a new path that leads through a file, or that is a directory, when the whole patch is applied.
    fn check_directories(&mut self, path: &[u8]) -> Result<(), Failure> {
        let paths = self.paths;
        if paths.above.contains(path) {
            return Err(Misfit::Beside.into());
        }
        for above in directories(path) {
            let stays = !paths.removed.contains(above) && self.base.leaf(above)?.is_some();
            if stays || paths.made.contains(above) {
                return Err(Misfit::Beside.into());
            }
        }
        if let Some(entry) = self.base.entry(path)?
            && entry.kind == EntryKind::Tree
            && self
                .base
                .has_file(entry.id, path, &|path| !paths.removed.contains(path))?
        {
            return Err(Misfit::Beside.into());
        }
        Ok(())
    }

    /// Writes the content that a change makes. Returns `None` for a deletion.
    fn new_id(
        &self,
        file: &FileChange,
        old: Option<Entry>,
        kind: EntryKind,
    ) -> Result<Option<ObjectId>, Failure> {
        let deletes = file.kind == Kind::Delete;
        let keeps = file.hunks.is_none() && file.binary.is_none();
        if let Some(old) = old.filter(|_| keeps && !deletes) {
            return Ok(Some(old.id));
        }
        let old = old.map(|old| self.base.content(old)).transpose()?;
        let new = self.new_content(file, old.as_deref())?;
        if deletes {
            return match new.is_empty() {
                true => Ok(None),
                false => Err(Misfit::Remains.into()),
            };
        }
        if kind == EntryKind::Commit {
            let commit = submodule_commit(&new.bytes()).ok_or(Misfit::NoCommit)?;
            return Ok(Some(commit));
        }
        // The reader of the patch has seen the lines of the hunks alone.
        if patch::is_gitmodules(&file.path) && patch::check_gitmodules(&new.bytes()).is_err() {
            return Err(Misfit::Modules.into());
        }
        let written = new.write(self.repository);
        Ok(Some(written.map_err(fault::write("write a file"))?))
    }

    fn new_content<'c>(
        &'c self,
        file: &FileChange,
        old: Option<&'c [u8]>,
    ) -> Result<Content<'c>, Failure> {
        if file.binary.is_some() {
            let data = patch::binary_data(self.content, file).ok_or(BinaryFault::Corrupt)?;
            let name = |content: &[u8]| {
                let hash = self.repository.object_hash();
                let name = gix::objs::compute_hash(hash, gix::objs::Kind::Blob, content).ok()?;
                Some(name.to_string().into_bytes())
            };
            let names = file.index.as_ref();
            let new = binary::apply(old, data, names, name)?;
            return Ok(Content::Whole(new.into()));
        }
        let old = old.unwrap_or_default();
        if file.hunks.is_none() {
            return Ok(Content::Whole(old.into()));
        }
        let hunks = patch::hunks(self.content, file);
        Ok(Content::Patched(text::apply(old, hunks, self.time)?))
    }
}

/// The content that a change makes.
enum Content<'c> {
    Whole(Cow<'c, [u8]>),
    Patched(text::Image<'c, 'c>),
}

impl Content<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Patched(image) => image.size() == 0,
        }
    }

    fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Whole(bytes) => Cow::Borrowed(bytes),
            Self::Patched(image) => Cow::Owned(image.content()),
        }
    }

    /// Writes it as a blob.
    fn write(&self, repository: &Repository) -> gix::Result<ObjectId> {
        match self {
            Self::Whole(bytes) => repository.write_blob(bytes).map(gix::Id::detach),
            Self::Patched(image) => {
                let (size, mut reader) = (image.size() as u64, image.reader());
                repository
                    .objects
                    .write_stream(gix::objs::Kind::Blob, size, &mut reader)
            }
        }
    }
}

fn entry_kind(mode: Mode) -> EntryKind {
    match mode {
        Mode::File => EntryKind::Blob,
        Mode::Executable => EntryKind::BlobExecutable,
        Mode::SymbolicLink => EntryKind::Link,
        Mode::Submodule => EntryKind::Commit,
    }
}

/// A kind without its permissions.
fn class(kind: EntryKind) -> EntryKind {
    match kind {
        EntryKind::BlobExecutable => EntryKind::Blob,
        kind => kind,
    }
}
