//! The life of a build: its states and its outcomes. Logs, metrics, records, commands and pages use these words.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{BuildUpdate, SkipReason};

/// The state of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildState {
    /// Its request is stored.
    Accepted,
    /// A worker checks whether it is eligible, and loads its stack.
    Loading,
    /// Its stack is known. A worker loads and applies its patches when its turn comes.
    Applying,
    /// Its push has begun, and its head may be at its destination.
    Pushing,
    /// Its jobs run.
    Testing,
    /// Its outcome is published, or needs no publishing.
    Published,
    /// It waits for something outside, for a recorded reason.
    Deferred,
}

impl BuildState {
    /// All of them, in the order of a build's life, and `deferred` at the end.
    pub const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Loading,
        Self::Applying,
        Self::Pushing,
        Self::Testing,
        Self::Published,
        Self::Deferred,
    ];

    /// The name in logs, records, commands and pages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Loading => "loading",
            Self::Applying => "applying",
            Self::Pushing => "pushing",
            Self::Testing => "testing",
            Self::Published => "published",
            Self::Deferred => "deferred",
        }
    }
}

impl fmt::Display for BuildState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The outcome of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildOutcome {
    /// Its jobs passed.
    Passed,
    /// Some of its jobs failed.
    Failed,
    /// Its head is at its destination.
    Pushed,
    /// Its patch cannot be built.
    PatchFailed,
    /// There was nothing to build.
    Skipped(SkipReason),
    /// The infrastructure failed, not the patch.
    InfraFailed,
    /// Its revision is private.
    Private,
}

impl BuildOutcome {
    /// All names, in the order of the documentation.
    pub const NAMES: [&'static str; 7] = [
        "passed",
        "failed",
        "pushed",
        "patch_failed",
        "skipped",
        "infra_failed",
        "private",
    ];

    /// The name, without the reason of `skipped`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Pushed => "pushed",
            Self::PatchFailed => "patch_failed",
            Self::Skipped(_) => "skipped",
            Self::InfraFailed => "infra_failed",
            Self::Private => "private",
        }
    }

    /// The reason of `skipped`.
    pub fn reason(self) -> Option<SkipReason> {
        match self {
            Self::Skipped(reason) => Some(reason),
            _ => None,
        }
    }
}

/// With the reason: `skipped (superseded)`.
impl fmt::Display for BuildOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "{} ({})", self.name(), reason.name()),
            None => f.write_str(self.name()),
        }
    }
}

impl BuildUpdate {
    /// `None` for [`BuildUpdate::Working`], which ends nothing.
    pub fn outcome(&self) -> Option<BuildOutcome> {
        Some(match self {
            Self::Working => return None,
            Self::Pushed(_) => BuildOutcome::Pushed,
            Self::PatchFailed(_) => BuildOutcome::PatchFailed,
            Self::InfraFailed(_) => BuildOutcome::InfraFailed,
            Self::Skipped(skip) => BuildOutcome::Skipped(skip.reason),
            Self::Private => BuildOutcome::Private,
        })
    }
}

impl SkipReason {
    /// The name in records, metrics and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Author => "author",
            Self::File => "file",
            Self::Repository => "repository",
            Self::Landed => "landed",
            Self::Cancelled => "cancelled",
            Self::Abandoned => "abandoned",
            Self::EndedElsewhere => "ended_elsewhere",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_is_shown_with_its_reason() {
        let outcomes = [
            BuildOutcome::Passed,
            BuildOutcome::Failed,
            BuildOutcome::Pushed,
            BuildOutcome::PatchFailed,
            BuildOutcome::Skipped(SkipReason::Expired),
            BuildOutcome::InfraFailed,
            BuildOutcome::Private,
        ];
        assert_eq!(outcomes.map(BuildOutcome::name), BuildOutcome::NAMES);
        assert_eq!(outcomes[4].to_string(), "skipped (expired)");
    }
}
