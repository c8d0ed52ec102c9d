//! The audit: finds builds that are in no queue any more, and builds whose request never arrived.
//!
//! It should never find anything: a build's message and its record are written in one step. Its findings have causes
//! outside of that: an operator dropped a message, a dead-letter handler failed, Redis restarted without its last second,
//! or a release without Redis accepted the request.
//!
//! # When a build is overdue
//!
//! The record holds the queue of its message, and the time from which on it was ready. A queue may be long, or paused, so
//! that alone proves nothing. But a queue also knows its oldest message: if that is younger than the build's, the build's
//! is not there. Times are compared with a margin, since the queue's are those of Redis.
//!
//! A delayed message becomes ready when a worker next asks for messages. After an outage of all workers that is long after
//! its time, and it looks younger than it is. A queue knows when that last happened. Messages that were due before count as
//! present until the oldest one came after that.
//!
//! # Builds that another service pushed
//!
//! Records can be lost, or begin beside a predecessor. So before the audit sends a build through the pipeline again, it
//! asks Harbormaster for the links of its target. It adopts a build with the link of a push, as pushed, and does not build
//! it. Harbormaster does not show the address of that link.
//!
//! Several processes may audit at once: each message has a deduplication key, so it is stored once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bus::{BusError, Producer, QueueSpec, QueueStatus};
use jiff::Timestamp;
use runtime::{Service, ServiceError, Shutdown, error_chain};
use serde::Serialize;
use thiserror::Error;
use tracing::{info, warn};

use crate::{Conduit, ConduitError, api::TargetStatus, publisher::PUSHED_KEY};
use build::{
    BuildLocation, BuildLog, BuildRecord, BuildRequest, BuildUpdate, FinalOutcome, InfraFailure,
    OPEN, Phid, QueueState, Source,
};

/// The time between two audits, and before the first one of a process.
const EVERY: Duration = Duration::from_secs(600);
const FIRST: Duration = Duration::from_secs(60);

/// The time after a message was ready from which on its build may be overdue.
const GRACE: Duration = Duration::from_secs(600);
/// The greatest difference between the clocks of processes and of Redis.
const MARGIN: Duration = Duration::from_secs(60);
/// The time for which a request may be on its way to us.
const UNDER_WAY: Duration = Duration::from_secs(300);
/// The number of times that a build is sent through the pipeline again before it ends as `infra_failed`.
const REDRIVES: u32 = 2;
/// The action for a build that another service pushed.
const ADOPTED: &str = "it has its link already: recorded as pushed, and not built again";
/// The number of records that are read at once.
const PAGE: usize = 500;

/// Compares the records of builds with the queues and with Harbormaster.
pub struct Auditor {
    conduit: Conduit,
    log: BuildLog,
    /// All queues that a build passes through.
    queues: Vec<QueueSpec>,
    producer: Producer,
    /// The build plan that calls us.
    plan: Option<Phid>,
    /// The greatest age of a build in Harbormaster that is taken in.
    build_expiry: Duration,
}

/// A build that the audit had to mend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditFinding {
    /// The target that names the build.
    pub target: Phid,
    /// The number of its revision.
    pub revision_id: u64,
    /// The number of its diff.
    pub diff_id: u64,
    /// The finding, as a predicate of "the build".
    pub found: String,
    /// The action; with `dry_run`, the one that was not taken.
    pub action: String,
}

/// The cause for which an audit was not completed.
#[derive(Debug, Error)]
pub enum AuditError {
    /// A call to Harbormaster failed.
    #[error(transparent)]
    Conduit(#[from] ConduitError),
    /// The records or queues cannot be read or written.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// The action for an overdue build.
enum Action {
    /// Close it without an answer, for this reason.
    Close(String),
    /// Publish its final update.
    PublishAgain(BuildUpdate),
    /// Build it from the beginning.
    BuildAgain,
    /// Record it as pushed by another service.
    Adopt,
    /// End it with this update.
    End(BuildUpdate),
}

impl Auditor {
    /// An auditor of the builds on the producer's bus, which pass through `queues`. With a `plan`, it also searches
    /// Harbormaster for builds of that plan, of the last `build_expiry`, that wait and have no record.
    pub fn new(
        conduit: Conduit,
        log: BuildLog,
        queues: Vec<QueueSpec>,
        producer: Producer,
        plan: Option<Phid>,
        build_expiry: Duration,
    ) -> Self {
        Self {
            conduit,
            log,
            queues,
            producer,
            plan,
            build_expiry,
        }
    }

    /// Audits all builds once. Mends the findings, unless it is a `dry_run`.
    pub async fn audit(&self, dry_run: bool) -> Result<Vec<AuditFinding>, AuditError> {
        let mut findings = self.overdue(dry_run).await?;
        if let Some(plan) = &self.plan {
            findings.extend(self.unknown(plan, dry_run).await?);
        }
        Ok(findings)
    }

    async fn overdue(&self, dry_run: bool) -> Result<Vec<AuditFinding>, AuditError> {
        let bus = self.producer.bus().as_ref();
        let mut statuses = HashMap::new();
        for queue in &self.queues {
            statuses.insert(queue.name, bus.status(queue).await?);
        }
        let now = self.producer.clock().now();
        let (mut overdue, mut closed) = (Vec::new(), Vec::new());
        for page in 0.. {
            let targets = self
                .log
                .indexed(bus, OPEN, page * PAGE..(page + 1) * PAGE)
                .await?;
            let records = self.log.find(bus, &targets).await?;
            // A request that is repeated after days opens a closed build again.
            closed.extend(
                targets
                    .iter()
                    .zip(&records)
                    .filter(|(_, record)| record.published_at.is_some())
                    .map(|(one, _)| one.clone()),
            );
            let late = records
                .into_iter()
                .filter_map(|record| Some((record.request.clone()?, record)));
            overdue.extend(late.filter(|(_, record)| is_overdue(record, &statuses, now)));
            if targets.len() < PAGE {
                break;
            }
        }
        if !dry_run && !closed.is_empty() {
            self.log.untrack(bus, &closed).await?;
        }
        let targets: Vec<Phid> = overdue
            .iter()
            .map(|(request, _)| request.target.clone())
            .collect();
        let known: HashMap<Phid, TargetStatus> = self
            .conduit
            .targets(&targets)
            .await?
            .into_iter()
            .map(|found| (found.phid, found.status))
            .collect();
        let mut findings = Vec::new();
        let pushed = self.pushed(&targets).await?;
        for (request, record) in overdue {
            let status = known.get(&request.target).copied();
            let pushed = pushed.contains(&request.target);
            findings.push(
                self.mend(request, &record, status, pushed, now, dry_run)
                    .await?,
            );
        }
        Ok(findings)
    }

    /// The targets that have the link of a push.
    async fn pushed(&self, targets: &[Phid]) -> Result<HashSet<Phid>, ConduitError> {
        let found = self.conduit.artifacts(targets).await?;
        Ok(found
            .into_iter()
            .filter(|artifact| artifact.key == PUSHED_KEY)
            .map(|artifact| artifact.target)
            .collect())
    }

    async fn mend(
        &self,
        request: BuildRequest,
        record: &BuildRecord,
        status: Option<TargetStatus>,
        pushed: bool,
        now: Timestamp,
        dry_run: bool,
    ) -> Result<AuditFinding, AuditError> {
        let place = record
            .now
            .as_ref()
            .map_or("any queue", |now| now.queue.as_str());
        let harbormaster = status.map_or("does not show it", TargetStatus::name);
        let found =
            format!("has no end, and its message is not in {place}; harbormaster: {harbormaster}");
        let decided = record.end.as_ref().map(|end| &end.outcome);
        let action = match (status, decided) {
            (Some(status), _) if status.has_ended() => {
                Action::Close(format!("the target was {} already", status.name()))
            }
            // It was accepted again, or sent again while its update was being published.
            _ if record.published_at.is_some() => {
                Action::Close("it was published before".to_owned())
            }
            (Some(_), Some(FinalOutcome::Answered(update))) => Action::PublishAgain(update.clone()),
            (Some(_), None) if pushed => Action::Adopt,
            (Some(_), None) if record.redriven < REDRIVES => Action::BuildAgain,
            (Some(_), None) => Action::End(given_up(&request, now)),
            // A target that Harbormaster does not show counts as private.
            (None, None) => Action::End(BuildUpdate::Private),
            _ => Action::Close("harbormaster does not show the target".to_owned()),
        };
        let done = match &action {
            Action::Close(_) => "closed",
            Action::PublishAgain(_) => "its answer is sent again",
            Action::BuildAgain => "it is built again",
            Action::Adopt => ADOPTED,
            Action::End(BuildUpdate::Private) => {
                "ended as private: harbormaster does not show its target"
            }
            Action::End(_) => "ended as infra_failed",
        };
        let (target, revision_id, diff_id) =
            (request.target.clone(), request.revision_id, request.diff_id);
        if !dry_run {
            self.act(request, record, action).await?;
            warn!(build = %target, "the build of diff {diff_id} of D{revision_id} {found}: {done}");
        }
        Ok(AuditFinding {
            target,
            revision_id,
            diff_id,
            found,
            action: done.to_owned(),
        })
    }

    async fn act(
        &self,
        request: BuildRequest,
        record: &BuildRecord,
        action: Action,
    ) -> Result<(), BusError> {
        let (log, producer) = (&self.log, &self.producer);
        let times = record.redriven + 1;
        let key = format!("audit:{times}:{}", request.target);
        let reason = "the audit found it in no queue";
        match action {
            Action::Close(reason) => log.close_externally(producer, &request, &reason).await,
            Action::PublishAgain(update) => {
                log.redrive(producer, request, Some(update), reason, times, Some(&key))
                    .await
            }
            Action::BuildAgain => {
                log.redrive(producer, request, None, reason, times, Some(&key))
                    .await
            }
            Action::Adopt => log.adopt(producer, &request, false, PUSHED_KEY).await,
            Action::End(update) => {
                log.finish_from(producer, &request, record, update, Some(&key))
                    .await
            }
        }
    }

    /// Takes in, or adopts, the builds that wait in Harbormaster for an answer from us and have no record.
    async fn unknown(&self, plan: &Phid, dry_run: bool) -> Result<Vec<AuditFinding>, AuditError> {
        let now = self.producer.clock().now();
        let since = now.checked_sub(self.build_expiry).unwrap_or(Timestamp::MIN);
        let mut waiting = self.conduit.waiting_builds(plan, since).await?;
        waiting.retain(|build| now.duration_since(build.started_at).unsigned_abs() > UNDER_WAY);
        let targets: Vec<Phid> = waiting.iter().map(|build| build.target.clone()).collect();
        let records = self
            .log
            .find(self.producer.bus().as_ref(), &targets)
            .await?;
        let unknown = targets
            .iter()
            .zip(&records)
            .filter(|(_, record)| record.request.is_none());
        let unknown: Vec<Phid> = unknown.map(|(target, _)| target.clone()).collect();
        let pushed = self.pushed(&unknown).await?;
        let mut findings = Vec::new();
        for (build, _) in waiting
            .into_iter()
            .zip(records)
            .filter(|(_, record)| record.request.is_none())
        {
            let request = BuildRequest {
                target: build.target,
                diff_id: build.diff_id,
                repository: build.repository,
                revision_id: build.revision_id,
                accepted_at: now,
                staged: None,
            };
            let adopt = pushed.contains(&request.target);
            let (found, action) = match adopt {
                true => (
                    "waits in harbormaster with the link of a push, and has no record",
                    ADOPTED,
                ),
                false => (
                    "waits in harbormaster, and its request never arrived",
                    "accepted",
                ),
            };
            let finding = AuditFinding {
                target: request.target.clone(),
                revision_id: request.revision_id,
                diff_id: request.diff_id,
                found: found.to_owned(),
                action: action.to_owned(),
            };
            if !dry_run && adopt {
                self.log
                    .adopt(&self.producer, &request, true, PUSHED_KEY)
                    .await?;
                let (diff, revision) = (finding.diff_id, finding.revision_id);
                warn!(build = %finding.target, "the build of diff {diff} of D{revision} {found}: {action}");
            } else if !dry_run {
                let pushed = self
                    .log
                    .accept(&self.producer, &request, Source::Audit)
                    .await?;
                if pushed.inserted == 0 {
                    continue;
                }
                let (diff, revision) = (finding.diff_id, finding.revision_id);
                warn!(state = "accepted", build = %finding.target, "accepted diff {diff} of D{revision}: it waits in harbormaster, and its request never arrived");
            }
            findings.push(finding);
        }
        Ok(findings)
    }
}

fn is_overdue(
    record: &BuildRecord,
    statuses: &HashMap<&'static str, QueueStatus>,
    now: Timestamp,
) -> bool {
    if record.published_at.is_some() {
        return false;
    }
    let Some(BuildLocation { queue, since, step }) = &record.now else {
        return true;
    };
    let ready_at = match step {
        QueueState::Ready | QueueState::Working { .. } => *since,
        QueueState::Delayed { until, .. } => *until,
    };
    let waited = Duration::try_from(now.duration_since(ready_at)).unwrap_or(Duration::ZERO);
    if waited <= GRACE {
        return false;
    }
    let Some(status) = statuses.get(queue.as_str()) else {
        return true;
    };
    let ready_for = status.last_late.map_or(waited, |late| late.min(waited));
    status
        .oldest
        .is_none_or(|oldest| oldest + MARGIN < ready_for)
}

fn given_up(request: &BuildRequest, now: Timestamp) -> BuildUpdate {
    BuildUpdate::InfraFailed(InfraFailure {
        summary: "The build got lost on its way, more than once.".to_owned(),
        details: String::new(),
        attempts: REDRIVES + 1,
        seconds: now.duration_since(request.accepted_at).as_secs_f64(),
    })
}

/// Audits every ten minutes.
#[async_trait]
impl Service for Auditor {
    fn name(&self) -> &str {
        "audit"
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        let clock = Arc::clone(self.producer.clock());
        let mut pause = FIRST;
        loop {
            tokio::select! {
                () = clock.sleep(pause) => {}
                () = shutdown.stopping() => return Ok(()),
            }
            pause = EVERY;
            // Each action is one step, so the audit may be dropped between any two.
            let audited = tokio::select! {
                audited = self.audit(false) => audited,
                () = shutdown.cancelled() => return Ok(()),
            };
            match audited {
                Ok(findings) if findings.is_empty() => {}
                Ok(findings) => info!(findings = findings.len(), "audit completed with findings"),
                Err(error) => {
                    warn!(
                        error = error_chain(&error),
                        "audit failed; retrying in ten minutes"
                    )
                }
            }
        }
    }
}
