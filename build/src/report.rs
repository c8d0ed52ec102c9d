//! The outcome of a build.

use bus::Message;
use serde::{Deserialize, Serialize};
use tracing::{Span, field::display};

use super::BuildRequest;

/// What is published on a build target; travels in `build:publish`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Which build.
    pub request: BuildRequest,
    /// What to say.
    pub report: Report,
}

impl Message for Update {
    const VERSION: u16 = 1;

    fn describe(&self, span: &Span) {
        span.record("build", display(&self.request.target));
    }
}

/// What is said on a build target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// The stack is loaded and the work goes on.
    Working,
    /// The head is on Try.
    Pushed(Box<Pushed>),
    /// The patch cannot be built, by its author's or its parents' fault.
    PatchFailed(PatchFailure),
    /// We failed; the patch is not to blame.
    InfrastructureFailed(Blame),
    /// There is nothing to do, and that is all right.
    Neutral(Neutral),
    /// The revision may not be spoken of.
    Withheld,
}

/// Why there is nothing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "NeutralForm")]
pub struct Neutral {
    /// Why, for operators.
    pub reason: NeutralReason,
    /// Why, for the author: a sentence. It is remarkup.
    pub text: String,
}

/// Why there is nothing to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeutralReason {
    /// It was written down before reasons were told apart.
    #[default]
    Unrecorded,
    /// The diff is too old.
    Expired,
    /// There is a newer diff of the revision.
    Superseded,
    /// Revisions of the author are not built.
    Author,
    /// Stacks that change one of its files are not built.
    File,
    /// Patches for the repository are not built.
    Repository,
    /// All patches have landed.
    Landed,
    /// An operator ended it.
    Cancelled,
    /// Its author has given the revision up.
    Abandoned,
    /// Its target has ended in Harbormaster, or has a newer one: nothing can be published on it.
    EndedElsewhere,
}

/// How an older release wrote it, or this one.
#[derive(Deserialize)]
#[serde(untagged)]
enum NeutralForm {
    Text(String),
    Whole { reason: NeutralReason, text: String },
}

impl From<NeutralForm> for Neutral {
    fn from(form: NeutralForm) -> Self {
        match form {
            NeutralForm::Text(text) => Self {
                reason: NeutralReason::Unrecorded,
                text,
            },
            NeutralForm::Whole { reason, text } => Self { reason, text },
        }
    }
}

impl Report {
    /// There is nothing to do, for this reason.
    pub fn neutral(reason: NeutralReason, text: impl Into<String>) -> Self {
        Self::Neutral(Neutral {
            reason,
            text: text.into(),
        })
    }

    /// Whether it ends a build.
    pub fn is_end(&self) -> bool {
        *self != Self::Working
    }
}

/// A head on Try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pushed {
    /// The head's changeset, 40 hex digits.
    pub revision: String,
    /// Where its jobs are shown.
    pub treeherder_url: String,
    /// How many patches were applied.
    pub patches: usize,
    /// The revisions of these patches, in the order in which they were applied; empty when an older worker wrote this.
    #[serde(default)]
    pub revisions: Vec<u64>,
    /// Revisions that the stack stands on and that were left out because they have landed.
    #[serde(default)]
    pub landed: Vec<u64>,
    /// Those of the applied revisions, below the one that was built, that their authors have abandoned.
    #[serde(default)]
    pub abandoned: Vec<u64>,
    /// What they were applied on.
    pub base: BaseChoice,
    /// Seconds from taking the build to the end of the push.
    pub seconds: f64,
}

/// The changeset that a stack was applied on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseChoice {
    /// The changeset, 40 hex digits.
    pub used: String,
    /// The base that the stack names, when it is another one. Hostile.
    pub instead_of: Option<String>,
    /// Why it was used.
    #[serde(default)]
    pub reason: BaseReason,
    /// The changeset on which the stack did not apply before this one was used, 40 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<String>,
}

/// Why a changeset was chosen as a base.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseReason {
    /// The choice was written down before reasons were.
    #[default]
    Unrecorded,
    /// It is the base that the stack names.
    Named,
    /// The stack names a changeset that the repository does not have, even after a pull: a git commit, or one that was
    /// never pushed. The newest one was used.
    Unknown,
    /// The stack names something that is no changeset's whole hash. The newest one was used.
    NotAHash,
    /// The stack names no base. The newest one was used.
    Unnamed,
    /// Patches of the stack name several bases, and this is the newest known one, which contains the other known ones.
    NewestNamed,
    /// None of the bases that the stack names is known, or it names none. It is the newest changeset in the history of
    /// the default revision whose date is not after the creation of the diff.
    ByDate,
    /// The repository is configured to build on its newest changeset, whatever a stack names.
    Latest,
}

/// Why a patch cannot be built, in words for its author.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PatchFailure {
    /// A sentence: which patch, and that it cannot be built. It is remarkup: our words only, nothing from outside.
    pub summary: String,
    /// What is wrong in detail (file, hunk, the tool's own words), shown as code. May be empty.
    pub details: String,
    /// What the author can do. Remarkup, our words only. May be empty.
    pub advice: String,
    /// What the author can type to that end, shown as code. May be empty.
    #[serde(default)]
    pub commands: String,
    /// What the patch was tried on, if it was.
    #[serde(default)]
    pub base: Option<BaseChoice>,
    /// Seconds that were spent on it.
    pub seconds: f64,
}

/// What failed on our side, in words for an author who can do nothing about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blame {
    /// One sentence: what failed. It is remarkup: our words only, nothing from outside.
    pub summary: String,
    /// The tool's own words, shown as code. May be empty.
    pub details: String,
    /// How often it was tried; 0 when that says nothing.
    #[serde(default)]
    pub attempts: u32,
    /// Seconds that were spent on it.
    pub seconds: f64,
}
