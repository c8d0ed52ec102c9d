//! The change of a diff as its author staged it.
//!
//! `arc` pushes the commit of a diff to the staging area of its repository, as the tag `phabricator/diff/<id>`, and the
//! commit that it was made on as `phabricator/base/<id>`. Anybody who may push there may push any commit. So nothing of it
//! is used as it is: the worker fetches the commit into a repository of the build, compares it with its base, and reads the
//! difference as a patch, with all checks of one. The commits of the build are made from that patch.
//!
//! The base has to be a commit of the source. The fetch sends what the clone lacks, checked by `git fsck`, with a bound on
//! its bytes, memory and time.

use std::{fs::File, io, path::Path};

use build::{PatchFile, PatchWriter};
use gix::ObjectId;
use worker::{
    Peer, WorkerError, disk,
    process::{ChildLimits, CommandOutput},
    revision::Revision,
    text::is_hash,
    vcs::{Staged, StagedDiff},
};

use crate::{
    clone::{GitClone, blocking},
    program::STAGING,
    quarantine::{self, Quarantine},
    remote,
};

/// The name of the staged commit in the repository of the build.
const COMMIT: &str = "refs/staged/diff";

/// Settings for commands that read foreign objects: Git maps less of the packs of a large clone into its memory, which is
/// limited.
const FRUGAL: [&str; 4] = [
    "-c",
    "core.packedGitWindowSize=32m",
    "-c",
    "core.packedGitLimit=256m",
];

/// The tags of a staged diff.
struct Tags {
    diff: String,
    base: String,
}

/// The commits that these tags have.
struct Commits {
    diff: String,
    base: String,
}

/// A reason for which a staged diff is not used.
enum Unusable {
    /// There is none.
    Missing,
    /// It cannot be used, as a clause for operators.
    Refused(String),
    /// Our side failed.
    Failed(WorkerError),
}

impl From<WorkerError> for Unusable {
    /// Any other failure than a full disk may be the fault of the staging area.
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Remote { .. }
            | WorkerError::Forbidden { .. }
            | WorkerError::UnknownHost { .. }
            | WorkerError::OtherHostKey { .. }
            | WorkerError::Deadline { .. } => Self::Refused(error.to_string()),
            error => Self::Failed(error),
        }
    }
}

impl GitClone {
    /// Writes the change of a staged diff as a patch.
    pub(crate) async fn staged(&mut self, wanted: &StagedDiff<'_>) -> Result<Staged, WorkerError> {
        match self.try_staged(wanted).await {
            Ok(found) => Ok(found),
            Err(Unusable::Missing) => Ok(Staged::Missing),
            Err(Unusable::Refused(reason)) => Ok(Staged::Unusable(reason)),
            Err(Unusable::Failed(error)) => Err(error),
        }
    }

    async fn try_staged(&mut self, wanted: &StagedDiff<'_>) -> Result<Staged, Unusable> {
        let tags = Tags {
            diff: format!("refs/tags/phabricator/diff/{}", wanted.diff_id),
            base: format!("refs/tags/phabricator/base/{}", wanted.diff_id),
        };
        let commits = self.staged_commits(&tags).await?;
        let base = ObjectId::from_hex(commits.base.as_bytes())
            .map_err(|error| Unusable::Refused(error.to_string()))?;
        if !self.has_commit(base).await? {
            self.update().await?;
        }
        if !self.has_commit(base).await? {
            let reason = format!("its base {:.12} is no commit of the source", commits.base);
            return Err(Unusable::Refused(reason));
        }
        let (place, partial) = (self.directory().to_owned(), self.is_partial());
        let doing = format!(
            "make the repository of a staged diff of {}",
            self.source().name
        );
        let quarantine = blocking(doing.clone(), move || {
            Quarantine::make(&place, partial).map_err(WorkerError::io(doing))
        })
        .await?;
        self.fetch_staged(&quarantine, &tags, &commits).await?;
        let patch = self.compare(&quarantine, &commits, wanted).await?;
        Ok(Staged::Found {
            base: Revision { id: commits.base },
            patch,
        })
    }

    /// The commits of the tags, as the staging area names them.
    async fn staged_commits(&self, tags: &Tags) -> Result<Commits, Unusable> {
        let source = self.source();
        let arguments = ["ls-remote", "--", STAGING, &tags.diff, &tags.base];
        let git_dir = quarantine::git_dir(self.directory());
        let output = source
            .git
            .run(&git_dir, arguments, "git ls-remote", source.limits.command)
            .await?;
        if output.code != 0 {
            let doing = format!("reach the staging area of {}", source.name);
            return Err(remote::failure(Peer::Source, doing, &output).into());
        }
        let text = output.text();
        let commit = |tag: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('\t'));
            let (commit, _) = lines.find(|(commit, name)| *name == tag && is_hash(commit))?;
            Some(commit.to_owned())
        };
        match (commit(&tags.diff), commit(&tags.base)) {
            (Some(diff), Some(base)) => Ok(Commits { diff, base }),
            _ => Err(Unusable::Missing),
        }
    }

    /// Fetches the staged commit into the repository of the build.
    async fn fetch_staged(
        &self,
        quarantine: &Quarantine,
        tags: &Tags,
        commits: &Commits,
    ) -> Result<(), Unusable> {
        let source = self.source();
        let refspec = format!("+{}:{COMMIT}", tags.diff);
        let mut arguments = FRUGAL.to_vec();
        arguments.extend([
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-show-forced-updates",
            "--",
            STAGING,
            &refspec,
        ]);
        let limits = ChildLimits {
            memory: source.limits.memory,
            file: source.limits.stack_bytes,
        };
        let output = source
            .git
            .run_limited(
                quarantine.git_dir(),
                arguments,
                "git fetch",
                source.limits.transfer,
                limits,
            )
            .await?;
        if output.code != 0 {
            let doing = format!("fetch from the staging area of {}", source.name);
            return Err(remote::failure(Peer::Source, doing, &output).into());
        }
        let arguments = ["rev-parse", "--verify", "--quiet", COMMIT];
        let found = source
            .git
            .run(
                quarantine.git_dir(),
                arguments,
                "git rev-parse",
                source.limits.command,
            )
            .await?;
        if found.text() != commits.diff {
            return Err(Unusable::Refused("its tag moved meanwhile".to_owned()));
        }
        Ok(())
    }

    /// Writes the difference between the base and the staged commit as a patch.
    async fn compare(
        &self,
        quarantine: &Quarantine,
        commits: &Commits,
        wanted: &StagedDiff<'_>,
    ) -> Result<PatchFile, Unusable> {
        let source = self.source();
        let written = wanted.directory.join(format!("{}.staged", wanted.place));
        let output_to = format!("--output={}", written.display());
        let mut arguments = FRUGAL.to_vec();
        arguments.extend([
            "diff-tree",
            "-r",
            "-p",
            "--binary",
            "--full-index",
            "--unified=3",
            "--no-renames",
            "--no-ext-diff",
            "--no-textconv",
            "--no-color",
            "--ignore-submodules=none",
            "--src-prefix=a/",
            "--dst-prefix=b/",
            &output_to,
            "--end-of-options",
            &commits.base,
            &commits.diff,
            "--",
        ]);
        let limits = ChildLimits {
            memory: source.limits.memory,
            // A larger patch is refused.
            file: source.limits.patch_bytes as u64 + 1,
        };
        let output = source
            .git
            .run_limited(
                quarantine.git_dir(),
                arguments,
                "git diff-tree",
                source.limits.apply_time,
                limits,
            )
            .await?;
        if output.code != 0 {
            return Err(not_compared(&output));
        }
        let (directory, place) = (wanted.directory.to_owned(), wanted.place);
        let doing = "store a staged diff".to_owned();
        let stored = disk::blocking(move || store(&directory, place, &written)).await;
        Ok(stored.map_err(WorkerError::io(doing))?)
    }
}

fn not_compared(output: &CommandOutput) -> Unusable {
    if remote::is_full_disk(output) {
        return Unusable::Failed(WorkerError::DiskFull {
            doing: "compare a staged diff".to_owned(),
            words: output.words(),
        });
    }
    Unusable::Refused(format!("it cannot be compared: {}", output.words()))
}

/// Moves the patch into the file of its place. Blocks.
fn store(directory: &Path, place: usize, written: &Path) -> io::Result<PatchFile> {
    let mut patch: PatchWriter = PatchFile::create(directory, place)?;
    io::copy(&mut File::open(written)?, &mut patch)?;
    std::fs::remove_file(written)?;
    Ok(patch.finish())
}
