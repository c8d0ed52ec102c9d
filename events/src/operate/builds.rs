//! `events builds`, `events retry` and `events cancel`.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, bail};
use build::{
    ALL, BuildLocation, BuildLog, BuildOutcome, BuildRecord, BuildRequest, BuildState, BuildUpdate,
    FinalOutcome, OPEN, Phid, QueueState, SkipReason, revision_index,
};
use bus::{Bus, Producer, RedisBus};
use jiff::Timestamp;
use runtime::{Clock, SystemClock};
use serde_json::json;

use super::{
    print_json,
    restart::restart,
    table::{Table, span},
};
use crate::{
    cli::{BuildList, Builds, BuildsAction, Deployment, OneBuild, Which},
    config::RecordsConfig,
    environment, features, queues, source,
};

/// The number of records that are read at once.
const PAGE: usize = 200;

/// The records of a deployment.
pub(super) struct Archive {
    pub(super) records: RecordsConfig,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) log: BuildLog,
}

impl Archive {
    /// The records of the deployment that the options name.
    pub(super) async fn open(deployment: &Deployment) -> anyhow::Result<Self> {
        Self::at(source::records(deployment.into()).await?)
    }

    /// The records of the deployment with this configuration.
    pub(super) fn at(records: RecordsConfig) -> anyhow::Result<Self> {
        let Some(options) = environment::redis(records.redis_namespace.clone(), 1)? else {
            bail!(
                "REDIS_URL is not set: a process without it keeps its builds in its own memory; set REDIS_URL to the \
                 redis of the deployment"
            );
        };
        let log = features::build_log(records.build_retention);
        Ok(Self {
            bus: Arc::new(RedisBus::new(&options, &SystemClock)?),
            records,
            log,
        })
    }

    /// The builds that match `which`, the newest first. Fails when there is none.
    pub(super) async fn find(
        &self,
        which: &Which,
    ) -> anyhow::Result<Vec<(BuildRequest, BuildRecord)>> {
        let mut found = Vec::new();
        if let Some(index) = which.index() {
            found = self.accepted(|build| which.names(build)).await?;
            for page in 0.. {
                let (builds, last) = self.page(&index, page).await?;
                let meant = builds.into_iter().filter(|(build, _)| which.names(build));
                add_new(&mut found, meant.collect());
                if last || found.len() >= PAGE {
                    break;
                }
            }
        } else if let Which::Target(target) = which {
            found = self.read(std::slice::from_ref(target)).await?;
        }
        if found.is_empty() {
            let days = self.records.build_retention.as_secs() / 86_400;
            bail!(
                "no build of {which} is known: none was accepted, or its last event is more than {days} days ago"
            );
        }
        Ok(found)
    }

    async fn read(&self, targets: &[Phid]) -> anyhow::Result<Vec<(BuildRequest, BuildRecord)>> {
        let bus = self.bus.as_ref();
        let mut records = self.log.find(bus, targets).await?;
        let now = SystemClock.now();
        self.log.show_shared_waits(bus, &mut records, now).await?;
        Ok(records
            .into_iter()
            .filter_map(|record| Some((record.request.clone()?, record)))
            .collect())
    }

    /// The builds in state `accepted`, the newest first. They are in the index [`OPEN`] alone.
    pub(super) async fn accepted(
        &self,
        wanted: impl Fn(&BuildRequest) -> bool,
    ) -> anyhow::Result<Vec<(BuildRequest, BuildRecord)>> {
        let mut found = Vec::new();
        for page in 0.. {
            let (builds, last) = self.page(OPEN, page).await?;
            found.extend(builds.into_iter().filter(|(request, record)| {
                record.state() == BuildState::Accepted && record.end.is_none() && wanted(request)
            }));
            if last {
                break;
            }
        }
        Ok(found)
    }

    /// A page of the builds of an index, the newest first, and whether it is the last.
    pub(super) async fn page(
        &self,
        index: &str,
        page: usize,
    ) -> anyhow::Result<(Vec<(BuildRequest, BuildRecord)>, bool)> {
        let targets = self
            .log
            .indexed(self.bus.as_ref(), index, page * PAGE..(page + 1) * PAGE)
            .await?;
        Ok((self.read(&targets).await?, targets.len() < PAGE))
    }

    /// The newest build that matches `which`.
    pub(super) async fn newest(
        &self,
        which: &Which,
    ) -> anyhow::Result<(BuildRequest, BuildRecord)> {
        self.find(which)
            .await?
            .into_iter()
            .next()
            .context("no build is known")
    }

    /// The paused ones among the queues of these builds.
    async fn paused(
        &self,
        builds: &[(BuildRequest, BuildRecord)],
    ) -> anyhow::Result<BTreeSet<String>> {
        let open = builds
            .iter()
            .filter(|(_, record)| record.published_at.is_none());
        let names: BTreeSet<&str> = open
            .filter_map(|(_, record)| Some(record.now.as_ref()?.queue.as_str()))
            .collect();
        let mut paused = BTreeSet::new();
        for queue in queues::all()
            .into_iter()
            .filter(|queue| names.contains(queue.name))
        {
            if self.bus.status(&queue).await?.paused {
                paused.insert(queue.name.to_owned());
            }
        }
        Ok(paused)
    }

    /// A producer for the queues of the deployment.
    pub(super) fn producer(&self) -> Producer {
        Producer::new(Arc::clone(&self.bus), Arc::new(SystemClock))
    }
}

/// Runs `events builds`.
pub async fn builds(
    Builds {
        action,
        list: plain,
        deployment,
    }: Builds,
) -> anyhow::Result<()> {
    match action {
        None => list(plain, &deployment).await,
        Some(_) if !plain.is_plain() => {
            bail!("options of the list must follow `list`: events builds list …")
        }
        Some(BuildsAction::List(options)) => list(options, &deployment).await,
        Some(BuildsAction::Restart(options)) => restart(options, &deployment).await,
    }
}

/// Adds the builds that `found` lacks: a build may be in both lists when a worker began with it between the reads.
fn add_new(found: &mut Vec<(BuildRequest, BuildRecord)>, more: Vec<(BuildRequest, BuildRecord)>) {
    for (request, record) in more {
        if !found
            .iter()
            .any(|(known, _)| known.target == request.target)
        {
            found.push((request, record));
        }
    }
}

async fn list(options: BuildList, deployment: &Deployment) -> anyhow::Result<()> {
    let archive = Archive::open(deployment).await?;
    let index = options
        .revision
        .map_or_else(|| ALL.to_owned(), revision_index);
    let mut found = archive
        .accepted(|build| options.revision.is_none_or(|id| build.revision_id == id))
        .await?;
    found.retain(|(_, record)| options.names(record));
    // One more than the limit, to know whether there are more.
    let wanted = options.limit.saturating_add(1);
    for page in 0.. {
        let (mut of_page, last) = archive.page(&index, page).await?;
        of_page.retain(|(_, record)| options.names(record));
        add_new(&mut found, of_page);
        if last || found.len() >= wanted {
            break;
        }
    }
    let more = found.len() > options.limit;
    found.truncate(options.limit);
    if deployment.output.json {
        return found
            .iter()
            .try_for_each(|(request, record)| print_json(&summary(request, record)));
    }
    if found.is_empty() {
        return crate::print("no build matches");
    }
    let mut table = Table::new(&[
        "BUILD",
        "REVISION ",
        "DIFF ",
        "STATE",
        "OUTCOME",
        "ACCEPTED ",
        "WAITS FOR",
    ]);
    let now = SystemClock.now();
    let paused = archive.paused(&found).await?;
    for (request, record) in &found {
        table.row(vec![
            request.target.to_string(),
            format!("D{}", request.revision_id),
            request.diff_id.to_string(),
            record.state().to_string(),
            outcome(record),
            format!(
                "{} ago",
                span(now.duration_since(request.accepted_at).unsigned_abs())
            ),
            waits_for(record, &paused, now),
        ]);
    }
    if more {
        table.row(vec!["… there are more: --limit".to_owned()]);
    }
    table.lines().iter().try_for_each(|line| crate::print(line))
}

/// The thing that an open build waits for, in a few words; empty for a closed one.
fn waits_for(record: &BuildRecord, paused: &BTreeSet<String>, now: Timestamp) -> String {
    let Some(place) = record
        .now
        .as_ref()
        .filter(|_| record.published_at.is_none())
    else {
        return String::new();
    };
    let queue = &place.queue;
    let paused = if paused.contains(queue) {
        ", which is paused"
    } else {
        ""
    };
    match &place.step {
        QueueState::Ready => format!("its turn in {queue}{paused}"),
        QueueState::Working { process, .. } => format!("{process}, which works on it in {queue}"),
        QueueState::Delayed { .. } => format!(
            "{queue}{paused}: {}",
            delayed(place, now).unwrap_or_default()
        ),
    }
}

/// The attempts, the time of the next delivery and the reason: "attempt 4 of 5, next at 14:32 UTC (in 18 min): reason".
pub(super) fn delayed(place: &BuildLocation, now: Timestamp) -> Option<String> {
    let QueueState::Delayed {
        until,
        reason,
        attempt,
    } = &place.step
    else {
        return None;
    };
    let next = if *until > now {
        let day = if until.duration_since(now).as_hours() < 24 {
            "%H:%M"
        } else {
            "%F %H:%M"
        };
        let wait = span(until.duration_since(now).unsigned_abs());
        format!("next at {} UTC (in {wait})", until.strftime(day))
    } else {
        "next now".to_owned()
    };
    Some(match attempt {
        0 => format!("{next}: {reason}"),
        attempt => format!(
            "attempt {attempt}{}, {next}: {reason}",
            of_attempts(&place.queue)
        ),
    })
}

/// The number of attempts that the policy of a queue allows: " of 5". Empty for an unknown queue.
pub(super) fn of_attempts(queue: &str) -> String {
    let spec = queues::all().into_iter().find(|spec| spec.name == queue);
    spec.map(|spec| format!(" of {}", spec.policy.attempts))
        .unwrap_or_default()
}

/// The outcome of a build, with its reason; empty until it is decided.
pub(super) fn outcome(record: &BuildRecord) -> String {
    let outcome = record.outcome();
    outcome
        .map(|outcome| outcome.to_string())
        .unwrap_or_default()
}

/// The state of a build, and its outcome once that is decided: "published: skipped (expired)".
pub(super) fn state_and_outcome(record: &BuildRecord) -> String {
    let state = record.state();
    match record.outcome() {
        Some(outcome) => format!("{state}: {outcome}"),
        None => state.to_string(),
    }
}

/// The summary of a build, as a JSON object.
pub(super) fn summary(request: &BuildRequest, record: &BuildRecord) -> serde_json::Value {
    json!({
        "target": request.target,
        "revision": request.revision_id,
        "diff": request.diff_id,
        "repository": request.repository,
        "state": record.state(),
        "outcome": record.outcome().map(BuildOutcome::name),
        "reason": record.outcome().and_then(BuildOutcome::reason),
        "accepted_at": request.accepted_at,
        "ended_at": record.end.as_ref().map(|end| end.at),
        "published_at": record.published_at,
        "now": record.now.as_ref().filter(|_| record.published_at.is_none()),
    })
}

/// Runs `events retry`.
pub async fn retry(options: OneBuild) -> anyhow::Result<()> {
    let archive = Archive::open(&options.deployment).await?;
    let (request, record) = archive.newest(&options.which).await?;
    let target = request.target.clone();
    if record.published_at.is_some() {
        bail!(
            "{target} has ended ({}), and its target takes no other answer; restart the build in Harbormaster with \
             `events builds restart {target}`, which makes a new target",
            outcome(&record)
        );
    }
    let (answer, action) = match record.end.as_ref().map(|end| end.outcome.clone()) {
        Some(FinalOutcome::Answered(update)) => (Some(update), "its answer is sent again"),
        _ => (None, "it is built again, from the beginning"),
    };
    let (log, producer) = (&archive.log, archive.producer());
    let reason = "an operator retries it";
    log.redrive(&producer, request, answer, reason, record.redriven, None)
        .await?;
    done(&options, &target, action)
}

/// Runs `events cancel`.
pub async fn cancel(options: OneBuild) -> anyhow::Result<()> {
    let archive = Archive::open(&options.deployment).await?;
    let (request, record) = archive.newest(&options.which).await?;
    let target = request.target.clone();
    if record.end.is_some() {
        bail!(
            "cannot cancel {target}: it has ended already: {}",
            outcome(&record)
        );
    }
    if record.pushing {
        bail!("cannot cancel {target}: its push has begun, and its head may be on Try");
    }
    let update = BuildUpdate::skipped(SkipReason::Cancelled, "Cancelled by an operator.");
    let (log, producer) = (&archive.log, archive.producer());
    log.finish_from(&producer, &request, &record, update.clone(), None)
        .await?;
    // Another end may have been decided first.
    let (_, now) = archive.newest(&Which::Target(target.clone())).await?;
    if !now.ends_with(&update) {
        bail!(
            "cannot cancel {target}: it ended at this moment: {}",
            outcome(&now)
        );
    }
    done(&options, &target, "it is cancelled")
}

fn done(options: &OneBuild, target: &Phid, action: &str) -> anyhow::Result<()> {
    if options.deployment.output.json {
        return print_json(&json!({"target": target, "action": action}));
    }
    crate::print(&format!("{target}: {action}"))
}
