//! A build: what Harbormaster asked for, and what the workflow found out about it.

use std::fmt;

use bus::{Blob, Message};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{Span, field::display};

use super::Phid;

/// What Harbormaster asked for; travels in `builds` until the revision is public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRequest {
    /// The build target that waits for an answer. It names the build.
    pub target: Phid,
    /// The diff to build.
    pub diff_id: u64,
    /// The repository that the diff is for.
    pub repository: Phid,
    /// The number of the diff's revision (`D<id>`).
    pub revision_id: u64,
    /// When the request was accepted.
    pub accepted_at: Timestamp,
}

impl Message for BuildRequest {
    const VERSION: u16 = 1;

    fn describe(&self, span: &Span) {
        span.record("build", display(&self.target));
    }
}

/// A public build with its stack loaded; travels in `mercurial`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// What was asked for.
    pub request: BuildRequest,
    /// The revision under review.
    pub revision: Revision,
    /// The diff to build.
    pub diff: Diff,
    /// The patches to apply, ancestors first; the last one is the diff's. Patches that have landed are left out, so
    /// it is empty when the revision itself has landed.
    pub stack: Vec<Patch>,
    /// The numbers of the revisions that patches of the stack stand on and that were left out because they have landed.
    #[serde(default)]
    pub landed: Vec<u64>,
}

impl Build {
    /// The revisions of the stack, below the one to build, that their authors have abandoned.
    pub fn abandoned_below(&self) -> Vec<u64> {
        let below = self
            .stack
            .iter()
            .filter(|patch| patch.abandoned && patch.revision_id != self.request.revision_id);
        below.map(|patch| patch.revision_id).collect()
    }
}

impl Message for Build {
    const VERSION: u16 = 1;

    fn describe(&self, span: &Span) {
        span.record("build", display(&self.request.target));
    }
}

/// A revision: a review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Its number, without the `D`.
    pub id: u64,
    /// Its PHID.
    pub phid: Phid,
    /// `https://<phabricator host>/D<id>`.
    pub url: String,
    /// Its title.
    pub title: String,
    /// Its author.
    pub author: Phid,
    /// Its reviewers: users or projects.
    pub reviewers: Vec<Phid>,
}

/// A diff: one version of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// Its number.
    pub id: u64,
    /// Its PHID.
    pub phid: Phid,
    /// When it was made.
    pub created_at: Timestamp,
    /// The identifier of the revision it was made on, as its author's client said. Anything may stand here.
    pub base: Option<String>,
}

/// One patch of a stack: becomes one changeset.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// The number of its revision, without the `D`.
    pub revision_id: u64,
    /// Its diff.
    pub diff: Diff,
    /// `Name <mail>` of its first commit, without quotes; `None` when the diff has no commit information.
    pub author: Option<String>,
    /// The message of its first commit, or the revision's title. Never empty.
    pub message: String,
    /// The patch in git's format, as Phabricator gave it. Hostile.
    pub content: Blob,
    /// Whether its revision was abandoned when the stack was loaded.
    #[serde(default)]
    pub abandoned: bool,
}

/// A patch can be large, and private: its content is not shown.
impl fmt::Debug for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patch")
            .field("revision_id", &self.revision_id)
            .field("diff", &self.diff)
            .field("author", &self.author)
            .field("message", &self.message)
            .field("content", &self.content)
            .finish()
    }
}
