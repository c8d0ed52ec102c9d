//! A build: Harbormaster's request, and the stack that the workflow loaded for it.

use bus::Message;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{Span, field::display};

use super::{Phid, VersionControl};

/// A request of Harbormaster; travels in `build:load` until the revision is public.
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
    /// The time at which we accepted the request.
    pub accepted_at: Timestamp,
    /// The commit of the diff in the staging area, as Harbormaster names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<StagedCommit>,
}

/// A commit in a staging area, as a request names it. It is compared with what is expected, and never used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedCommit {
    /// The address of the staging area.
    pub url: Option<String>,
    /// The ref.
    pub reference: Option<String>,
}

impl Message for BuildRequest {
    const VERSION: u16 = 1;

    fn describe(&self, span: &Span) {
        span.record("build", display(&self.target));
    }
}

/// A public build whose stack is known; travels in `build:push`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The request of the build.
    pub request: BuildRequest,
    /// The version control of its repository.
    #[serde(default)]
    pub vcs: VersionControl,
    /// The revision under review.
    pub revision: Revision,
    /// The diff to build.
    pub diff: Diff,
    /// The patches to apply, ancestors first; the last one is the diff's. Patches that have landed are left out, so
    /// it is empty when the revision itself has landed.
    pub stack: Vec<Patch>,
    /// The numbers of the revisions that patches of the stack stand on and that were left out because they have landed.
    pub landed: Vec<u64>,
}

/// The longest base that is shown and recorded, in characters: the hash of a commit has 40.
const SHOWN_BASE: usize = 40;

impl Build {
    /// The revisions of the stack, ancestors first.
    pub fn revisions(&self) -> Vec<u64> {
        self.stack.iter().map(|patch| patch.revision_id).collect()
    }

    /// The base that the stack names, without control characters and cut to 40 characters. It may still be any text.
    pub fn named_base(&self) -> Option<String> {
        let lowest = self.stack.first()?.diff.base.as_deref()?;
        let shown = lowest.chars().filter(|c| !c.is_control());
        Some(shown.take(SHOWN_BASE).collect())
    }

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

/// A revision under review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The number, without the `D`.
    pub id: u64,
    /// The PHID.
    pub phid: Phid,
    /// `https://<phabricator host>/D<id>`.
    pub url: String,
    /// The PHID of the author, a user.
    pub author: Phid,
    /// The PHIDs of the reviewers: users or projects.
    pub reviewers: Vec<Phid>,
}

impl Revision {
    /// The address of another revision on the same Phabricator. `None` if the address of this one is not known.
    pub fn url_of(&self, id: u64) -> Option<String> {
        let host = self.url.strip_suffix(&format!("D{}", self.id))?;
        Some(format!("{host}D{id}"))
    }
}

/// A diff: one version of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// The diff's number.
    pub id: u64,
    /// The diff's PHID.
    pub phid: Phid,
    /// The time of its creation, by Phabricator's clock.
    pub created_at: Timestamp,
    /// The commit that it was made on, as its author's client sent it. Hostile.
    pub base: Option<String>,
}

/// A patch of a stack, which becomes one commit. The message holds no content: see [`crate::PatchSource`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// The number of its revision, without the `D`.
    pub revision_id: u64,
    /// The diff that it is rendered from.
    pub diff: Diff,
    /// The message of its commit, set only when the diff has none: the message of a diff never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether its revision was abandoned when the stack was loaded.
    pub abandoned: bool,
}
