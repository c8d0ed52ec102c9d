//! Options of `events why`, `builds`, `retry`, `cancel` and `audit`.

use std::{str::FromStr, time::Duration};

use build::{
    BuildOutcome, BuildRecord, BuildRequest, BuildState, Phid, diff_index, revision_index,
};
use clap::{Args, Subcommand};
use thiserror::Error;

use super::Deployment;

/// The default of `--limit` of `events builds`.
const LISTED: usize = 20;

/// Options of `events why`, `retry` and `cancel`.
#[derive(Debug, Args)]
pub struct OneBuild {
    /// Target of the build (PHID-HMBT-…), or a revision (D123) or the number of a diff for its newest build
    #[arg(value_name = "BUILD")]
    pub which: Which,
    /// The deployment of the builds.
    #[command(flatten)]
    pub deployment: Deployment,
}

/// Options of `events builds`.
#[derive(Debug, Args)]
pub struct Builds {
    /// The action; `list` by default.
    #[command(subcommand)]
    pub action: Option<BuildsAction>,
    /// The builds to list.
    #[command(flatten)]
    pub list: BuildList,
    /// The deployment of the builds.
    #[command(flatten)]
    pub deployment: Deployment,
}

/// An action on builds.
#[derive(Debug, Subcommand)]
pub enum BuildsAction {
    /// List builds, the newest first
    List(BuildList),
    /// Restart builds that have ended, in Harbormaster
    Restart(Restart),
}

/// Options of `events builds restart`.
#[derive(Debug, Args)]
pub struct Restart {
    /// Targets of builds (PHID-HMBT-…), or revisions (D123) or numbers of diffs for their newest builds
    #[arg(value_name = "BUILD", required_unless_present = "outcome", conflicts_with_all = ["outcome", "since", "repository"])]
    pub builds: Vec<Which>,
    /// Outcome of the builds to restart
    #[arg(long, value_name = "OUTCOME", requires = "since", value_parser = BuildOutcome::NAMES)]
    pub outcome: Option<String>,
    /// Longest time since the end of these builds, such as 2h or 90m
    #[arg(long, value_name = "DURATION", requires = "outcome", value_parser = duration)]
    pub since: Option<Duration>,
    /// Repository of these builds, by its short name on Phabricator
    #[arg(long, value_name = "NAME", requires = "outcome")]
    pub repository: Option<String>,
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
    #[arg(long, default_value_t = LISTED, value_name = "N")]
    pub limit: usize,
}

impl BuildList {
    /// Whether a record matches the state and the outcome. The caller matches the revision.
    pub fn names(&self, record: &BuildRecord) -> bool {
        let outcome = record.outcome().map(BuildOutcome::name);
        self.state.is_none_or(|state| record.state() == state)
            && (self.outcome.is_none() || self.outcome.as_deref() == outcome)
    }

    /// Whether all options have their defaults.
    pub fn is_plain(&self) -> bool {
        self.state.is_none()
            && self.outcome.is_none()
            && self.revision.is_none()
            && self.limit == LISTED
    }
}

/// Options of `events audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// Preview of the findings and actions, without any action
    #[arg(long)]
    pub dry_run: bool,
    /// The deployment of the builds.
    #[command(flatten)]
    pub deployment: Deployment,
}

/// A selection of builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The build of this target.
    Target(Phid),
    /// The builds of this revision.
    Revision(u64),
    /// The builds of this diff.
    Diff(u64),
}

/// The error for a text that names no build.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("expected a build target (PHID-HMBT-…), a revision (D123) or the number of a diff")]
pub struct NoBuild;

impl FromStr for Which {
    type Err = NoBuild;

    fn from_str(text: &str) -> Result<Self, NoBuild> {
        if let Ok(target) = Phid::parse_as(Phid::TARGET, text) {
            return Ok(Self::Target(target));
        }
        match text.strip_prefix(['D', 'd']) {
            Some(number) => number.parse().map(Self::Revision),
            None => text.parse().map(Self::Diff),
        }
        .map_err(|_| NoBuild)
    }
}

impl Which {
    /// An index of the selected records, and perhaps of others; `None` for a single target.
    pub fn index(&self) -> Option<String> {
        match self {
            Self::Target(_) => None,
            Self::Revision(id) => Some(revision_index(*id)),
            Self::Diff(id) => Some(diff_index(*id)),
        }
    }

    /// Whether the selection contains a build.
    pub fn names(&self, build: &BuildRequest) -> bool {
        match self {
            Self::Target(target) => build.target == *target,
            Self::Revision(id) => build.revision_id == *id,
            Self::Diff(id) => build.diff_id == *id,
        }
    }
}

impl std::fmt::Display for Which {
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

fn duration(text: &str) -> Result<Duration, String> {
    let duration: Option<jiff::SignedDuration> = text.parse().ok();
    let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
    duration.ok_or_else(|| "expected a duration, such as 2h or 90m".to_owned())
}

fn revision(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(Which::Revision(id)) => Ok(id),
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
            (target, Ok(Which::Target(Phid::parse(target).unwrap()))),
            ("D123", Ok(Which::Revision(123))),
            ("d7", Ok(Which::Revision(7))),
            ("99", Ok(Which::Diff(99))),
            ("PHID-DREV-6om2iuajepxcv7v6poue", Err(NoBuild)),
            ("D", Err(NoBuild)),
            ("-1", Err(NoBuild)),
            ("", Err(NoBuild)),
            ("D12x", Err(NoBuild)),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Which>(), expected, "{text:?}");
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
