//! The queue's side: from a build to the report on it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use build::{
    Applied, Build, BuildRecord, Ineligible, Journal, Neutral, Phid, PushGuard, Pushed, Report,
    What, eligibility,
};
use bus::{Cause, Context, Handler, Queue, Requeue, Retry, Retryable};
use futures::future::join_all;
use jiff::Timestamp;
use runtime::{Clock, Service, ServiceError, Shutdown, error_chain};
use tracing::{debug, error, info, warn};

use crate::{
    HgError, Outcome, Settings, Size, Task,
    apply::Failure,
    blame,
    desk::{Desk, Unwanted},
    fault::PatchFault,
    inventory::{CloneReport, Inventory},
    made,
    patch::{self, Budget, Scanned},
    place, process,
    repository::Repository,
    room::FullDisk,
    text,
    tree_status::TreeStatus,
};

/// The Mercurial worker: what its handler and its keeper share.
pub struct Mercurial {
    settings: Arc<Settings>,
    repositories: Arc<HashMap<Phid, Repository>>,
    queues: MercurialQueues,
    journal: Journal,
    guard: Arc<dyn PushGuard>,
    clock: Arc<dyn Clock>,
}

/// The worker's queues.
#[derive(Debug, Clone, Copy)]
pub struct MercurialQueues {
    /// The builds, in lanes; see [`Mercurial::lanes`].
    pub builds: Queue<Build>,
    /// What became of them.
    pub applied: Queue<Applied>,
}

impl Mercurial {
    /// A worker that records the progress of builds, and looks again whether they are wanted before it pushes. Does
    /// nothing yet: the [`Keeper`] prepares the clones. From now on, files that this process and its children make can be
    /// read by nobody else.
    ///
    /// [`HgError::Settings`] when a name cannot be a directory, or is given twice.
    pub fn new(
        settings: Settings,
        queues: MercurialQueues,
        journal: Journal,
        guard: Arc<dyn PushGuard>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HgError> {
        settings.check()?;
        process::keep_files_private();
        let settings = Arc::new(settings);
        let trees = Arc::new(TreeStatus::new(
            settings.tree_status.clone(),
            Arc::clone(&clock),
        )?);
        let outage = Arc::<FullDisk>::default();
        let repositories = settings.repositories.iter().map(|repository| {
            let (all, trees, outage) = (
                Arc::clone(&settings),
                Arc::clone(&trees),
                Arc::clone(&outage),
            );
            let one = Repository::new(all, repository.clone(), trees, outage);
            (repository.phid.clone(), one)
        });
        Ok(Self {
            repositories: Arc::new(repositories.collect()),
            settings,
            queues,
            journal,
            guard,
            clock,
        })
    }

    /// How many builds of each repository are made side by side, for a queue whose lanes are called by its PHID.
    pub fn lanes(&self) -> HashMap<String, usize> {
        self.settings
            .repositories
            .iter()
            .map(|one| (one.phid.to_string(), one.lanes))
            .collect()
    }

    /// Reports whether every repository has a clone to build on; waits for each as long as a build would.
    pub async fn is_ready(&self) -> bool {
        join_all(self.repositories.values().map(Repository::is_ready))
            .await
            .into_iter()
            .all(|ready| ready)
    }

    /// Does the builds. The queue's lanes are to be repositories; see [`Mercurial::lanes`].
    pub fn handler(&self) -> HgHandler {
        HgHandler {
            settings: Arc::clone(&self.settings),
            repositories: Arc::clone(&self.repositories),
            queues: self.queues,
            journal: self.journal.clone(),
            guard: Arc::clone(&self.guard),
        }
    }

    /// Prepares the clones, each on its own, and clones those again that are found broken. Until a repository's is ready,
    /// its builds are deferred.
    pub fn keeper(&self) -> Keeper {
        Keeper {
            settings: Arc::clone(&self.settings),
            repositories: Arc::clone(&self.repositories),
            clock: Arc::clone(&self.clock),
        }
    }
}

/// Prepares the clones; see [`Mercurial::keeper`].
pub struct Keeper {
    settings: Arc<Settings>,
    repositories: Arc<HashMap<Phid, Repository>>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Service for Keeper {
    fn name(&self) -> &str {
        "mercurial clones"
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        let keeping = join_all(
            self.repositories
                .values()
                .map(|one| one.keep(self.clock.as_ref(), &shutdown)),
        );
        futures::join!(keeping, tell_of_unconfigured(&self.settings));
        Ok(())
    }
}

/// Without a budget nothing is removed by itself. Says what could be.
async fn tell_of_unconfigured(settings: &Settings) {
    if settings.disk_budget.is_some() {
        return;
    }
    let inventory = Inventory::new(settings);
    match tokio::task::spawn_blocking(move || inventory.not_configured()).await {
        Ok(Ok(clones)) if !clones.is_empty() => {
            let names: Vec<String> = clones.iter().map(CloneReport::name).collect();
            let size = Size(clones.iter().map(|clone| clone.bytes).sum());
            warn!(
                "{} take {size} and are not configured any more: `events repos prune` removes them",
                names.join(", ")
            );
        }
        Ok(Err(error)) => warn!(
            error = error_chain(&error),
            "cannot look for clones that are not configured"
        ),
        _ => {}
    }
}

/// Has a task done on all clones of the repository called `name`, by this process. Makes those that are not there.
///
/// [`HgError::InUse`] when another process has one of them: it is to be asked, see [`crate::Requests`]. Dropping this in
/// the middle kills and reaps what runs.
pub async fn maintain(
    settings: Settings,
    name: &str,
    task: Task,
    clock: Arc<dyn Clock>,
) -> Result<Outcome, HgError> {
    settings.check()?;
    process::keep_files_private();
    let unknown = || HgError::Settings {
        reason: format!("there is no repository {name}"),
    };
    let repository = settings
        .repositories
        .iter()
        .find(|one| one.name == name)
        .cloned()
        .ok_or_else(unknown)?;
    for lane in (0..repository.lanes).map(|number| place::lane_name(name, number)) {
        if place::is_locked(&settings.clones_dir, &lane)? {
            return Err(HgError::InUse { repository: lane });
        }
    }
    // Nothing is pushed, so nobody asks for it.
    let trees = Arc::new(TreeStatus::new(None, Arc::clone(&clock))?);
    let repository = Repository::new(Arc::new(settings), repository, trees, Arc::default());
    let (done, result) = tokio::select! {
        ended = repository.maintain(task, clock.as_ref()) => ended,
        () = repository.keep_lanes(clock.as_ref()) => return Err(HgError::Cancelled),
    };
    repository.close().await;
    match result {
        Err(error @ HgError::InUse { .. }) => Err(error),
        result => Ok(Outcome {
            done,
            error: result.err().map(|error| error_chain(&error)),
        }),
    }
}

/// Applies stacks and pushes them; see [`Mercurial::handler`].
pub struct HgHandler {
    settings: Arc<Settings>,
    repositories: Arc<HashMap<Phid, Repository>>,
    queues: MercurialQueues,
    journal: Journal,
    guard: Arc<dyn PushGuard>,
}

/// What is to be done with a build.
enum Course<'a> {
    /// It ends with this.
    End(Report),
    /// It is applied and pushed.
    Push(&'a Repository, Vec<Scanned>),
}

/// How a delivery of a build ends, without a failure of ours.
enum Built {
    /// With this report.
    Ended(Report),
    /// Somebody else has decided how the build ends.
    Decided,
    /// Its time has not come.
    NotYet { after: Duration, reason: String },
}

#[async_trait]
impl Handler<Build> for HgHandler {
    type Error = HgError;

    async fn handle(&self, build: Build, cx: &Context) -> Result<bus::Outcome, HgError> {
        let request = build.request.clone();
        let record = self.journal.read(cx, &request.target).await?;
        if record.end.is_some() {
            debug!("its end is decided already");
            return Ok(bus::Outcome::Done);
        }
        self.journal
            .begins(cx, &request.target, self.queues.builds.spec().name)
            .await?;
        let built = tokio::select! {
            built = self.build(build, &record, cx) => built?,
            // What was running is killed and reaped with the future that ran it.
            () = cx.cancelled() => return Err(HgError::Cancelled),
        };
        let report = match built {
            Built::Ended(report) => report,
            Built::Decided => {
                info!("not pushed: its end was decided meanwhile");
                return Ok(bus::Outcome::Done);
            }
            Built::NotYet { after, reason } => return Ok(bus::Outcome::defer(after, reason)),
        };
        match &report {
            Report::Neutral(neutral) => {
                info!(step = "neutral", "nothing to push: {}", neutral.text);
            }
            Report::Withheld => {
                info!(step = "withheld", "the revision is not public any more")
            }
            Report::PatchFailed(failure) => {
                info!(
                    step = "failed",
                    "the patch is to blame: {}", failure.summary
                );
            }
            Report::InfrastructureFailed(blame) => {
                error!(step = "failed", "we are to blame: {}", blame.summary);
            }
            _ => {}
        }
        self.end(Applied { request, report }, &record, cx)?;
        Ok(bus::Outcome::Done)
    }

    async fn on_dead_letter(
        &self,
        build: Build,
        cause: Cause<'_, HgError>,
        cx: &Context,
    ) -> Result<(), HgError> {
        let request = build.request;
        let record = self.journal.read(cx, &request.target).await?;
        if record.end.is_some() {
            return Ok(());
        }
        let seconds = seconds_since(request.accepted_at, cx.clock().as_ref());
        let repository = self
            .repositories
            .get(&request.repository)
            .map(Repository::settings);
        let blame = blame::given_up(&cause, repository, cx.attempt(), seconds);
        info!(step = "failed", "we are to blame: {}", blame.summary);
        self.end(
            Applied {
                request,
                report: Report::InfrastructureFailed(blame),
            },
            &record,
            cx,
        )
    }

    async fn on_requeue(
        &self,
        build: Build,
        requeue: Requeue<'_, HgError>,
        cx: &Context,
    ) -> Result<(), HgError> {
        let queue = self.queues.builds.spec().name;
        let blocker = requeue.why.error().and_then(HgError::blocker);
        Ok(self
            .journal
            .requeued(cx, &build.request.target, queue, &requeue, blocker)
            .await?)
    }

    async fn close(&self) {
        join_all(self.repositories.values().map(Repository::close)).await;
    }
}

impl HgHandler {
    fn end(&self, applied: Applied, record: &BuildRecord, cx: &Context) -> Result<(), HgError> {
        let (queue, now) = (self.queues.applied.spec().name, cx.clock().now());
        let facts = self
            .journal
            .ends(&applied.request, record, &applied.report, queue, now)?;
        facts.into_iter().for_each(|fact| cx.record(fact));
        Ok(cx.send(&self.queues.applied, &applied)?)
    }

    async fn build(
        &self,
        build: Build,
        record: &BuildRecord,
        cx: &Context,
    ) -> Result<Built, HgError> {
        let clock = cx.clock().as_ref();
        let started = clock.now();
        let desk = Desk {
            cx,
            journal: &self.journal,
            guard: self.guard.as_ref(),
            record,
        };
        let (build, course) = self.course(build, record, clock).await?;
        let (repository, scanned) = match course {
            Course::Push(repository, scanned) => (repository, scanned),
            Course::End(report) => {
                // It may be private by now, and then even the name of a file is too much.
                return Ok(match desk.look_again(&build).await? {
                    Some(Unwanted::Decided) => Built::Decided,
                    Some(Unwanted::Over(over)) if overrules(&over, &report) => {
                        Built::Ended(self.over(&over, &build, record, clock).await)
                    }
                    _ => Built::Ended(report),
                });
            }
        };
        match repository.build(&build, &scanned, desk).await {
            Ok(landed) => {
                let name = &repository.settings().try_name;
                let treeherder = self.settings.treeherder_url.trim_end_matches('/');
                Ok(Built::Ended(Report::Pushed(Box::new(Pushed {
                    treeherder_url: format!(
                        "{treeherder}/#/jobs?repo={name}&revision={}",
                        landed.head
                    ),
                    revision: landed.head,
                    patches: build.stack.len(),
                    revisions: build.stack.iter().map(|patch| patch.revision_id).collect(),
                    abandoned: build.abandoned_below(),
                    landed: build.landed,
                    base: landed.base,
                    seconds: seconds_since(started, clock),
                }))))
            }
            Err(Failure::Patch(fault)) => {
                Ok(Built::Ended(fault.report(seconds_since(started, clock))))
            }
            Err(Failure::Unwanted(Unwanted::Over(over))) => {
                Ok(Built::Ended(self.over(&over, &build, record, clock).await))
            }
            Err(Failure::Unwanted(Unwanted::Decided)) => Ok(Built::Decided),
            Err(Failure::NotYet { after, reason }) => Ok(Built::NotYet { after, reason }),
            Err(Failure::Ours(error)) => {
                // A failure is written down in Mercurial's words, and a dead letter keeps the patch. Of a build that has to
                // wait that was asked already.
                let counted = !matches!(error.retry(), Retry::Defer(_));
                if counted
                    && let Ok(Some(private @ Ineligible::Private(_))) =
                        self.guard.check(&build, clock.now()).await
                {
                    return Ok(Built::Ended(private.report()));
                }
                Err(error)
            }
        }
    }

    /// What is to be done with a build, as far as that can be told without Phabricator and without a clone.
    async fn course(
        &self,
        build: Build,
        record: &BuildRecord,
        clock: &dyn Clock,
    ) -> Result<(Build, Course<'_>), HgError> {
        let started = clock.now();
        let Some(repository) = self.repositories.get(&build.request.repository) else {
            let unsupported = Ineligible::Repository(build.request.repository.clone());
            return Ok((build, Course::End(unsupported.report())));
        };
        if build.stack.is_empty() {
            let revision = build.request.revision_id;
            return Ok((build, Course::End(Ineligible::Landed { revision }.report())));
        }
        let (diff, allowed) = (&build.diff, self.settings.build_expiry);
        if let Some(expired) = eligibility::expired(diff.id, diff.created_at, allowed, started)
            && (!record.pushing || !repository.is_ready().await)
        {
            let report = self.over(&expired, &build, record, clock).await;
            return Ok((build, Course::End(report)));
        }
        let (build, scanned) = self.scan(build).await?;
        let scanned = match scanned {
            Err(fault) => {
                return Ok((
                    build,
                    Course::End(fault.report(seconds_since(started, clock))),
                ));
            }
            Ok(scanned) => scanned,
        };
        let skippable = scanned
            .iter()
            .flat_map(Scanned::touched)
            .find_map(|path| self.skippable(path));
        let course = match skippable {
            Some(path) => Course::End(Ineligible::File(path.to_owned()).report()),
            None => Course::Push(repository, scanned),
        };
        Ok((build, course))
    }

    /// How a build ends that is not to be built any more. One that has expired says what it waited for.
    async fn over(
        &self,
        over: &Ineligible,
        build: &Build,
        record: &BuildRecord,
        clock: &dyn Clock,
    ) -> Report {
        let (Ineligible::Expired { allowed, .. }, Some(repository)) =
            (over, self.repositories.get(&build.request.repository))
        else {
            return over.report();
        };
        let hours = allowed.as_secs() / 3600;
        let seconds = seconds_since(build.request.accepted_at, clock);
        let waited_for = record
            .events
            .iter()
            .rev()
            .find_map(|event| match &event.what {
                What::Parked { blocker, .. } => Some(*blocker),
                What::Failed { .. } => Some(None),
                _ => None,
            });
        if !record.pushing
            && let Some(blocker) = waited_for.flatten()
        {
            let blame = blame::waited(blocker, repository.settings(), hours, seconds);
            return Report::InfrastructureFailed(blame);
        }
        if !repository.is_ready().await {
            let blame = blame::never_ready(repository.settings(), hours, seconds);
            return Report::InfrastructureFailed(blame);
        }
        let mut report = over.report();
        if let Report::Neutral(Neutral { text, .. }) = &mut report
            && let Some(reason) = repository.tree_is_closed().await
        {
            // Whoever closes a tree writes what they like.
            let reason = text::path(reason.as_bytes()).replace('`', "'");
            let tree = &repository.settings().try_name;
            text.push_str(&format!(
                " The build waited for {tree}, which is closed: `{reason}`."
            ));
        }
        report
    }

    /// Reads all patches, on a thread of its own: large ones take a while.
    async fn scan(
        &self,
        build: Build,
    ) -> Result<(Build, Result<Vec<Scanned>, PatchFault>), HgError> {
        let limits = self.settings.limits.clone();
        if build.stack.len() > limits.stack {
            let fault = PatchFault::too_long(&build, limits.stack);
            return Ok((build, Err(fault)));
        }
        let scan = move || {
            let mut budget = Budget::new(&limits);
            let scanned = build.stack.iter().map(|patch| {
                patch::scan_next(&patch.content, &limits, &mut budget)
                    .map_err(|refusal| PatchFault::refused(&build, patch, &refusal))
            });
            let scanned = scanned.collect::<Result<Vec<_>, _>>().and_then(|scanned| {
                // Without the base, and so before it is known.
                let checked = made::check(&scanned, &made::Sizes::new(), limits.made);
                checked
                    .map(|_| scanned)
                    .map_err(|too_much| PatchFault::makes_too_much(&build, &too_much))
            });
            (build, scanned)
        };
        tokio::task::spawn_blocking(scan)
            .await
            .map_err(|error| HgError::io("read the patches")(error.into()))
    }

    fn skippable(&self, path: &[u8]) -> Option<&str> {
        let path = std::str::from_utf8(path).ok()?;
        self.settings.skippable_files.get(path).map(String::as_str)
    }
}

/// Whether a build that is not to be built any more ends with that, and not with an end that needs no push.
fn overrules(over: &Ineligible, end: &Report) -> bool {
    matches!(over, Ineligible::Private(_)) || matches!(end, Report::PatchFailed(_))
}

fn seconds_since(start: Timestamp, clock: &dyn Clock) -> f64 {
    clock.now().duration_since(start).as_secs_f64()
}
