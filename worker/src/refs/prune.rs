//! The deletion of old refs at the destinations of Git repositories.
//!
//! A ref is due when its last push is older than `ref_retention`, or when its revision has landed or was abandoned. A
//! revision that is not visible to us says nothing, so its refs stay until they are old. A ref whose build has not ended
//! stays.
//!
//! Each ref is deleted by a push of its own, with a lease on what we pushed: a server that refuses one ref, or a hook that
//! rejects a whole push, does not stop the others. A refused ref is tried again after a day. An error that concerns the
//! destination ends the round of its repository.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use build::{BuildLog, ClosedRevisions, Phid, RevisionsError};
use bus::Bus;
use jiff::Timestamp;
use runtime::Clock;
use serde::Serialize;
use thiserror::Error;
use tracing::{info, warn};

use super::record::{Claimed, FailedDeletion, PushedRef, Records};
use crate::{
    Backend, GitSettings, RepositorySettings, Settings, WorkerError,
    destination::{DestinationRefs, RefDeletion},
    vcs::Site,
};

/// The time until the next attempt to delete a ref that the destination refused to delete.
const REFUSED_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// Deletes old refs.
pub struct RefPruner {
    settings: Settings,
    backends: Vec<Backend>,
    log: BuildLog,
    revisions: Arc<dyn ClosedRevisions>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) clock: Arc<dyn Clock>,
    /// The end of the name of the directory with the files of ssh. No other process has the same one.
    slot: String,
}

/// The refs that a round concerns, and its effects.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneOptions<'a> {
    /// The only repository; `None` for all.
    pub repository: Option<&'a str>,
    /// Delete nothing.
    pub dry_run: bool,
    /// Also try refs that the destination refused to delete within the last day.
    pub retry_refused: bool,
}

/// The result of a round.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The refs that are due, with what was done.
    pub refs: Vec<RefReport>,
    /// The failures that concern more than one ref.
    pub failures: Vec<PruneError>,
}

/// A failure that concerns more than one ref.
#[derive(Debug, Error)]
pub enum PruneError {
    /// The refs of a repository could not be read or deleted.
    #[error("cannot delete old refs of {repository}")]
    Repository {
        /// The name of the repository.
        repository: String,
        /// The error.
        #[source]
        source: WorkerError,
    },
    /// It is unknown which revisions are closed: only old refs are due.
    #[error("cannot find out which revisions are closed; only old refs are deleted")]
    Revisions(#[from] RevisionsError),
}

impl PruneError {
    /// The repository, or an empty text.
    pub(super) fn place(&self) -> &str {
        match self {
            Self::Repository { repository, .. } => repository,
            Self::Revisions(_) => "",
        }
    }
}

/// A ref that heads were pushed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefReport {
    /// The name of the repository.
    pub repository: String,
    /// The ref.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The number of its revision.
    pub revision_id: u64,
    /// The head that was pushed last.
    pub head: String,
    /// The time of the last push.
    pub pushed_at: Timestamp,
    /// The last deletion that the destination refused.
    pub refused: Option<FailedDeletion>,
    /// The reason to delete it; `None` in a list, and while it is not due.
    pub due: Option<Due>,
    /// What was done with it.
    pub action: RefAction,
}

/// The reason to delete a ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Due {
    /// Its last push is older than `ref_retention`.
    Old,
    /// Its revision has landed or was abandoned.
    Closed,
}

/// What was done with a ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefAction {
    /// Nothing.
    Kept,
    /// Nothing: a build of it has not ended, or another process deletes it.
    Busy,
    /// Nothing: the destination refused its deletion within the last day.
    Waiting,
    /// Nothing, in a dry run: it would be deleted.
    WouldDelete,
    /// It was deleted.
    Deleted,
    /// It was gone already.
    Missing,
    /// It was left there, since it has another commit than ours. It is not listed any more.
    Moved,
    /// The destination refused to delete it.
    Refused,
    /// Nothing: the destination failed.
    Failed,
}

impl RefAction {
    /// Its name in metrics.
    fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Busy => "busy",
            Self::Waiting => "waiting",
            Self::WouldDelete => "would_delete",
            Self::Deleted => "deleted",
            Self::Missing => "missing",
            Self::Moved => "moved",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// A repository of Git, in one round.
struct Round<'a> {
    pruner: &'a RefPruner,
    repository: &'a RepositorySettings,
    git: &'a GitSettings,
    backend: &'a Backend,
    records: Records<'a>,
    options: PruneOptions<'a>,
    now: Timestamp,
}

impl RefPruner {
    /// Deletes refs of the repositories in `settings`, as far as they are of Git. `revisions` knows which revisions are
    /// closed, and `log` which builds have ended. `slot` is unique among the processes that use the same `clones_dir`.
    pub fn new(
        mut settings: Settings,
        backend_of: impl Fn(&RepositorySettings) -> Backend,
        log: BuildLog,
        revisions: Arc<dyn ClosedRevisions>,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        slot: &str,
    ) -> Self {
        settings.repositories.retain(|one| {
            one.vcs.git().is_some() && one.lando.is_none() && backend_of(one).has_own_destination()
        });
        Self {
            backends: settings.repositories.iter().map(backend_of).collect(),
            settings,
            log,
            revisions,
            bus,
            clock,
            slot: slot.to_owned(),
        }
    }

    /// Whether there is a repository whose heads have refs.
    pub fn has_repositories(&self) -> bool {
        !self.settings.repositories.is_empty()
    }

    /// Lists the refs that heads were pushed to, the one that was pushed to last first, of each repository, or of the one
    /// that is named.
    pub async fn list(
        bus: &Arc<dyn Bus>,
        settings: &Settings,
        only: Option<&str>,
    ) -> Result<Vec<RefReport>, WorkerError> {
        let mut reports = Vec::new();
        for repository in &settings.repositories {
            let Some(git) = repository.vcs.git() else {
                continue;
            };
            if only.is_some_and(|name| name != repository.name) {
                continue;
            }
            let listed = Records::new(bus, repository, git).list().await?;
            reports.extend(
                listed
                    .iter()
                    .map(|one| report(repository, one, None, RefAction::Kept)),
            );
        }
        Ok(reports)
    }

    /// Deletes the refs that are due, unless it is a dry run. Dropping the future kills and reaps its child processes; the
    /// ref that it was deleting is tried again after a quarter of an hour.
    pub async fn prune(&self, options: PruneOptions<'_>) -> Pruned {
        let mut pruned = Pruned::default();
        for (repository, backend) in self.settings.repositories.iter().zip(&self.backends) {
            let Some(git) = repository.vcs.git() else {
                continue;
            };
            if options
                .repository
                .is_some_and(|name| name != repository.name)
            {
                continue;
            }
            let round = Round {
                pruner: self,
                repository,
                git,
                backend,
                records: Records::new(&self.bus, repository, git),
                options,
                now: self.clock.now(),
            };
            if let Err(source) = round.run(&mut pruned).await {
                pruned.failures.push(PruneError::Repository {
                    repository: repository.name.clone(),
                    source,
                });
            }
        }
        pruned
    }
}

impl Round<'_> {
    async fn run(&self, pruned: &mut Pruned) -> Result<(), WorkerError> {
        let listed = self.records.list().await?;
        let closed = self.closed(&listed, pruned).await;
        let open = self.open_builds(&listed).await?;
        let due = listed.into_iter().filter_map(|one| {
            let due = self.due(&one, &closed)?;
            let action = if one.targets.iter().any(|target| open.contains(target)) {
                RefAction::Busy
            } else if self.is_waiting(&one) {
                RefAction::Waiting
            } else {
                RefAction::WouldDelete
            };
            Some((one, due, action))
        });
        let due: Vec<_> = due.collect();
        let (mut refs, mut failure) = (None, None);
        for (one, due, mut action) in due {
            if action == RefAction::WouldDelete && !self.options.dry_run {
                action = match &failure {
                    None => match self.delete(&one, due, &mut refs).await {
                        Ok(action) => action,
                        Err(error) => {
                            failure = Some(error);
                            RefAction::Failed
                        }
                    },
                    Some(_) => RefAction::Failed,
                };
                let (name, outcome) = (self.repository.name.clone(), action.name());
                metrics::counter!("old_refs_total", "repository" => name, "outcome" => outcome)
                    .increment(1);
            }
            let report = report(self.repository, &one, Some(due), action);
            pruned.refs.push(report);
        }
        if let Some(mut refs) = refs {
            refs.close().await;
        }
        failure.map_or(Ok(()), Err)
    }

    /// The closed ones of the revisions whose refs are not old.
    async fn closed(&self, listed: &[PushedRef], pruned: &mut Pruned) -> BTreeSet<u64> {
        let young = listed.iter().filter(|one| !self.is_old(one));
        let revisions: BTreeSet<u64> = young.map(|one| one.revision_id).collect();
        if revisions.is_empty() {
            return revisions;
        }
        match self.pruner.revisions.closed(&revisions).await {
            Ok(closed) => closed,
            Err(error) => {
                pruned.failures.push(error.into());
                BTreeSet::new()
            }
        }
    }

    /// The builds of these refs that have not ended.
    async fn open_builds(&self, listed: &[PushedRef]) -> Result<HashSet<Phid>, WorkerError> {
        let targets: HashSet<&Phid> = listed.iter().flat_map(|one| &one.targets).collect();
        let targets: Vec<Phid> = targets.into_iter().cloned().collect();
        let bus = self.pruner.bus.as_ref();
        let records = self.pruner.log.find(bus, &targets).await?;
        let open = targets
            .into_iter()
            .zip(records)
            .filter(|(_, record)| record.request.is_some() && record.published_at.is_none());
        Ok(open.map(|(target, _)| target).collect())
    }

    fn due(&self, one: &PushedRef, closed: &BTreeSet<u64>) -> Option<Due> {
        if self.is_old(one) {
            Some(Due::Old)
        } else {
            closed.contains(&one.revision_id).then_some(Due::Closed)
        }
    }

    fn is_old(&self, one: &PushedRef) -> bool {
        age(one.pushed_at, self.now) >= self.git.ref_retention
    }

    fn is_waiting(&self, one: &PushedRef) -> bool {
        let refused = one.failed.as_ref().map(|failed| failed.at);
        !self.options.retry_refused && refused.is_some_and(|at| age(at, self.now) < REFUSED_PAUSE)
    }

    async fn delete(
        &self,
        one: &PushedRef,
        due: Due,
        refs: &mut Option<Box<dyn DestinationRefs>>,
    ) -> Result<RefAction, WorkerError> {
        let refs = match refs {
            Some(refs) => refs,
            None => match self.open().await? {
                Some(opened) => refs.insert(opened),
                None => return Ok(RefAction::Kept),
            },
        };
        let now = self.pruner.clock.now();
        let Some(claim) = self.records.claim(one, now).await? else {
            return Ok(RefAction::Busy);
        };
        match refs.delete(&one.reference, &one.heads).await {
            Ok(end) => self.record(one, due, claim, end).await,
            Err(error) => {
                self.records.keep(one, claim, None).await?;
                Err(error)
            }
        }
    }

    async fn open(&self) -> Result<Option<Box<dyn DestinationRefs>>, WorkerError> {
        let slot = format!("{}@{}", self.repository.name, self.pruner.slot);
        let site = Site {
            settings: &self.pruner.settings,
            repository: self.repository,
            slot: &slot,
        };
        self.backend.vcs().refs(&site).await
    }

    /// Records the end of a deletion, and logs it.
    async fn record(
        &self,
        one: &PushedRef,
        due: Due,
        claim: Claimed,
        end: RefDeletion,
    ) -> Result<RefAction, WorkerError> {
        let repository = self.repository.name.as_str();
        let (reference, revision) = (one.reference.as_str(), one.revision_id);
        let action = match &end {
            RefDeletion::Deleted => {
                let why = match due {
                    Due::Old => "its last push is older than `ref_retention`",
                    Due::Closed => "the revision is closed",
                };
                info!(
                    repository,
                    reference, revision, "deleted {reference} of D{revision}: {why}"
                );
                RefAction::Deleted
            }
            RefDeletion::Missing => RefAction::Missing,
            RefDeletion::Moved(commit) => {
                warn!(
                    repository,
                    reference,
                    "leaving {reference}: it has the commit {commit:.12}, which this worker did not push"
                );
                RefAction::Moved
            }
            RefDeletion::Refused(error) => {
                let failed = FailedDeletion::new(self.pruner.clock.now(), error);
                if one.failed.is_none() {
                    warn!(
                        repository,
                        reference,
                        error = failed.error,
                        "cannot delete {reference}; the next attempt is in a day"
                    );
                }
                self.records.keep(one, claim, Some(failed)).await?;
                return Ok(RefAction::Refused);
            }
        };
        self.records.forget(one, claim).await?;
        Ok(action)
    }
}

fn report(
    repository: &RepositorySettings,
    one: &PushedRef,
    due: Option<Due>,
    action: RefAction,
) -> RefReport {
    RefReport {
        repository: repository.name.clone(),
        reference: one.reference.clone(),
        revision_id: one.revision_id,
        head: one
            .heads
            .first()
            .map(|head| head.id.clone())
            .unwrap_or_default(),
        pushed_at: one.pushed_at,
        refused: one.failed.clone(),
        due,
        action,
    }
}

/// The time since `then`; none if that is to come.
fn age(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}
