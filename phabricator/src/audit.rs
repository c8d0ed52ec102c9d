//! Finds builds that nobody works on any more, and builds that never reached us.
//!
//! Nothing here should ever find anything: a build's message and its record are written in one step. What it finds comes
//! from outside of that: a message that an operator dropped, a dead letter without a last word, a Redis that came back
//! without its last second, a request that was answered by a release that had no Redis.
//!
//! # When a build is overdue
//!
//! Its record says in which queue its message is, and since when it can be taken. A queue may be long, or paused, so that
//! alone says little. But a queue also knows its oldest message: when that is younger than the build's, the build's is not
//! there. Times are compared with a margin, since the queue's are those of Redis.
//!
//! A delayed message becomes ready when somebody asks for messages. After an outage of all workers that is long after its
//! time, and it looks younger than it is. A queue knows when that last happened: of what was due before, it says nothing
//! until its oldest message came after that.
//!
//! # What was built by somebody else
//!
//! Records can be gone, or begin beside a service that did this before. So before a build is sent through the pipeline
//! again, Harbormaster is asked what its target has. One that has the link of a push is not built: it is adopted, with
//! the end that it was pushed. Where that link leads is in no answer of Harbormaster.
//!
//! Several processes may audit at once: what is sent has a key, so that it is sent once.

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
    Blame, BuildLog, BuildRecord, BuildRequest, Now, OPEN, Outcome, Phid, Report, Source, Step,
};

/// How often it is looked, and when first.
const EVERY: Duration = Duration::from_secs(600);
const FIRST: Duration = Duration::from_secs(60);

/// How long after its time a build's message is left alone.
const GRACE: Duration = Duration::from_secs(600);
/// How far the clocks of processes and Redis may be apart.
const MARGIN: Duration = Duration::from_secs(60);
/// How long a request may be on its way.
const UNDER_WAY: Duration = Duration::from_secs(300);
/// How often a build is sent through the pipeline again before it is given up.
const REDRIVES: u32 = 2;
/// What is done about a build that somebody else pushed.
const ADOPTED: &str = "it has its link already: recorded as pushed, and not built again";
/// How many records are looked at in one go.
const PAGE: usize = 500;

/// Compares what is recorded of builds with the queues and with Harbormaster.
pub struct Auditor {
    conduit: Conduit,
    log: BuildLog,
    /// All queues that a build passes.
    queues: Vec<QueueSpec>,
    producer: Producer,
    /// The build plan that calls us, and how old a diff may be.
    plan: Option<Phid>,
    build_expiry: Duration,
}

/// Something that was not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditFinding {
    /// The build.
    pub target: Phid,
    /// Its revision.
    pub revision_id: u64,
    /// Its diff.
    pub diff_id: u64,
    /// What was found.
    pub found: String,
    /// What was done, or would be.
    pub action: String,
}

/// Why an audit came to no end.
#[derive(Debug, Error)]
pub enum AuditError {
    /// Harbormaster cannot be asked.
    #[error(transparent)]
    Conduit(#[from] ConduitError),
    /// The records or queues cannot be read or written.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// What is to be done about a build.
enum Action {
    /// Nobody waits for an answer, for this reason.
    Close(String),
    /// Its answer is sent again.
    SayAgain(Report),
    /// It is done again.
    DoAgain,
    /// Somebody else has pushed it.
    Adopt,
    /// It ends with this.
    End(Report),
}

impl Auditor {
    /// An auditor of the builds on the producer's bus, which pass `queues`. With a `plan`, it also looks for builds of that plan that wait in
    /// Harbormaster and are not known here, of the last `build_expiry`.
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

    /// Looks at everything once, and mends what is wrong unless it is a `dry_run`.
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
                .tagged(bus, OPEN, page * PAGE..(page + 1) * PAGE)
                .await?;
            let records = self.log.find(bus, &targets).await?;
            // A request that is repeated after days opens a build again that has its end.
            closed.extend(
                targets
                    .iter()
                    .zip(&records)
                    .filter(|(_, record)| record.told.is_some())
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

    /// Those of the targets that have the link of a push.
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
            // It was accepted again, or sent again in the very moment in which it was said.
            _ if record.told.is_some() => Action::Close("it was published before".to_owned()),
            (Some(_), Some(Outcome::Answered(report))) => Action::SayAgain(report.clone()),
            (Some(_), None) if pushed => Action::Adopt,
            (Some(_), None) if record.redriven < REDRIVES => Action::DoAgain,
            (Some(_), None) => Action::End(given_up(&request, now)),
            // What is not shown is private now, as far as we can tell.
            (None, None) => Action::End(Report::Withheld),
            _ => Action::Close("harbormaster does not show the target".to_owned()),
        };
        let words = match &action {
            Action::Close(_) => "closed",
            Action::SayAgain(_) => "its answer is sent again",
            Action::DoAgain => "it is built again",
            Action::Adopt => ADOPTED,
            Action::End(Report::Withheld) => "withheld: its target cannot be seen",
            Action::End(_) => "given up, and answered as our failure",
        };
        let (target, revision_id, diff_id) =
            (request.target.clone(), request.revision_id, request.diff_id);
        if !dry_run {
            self.act(request, record, action).await?;
            warn!(build = %target, "the build of diff {diff_id} of D{revision_id} {found}: {words}");
        }
        Ok(AuditFinding {
            target,
            revision_id,
            diff_id,
            found,
            action: words.to_owned(),
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
            Action::Close(reason) => log.close_elsewhere(producer, &request, &reason).await,
            Action::SayAgain(report) => {
                log.redrive(producer, request, Some(report), reason, times, Some(&key))
                    .await
            }
            Action::DoAgain => {
                log.redrive(producer, request, None, reason, times, Some(&key))
                    .await
            }
            Action::Adopt => log.adopt(producer, &request, false, PUSHED_KEY).await,
            Action::End(report) => {
                log.finish_from(producer, &request, record, report, Some(&key))
                    .await
            }
        }
    }

    /// Builds that wait in Harbormaster for an answer from us, and that we know nothing of.
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
            };
            let adopt = pushed.contains(&request.target);
            let (found, action) = match adopt {
                true => (
                    "waits in harbormaster with the link of a push, and is not known here",
                    ADOPTED,
                ),
                false => (
                    "waits in harbormaster, and its request never came",
                    "it is taken in",
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
                warn!(state = "accepted", build = %finding.target, "the request for diff {diff} of D{revision} never came, it is taken in");
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
    if record.told.is_some() {
        return false;
    }
    let Some(Now { queue, since, step }) = &record.now else {
        return true;
    };
    let ready_at = match step {
        Step::Ready | Step::Working { .. } => *since,
        Step::Delayed { until, .. } => *until,
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

fn given_up(request: &BuildRequest, now: Timestamp) -> Report {
    Report::InfrastructureFailed(Blame {
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
            // Each thing that it does is one step, so it may end between any two.
            let audited = tokio::select! {
                audited = self.audit(false) => audited,
                () = shutdown.cancelled() => return Ok(()),
            };
            match audited {
                Ok(findings) if findings.is_empty() => {}
                Ok(findings) => info!(findings = findings.len(), "the audit is done"),
                Err(error) => {
                    warn!(
                        error = error_chain(&error),
                        "the audit could not be done, the next is in ten minutes"
                    )
                }
            }
        }
    }
}
