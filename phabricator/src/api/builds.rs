//! Calls about builds in Harbormaster: the status of targets, the targets that wait for an answer, and restarts.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny},
};
use serde_json::json;

use super::{params, review::epoch};
use crate::{Conduit, ConduitError};
use build::Phid;

/// The fields of a build target that we read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Wire<TargetFields>")]
pub(crate) struct TargetInfo {
    pub(crate) phid: Phid,
    /// The build that it is part of.
    pub(crate) build: Phid,
    /// The number of the run of its build. A restart begins the next run, with new targets; those of earlier runs keep
    /// their status permanently and ignore messages.
    pub(crate) generation: u64,
    pub(crate) status: TargetStatus,
    /// `None` while it is pending.
    pub(crate) started_at: Option<Timestamp>,
}

/// The status of a build target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum TargetStatus {
    /// It has not begun.
    #[serde(rename = "target/pending")]
    Pending,
    /// Its request is on the way.
    #[serde(rename = "target/building")]
    Building,
    /// It waits for a message.
    #[serde(rename = "target/waiting")]
    Waiting,
    /// It passed.
    #[serde(rename = "target/passed")]
    Passed,
    /// It failed.
    #[serde(rename = "target/failed")]
    Failed,
    /// It was aborted before it could end.
    #[serde(rename = "target/aborted")]
    Aborted,
    /// A status that this release does not know.
    #[serde(other)]
    Other,
}

impl TargetStatus {
    /// Whether Harbormaster ignores further messages for it.
    pub(crate) fn has_ended(self) -> bool {
        matches!(self, Self::Passed | Self::Failed | Self::Aborted)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Building => "building",
            Self::Waiting => "waiting",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Other => "in an unknown state",
        }
    }
}

/// The reason for which nothing can be published on a target any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetEnd {
    /// It ended in Harbormaster, without us.
    Ended(TargetStatus),
    /// Its build was restarted, and so has a newer target.
    Restarted,
}

/// The build in Harbormaster that a target is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOfTarget {
    /// The target's PHID.
    pub target: Phid,
    /// The build's PHID.
    pub build: Phid,
    /// Whether the build was restarted after this target: it has a newer one.
    pub restarted: bool,
}

/// A build target that waits for an answer, with the diff that it builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WaitingBuild {
    pub(crate) target: Phid,
    pub(crate) started_at: Timestamp,
    pub(crate) diff_id: u64,
    pub(crate) revision_id: u64,
    pub(crate) repository: Phid,
}

/// The diff that a build is for, with its revision.
#[derive(Clone)]
struct Subject {
    diff_id: u64,
    revision_id: u64,
    repository: Phid,
}

/// An object of a search.
#[derive(Deserialize)]
struct Wire<F> {
    phid: Phid,
    fields: F,
}

#[derive(Deserialize)]
struct TargetFields {
    #[serde(rename = "buildPHID")]
    build: Phid,
    #[serde(rename = "buildGeneration")]
    generation: u64,
    status: TargetStatusField,
    #[serde(rename = "epochStarted", deserialize_with = "maybe_epoch")]
    started_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct TargetStatusField {
    value: TargetStatus,
}

impl From<Wire<TargetFields>> for TargetInfo {
    fn from(Wire { phid, fields }: Wire<TargetFields>) -> Self {
        let TargetFields {
            build,
            generation,
            status,
            started_at,
        } = fields;
        Self {
            phid,
            build,
            generation,
            status: status.value,
            started_at,
        }
    }
}

#[derive(Deserialize)]
struct BuildFields {
    #[serde(rename = "buildablePHID")]
    buildable: Phid,
    #[serde(rename = "buildStatus")]
    status: BuildStatusField,
    #[serde(rename = "dateCreated", deserialize_with = "epoch")]
    created_at: Timestamp,
}

#[derive(Deserialize)]
struct BuildStatusField {
    value: BuildStatus,
}

/// The status of a build: each end, and one variant for all that are open.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum BuildStatus {
    Passed,
    Failed,
    Aborted,
    Error,
    Deadlocked,
    /// `building`, `pending`, `paused` and the like: it has not ended.
    #[serde(other)]
    Open,
}

#[derive(Deserialize)]
struct BuildableFields {
    /// A diff or a commit.
    #[serde(rename = "objectPHID")]
    object: Phid,
}

fn maybe_epoch<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    let seconds = Option::<i64>::deserialize(from)?;
    seconds
        .map(|seconds| Timestamp::from_second(seconds).map_err(D::Error::custom))
        .transpose()
}

impl Conduit {
    /// The visible ones of these targets. A target whose build was aborted counts as aborted: Harbormaster keeps it waiting
    /// permanently, and ignores messages for it.
    pub(crate) async fn targets(&self, phids: &[Phid]) -> Result<Vec<TargetInfo>, ConduitError> {
        let mut targets: Vec<TargetInfo> = self
            .search("harbormaster.target.search", "phids", phids, json!({}))
            .await?;
        let open = unique(
            targets
                .iter()
                .filter(|target| !target.status.has_ended())
                .map(|target| &target.build),
        );
        let mut builds: Vec<Wire<BuildFields>> = self
            .search("harbormaster.build.search", "phids", &open, json!({}))
            .await?;
        builds.retain(|build| build.fields.status.value == BuildStatus::Aborted);
        for target in &mut targets {
            if builds.iter().any(|build| build.phid == target.build) && !target.status.has_ended() {
                target.status = TargetStatus::Aborted;
            }
        }
        Ok(targets)
    }

    /// The reason for which nothing can be published on a target any more. `None` for an open target, and for one that is
    /// not visible.
    pub(crate) async fn end_of_target(
        &self,
        target: &Phid,
    ) -> Result<Option<TargetEnd>, ConduitError> {
        let mut found = self.targets(std::slice::from_ref(target)).await?;
        let Some(found) = found.pop() else {
            return Ok(None);
        };
        if found.status.has_ended() {
            return Ok(Some(TargetEnd::Ended(found.status)));
        }
        let runs = self.runs(&[&found.build]).await?;
        Ok(is_restarted(&found, &runs).then_some(TargetEnd::Restarted))
    }

    /// The targets of all runs of these builds.
    async fn runs(&self, builds: &[&Phid]) -> Result<Vec<TargetInfo>, ConduitError> {
        self.search(
            "harbormaster.target.search",
            "buildPHIDs",
            builds,
            json!({}),
        )
        .await
    }

    /// The builds of these targets. A target that is not visible is missing.
    pub async fn builds_of(&self, targets: &[Phid]) -> Result<Vec<BuildOfTarget>, ConduitError> {
        let found: Vec<TargetInfo> = self
            .search("harbormaster.target.search", "phids", targets, json!({}))
            .await?;
        let builds: Vec<Phid> = unique(found.iter().map(|target| &target.build));
        let runs = self.runs(&builds.iter().collect::<Vec<_>>()).await?;
        let of_target = |target: TargetInfo| BuildOfTarget {
            restarted: is_restarted(&target, &runs),
            target: target.phid,
            build: target.build,
        };
        Ok(found.into_iter().map(of_target).collect())
    }

    /// Restarts a build: Harbormaster makes a new target and sends a new request for it. After an error the restart may
    /// still have happened; see [`ConduitError::had_no_effect`].
    pub async fn restart(&self, build: &Phid) -> Result<(), ConduitError> {
        let request = params(json!({ "receiver": build, "type": "restart" }));
        self.call_once::<IgnoredAny>("harbormaster.sendmessage", request)
            .await
            .map(|_| ())
    }

    /// The targets that wait for an answer, of builds of `plan` that were created at `since` or later, newest build
    /// first. Leaves out builds of a diff without a visible revision, or of a revision without a repository.
    ///
    /// A restart does not change the creation date of a build, so it does not bring an older one into the list.
    pub(crate) async fn waiting_builds(
        &self,
        plan: &Phid,
        since: Timestamp,
    ) -> Result<Vec<WaitingBuild>, ConduitError> {
        let recent = |build: &Wire<BuildFields>| build.fields.created_at >= since;
        let request = params(json!({ "constraints": { "plans": [plan] } }));
        let goes_on = |page: &[Wire<BuildFields>]| page.iter().all(recent);
        let mut builds = self
            .pages("harbormaster.build.search", request, goes_on)
            .await?;
        builds.retain(|build| recent(build) && build.fields.status.value == BuildStatus::Open);

        let phids: Vec<&Phid> = builds.iter().map(|build| &build.phid).collect();
        let targets = self.runs(&phids).await?;
        let waiting = waiting_by_build(targets);
        builds.retain(|build| waiting.contains_key(&build.phid));
        let subjects = self.subjects(&builds).await?;

        let found = builds.iter().flat_map(|build| {
            let subject = subjects.get(&build.fields.buildable);
            let targets = waiting.get(&build.phid).into_iter().flatten();
            targets.filter_map(move |target| {
                let Subject {
                    diff_id,
                    revision_id,
                    repository,
                } = subject?.clone();
                let started_at = target.started_at.unwrap_or(build.fields.created_at);
                Some(WaitingBuild {
                    target: target.phid.clone(),
                    started_at,
                    diff_id,
                    revision_id,
                    repository,
                })
            })
        });
        Ok(found.collect())
    }

    /// The subject of each buildable, by its PHID. Leaves out a buildable whose diff or revision is not visible.
    async fn subjects(
        &self,
        builds: &[Wire<BuildFields>],
    ) -> Result<HashMap<Phid, Subject>, ConduitError> {
        let buildables = unique(builds.iter().map(|build| &build.fields.buildable));
        let mut buildables: Vec<Wire<BuildableFields>> = self
            .search(
                "harbormaster.buildable.search",
                "phids",
                &buildables,
                json!({}),
            )
            .await?;
        // A commit can be built as well.
        buildables.retain(|buildable| buildable.fields.object.kind() == "DIFF");
        let diffs = self
            .diffs(&unique(
                buildables.iter().map(|buildable| &buildable.fields.object),
            ))
            .await?;
        let revisions = self
            .revisions(&unique(
                diffs
                    .iter()
                    .filter_map(|diff| diff.fields.revision.as_ref()),
            ))
            .await?;
        let subject = |buildable: &Wire<BuildableFields>| {
            let diff = diffs
                .iter()
                .find(|diff| diff.phid == buildable.fields.object)?;
            let revision = revisions
                .iter()
                .find(|revision| Some(&revision.phid) == diff.fields.revision.as_ref())?;
            let repository = revision.fields.repository.clone()?;
            Some(Subject {
                diff_id: diff.id,
                revision_id: revision.id,
                repository,
            })
        };
        Ok(buildables
            .iter()
            .filter_map(|buildable| Some((buildable.phid.clone(), subject(buildable)?)))
            .collect())
    }
}

/// Whether the target's build has a newer run.
fn is_restarted(target: &TargetInfo, runs: &[TargetInfo]) -> bool {
    runs.iter()
        .any(|run| run.build == target.build && run.generation > target.generation)
}

/// The targets that wait in the newest run of each build.
fn waiting_by_build(targets: Vec<TargetInfo>) -> HashMap<Phid, Vec<TargetInfo>> {
    let mut newest: HashMap<Phid, u64> = HashMap::new();
    for target in &targets {
        let generation = newest.entry(target.build.clone()).or_default();
        *generation = target.generation.max(*generation);
    }
    let mut waiting: HashMap<Phid, Vec<TargetInfo>> = HashMap::new();
    for target in targets {
        if target.status == TargetStatus::Waiting
            && newest.get(&target.build) == Some(&target.generation)
        {
            waiting
                .entry(target.build.clone())
                .or_default()
                .push(target);
        }
    }
    waiting
}

/// Removes duplicates: several builds may be for one diff, and several diffs for one revision.
fn unique<'a>(phids: impl Iterator<Item = &'a Phid>) -> Vec<Phid> {
    phids
        .collect::<BTreeSet<_>>()
        .into_iter()
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests;
