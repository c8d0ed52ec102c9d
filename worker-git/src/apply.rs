//! Applies a patch to a tree, as `git apply --cached --binary` of the installed Git does, without a working tree and
//! without a child process.
//!
//! The reader of patches (`worker::patch`) has checked the patch, and is stricter than Git's. What it lets through is
//! applied just as Git does it: the same patches fit, and they make the same tree. `tests/differential.rs` compares the
//! two. `binary.rs` lists the two deliberate differences.
//!
//! Blobs and trees go into the given repository. After a failure it holds some that nothing names.

mod base;
mod binary;
mod change;
mod report;
mod text;
mod time;

use gix::{
    ObjectId, Repository,
    bstr::{BStr, ByteSlice},
    objs::tree::{Editor, EntryKind},
};
use worker::{
    WorkerError,
    patch::{ParsedPatch, reject_report::RejectReport},
    vcs::{ApplyError, Rejection},
};

use base::Base;
use change::{Changes, Stop};
pub(crate) use time::Time;

use crate::fault;

/// The failure to apply a patch.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The patch does not fit its files.
    DoesNotApply(RejectReport),
    /// The patch changes no file.
    ChangesNothing,
    /// The time is over.
    TakesTooLong,
    /// An object cannot be read or written.
    Failed(WorkerError),
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Over => Self::TakesTooLong,
            Stop::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<WorkerError> for Fault {
    fn from(error: WorkerError) -> Self {
        Self::Failed(error)
    }
}

impl Fault {
    /// The end of a build with the patch of this revision.
    pub(crate) fn about(self, revision_id: u64) -> ApplyError {
        match self {
            Self::DoesNotApply(report) => Rejection::DoesNotApply {
                revision_id,
                report,
            }
            .into(),
            Self::ChangesNothing => Rejection::ChangesNothing { revision_id }.into(),
            Self::TakesTooLong => Rejection::TakesTooLong { revision_id }.into(),
            Self::Failed(error) => error.into(),
        }
    }
}

/// Applies a patch with this content to a tree; returns the tree that it makes.
pub(crate) fn apply(
    repository: &Repository,
    base_tree: ObjectId,
    content: &[u8],
    patch: &ParsedPatch,
    time: &Time,
) -> Result<ObjectId, Fault> {
    let mut base = Base::new(repository, base_tree)?;
    let (changes, misfits) = change::make(repository, &mut base, content, patch, time)?;
    if !misfits.is_empty() {
        let report = report::report(&mut base, content, patch, &misfits)?;
        return Err(Fault::DoesNotApply(report));
    }
    let tree = write(repository, base_tree, &changes)?;
    if tree == base_tree {
        return Err(Fault::ChangesNothing);
    }
    Ok(tree)
}

/// Puts a file into a tree, whatever is at its path; returns the new tree.
pub(crate) fn put(
    repository: &Repository,
    tree: ObjectId,
    path: &str,
    content: &[u8],
) -> Result<ObjectId, Fault> {
    let id = repository
        .write_blob(content)
        .map_err(fault::write("write a file"))?
        .detach();
    let entry = base::Entry {
        kind: EntryKind::Blob,
        id,
    };
    let changes = Changes {
        removed: Vec::new(),
        made: vec![(path.as_bytes(), entry)],
    };
    Ok(write(repository, tree, &changes)?)
}

/// Writes the changed trees. Gix's own editor would check each entry of them: it refuses a repository that has an odd
/// name already, and looks up each file of a directory.
fn write(
    repository: &Repository,
    base_tree: ObjectId,
    changes: &Changes<'_>,
) -> Result<ObjectId, WorkerError> {
    const DOING: &str = "change a tree";
    let tree = repository
        .find_tree(base_tree)
        .map_err(fault::read(DOING))?;
    let mut editor: Editor<'_> = tree.edit().map_err(fault::read(DOING))?.detach();
    for path in &changes.removed {
        editor
            .remove_leaf(names(path))
            .map_err(fault::read(DOING))?;
    }
    for (path, entry) in &changes.made {
        editor
            .upsert(names(path), entry.kind, entry.id)
            .map_err(fault::read(DOING))?;
    }
    editor
        .write(|tree| repository.write_object(tree).map(gix::Id::detach))
        .map_err(fault::write(DOING))
}

fn names(path: &[u8]) -> impl Iterator<Item = &BStr> {
    path.split(|&byte| byte == b'/').map(ByteSlice::as_bstr)
}
