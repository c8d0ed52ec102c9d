//! The commits of a build's stack of patches: one of each patch, and the last one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use build::PatchFile;
use gix::ObjectId;
use worker::{
    ProcessorTime, WorkerError,
    patch::{Kind, ParsedPatch},
    vcs::{ApplyError, Stack},
};

use crate::{
    apply::{self, Time},
    clone::{blocking, lookup},
    commit::CommitText,
    fault,
    quarantine::Quarantine,
};

/// The work of a thread that may block.
struct Work {
    quarantine: Quarantine,
    base: ObjectId,
    patches: Vec<OnePatch>,
    last: Option<LastFile>,
}

struct OnePatch {
    revision_id: u64,
    file: PatchFile,
    parsed: ParsedPatch,
    text: CommitText,
}

struct LastFile {
    revision_id: u64,
    path: String,
    content: Vec<u8>,
    text: CommitText,
}

/// Ends the work when nobody waits for its result any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The files that a stack reads in its base, as far as its own patches do not make them.
pub(crate) fn sources(stack: &Stack<'_>) -> Vec<Vec<u8>> {
    let files = stack.patches.iter().flat_map(|patch| &patch.parsed.files);
    files
        .filter_map(|file| match &file.kind {
            Kind::Add => None,
            Kind::Modify | Kind::Delete => Some(file.path.clone()),
            Kind::Copy(source) | Kind::Rename(source) => Some(source.clone()),
        })
        .collect()
}

/// Makes the commits on `base` in the repository of the build; returns the newest one. `time` is the processor time that
/// is left.
pub(crate) async fn apply(
    quarantine: Quarantine,
    base: ObjectId,
    stack: &Stack<'_>,
    time: &mut ProcessorTime,
) -> Result<ObjectId, ApplyError> {
    let work = Work::of(quarantine, base, stack);
    let cancelled = Arc::new(AtomicBool::new(false));
    let _cancelling = CancelOnDrop(Arc::clone(&cancelled));
    let allowed = time.left(false);
    let (made, used) = blocking("apply the patches of a stack".to_owned(), move || {
        Ok(work.run(allowed, cancelled))
    })
    .await?;
    time.spend(used, false);
    made
}

impl Work {
    fn of(quarantine: Quarantine, base: ObjectId, stack: &Stack<'_>) -> Self {
        let author = stack.default_author;
        let patches = stack.patches.iter().map(|patch| OnePatch {
            revision_id: patch.patch.revision_id,
            file: patch.content.file.clone(),
            parsed: patch.parsed.clone(),
            text: CommitText::of_patch(
                patch.content.author.as_deref(),
                author,
                patch.patch.diff.created_at,
                &patch.content.message,
                patch.url.as_deref(),
                patch.patch.diff.phid.as_str(),
            ),
        });
        let last = stack.last.as_ref().map(|last| LastFile {
            revision_id: last.revision_id,
            path: last.path.clone(),
            content: last.content.clone(),
            text: CommitText::last(author, last.date, &last.message),
        });
        Self {
            quarantine,
            base,
            patches: patches.collect(),
            last,
        }
    }

    /// Makes the commits; also returns the processor time that it took.
    fn run(
        &self,
        allowed: Duration,
        cancelled: Arc<AtomicBool>,
    ) -> (Result<ObjectId, ApplyError>, Duration) {
        let time = Time::new(allowed, cancelled);
        let made = self.commit_all(&time);
        (made, time.used())
    }

    fn commit_all(&self, time: &Time) -> Result<ObjectId, ApplyError> {
        let repository = self
            .quarantine
            .open()
            .map_err(fault::write("open the repository of a build"))?;
        let mut parent = self.base;
        let mut tree = lookup::tree_of(&repository, self.base)?;
        for patch in &self.patches {
            let content = patch.file.read().map_err(WorkerError::io("read a patch"))?;
            tree = apply::apply(&repository, tree, &content, &patch.parsed, time)
                .map_err(|fault| fault.about(patch.revision_id))?;
            parent = commit(&repository, &patch.text, tree, parent)?;
        }
        if let Some(last) = &self.last {
            tree = apply::put(&repository, tree, &last.path, &last.content)
                .map_err(|fault| fault.about(last.revision_id))?;
            parent = commit(&repository, &last.text, tree, parent)?;
        }
        Ok(parent)
    }
}

fn commit(
    repository: &gix::Repository,
    text: &CommitText,
    tree: ObjectId,
    parent: ObjectId,
) -> Result<ObjectId, WorkerError> {
    let written = repository.write_object(text.commit(tree, parent));
    Ok(written.map_err(fault::write("write a commit"))?.detach())
}
