//! The faults of stacks that cannot be built, with their texts for authors.

use build::{BuildUpdate, PatchFailure, VersionControl};

use super::{MAX_BYTES, MAX_PATCHES};

/// The fault of a stack that cannot be built. All numbers are of public revisions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RejectReason {
    /// This parent is for another repository; its name, if our user sees the repository.
    OtherRepository { parent: u64, name: Option<String> },
    /// Phabricator shows no diff of this revision.
    NoPatch(u64),
    /// This revision is its own ancestor.
    Cycle(u64),
    /// The parents of this revision do not meet.
    Fork { child: u64, parents: Vec<u64> },
    /// More patches than [`MAX_PATCHES`], or more edges than one search returns.
    TooMany,
    /// More bytes than [`MAX_BYTES`].
    TooLarge,
}

impl RejectReason {
    /// The final update for the build of `revision_id`, on which `seconds` were spent.
    pub(crate) fn update(
        &self,
        vcs: VersionControl,
        revision_id: u64,
        seconds: f64,
    ) -> BuildUpdate {
        BuildUpdate::PatchFailed(self.failure(vcs, revision_id, seconds))
    }

    /// The answer to the author of `revision_id`, on whose build `seconds` were spent.
    pub(crate) fn failure(
        &self,
        vcs: VersionControl,
        revision_id: u64,
        seconds: f64,
    ) -> PatchFailure {
        let (summary, advice) = self.summary_and_advice(revision_id);
        let (details, commands, advice) = (String::new(), String::new(), advice.to_owned());
        PatchFailure {
            vcs,
            summary,
            details,
            advice,
            commands,
            base: None,
            seconds,
        }
    }

    /// The sentence that names the fault to the author of `revision_id`, and the remedy.
    fn summary_and_advice(&self, revision_id: u64) -> (String, &'static str) {
        match self {
            Self::OtherRepository { parent, name } => (
                format!(
                    "The stack of D{revision_id} cannot be built: D{parent}, on which it stands, is for {}.",
                    name.as_deref().map_or_else(
                        || "another repository".to_owned(),
                        |name| format!("the repository {name}")
                    )
                ),
                "Remove that parent (\"Edit Related Revisions\" in Phabricator), or correct the repository of the revision, \
                 and submit again. Nothing was applied.",
            ),
            Self::NoPatch(id) => (
                format!(
                    "The stack of D{revision_id} cannot be loaded: the patch of D{id} cannot be read."
                ),
                "Submit that revision again.",
            ),
            Self::Cycle(id) => (
                format!(
                    "The stack of D{revision_id} cannot be ordered: D{id} stands on itself through its parents."
                ),
                "Edit the related revisions in Phabricator so that the parents form one line.",
            ),
            Self::Fork { child, parents } => {
                let names: Vec<String> = parents.iter().map(|id| format!("D{id}")).collect();
                (
                    format!(
                        "The stack of D{revision_id} cannot be ordered: D{child} has the parents {}, which do not stand \
                         on a common revision.",
                        names.join(" and ")
                    ),
                    "Make one of them a parent of the other (\"Edit Related Revisions\" in Phabricator), or land one first.",
                )
            }
            Self::TooMany => (
                format!(
                    "The stack of D{revision_id} has more than {MAX_PATCHES} patches that have not landed, \
                     or as many links between them."
                ),
                "Land the lower ones first, or submit a shorter stack.",
            ),
            Self::TooLarge => (
                format!(
                    "The patches in the stack of D{revision_id} have more than {} MB together.",
                    MAX_BYTES >> 20
                ),
                "Submit smaller patches.",
            ),
        }
    }
}
