//! The worker, and the manager of its clones.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use build::{BuildLog, PatchSource, Phid, PushGuard};
use futures::future::join_all;
use runtime::{Clock, Service, ServiceError, Shutdown, error_chain};
use tracing::warn;

use crate::{
    Backend, BuildHandler, Outcome, RepositorySettings, Settings, Size, Task, WorkerError,
    clone::inventory::{CloneReport, Inventory},
    clone::{
        dir::{CloneDir, slot_name},
        disk_budget::FullDisk,
    },
    process,
    repository::Repository,
    tree_status::TreeStatus,
};

/// The state that the handler of builds and the clone manager share.
pub struct Worker {
    settings: Arc<Settings>,
    repositories: Arc<HashMap<Phid, Repository>>,
    log: BuildLog,
    guard: Arc<dyn PushGuard>,
    patches: Arc<dyn PatchSource>,
    clock: Arc<dyn Clock>,
}

impl Worker {
    /// Makes a worker that applies and pushes the builds of a repository with its `backend_of`, records builds in `log`,
    /// loads patches from `patches`, and checks with `guard` before a push. The [`CloneManager`] prepares the clones later. From now on, only our user
    /// can read files that this process and its children make.
    ///
    /// Returns [`WorkerError::Settings`] when a name cannot be a directory, or is configured twice.
    pub fn new(
        settings: Settings,
        backend_of: impl Fn(&RepositorySettings) -> Backend,
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
            let one = Repository::new(
                all,
                backend_of(repository),
                repository.clone(),
                trees,
                outage,
            )?;
            Ok((repository.phid.clone(), one))
        });
        Ok(Self {
            repositories: Arc::new(repositories.collect::<Result<_, WorkerError>>()?),
            settings,
            log,
            guard,
            patches,
            clock,
        })
    }

    /// The number of builds of each repository that run side by side, by its PHID, the partition key of the queue.
    pub fn clone_slots(&self) -> HashMap<String, usize> {
        self.settings
            .repositories
            .iter()
            .map(|one| (one.phid.to_string(), one.clone_slots))
            .collect()
    }

    /// Reports whether every repository has a clone to build on; waits for each as long as a build would.
    pub async fn is_ready(&self) -> bool {
        join_all(self.repositories.values().map(Repository::is_ready))
            .await
            .into_iter()
            .all(|ready| ready)
    }

    /// Makes the handler of builds. The partition key of its queue must be the PHID of the repository; see
    /// [`Worker::clone_slots`].
    pub fn handler(&self) -> BuildHandler {
        BuildHandler {
            settings: Arc::clone(&self.settings),
            repositories: Arc::clone(&self.repositories),
            log: self.log.clone(),
            guard: Arc::clone(&self.guard),
            patches: Arc::clone(&self.patches),
        }
    }

    /// Makes the service that prepares the clones side by side, and replaces broken ones. The builds of a repository
    /// are deferred until it has a clone.
    pub fn clone_manager(&self) -> CloneManager {
        CloneManager {
            settings: Arc::clone(&self.settings),
            repositories: Arc::clone(&self.repositories),
            clock: Arc::clone(&self.clock),
        }
    }
}

/// Prepares the clones; see [`Worker::clone_manager`].
pub struct CloneManager {
    settings: Arc<Settings>,
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
            remove_left_patches(&self.settings),
            warn_of_unconfigured(&self.settings)
        );
        Ok(())
    }
}

/// Removes the patches of interrupted builds on clone slots that are not configured: no slot manager removes these.
async fn remove_left_patches(settings: &Settings) {
    let inventory = Inventory::new(settings);
    if let Ok(Err(error)) =
        tokio::task::spawn_blocking(move || inventory.remove_left_patches()).await
    {
        warn!(
            error = error_chain(&error),
            "cannot remove the patches of interrupted builds"
        );
    }
}

/// Logs the clones that are not configured any more, which an operator can remove. Without a disk budget, the worker removes
/// them only to make a clone for which the disk lacks room, see `disk_budget::make`.
async fn warn_of_unconfigured(settings: &Settings) {
    if settings.disk_budget.is_some() {
        return;
    }
    let inventory = Inventory::new(settings);
    match tokio::task::spawn_blocking(move || inventory.not_configured()).await {
        Ok(Ok(clones)) if !clones.is_empty() => {
            let names: Vec<String> = clones.iter().map(CloneReport::name).collect();
            let size = Size(clones.iter().map(|clone| clone.bytes).sum());
            warn!(
                "{} take {size} and are not configured any more: `events repositories prune` removes them",
                names.join(", ")
            );
        }
        Ok(Err(error)) => warn!(
            error = error_chain(&error),
            "cannot list the clones that are not configured"
        ),
        _ => {}
    }
}

/// Does a task on all clones of the repository called `name`, in this process. Makes missing clones.
///
/// Returns [`WorkerError::InUse`] when another process has one of them: send that process a request, see
/// [`crate::Requests`]. Dropping the future kills and reaps its child processes.
pub async fn maintain(
    settings: Settings,
    backend_of: impl Fn(&RepositorySettings) -> Backend,
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
    let backend = backend_of(&repository);
    for name in (0..repository.clone_slots).map(|number| slot_name(name, number)) {
        if CloneDir::new(&settings.clones_dir, name.as_str()).is_locked()? {
            return Err(WorkerError::InUse { repository: name });
        }
    }
    // Nothing is pushed, so no status of a tree is requested.
    let trees = Arc::new(TreeStatus::new(None, Arc::clone(&clock))?);
    let repository = Repository::new(
        Arc::new(settings),
        backend,
        repository,
        trees,
        Arc::default(),
    )?;
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
