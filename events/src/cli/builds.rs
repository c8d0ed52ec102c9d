//! Options of `events builds`.

mod restart;

use std::str::FromStr;

use build::{
    BuildOutcome, BuildRecord, BuildRequest, BuildState, Phid, diff_index, revision_index,
};
use clap::{Args, Subcommand};
use thiserror::Error;

use super::Deployment;
pub use restart::RestartChoice;

/// Options of `events builds`.
#[derive(Debug, Args)]
pub struct Builds {
    /// The deployment of the builds.
    #[command(flatten)]
    pub deployment: Deployment,
    /// The action.
    #[command(subcommand)]
    pub action: BuildAction,
}

/// An action on builds.
#[derive(Debug, Subcommand)]
pub enum BuildAction {
    /// List builds, the newest first, each with the reason of its wait
    List(BuildList),
    /// Show the history of a build: its events, the reason of its wait, the next step and the published texts
    Show(OneBuild),
    /// Retry a build without an outcome, or publish its missing answer
    Retry(OneBuild),
    /// Cancel a build whose push has not begun; its outcome is skipped
    Cancel(OneBuild),
    /// Restart builds that have ended, in Harbormaster
    Restart(Restart),
    /// Find builds that are in no queue and builds whose request was lost, and build them again
    Audit(Audit),
}

/// The build of `events builds show`, `retry` and `cancel`.
#[derive(Debug, Args)]
pub struct OneBuild {
    /// Target of the build (PHID-HMBT-…), or a revision (D123) or the number of a diff for its newest build
    #[arg(value_name = "BUILD")]
    pub build: BuildSelector,
}

/// Options of `events builds restart`.
#[derive(Debug, Args)]
#[command(override_usage = restart::USAGE)]
pub struct Restart {
    /// The builds.
    #[command(flatten)]
    pub which: RestartChoice,
    /// Largest number of builds to restart, the newest first
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Preview of the builds that would be restarted
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `events builds list`.
#[derive(Debug, Args)]
pub struct BuildList {
    /// State of the listed builds: accepted, loading, applying, pushing, testing, published or deferred
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub state: Option<BuildState>,
    /// Outcome of the listed builds
    #[arg(long, value_name = "OUTCOME", value_parser = BuildOutcome::NAMES)]
    pub outcome: Option<String>,
    /// Revision of the listed builds
    #[arg(long, value_name = "D123", value_parser = revision)]
    pub revision: Option<u64>,
    /// Largest number of builds to list, the newest first
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub limit: usize,
}

impl BuildList {
    /// Whether a record has the state and the outcome. The caller compares the revision.
    pub fn matches(&self, record: &BuildRecord) -> bool {
        let outcome = record.outcome().map(BuildOutcome::name);
        self.state.is_none_or(|state| record.state() == state)
            && (self.outcome.is_none() || self.outcome.as_deref() == outcome)
    }
}

/// Options of `events builds audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// Preview of the findings and actions; nothing is changed
    #[arg(long)]
    pub dry_run: bool,
}

/// A selection of builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildSelector {
    /// The build of this target.
    Target(Phid),
    /// The builds of this revision.
    Revision(u64),
    /// The builds of this diff.
    Diff(u64),
}

/// A text that selects no build.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("expected a build target (PHID-HMBT-…), a revision (D123) or the number of a diff")]
pub struct InvalidSelector;

impl FromStr for BuildSelector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        if let Ok(target) = Phid::parse_as(Phid::TARGET, text) {
            return Ok(Self::Target(target));
        }
        match text.strip_prefix(['D', 'd']) {
            Some(number) => number.parse().map(Self::Revision),
            None => text.parse().map(Self::Diff),
        }
        .map_err(|_| InvalidSelector)
    }
}

impl BuildSelector {
    /// An index of the selected records, and perhaps of others; `None` for a single target.
    pub fn index(&self) -> Option<String> {
        match self {
            Self::Target(_) => None,
            Self::Revision(id) => Some(revision_index(*id)),
            Self::Diff(id) => Some(diff_index(*id)),
        }
    }

    /// Whether the selection contains this build.
    pub fn matches(&self, build: &BuildRequest) -> bool {
        match self {
            Self::Target(target) => build.target == *target,
            Self::Revision(id) => build.revision_id == *id,
            Self::Diff(id) => build.diff_id == *id,
        }
    }
}

impl std::fmt::Display for BuildSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Target(target) => write!(f, "{target}"),
            Self::Revision(id) => write!(f, "D{id}"),
            Self::Diff(id) => write!(f, "diff {id}"),
        }
    }
}

fn state(text: &str) -> Result<BuildState, String> {
    let known = || BuildState::ALL.map(BuildState::name).join(", ");
    BuildState::ALL
        .into_iter()
        .find(|state| state.name() == text)
        .ok_or_else(|| format!("expected one of {}", known()))
}

fn revision(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(BuildSelector::Revision(id)) => Ok(id),
        _ => Err("expected a revision, such as D123".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_is_selected_by_target_revision_or_diff() {
        let target = "PHID-HMBT-6om2iuajepxcv7v6poue";
        let table = [
            (
                target,
                Ok(BuildSelector::Target(Phid::parse(target).unwrap())),
            ),
            ("D123", Ok(BuildSelector::Revision(123))),
            ("d7", Ok(BuildSelector::Revision(7))),
            ("99", Ok(BuildSelector::Diff(99))),
            ("PHID-DREV-6om2iuajepxcv7v6poue", Err(InvalidSelector)),
            ("D", Err(InvalidSelector)),
            ("-1", Err(InvalidSelector)),
            ("", Err(InvalidSelector)),
            ("D12x", Err(InvalidSelector)),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<BuildSelector>(), expected, "{text:?}");
        }
        assert_eq!(state("pushing"), Ok(BuildState::Pushing));
        assert!(
            state("push")
                .unwrap_err()
                .contains("accepted, loading, applying, pushing")
        );
        assert!(revision("99").is_err());
    }
}
