//! Turning a build's stack of patches into changesets.
//!
//! The changesets are a pure function of the base, the stack and the target: their authors, dates and messages come
//! from the build, and nothing from the clock. So a build that is done again gives the same hashes, here or
//! elsewhere.

use std::time::Duration;

use build::{Build, Ineligible, PatchContent};

use crate::{
    HgError, TryMode,
    base::Base,
    clone::{Changeset, HgClone},
    fault::PatchFault,
    made, misfit, outcome,
    patch::Scanned,
    search,
    server::Ended,
    text,
    tree::ManifestReader,
    try_config,
    work::Work,
};

/// Why a build ends without a head.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The patch is to blame; trying again cannot help.
    Patch(PatchFault),
    /// We are to blame.
    Ours(HgError),
    /// It is not to be built any more.
    Ineligible(Ineligible),
    /// Somebody else has decided how it ends, and sees to its answer.
    Decided,
    /// Its author's time is used up: builds of other authors go first.
    Defer {
        /// How long it waits before the next attempt.
        after: Duration,
        /// What it waits for.
        reason: String,
    },
    /// All builds of its repository wait: a clone is not ready, or the tree is closed.
    Hold {
        /// How long they wait before the next attempt.
        after: Duration,
        /// What they wait for.
        reason: String,
    },
}

impl From<HgError> for Failure {
    fn from(error: HgError) -> Self {
        Self::Ours(error)
    }
}

/// The patches of a stack, loaded and read.
#[derive(Debug)]
pub(crate) struct Patches {
    pub(crate) contents: Vec<PatchContent>,
    pub(crate) scanned: Vec<Scanned>,
}

/// Makes one changeset of each patch, and the one that tells Try what to do; returns that one. `work` is the processor time
/// that is left for it.
pub(crate) async fn apply(
    clone: &mut HgClone,
    build: &Build,
    Patches { contents, scanned }: &Patches,
    base: &Base,
    mode: &TryMode,
    default_author: &str,
    work: &mut Work,
) -> Result<Changeset, Failure> {
    let mut tree = clone
        .read_manifest(&base.changeset, ManifestReader::new(scanned))
        .await?
        .tree();
    for (patch, scanned) in build.stack.iter().zip(scanned) {
        tree.apply(scanned)
            .map_err(|conflict| Failure::Patch(PatchFault::conflicts(build, patch, &conflict)))?;
    }
    let sized: Vec<&[u8]> = made::sized(scanned)
        .into_iter()
        .filter(|path| tree.was_there(path))
        .collect();
    let sizes = clone.sizes(&base.changeset, &sized).await?;
    let before = made::check(scanned, &sizes, clone.limits().made)
        .map_err(|too_much| Failure::Patch(PatchFault::makes_too_much(build, &too_much)))?;
    let mut newest = clone.mark();
    let mut parent = base.changeset.clone();
    let stack = build.stack.iter().zip(contents).zip(scanned).zip(&before);
    for (((patch, content), scanned), sizes) in stack {
        let author = content.author.as_deref().and_then(text::author);
        let prepared = scanned.prepared.as_ref();
        for deletion in prepared.iter().flat_map(|prepared| &prepared.deletions) {
            let old = clone
                .read_file(&parent, &deletion.path, deletion.bytes())
                .await?;
            // Mercurial itself reports a file that is not there.
            if old.is_some_and(|old| !deletion.fits(&old)) {
                let misfits = misfit::other_lines(deletion.path.as_bytes(), false);
                return Err(Failure::Patch(PatchFault::does_not_apply(
                    build,
                    patch,
                    &base.choice,
                    misfits,
                )));
            }
        }
        let commit = Commit {
            patch: prepared.map_or(&content.bytes, |prepared| &prepared.content),
            author: author.as_deref().unwrap_or(default_author),
            date: patch.diff.created_at,
            message: &format!(
                "{}\n\nDifferential Diff: {}",
                content.message, patch.diff.phid
            ),
        };
        let misplaced = search::misplaced(clone, &parent, &content.bytes, scanned, sizes).await?;
        let searches = misplaced.is_some();
        parent = match commit
            .import(clone, &parent, newest, work, searches)
            .await?
        {
            Ok(made) if made.changes => made,
            Ok(_) => {
                return Err(Failure::Patch(PatchFault::changes_nothing(
                    build,
                    patch,
                    &base.choice,
                )));
            }
            Err(Ended::ByItself(output) | Ended::Failing(output))
                if outcome::is_patch_fault(&output) =>
            {
                let misfits =
                    misfit::find(clone, &parent, &content.bytes, scanned, &output).await?;
                return Err(Failure::Patch(PatchFault::does_not_apply(
                    build,
                    patch,
                    &base.choice,
                    misfits,
                )));
            }
            Err(ended) => {
                let failure = match (ended, misplaced) {
                    (Ended::Spent, Some(misfits)) => {
                        let allowed = clone.limits().search;
                        Failure::Patch(PatchFault::searches_too_long(
                            build,
                            patch,
                            &base.choice,
                            allowed,
                            misfits,
                        ))
                    }
                    (ended, _) => not_imported(clone, build, patch.revision_id, ended).await,
                };
                return Err(failure);
            }
        };
        newest += 1;
        // The tree was checked as if they had gone.
        if scanned.removed_by_hunks().next().is_some() {
            let removed = clone.removed(&parent).await?;
            if let Some(kept) = scanned
                .removed_by_hunks()
                .find(|path| !removed.iter().any(|other| other == path))
            {
                let misfits = misfit::other_lines(kept, true);
                return Err(Failure::Patch(PatchFault::does_not_apply(
                    build,
                    patch,
                    &base.choice,
                    misfits,
                )));
            }
        }
    }
    let config = try_config::content(mode, build)?;
    let commit = Commit {
        patch: &try_config::patch(&config, tree.has_try_config())?,
        author: default_author,
        date: build.diff.created_at,
        message: &try_config::message(mode, build),
    };
    match commit.import(clone, &parent, newest, work, false).await? {
        Ok(made) => Ok(made),
        Err(ended) => Err(not_imported(clone, build, build.request.revision_id, ended).await),
    }
}

/// Why an import failed that would have made a changeset of `D<revision_id>`, when it is not that the patch does not apply.
async fn not_imported(
    clone: &mut HgClone,
    build: &Build,
    revision_id: u64,
    ended: Ended,
) -> Failure {
    match ended {
        Ended::Spent => Failure::Patch(PatchFault::takes_too_long(
            build,
            revision_id,
            clone.limits().work,
        )),
        Ended::ByItself(output)
            if outcome::is_out_of_memory(&output) && clone.has_grown_too_large() =>
        {
            // A command server does not give memory back.
            clone.close().await;
            Failure::Patch(PatchFault::takes_too_much(
                build,
                revision_id,
                clone.limits().memory,
            ))
        }
        Ended::ByItself(output) | Ended::Failing(output) => HgError::command(
            format!("import the patches of D{revision_id}"),
            output.words(),
        )
        .into(),
    }
}

/// A changeset to be made.
struct Commit<'a> {
    patch: &'a [u8],
    author: &'a str,
    date: jiff::Timestamp,
    message: &'a str,
}

impl Commit<'_> {
    /// Makes the changeset on `parent`. `newest` is the number of the clone's newest changeset. The inner error is
    /// what Mercurial says when it will not.
    async fn import(
        &self,
        clone: &mut HgClone,
        parent: &Changeset,
        newest: i64,
        work: &mut Work,
        searches: bool,
    ) -> Result<Result<Changeset, Ended>, HgError> {
        let user = format!("--user={}", self.author);
        let date = format!("--date={} 0", self.date.as_second());
        let message = format!("--message={}", text::message(self.message));
        let (allowed, mut used) = (work.left(searches), Duration::ZERO);
        let options = [user.as_str(), &date, &message];
        let imported = clone
            .import(parent, self.patch, &options, allowed, &mut used)
            .await;
        work.spend(used, searches);
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
            Err(HgError::Command {
                doing: "import a patch".to_owned(),
                words,
            })
        }
    }
}
