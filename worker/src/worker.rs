//! The worker: its clones, and what keeps them.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use build::{BuildLog, PatchSource, Phid, PushGuard};
use futures::future::join_all;
use runtime::{Clock, Service, ServiceError, Shutdown, error_chain};
use tracing::warn;

use crate::{
    BuildHandler, Outcome, Settings, Size, Task, WorkerError,
    clone::inventory::{CloneReport, Inventory},
    clone::{
        dir::{CloneDir, slot_name},
        disk_budget::FullDisk,
    },
    process,
    repository::Repository,
    tree_status::TreeStatus,
    vcs::Vcs,
};

/// The worker: what its handler and its clone manager share.
pub struct Worker {
    settings: Arc<Settings>,
    vcs: Arc<dyn Vcs>,
    repositories: Arc<HashMap<Phid, Repository>>,
    log: BuildLog,
    guard: Arc<dyn PushGuard>,
    patches: Arc<dyn PatchSource>,
    clock: Arc<dyn Clock>,
}

impl Worker {
    /// A worker with the version control `vcs`, that records the progress of builds, loads their patches from
    /// `patches`, and asks `guard` before it pushes. Does nothing yet: the [`CloneManager`] prepares the clones. From
    /// now on, files that this process and its children make can be read by nobody else.
    ///
    /// [`WorkerError::Settings`] when a name cannot be a directory, or is given twice.
    pub fn new(
        settings: Settings,
        vcs: Arc<dyn Vcs>,
        log: BuildLog,
        guard: Arc<dyn PushGuard>,
        patches: Arc<dyn PatchSource>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, WorkerError> {
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
            let one = Repository::new(all, Arc::clone(&vcs), repository.clone(), trees, outage);
            (repository.phid.clone(), one)
        });
        Ok(Self {
            repositories: Arc::new(repositories.collect()),
            settings,
            vcs,
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

    /// Does the builds. The queue's lanes are to be repositories; see [`Worker::lanes`].
    pub fn handler(&self) -> BuildHandler {
        BuildHandler {
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
            vcs: Arc::clone(&self.vcs),
            repositories: Arc::clone(&self.repositories),
            clock: Arc::clone(&self.clock),
        }
    }
}

/// Prepares the clones; see [`Worker::clone_manager`].
pub struct CloneManager {
    settings: Arc<Settings>,
    vcs: Arc<dyn Vcs>,
    repositories: Arc<HashMap<Phid, Repository>>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Service for CloneManager {
    fn name(&self) -> &str {
        "clones"
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        let keeping = join_all(
            self.repositories
                .values()
                .map(|one| one.keep(self.clock.as_ref(), &shutdown)),
        );
        futures::join!(
            keeping,
            remove_left_patches(&self.settings, self.vcs.as_ref()),
            warn_of_unconfigured(&self.settings, self.vcs.as_ref())
        );
        Ok(())
    }
}

/// Removes patches that no other clone slot does.
async fn remove_left_patches(settings: &Settings, vcs: &dyn Vcs) {
    let inventory = Inventory::new(settings, vcs);
    if let Ok(Err(error)) =
        tokio::task::spawn_blocking(move || inventory.remove_left_patches()).await
    {
        warn!(
            error = error_chain(&error),
            "cannot remove the patches of builds that were interrupted"
        );
    }
}

/// Without a budget no clone is removed by itself. Logs what could be.
async fn warn_of_unconfigured(settings: &Settings, vcs: &dyn Vcs) {
    if settings.disk_budget.is_some() {
        return;
    }
    let inventory = Inventory::new(settings, vcs);
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
/// [`WorkerError::InUse`] when another process has one of them: it is to be asked, see [`crate::Requests`]. Dropping
/// this in the middle kills and reaps what runs.
pub async fn maintain(
    settings: Settings,
    vcs: Arc<dyn Vcs>,
    name: &str,
    task: Task,
    clock: Arc<dyn Clock>,
) -> Result<Outcome, WorkerError> {
    settings.check()?;
    process::keep_files_private();
    let unknown = || WorkerError::Settings {
        reason: format!("there is no repository {name}"),
    };
    let repository = settings
        .repositories
        .iter()
        .find(|one| one.name == name)
        .cloned()
        .ok_or_else(unknown)?;
    for name in (0..repository.lanes).map(|number| slot_name(name, number)) {
        if CloneDir::new(&settings.clones_dir, vcs.metadata(), name.as_str()).is_locked()? {
            return Err(WorkerError::InUse { repository: name });
        }
    }
    // Nothing is pushed, so nobody asks for it.
    let trees = Arc::new(TreeStatus::new(None, Arc::clone(&clock))?);
    let repository = Repository::new(Arc::new(settings), vcs, repository, trees, Arc::default());
    let (done, result) = tokio::select! {
        ended = repository.maintain(task, clock.as_ref()) => ended,
        () = repository.run_slots(clock.as_ref()) => return Err(WorkerError::Cancelled),
    };
    repository.close().await;
    match result {
        Err(error @ WorkerError::InUse { .. }) => Err(error),
        result => Ok(Outcome {
            done,
            error: result.err().map(|error| error_chain(&error)),
        }),
    }
}
