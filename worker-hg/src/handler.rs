//! The queue's side: from a build to the report on it.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use bus::{Clock, Context, Handler, Queue, Shutdown, Subsystem, SubsystemError, error_chain};
use futures::future::join_all;
use jiff::Timestamp;
use phabricator::model::{Applied, Build, Phid, Pushed, Report};
use tracing::{error, info, warn};

use crate::{
    HgError, Outcome, Settings, Size, Task,
    apply::Failure,
    blame,
    fault::PatchFault,
    inventory::{CloneReport, Inventory},
    patch::{self, Scanned},
    place,
    repository::Repository,
    text,
    tree_status::TreeStatus,
};

/// The Mercurial worker: what its handler and its keeper share.
pub struct Mercurial {
    settings: Arc<Settings>,
    repositories: Arc<HashMap<Phid, Repository>>,
    applied: Queue<Applied>,
    clock: Arc<dyn Clock>,
}

impl Mercurial {
    /// A worker that reports to `applied`. Does nothing yet: the [`Keeper`] prepares the clones.
    ///
    /// [`HgError::Settings`] when a name cannot be a directory, or is given twice.
    pub fn new(settings: Settings, applied: Queue<Applied>, clock: Arc<dyn Clock>) -> Result<Self, HgError> {
        settings.check()?;
        let settings = Arc::new(settings);
        let trees = Arc::new(TreeStatus::new(settings.tree_status.clone(), Arc::clone(&clock))?);
        let repositories = settings.repositories.iter().map(|repository| {
            let one = Repository::new(Arc::clone(&settings), repository.clone(), Arc::clone(&trees));
            (repository.phid.clone(), one)
        });
        Ok(Self { repositories: Arc::new(repositories.collect()), settings, applied, clock })
    }

    /// How many builds of each repository are made side by side, for a queue whose lanes are called by its PHID.
    pub fn lanes(&self) -> HashMap<String, usize> {
        self.settings.repositories.iter().map(|one| (one.phid.to_string(), one.lanes)).collect()
    }

    /// Does the builds. The queue's lanes are to be repositories; see [`Mercurial::lanes`].
    pub fn handler(&self) -> HgHandler {
        HgHandler {
            settings: Arc::clone(&self.settings),
            repositories: Arc::clone(&self.repositories),
            applied: self.applied,
        }
    }

    /// Prepares the clones, each on its own, and makes those anew that are found broken. Until a repository's is ready,
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
impl Subsystem for Keeper {
    fn name(&self) -> &str {
        "mercurial clones"
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), SubsystemError> {
        let keeping = join_all(self.repositories.values().map(|one| one.keep(self.clock.as_ref(), &shutdown)));
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
        Ok(Err(error)) => warn!(error = error_chain(&error), "cannot look for clones that are not configured"),
        _ => {}
    }
}

/// Has a task done on all clones of the repository called `name`, by this process. Makes those that are not there.
///
/// [`HgError::InUse`] when another process has one of them: it is to be asked, see [`crate::Requests`]. Dropping this in
/// the middle kills and reaps what runs.
pub async fn maintain(settings: Settings, name: &str, task: Task, clock: Arc<dyn Clock>) -> Result<Outcome, HgError> {
    settings.check()?;
    let unknown = || HgError::Settings { reason: format!("there is no repository {name}") };
    let repository = settings.repositories.iter().find(|one| one.name == name).cloned().ok_or_else(unknown)?;
    for lane in (0..repository.lanes).map(|number| place::lane_name(name, number)) {
        if place::is_locked(&settings.clones_dir, &lane)? {
            return Err(HgError::InUse { repository: lane });
        }
    }
    // Nothing is pushed, so nobody asks for it.
    let trees = Arc::new(TreeStatus::new(None, Arc::clone(&clock))?);
    let repository = Repository::new(Arc::new(settings), repository, trees);
    let (done, result) = tokio::select! {
        ended = repository.maintain(task, clock.as_ref()) => ended,
        () = repository.keep_lanes(clock.as_ref()) => return Err(HgError::Cancelled),
    };
    repository.close().await;
    match result {
        Err(error @ HgError::InUse { .. }) => Err(error),
        result => Ok(Outcome { done, error: result.err().map(|error| error_chain(&error)) }),
    }
}

/// Applies stacks and pushes them; see [`Mercurial::handler`].
pub struct HgHandler {
    settings: Arc<Settings>,
    repositories: Arc<HashMap<Phid, Repository>>,
    applied: Queue<Applied>,
}

#[async_trait]
impl Handler<Build> for HgHandler {
    type Error = HgError;

    async fn handle(&self, build: Build, cx: &Context) -> Result<(), HgError> {
        let request = build.request.clone();
        let report = tokio::select! {
            report = self.build(build, cx.clock().as_ref()) => report?,
            // What was running is killed and reaped with the future that ran it.
            () = cx.cancelled() => return Err(HgError::Cancelled),
        };
        match &report {
            Report::Neutral(reason) => info!(step = "neutral", build = %request.target, "nothing to push: {reason}"),
            Report::PatchFailed(failure) => {
                info!(step = "failed", build = %request.target, "the patch is to blame: {}", failure.summary);
            }
            Report::InfrastructureFailed(blame) => {
                error!(step = "failed", build = %request.target, "we are to blame: {}", blame.summary);
            }
            _ => {}
        }
        cx.send(&self.applied, &Applied { request, report })?;
        Ok(())
    }

    async fn exhausted(&self, build: Build, reason: &str, cx: &Context) -> Result<(), HgError> {
        let request = build.request;
        let seconds = seconds_since(request.accepted_at, cx.clock().as_ref());
        let repository = self.repositories.get(&request.repository).map(Repository::settings);
        let blame = blame::given_up(reason, repository, cx.attempt(), seconds);
        info!(step = "failed", build = %request.target, "we are to blame: {}", blame.summary);
        cx.send(&self.applied, &Applied { request, report: Report::InfrastructureFailed(blame) })?;
        Ok(())
    }

    async fn close(&self) {
        join_all(self.repositories.values().map(Repository::close)).await;
    }
}

impl HgHandler {
    async fn build(&self, build: Build, clock: &dyn Clock) -> Result<Report, HgError> {
        let started = clock.now();
        let Some(repository) = self.repositories.get(&build.request.repository) else {
            return Ok(neutral("Unsupported repository: its patches are not built."));
        };
        if build.stack.is_empty() {
            return Ok(neutral("All patches of the stack have landed, there is nothing left to build."));
        }
        if seconds_since(build.diff.created_at, clock) > self.settings.build_expiry.as_secs_f64() {
            let hours = self.settings.build_expiry.as_secs() / 3600;
            if !repository.is_ready().await {
                let seconds = seconds_since(build.request.accepted_at, clock);
                return Ok(Report::InfrastructureFailed(blame::never_ready(repository.settings(), hours, seconds)));
            }
            let closed = repository.tree_is_closed().await.map_or_else(String::new, |reason| {
                // Whoever closes a tree writes what they like.
                let reason = text::path(reason.as_bytes()).replace('`', "'");
                format!(" The build waited for {}, which is closed: `{reason}`.", repository.settings().try_name)
            });
            return Ok(neutral(format!(
                "Expired: the diff is older than {hours} hours, and such diffs are not built. Submit it again to have \
                 it built.{closed}"
            )));
        }
        let failed = |fault: PatchFault| Ok(fault.report(seconds_since(started, clock)));
        let (build, scanned) = match self.scan(build).await? {
            Ok(scanned) => scanned,
            Err(fault) => return failed(fault),
        };
        if let Some(path) = scanned.iter().flat_map(Scanned::touched).find_map(|path| self.skippable(path)) {
            return Ok(neutral(format!("The stack changes `{path}`, and stacks that change this file are not built.")));
        }
        match repository.build(&build, &scanned, clock.now()).await {
            Ok(landed) => {
                let name = &repository.settings().try_name;
                let treeherder = self.settings.treeherder_url.trim_end_matches('/');
                Ok(Report::Pushed(Pushed {
                    treeherder_url: format!("{treeherder}/#/jobs?repo={name}&revision={}", landed.head),
                    revision: landed.head,
                    patches: build.stack.len(),
                    revisions: build.stack.iter().map(|patch| patch.revision_id).collect(),
                    landed: build.landed,
                    base: landed.base,
                    seconds: seconds_since(started, clock),
                }))
            }
            Err(Failure::Patch(fault)) => failed(fault),
            Err(Failure::Ours(error)) => Err(error),
        }
    }

    /// Reads all patches, on a thread of its own: large ones take a while.
    async fn scan(&self, build: Build) -> Result<Result<(Build, Vec<Scanned>), PatchFault>, HgError> {
        let limits = self.settings.limits.clone();
        if build.stack.len() > limits.stack {
            return Ok(Err(PatchFault::too_long(&build, limits.stack)));
        }
        let scan = move || {
            let scanned = build.stack.iter().map(|patch| {
                patch::scan(&patch.content, &limits).map_err(|refusal| PatchFault::refused(&build, patch, &refusal))
            });
            let scanned = scanned.collect::<Result<Vec<_>, _>>()?;
            Ok((build, scanned))
        };
        tokio::task::spawn_blocking(scan).await.map_err(|error| HgError::io("read the patches")(error.into()))
    }

    fn skippable(&self, path: &[u8]) -> Option<&str> {
        let path = std::str::from_utf8(path).ok()?;
        self.settings.skippable_files.get(path).map(String::as_str)
    }
}

fn neutral(reason: impl Into<String>) -> Report {
    Report::Neutral(reason.into())
}

fn seconds_since(start: Timestamp, clock: &dyn Clock) -> f64 {
    clock.now().duration_since(start).as_secs_f64()
}
