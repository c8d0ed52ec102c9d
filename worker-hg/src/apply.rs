//! The changesets of a build's stack of patches.
//!
//! The changesets are a pure function of the base, the stack and the target: their authors, dates and messages come
//! from the build, and nothing from the clock. So a repeated build gives the same hashes on each worker.

use std::time::Duration;

use build::PatchFile;
use worker::{
    ProcessorTime, WorkerError, disk,
    patch::{self, reject_report},
    text,
    vcs::{ApplyError, LastCommit, Rejection, Stack, StackPatch},
};

use crate::{
    changeset::Changeset,
    clone::{HgClone, PatchInput},
    command_server::Ended,
    messages, rejects, search,
};

/// Makes one changeset of each patch, and the last one of the stack; returns the newest one. `time` is the processor
/// time that is left for them.
pub(crate) async fn apply(
    clone: &mut HgClone,
    base: &Changeset,
    stack: &Stack<'_>,
    time: &mut ProcessorTime,
) -> Result<Changeset, ApplyError> {
    let mut newest = clone.source_tip();
    let mut parent = base.clone();
    for patch in &stack.patches {
        parent = apply_patch(clone, &parent, newest, stack.default_author, patch, time).await?;
        newest += 1;
    }
    let Some(last) = &stack.last else {
        return Ok(parent);
    };
    let commit = Commit {
        patch: PatchInput::Bytes(&last_patch(last)?),
        author: stack.default_author,
        date: last.date,
        message: &last.message,
    };
    match commit.import(clone, &parent, newest, time, false).await? {
        Ok(made) => Ok(made),
        Err(ended) => Err(not_imported(clone, last.revision_id, ended).await),
    }
}

/// Makes a changeset of one patch.
async fn apply_patch(
    clone: &mut HgClone,
    parent: &Changeset,
    newest: i64,
    default_author: &str,
    patch: &StackPatch<'_>,
    time: &mut ProcessorTime,
) -> Result<Changeset, ApplyError> {
    let StackPatch {
        patch,
        content,
        parsed,
        sizes,
        ..
    } = *patch;
    let revision_id = patch.revision_id;
    let does_not_apply = |report| {
        ApplyError::Rejected(Rejection::DoesNotApply {
            revision_id,
            report,
        })
    };
    let prepared = parsed.prepared.as_ref();
    for deletion in prepared.iter().flat_map(|prepared| &prepared.deletions) {
        let old = clone
            .read_file(parent, &deletion.path, deletion.bytes())
            .await?;
        // Mercurial itself reports a missing file.
        if old.is_some_and(|old| !deletion.fits(&old)) {
            let path = deletion.path.as_bytes();
            return Err(does_not_apply(reject_report::other_lines(path, false)));
        }
    }
    let author = content.author.as_deref().and_then(text::author);
    let commit = Commit {
        patch: match prepared {
            Some(prepared) => PatchInput::Bytes(&prepared.content),
            None => PatchInput::File(content.file.path()),
        },
        author: author.as_deref().unwrap_or(default_author),
        date: patch.diff.created_at,
        message: &format!(
            "{}\n\nDifferential Diff: {}",
            content.message, patch.diff.phid
        ),
    };
    // The patch is read where it is needed, and not kept: it can be large, and Mercurial reads it from its file.
    let misplaced = {
        let bytes = read(&content.file).await?;
        search::misplaced(clone, parent, &bytes, parsed, sizes).await?
    };
    let searches = misplaced.is_some();
    let made = match commit.import(clone, parent, newest, time, searches).await? {
        Ok(made) if made.changes => made,
        Ok(_) => return Err(Rejection::ChangesNothing { revision_id }.into()),
        Err(Ended::ByItself(output) | Ended::Failing(output))
            if messages::is_patch_fault(&output) =>
        {
            let bytes = read(&content.file).await?;
            let report = rejects::find(clone, parent, &bytes, parsed, &output).await?;
            return Err(does_not_apply(report));
        }
        Err(ended) => {
            return Err(match (ended, misplaced) {
                (Ended::OutOfTime, Some(report)) => Rejection::SearchesTooLong {
                    revision_id,
                    report,
                }
                .into(),
                (ended, _) => not_imported(clone, revision_id, ended).await,
            });
        }
    };
    // The check of the tree took these files for deleted.
    if parsed.removed_by_hunks().next().is_some() {
        let removed = clone.removed(&made).await?;
        let mut paths = parsed.removed_by_hunks();
        if let Some(kept) = paths.find(|path| !removed.iter().any(|other| other == path)) {
            return Err(does_not_apply(reject_report::other_lines(kept, true)));
        }
    }
    Ok(made)
}

async fn read(patch: &PatchFile) -> Result<Vec<u8>, WorkerError> {
    let patch = patch.clone();
    disk::blocking(move || patch.read())
        .await
        .map_err(WorkerError::io("read a patch"))
}

/// The error of a failed import for `D<revision_id>`, other than that the patch does not apply.
async fn not_imported(clone: &mut HgClone, revision_id: u64, ended: Ended) -> ApplyError {
    match ended {
        Ended::OutOfTime => Rejection::TakesTooLong { revision_id }.into(),
        Ended::ByItself(output)
            if messages::is_out_of_memory(&output) && clone.has_grown_too_large() =>
        {
            // A command server does not give memory back.
            clone.close().await;
            Rejection::TakesTooMuchMemory { revision_id }.into()
        }
        Ended::ByItself(output) | Ended::Failing(output) => messages::command_failure(
            format!("import the patches of D{revision_id}"),
            output.words(),
        )
        .into(),
    }
}

/// A patch that makes the file of the last commit a plain file with its content, whatever it was. It is a binary
/// patch: that replaces the whole file without reading the old content, which the stack may have added.
fn last_patch(last: &LastCommit) -> Result<Vec<u8>, WorkerError> {
    let path = &last.path;
    let modes = if last.exists {
        "old mode 100644\nnew mode 100644\n"
    } else {
        "new file mode 100644\n"
    };
    let data = patch::encode(&last.content)
        .map_err(WorkerError::io(format!("write a patch for {path}")))?;
    Ok([
        format!("diff --git a/{path} b/{path}\n{modes}").as_bytes(),
        &data,
    ]
    .concat())
}

/// A changeset to be made.
struct Commit<'a> {
    patch: PatchInput<'a>,
    author: &'a str,
    date: jiff::Timestamp,
    message: &'a str,
}

impl Commit<'_> {
    /// Makes the changeset on `parent`. `newest` is the number of the clone's newest changeset. The inner error is the
    /// end of an import that failed.
    async fn import(
        &self,
        clone: &mut HgClone,
        parent: &Changeset,
        newest: i64,
        time: &mut ProcessorTime,
        searches: bool,
    ) -> Result<Result<Changeset, Ended>, WorkerError> {
        let user = format!("--user={}", self.author);
        let date = format!("--date={} 0", self.date.as_second());
        let message = format!("--message={}", text::message(self.message));
        let (allowed, mut used) = (time.left(searches), Duration::ZERO);
        let options = [user.as_str(), &date, &message];
        let imported = clone
            .import(parent, self.patch, &options, allowed, &mut used)
            .await;
        time.spend(used, searches);
        match imported? {
            Ended::ByItself(output) if output.code == 0 => {}
            ended => return Ok(Err(ended)),
        }
        let made = clone.tip().await?;
        if made.number == newest + 1 && made.parent == parent.node {
            Ok(Ok(made))
        } else {
            let words = format!(
                "one changeset on {} was expected, the newest is {}",
                parent.short(),
                made.short()
            );
            Err(messages::command_failure("import a patch", words))
        }
    }
}
