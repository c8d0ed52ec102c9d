//! What a version control does for a build.

use build::{Patch, PatchContent};
use jiff::Timestamp;

use crate::{
    HgError,
    patch::{ParsedPatch, reject_report::RejectReport},
};

/// A stack that is applied: its patches are read, and their guards passed.
pub(crate) struct Stack<'a> {
    /// The patches in the order in which they are applied. Each becomes one commit.
    pub(crate) patches: Vec<StackPatch<'a>>,
    /// The last commit.
    pub(crate) try_config: TryConfig,
    /// `Name <mail>` for patches without an author, and for the last commit.
    pub(crate) default_author: &'a str,
}

/// One patch of a stack.
pub(crate) struct StackPatch<'a> {
    /// Whose it is.
    pub(crate) patch: &'a Patch,
    /// Its text, author and message.
    pub(crate) content: &'a PatchContent,
    /// What it does.
    pub(crate) parsed: &'a ParsedPatch,
    /// The sizes that its files have before it, in bytes; see `stack_size::check`.
    pub(crate) sizes: &'a [u64],
}

/// The commit that tells the decision task on Try what to do.
pub(crate) struct TryConfig {
    /// What the file `try_config::PATH` has to hold.
    pub(crate) content: Vec<u8>,
    /// Whether the file exists before this commit.
    pub(crate) exists: bool,
    /// The message of the commit.
    pub(crate) message: String,
    /// The date of the commit.
    pub(crate) date: Timestamp,
    /// The revision that is built.
    pub(crate) revision_id: u64,
}

/// Why a stack is not applied: its patches are to blame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
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
pub(crate) enum ApplyError {
    /// Its patches are to blame; another attempt cannot help.
    Rejected(Rejection),
    /// We are to blame; the error says whether another attempt can help.
    Failed(HgError),
}

impl From<Rejection> for ApplyError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<HgError> for ApplyError {
    fn from(error: HgError) -> Self {
        Self::Failed(error)
    }
}
