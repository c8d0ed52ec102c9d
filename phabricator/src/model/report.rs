//! What becomes of a build.

use bus::Message;
use serde::{Deserialize, Serialize};

use super::BuildRequest;

/// How applying and pushing a build ended; travels in `mercurial:applied`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// Which build.
    pub request: BuildRequest,
    /// How it ended.
    pub report: Report,
}

impl Message for Applied {
    const VERSION: u16 = 1;
}

/// Something to say on a build target; travels in `results`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Which build.
    pub request: BuildRequest,
    /// What to say.
    pub report: Report,
}

impl Message for Update {
    const VERSION: u16 = 1;
}

/// What is said on a build target. All but [`Report::Working`] are ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// The stack is loaded and the work goes on.
    Working,
    /// The head is on Try.
    Pushed(Pushed),
    /// The patch cannot be built, by its author's or its parents' fault.
    PatchFailed(PatchFailure),
    /// We failed; the patch is not to blame.
    InfrastructureFailed(Blame),
    /// There is nothing to do, and that is all right. Holds the reason, a sentence.
    Neutral(String),
    /// The revision may not be spoken of.
    Withheld,
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
    /// What they were applied on.
    pub base: BaseChoice,
    /// Seconds from taking the build to the end of the push.
    pub seconds: f64,
}

/// The changeset that a stack was applied on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaseChoice {
    /// The changeset, 40 hex digits.
    pub used: String,
    /// The base that the stack names, when it is another one: it is unknown here, or not wanted.
    pub instead_of: Option<String>,
}

/// Why a patch cannot be built, in words for its author.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PatchFailure {
    /// One sentence: which patch, and what is wrong.
    pub summary: String,
    /// The tool's own words (file, hunk), shown as code. May be empty.
    pub details: String,
    /// What the author can do. May be empty.
    pub advice: String,
    /// Seconds that were spent on it.
    pub seconds: f64,
}

/// What failed on our side, in words for an author who can do nothing about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blame {
    /// One sentence: what failed.
    pub summary: String,
    /// The tool's own words. May be empty.
    pub details: String,
    /// Seconds that were spent on it.
    pub seconds: f64,
}
