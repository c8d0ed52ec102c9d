//! What a version control does for a build. The worker decides; an implementation of these traits carries it out.

use std::{io, path::Path};

use async_trait::async_trait;
use build::{BaseChoice, Build, Patch, PatchContent};
use jiff::Timestamp;

use crate::{
    ProcessorTime, RepositorySettings, Settings, WorkerError,
    patch::{
        ParsedPatch,
        path_tree::{PathFilter, Tree},
        reject_report::RejectReport,
        stack_size::Sizes,
    },
};

/// A version control.
#[async_trait]
pub trait Vcs: Send + Sync {
    /// Its name, as authors know it.
    fn name(&self) -> &'static str;

    /// The directory of a clone with what is not the source's, relative to the clone. The file `source-tip` there names
    /// the newest revision of the source, as of the last update.
    fn metadata(&self) -> &'static str;

    /// Makes a clone of the source in `directory`; what an interrupted attempt left there goes. When this returns it is
    /// whole and has its source tip.
    async fn clone_into(&self, site: &Site<'_>, directory: &Path) -> Result<(), WorkerError>;

    /// Opens the clone in `directory`, and takes away what builds left there. [`WorkerError::Damaged`] when it has to
    /// be cloned again.
    async fn open(
        &self,
        site: &Site<'_>,
        directory: &Path,
    ) -> Result<Box<dyn VcsClone>, WorkerError>;

    /// Kills what a dead worker left that clones into `directory`; returns whether there was any. Only the process with
    /// the lock of the slot calls this.
    fn end_orphans(&self, directory: &Path) -> io::Result<bool>;

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

/// A clone that can be built on. Only one build has it at a time.
///
/// A future that is dropped in the middle takes its processes along; what it left in the clone goes with the next
/// [`VcsClone::discard`].
#[async_trait]
pub trait VcsClone: Send {
    /// Where it is.
    fn directory(&self) -> &Path;

    /// Takes away what a build left, in whatever state it left it.
    async fn discard(&mut self) -> Result<(), WorkerError>;

    /// A fault of the configuration that only a clone shows, as a sentence for operators.
    async fn warning(&mut self) -> Option<String>;

    /// Takes over what is new at the source; returns how many revisions that were. There must be nothing of a build.
    async fn update(&mut self) -> Result<u64, WorkerError>;

    /// The newest revision.
    async fn tip(&mut self) -> Result<Revision, WorkerError>;

    /// The revisions with these names, each once, the newest last. One that is unknown, or stands for several, is left
    /// out.
    async fn known(&mut self, names: &[RevisionName]) -> Result<Vec<Revision>, WorkerError>;

    /// Whether the history of `newest` holds all of `others`.
    async fn contains(
        &mut self,
        newest: &Revision,
        others: &[Revision],
    ) -> Result<bool, WorkerError>;

    /// The revision that the repository's `default_revision` stands for at the source, now. There must be nothing of a
    /// build.
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

    /// Makes one commit of each patch, and the last one; returns that one. The commits are a pure function of `base`
    /// and `stack`. `time` is the processor time that is left for it.
    async fn apply(
        &mut self,
        base: &Revision,
        stack: &Stack<'_>,
        time: &mut ProcessorTime,
    ) -> Result<Revision, ApplyError>;

    /// Begins what can be done of a push before there is a head.
    fn prepare_push(&mut self);

    /// Pushes `head` and what it stands on. `Ok` when it is there, by this push or by an earlier one.
    /// [`WorkerError::Refused`] when a hook there refuses it.
    async fn push(&mut self, head: &Revision) -> Result<(), WorkerError>;

    /// Ends what [`VcsClone::prepare_push`] began, at once.
    fn end_push(&mut self);

    /// As [`VcsClone::discard`], after a build; also ends what [`VcsClone::prepare_push`] began.
    async fn finish(&mut self) -> Result<(), WorkerError>;

    /// Gives the clone up: from now on it cannot be opened, and has to be cloned again.
    fn mark_corrupt(&mut self) -> Result<(), WorkerError>;

    /// Ends the processes that work on it. After a failure they may hold locks, and remember what was rolled back. The
    /// next use starts others.
    async fn reset(&mut self);

    /// Ends its processes and connections.
    async fn close(&mut self);
}

/// A revision of a clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its whole hash, 40 hex digits.
    pub id: String,
}

impl Revision {
    /// The first digits of its hash, as people read it.
    pub fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// What can name a revision: 12 to 40 hex digits. Nothing else from outside may get into an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionName(String);

impl RevisionName {
    /// Reads what an author's client says, which may be in any case, with spaces around it. `None` for what Mercurial
    /// takes for "nothing" or "the working copy".
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let pseudo = ["0", "f"]
            .iter()
            .any(|digit| text.trim_start_matches(digit).is_empty());
        let usable = (12..=40).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !pseudo;
        usable.then_some(Self(text))
    }

    /// The digits, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names this revision.
    pub fn names(&self, revision: &Revision) -> bool {
        revision.id.starts_with(&self.0)
    }
}

/// A stack that is applied: its patches are read, and their guards passed.
pub struct Stack<'a> {
    /// The patches in the order in which they are applied. Each becomes one commit.
    pub patches: Vec<StackPatch<'a>>,
    /// The last commit.
    pub try_config: TryConfig,
    /// `Name <mail>` for patches without an author, and for the last commit.
    pub default_author: &'a str,
}

/// One patch of a stack.
pub struct StackPatch<'a> {
    /// Whose it is.
    pub patch: &'a Patch,
    /// Its file, author and message.
    pub content: &'a PatchContent,
    /// What it does.
    pub parsed: &'a ParsedPatch,
    /// The sizes that its files have before it, in bytes; see [`crate::patch::stack_size::check`].
    pub sizes: &'a [u64],
}

/// The commit that tells the decision task on Try what to do.
pub struct TryConfig {
    /// What the file `try_config::PATH` has to hold.
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

/// Why a stack is not applied: its patches are to blame.
#[derive(Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The patch does not fit the files that it is for.
    DoesNotApply {
        /// Whose patch it is.
        revision_id: u64,
        /// Where and why.
        report: RejectReport,
    },
    /// The time to search for the places of its hunks ran out.
    SearchesTooLong {
        /// Whose patch it is.
        revision_id: u64,
        /// The first hunk that is not where it says.
        report: RejectReport,
    },
    /// It leaves every file as it is.
    ChangesNothing {
        /// Whose patch it is.
        revision_id: u64,
    },
    /// The processor time for the stack ran out.
    TakesTooLong {
        /// At whose patch.
        revision_id: u64,
    },
    /// It needs more memory than is allowed.
    TakesTooMuchMemory {
        /// Whose patch it is.
        revision_id: u64,
    },
}

/// Why a stack is not applied.
#[derive(Debug)]
pub enum ApplyError {
    /// Its patches are to blame; another attempt cannot help.
    Rejected(Rejection),
    /// We are to blame; the error says whether another attempt can help.
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
