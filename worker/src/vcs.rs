//! The interface to a version control, which makes clones and applies patches on them. The worker decides, and an
//! implementation of these traits carries it out. The push is a matter of [`crate::destination`].

use std::{
    io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use build::{BaseChoice, Build, Patch, PatchContent, PatchFile};
use jiff::Timestamp;

use crate::{
    ProcessorTime, RepositorySettings, Settings, WorkerError,
    destination::{Destination, DestinationRefs},
    patch::{
        ParsedPatch, Rules,
        path_tree::{PathFilter, Tree},
        reject_report::RejectReport,
        stack_size::Sizes,
    },
    probe::Probe,
    revision::{Revision, RevisionName},
};

/// A version control.
#[async_trait]
pub trait Vcs: Send + Sync {
    /// Its name, as authors know it.
    fn name(&self) -> &'static str;

    /// The rules by which the patches of a repository are read.
    fn rules(&self, repository: &RepositorySettings) -> Rules;

    /// Clones the source into `directory`, and removes the rest of an interrupted attempt there. On return the clone is
    /// whole and has its [`crate::source_tip`].
    async fn clone_into(&self, site: &Site<'_>, directory: &Path) -> Result<(), WorkerError>;

    /// Opens the clone in `directory`, and discards what builds left there. Returns [`WorkerError::Damaged`] when it
    /// has to be cloned again.
    async fn open(
        &self,
        site: &Site<'_>,
        directory: &Path,
    ) -> Result<Box<dyn VcsClone>, WorkerError>;

    /// Kills the processes of a dead worker that clone into `directory`; returns whether there were any. Only the
    /// process with the lock of the slot calls this.
    fn kill_orphans(&self, directory: &Path) -> io::Result<bool>;

    /// Checks all that builds of a repository need. It pushes nothing, and makes no clone.
    async fn probe(&self, settings: &Settings, repository: &RepositorySettings) -> Vec<Probe>;

    /// The refs at the version control's own destination, to delete old ones. It needs no clone. `None` where heads have
    /// no refs.
    async fn refs(&self, _: &Site<'_>) -> Result<Option<Box<dyn DestinationRefs>>, WorkerError> {
        Ok(None)
    }

    /// The commands with which an author moves the stack of a build from its base to `base`.
    fn rebase_commands(&self, build: &Build, base: &BaseChoice) -> String;
}

/// The clone slot for which a version control works.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The settings of the worker.
    pub settings: &'a Settings,
    /// The repository that is cloned.
    pub repository: &'a RepositorySettings,
    /// The name of the slot. No other clone has it at the same time.
    pub slot: &'a str,
}

/// A clone that is ready for builds. Only one build has it at a time.
///
/// Dropping a future kills its child processes. The next [`VcsClone::discard`] removes what they left in the clone.
#[async_trait]
pub trait VcsClone: Send {
    /// Removes what a build left in the clone, whatever state it is in.
    async fn discard(&mut self) -> Result<(), WorkerError>;

    /// A fault of the configuration that only a clone shows, as a sentence for operators.
    async fn warning(&mut self) -> Option<String>;

    /// Pulls from the source; returns the number of new revisions. The clone must hold no changeset of a build.
    async fn update(&mut self) -> Result<u64, WorkerError>;

    /// The newest revision.
    async fn tip(&mut self) -> Result<Revision, WorkerError>;

    /// The revisions with these names, each once, the newest last. Unknown and ambiguous names are left out.
    async fn known(&mut self, names: &[RevisionName]) -> Result<Vec<Revision>, WorkerError>;

    /// Whether the history of `newest` holds all of `others`.
    async fn contains(
        &mut self,
        newest: &Revision,
        others: &[Revision],
    ) -> Result<bool, WorkerError>;

    /// The revision that `default_revision` names at the source now. The clone must hold no changeset of a build.
    async fn default_revision(&mut self) -> Result<Revision, WorkerError>;

    /// The newest revision in the history of `head` whose date is not after `date`.
    async fn newest_before(
        &mut self,
        head: &Revision,
        date: Timestamp,
    ) -> Result<Option<Revision>, WorkerError>;

    /// The paths of `base` that pass the filter.
    async fn tree(&mut self, base: &Revision, filter: PathFilter) -> Result<Tree, WorkerError>;

    /// The sizes of files that `base` has, in bytes.
    async fn sizes(&mut self, base: &Revision, paths: &[&[u8]]) -> Result<Sizes, WorkerError>;

    /// The change of a diff as its author's client staged it. The clone must hold no changeset of a build.
    async fn staged(&mut self, _: &StagedDiff<'_>) -> Result<Staged, WorkerError> {
        Ok(Staged::Missing)
    }

    /// Makes one commit of each patch, and the last one of the stack; returns the newest one. The commits are a pure function of
    /// `base` and `stack`. `time` is the processor time that is left.
    async fn apply(
        &mut self,
        base: &Revision,
        stack: &Stack<'_>,
        time: &mut ProcessorTime,
    ) -> Result<Revision, ApplyError>;

    /// The commits after `base` up to `head`, the oldest first, for a destination that takes patches. `None` when they have
    /// more than `limit` bytes together.
    async fn export(
        &mut self,
        base: &Revision,
        head: &Revision,
        limit: usize,
    ) -> Result<Option<Vec<CommitPatch>>, WorkerError> {
        let _ = limit;
        Err(WorkerError::Settings {
            reason: format!(
                "this version control cannot export the commits from {} to {}, as the destination needs them",
                base.short(),
                head.short()
            ),
        })
    }

    /// The repository that has the head of the build. `clone` is the directory of the clone.
    fn repository_of_head(&self, clone: &Path) -> PathBuf {
        clone.to_owned()
    }

    /// The destination of the version control itself: the repository at `try_url`. It is a part of the clone, since
    /// both share processes, credentials and connections.
    fn own_destination(&mut self) -> &mut dyn Destination;

    /// As [`VcsClone::discard`], after a build; also ends what its own destination prepared.
    async fn finish(&mut self) -> Result<(), WorkerError>;

    /// Ends the processes that serve the clone. After a failure they may hold locks, and may have cached data that was
    /// rolled back. The next use starts others.
    async fn reset(&mut self);

    /// Ends its processes and connections.
    async fn close(&mut self);
}

/// A stack to apply: its patches are parsed, and have passed the checks.
pub struct Stack<'a> {
    /// The patches in the order in which they are applied. Each becomes one commit.
    pub patches: Vec<StackPatch<'a>>,
    /// The last commit, if there is one on top of the patches.
    pub last: Option<LastCommit>,
    /// `Name <mail>` for patches without an author, and for the last commit.
    pub default_author: &'a str,
}

/// One patch of a stack.
pub struct StackPatch<'a> {
    /// The patch of the build.
    pub patch: &'a Patch,
    /// The address of its revision, if it is known.
    pub url: Option<String>,
    /// Its file, author and message.
    pub content: &'a PatchContent,
    /// Its parsed content.
    pub parsed: &'a ParsedPatch,
    /// The sizes that its files have before it, in bytes; see [`crate::patch::stack_size::check`].
    pub sizes: &'a [u64],
}

/// A commit as a patch, for a destination that takes patches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPatch {
    /// `Name <mail>`.
    pub author: String,
    /// The date of the author.
    pub date: Timestamp,
    /// The message.
    pub message: String,
    /// The changes, in the format of Git with binary content. No text says that it is UTF-8.
    pub diff: Vec<u8>,
}

impl CommitPatch {
    /// Reads `NUL hash NUL author NUL seconds NUL message NUL diff` for each commit, as both version controls can print it.
    /// `None` for another text.
    pub fn read_all(printed: &[u8]) -> Option<Vec<Self>> {
        let mut fields = printed.split(|&byte| byte == 0);
        if !fields.next()?.is_empty() {
            return None;
        }
        let mut commits = Vec::new();
        while let Some(_hash) = fields.next() {
            let mut text = || Some(String::from_utf8_lossy(fields.next()?).into_owned());
            let (author, date, message) = (text()?, text()?, text()?);
            commits.push(Self {
                author,
                date: Timestamp::from_second(date.parse().ok()?).ok()?,
                message,
                diff: fields.next()?.to_vec(),
            });
        }
        Some(commits)
    }
}

/// A diff whose staged change is wanted.
#[derive(Debug, Clone, Copy)]
pub struct StagedDiff<'a> {
    /// The number of the diff.
    pub diff_id: u64,
    /// The directory for the patch.
    pub directory: &'a Path,
    /// The place of the patch among the files of that directory: see [`PatchFile::create`].
    pub place: usize,
}

/// The change of a diff in the staging area.
#[derive(Debug)]
pub enum Staged {
    /// There is none.
    Missing,
    /// There is one that cannot be used, for this reason: a clause for operators.
    Unusable(String),
    /// There is one.
    Found {
        /// The revision of the source that it was made on.
        base: Revision,
        /// The change, as a patch in git's format. Hostile.
        patch: PatchFile,
    },
}

/// The commit on top of a stack: it makes one plain file, which tells the destination what to do.
pub struct LastCommit {
    /// The path of the file.
    pub path: String,
    /// The content of the file.
    pub content: Vec<u8>,
    /// Whether the file exists before this commit.
    pub exists: bool,
    /// The message of the commit.
    pub message: String,
    /// The date of the commit.
    pub date: Timestamp,
    /// The revision that is built.
    pub revision_id: u64,
}

/// The reason for which the patches of a stack cannot be applied.
#[derive(Debug, PartialEq, Eq)]
pub enum Rejection {
    /// A patch does not fit its files.
    DoesNotApply {
        /// The revision of the patch.
        revision_id: u64,
        /// The rejected hunks, and the causes.
        report: RejectReport,
    },
    /// The time to search for the places of a patch's hunks ran out.
    SearchesTooLong {
        /// The revision of the patch.
        revision_id: u64,
        /// The first hunk that is at other lines than it says.
        report: RejectReport,
    },
    /// A patch changes no file.
    ChangesNothing {
        /// The revision of the patch.
        revision_id: u64,
    },
    /// The processor time for the stack ran out.
    TakesTooLong {
        /// The revision whose patch was being applied.
        revision_id: u64,
    },
    /// A patch needs more memory than is allowed.
    TakesTooMuchMemory {
        /// The revision of the patch.
        revision_id: u64,
    },
}

/// The failure to apply a stack.
#[derive(Debug)]
pub enum ApplyError {
    /// The patches cannot be applied; another attempt cannot help.
    Rejected(Rejection),
    /// Our side failed; the error decides whether another attempt can help.
    Failed(WorkerError),
}

impl From<Rejection> for ApplyError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<WorkerError> for ApplyError {
    fn from(error: WorkerError) -> Self {
        Self::Failed(error)
    }
}
