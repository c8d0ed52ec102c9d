//! The worker: its clones, and what keeps them.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use build::{BuildLog, PatchSource, Phid, PushGuard};
use futures::future::join_all;
use runtime::{Clock, Service, ServiceError, Shutdown, error_chain};
use tracing::warn;

use crate::{
    HgError, HgHandler, Outcome, Settings, Size, Task,
    clone::disk_budget::FullDisk,
    clone::inventory::{CloneReport, Inventory},
    clone::layout,
    process,
    repository::Repository,
    tree_status::TreeStatus,
};

/// The Mercurial worker: what its handler and its clone manager share.
pub struct Mercurial {
    settings: Arc<Settings>,
    repositories: Arc<HashMap<Phid, Repository>>,
    log: BuildLog,
    guard: Arc<dyn PushGuard>,
    patches: Arc<dyn PatchSource>,
    clock: Arc<dyn Clock>,
}

impl Mercurial {
    /// A worker that records the progress of builds, loads their patches from `patches`, and asks `guard` before it pushes.
    /// Does nothing yet: the [`CloneManager`] prepares the clones. From now on, files that this process and its children make can be
    /// read by nobody else.
    ///
    /// [`HgError::Settings`] when a name cannot be a directory, or is given twice.
    pub fn new(
        settings: Settings,
        log: BuildLog,
        guard: Arc<dyn PushGuard>,
        patches: Arc<dyn PatchSource>,
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
            log,
            guard,
            patches,
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
            log: self.log.clone(),
            guard: Arc::clone(&self.guard),
            patches: Arc::clone(&self.patches),
        }
    }

    /// Prepares the clones, each on its own, and clones those again that are found broken. Until a repository's is ready,
    /// its builds are deferred.
    pub fn clone_manager(&self) -> CloneManager {
        CloneManager {
            settings: Arc::clone(&self.settings),
            repositories: Arc::clone(&self.repositories),
            clock: Arc::clone(&self.clock),
        }
    }
}

/// Prepares the clones; see [`Mercurial::clone_manager`].
pub struct CloneManager {
    settings: Arc<Settings>,
    repositories: Arc<HashMap<Phid, Repository>>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Service for CloneManager {
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
    for lane in (0..repository.lanes).map(|number| layout::lane_name(name, number)) {
        if layout::is_locked(&settings.clones_dir, &lane)? {
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
