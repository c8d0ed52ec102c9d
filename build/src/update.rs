//! Updates: the results of a build, as they are published on its target.

use bus::Message;
use serde::{Deserialize, Serialize};
use tracing::{Span, field::display};

use super::{BuildRequest, VersionControl};

/// An update to be published on a build target; travels in `build:publish`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildUpdateMessage {
    /// The request of the build.
    pub request: BuildRequest,
    /// The update to publish.
    pub update: BuildUpdate,
}

impl Message for BuildUpdateMessage {
    const VERSION: u16 = 1;

    fn describe(&self, span: &Span) {
        span.record("build", display(&self.request.target));
    }
}

/// A result of a build. All but `Working` end it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum BuildUpdate {
    /// The stack is loaded and the work goes on.
    Working,
    /// The head is at its destination.
    Pushed(Box<Pushed>),
    /// The patch cannot be built, through a fault of it or of its parents.
    PatchFailed(PatchFailure),
    /// We failed; the patch is not to blame.
    InfraFailed(InfraFailure),
    /// There is nothing to build, and no failure.
    Skipped(Skip),
    /// The revision is private: the update names nothing.
    Private,
}

/// An end without a build: its reason, for operators and for the author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// The reason for operators, in records and metrics.
    pub reason: SkipReason,
    /// The reason for the author: a sentence in remarkup.
    pub text: String,
}

/// The reason for which a build is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The diff is too old.
    Expired,
    /// There is a newer diff of the revision, or a newer build of the diff was pushed to the same ref.
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
    /// Its author abandoned the revision.
    Abandoned,
    /// Its target has ended in Harbormaster, or has a newer one: nothing can be published on it.
    EndedElsewhere,
}

impl BuildUpdate {
    /// The update that ends a build without a failure. `text` is a sentence in remarkup.
    pub fn skipped(reason: SkipReason, text: impl Into<String>) -> Self {
        Self::Skipped(Skip {
            reason,
            text: text.into(),
        })
    }

    /// Whether it ends a build.
    pub fn is_end(&self) -> bool {
        *self != Self::Working
    }
}

/// A head at its destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pushed {
    /// The version control of the repository.
    #[serde(default)]
    pub vcs: VersionControl,
    /// The head, 40 hex digits.
    pub revision: String,
    /// The ref that it was pushed to, with Git.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The address of the page that shows its jobs, if there is one.
    #[serde(
        default,
        alias = "treeherder_url",
        skip_serializing_if = "Option::is_none"
    )]
    pub jobs_url: Option<String>,
    /// Whether that page is one of Treeherder. Messages from before this field are of pushes to Try.
    #[serde(default = "yes")]
    pub on_treeherder: bool,
    /// The address of the page of the job that pushed it, at Lando.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_url: Option<String>,
    /// The number of patches that were applied.
    pub patches: usize,
    /// The revisions of these patches, in the order in which they were applied.
    pub revisions: Vec<u64>,
    /// Revisions that the stack stands on and that were left out because they have landed.
    pub landed: Vec<u64>,
    /// Those of the applied revisions, below the one that was built, that their authors have abandoned.
    pub abandoned: Vec<u64>,
    /// The commit that they were applied on.
    pub base: BaseChoice,
    /// Seconds from the delivery of the build to the end of its push.
    pub seconds: f64,
}

fn yes() -> bool {
    true
}

/// The commit that a stack was applied on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseChoice {
    /// The commit, 40 hex digits.
    pub used: String,
    /// The base that the stack names, when it is another one. Hostile.
    pub instead_of: Option<String>,
    /// The rule that chose it.
    pub reason: BaseReason,
    /// The commit on which the stack did not apply before this one was used, 40 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<String>,
}

/// The rule by which a commit was chosen as a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseReason {
    /// It is the base that the stack names.
    Named,
    /// The stack names it by its hash in another version control.
    Mapped,
    /// The stack names a commit that the repository does not have, even after a pull: one of another version control, or
    /// one that was never pushed. The newest one was used.
    Unknown,
    /// The stack names something other than the whole hash of a commit. The newest one was used.
    NotAHash,
    /// The stack names no base. The newest one was used.
    Unnamed,
    /// Patches of the stack name several bases, and this is the newest known one, which contains the other known ones.
    NewestNamed,
    /// None of the bases that the stack names is known, or it names none. It is the newest commit in the history of
    /// the default revision whose date is not after the creation of the diff.
    ByDate,
    /// The repository is configured to build on its newest commit, whatever a stack names.
    Latest,
    /// It is the base that the lowest diff was staged with. The change of that diff was taken from the staging area, since
    /// the patches lack content, or do not apply.
    Staged,
}

/// The fault of a patch that cannot be built, in words for its author.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PatchFailure {
    /// The version control of the repository.
    #[serde(default)]
    pub vcs: VersionControl,
    /// A sentence that names the patch and its fault. Remarkup of our own words: no foreign text.
    pub summary: String,
    /// The fault in detail (file, hunk, the tool's own words), shown as code. May be empty.
    pub details: String,
    /// The remedy. Remarkup of our own words. May be empty.
    pub advice: String,
    /// Commands for the remedy, shown as code. May be empty.
    pub commands: String,
    /// The base on which the patch was tried, if it was.
    pub base: Option<BaseChoice>,
    /// The time that was spent on it, in seconds.
    pub seconds: f64,
}

/// A failure of ours, in words for an author who can do nothing about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InfraFailure {
    /// A sentence that names the failure. Remarkup of our own words: no foreign text.
    pub summary: String,
    /// The tool's own words, shown as code. May be empty.
    pub details: String,
    /// The number of attempts; 0 when the answer does not mention it.
    pub attempts: u32,
    /// The time that was spent on it, in seconds.
    pub seconds: f64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_from_before_the_version_control_was_in_them_are_of_mercurial_and_treeherder() {
        let base = json!({"used": "1", "instead_of": null, "reason": "named"});
        let pushed = json!({
            "revision": "2", "treeherder_url": "https://treeherder.example/", "patches": 1, "revisions": [1],
            "landed": [], "abandoned": [], "base": base, "seconds": 1.0,
        });
        let pushed: Pushed = serde_json::from_value(pushed).expect("a push");
        assert_eq!(
            (pushed.vcs, pushed.on_treeherder),
            (VersionControl::Mercurial, true)
        );
        let failure = json!({
            "summary": "", "details": "", "advice": "", "commands": "", "base": base, "seconds": 1.0,
        });
        let failure: PatchFailure = serde_json::from_value(failure).expect("a failure");
        assert_eq!(failure.vcs, VersionControl::Mercurial);
        assert_eq!(
            serde_json::to_value(VersionControl::Git).expect("a name"),
            "git"
        );
    }
}
