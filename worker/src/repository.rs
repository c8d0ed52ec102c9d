//! A repository with its clones and its tree.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use runtime::{Clock, Shutdown, error_chain};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    Backend, GitSettings, RepositorySettings, Settings, WorkerError,
    base_mapping::BaseMapping,
    clone::disk_budget::FullDisk,
    clone::manager::SlotManager,
    clone::pool::{Pool, PoolGuard},
    clone::requests::{MaintenanceResult, Outcome, Requests, Task},
    clone::slot::{Home, Ready},
    error::{CLOSED_PAUSE, NOT_READY_PAUSE},
    lando::Lando,
    outcome::NotPushed,
    tree_status::{TreeState, TreeStatus},
    vcs::Vcs,
};

/// The longest wait at shutdown for clones that are being tidied up.
const CLEANUP_GRACE: Duration = Duration::from_secs(2);

/// The interval at which requests of operators are polled, and that after a failure.
const POLL: Duration = Duration::from_secs(1);
const POLL_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// A repository that is built.
pub(crate) struct Repository {
    all: Arc<Settings>,
    backend: Backend,
    settings: RepositorySettings,
    tree_status: Arc<TreeStatus>,
    base_mapping: Option<BaseMapping>,
    lando: Option<Lando>,
    outage: Arc<FullDisk>,
    slots: Vec<SlotManager>,
    pool: Arc<Pool<Ready>>,
    /// The work on clones after their builds were answered.
    cleanup_tasks: TaskTracker,
    closing: CancellationToken,
}

impl Repository {
    pub(crate) fn new(
        all: Arc<Settings>,
        backend: Backend,
        settings: RepositorySettings,
        tree_status: Arc<TreeStatus>,
        outage: Arc<FullDisk>,
    ) -> Result<Self, WorkerError> {
        let slots = (0..settings.clone_slots)
            .map(|number| SlotManager::new(&all, &settings, number))
            .collect();
        let (cleanup_tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        Ok(Self {
            all,
            backend,
            base_mapping: BaseMapping::of(&settings)?,
            lando: Lando::of(&settings)?,
            settings,
            tree_status,
            outage,
            slots,
            pool: Pool::new(),
            cleanup_tasks,
            closing,
        })
    }

    /// Waits up to `Limits::ready_wait` for a clone to build on; returns whether there is one.
    pub(crate) async fn is_ready(&self) -> bool {
        self.pool.has_any(self.all.limits.ready_wait).await
    }

    pub(crate) fn vcs(&self) -> &dyn Vcs {
        self.backend.vcs()
    }

    pub(crate) fn settings(&self) -> &RepositorySettings {
        &self.settings
    }

    /// The settings of the refs that heads get, with Git and its own destination.
    pub(crate) fn refs(&self) -> Option<&GitSettings> {
        let has_refs = self.backend.has_own_destination() && self.lando.is_none();
        self.settings.vcs.git().filter(|_| has_refs)
    }

    /// The mapping of commits to the version control of the clones, if there is one.
    pub(crate) fn base_mapping(&self) -> Option<&BaseMapping> {
        self.base_mapping.as_ref()
    }

    /// Lando, if that is the destination.
    pub(crate) fn lando(&self) -> Option<&Lando> {
        self.lando.as_ref()
    }

    /// Prepares the clones side by side, and serves the requests of operators, until `shutdown`. Dropping the future
    /// kills and reaps its child processes.
    pub(crate) async fn keep(&self, clock: &dyn Clock, shutdown: &Shutdown) {
        tokio::select! {
            () = shutdown.stopping() => {}
            () = self.run_slots(clock) => {}
            () = self.answer_requests(clock) => {}
        }
    }

    /// Prepares the clones side by side; never returns.
    pub(crate) async fn run_slots(&self, clock: &dyn Clock) {
        let site = Home {
            all: &self.all,
            backend: &self.backend,
            repository: &self.settings,
            pool: &self.pool,
            outage: &self.outage,
            clock,
        };
        join_all(self.slots.iter().map(|slot| slot.run(site))).await;
    }

    /// Has [`Self::run_slots`] do a task on one clone after another. Stops at the first failure.
    pub(crate) async fn maintain(
        &self,
        task: Task,
        clock: &dyn Clock,
    ) -> (Vec<MaintenanceResult>, Result<(), WorkerError>) {
        let mut done = Vec::new();
        for slot in &self.slots {
            match slot.maintain(task, clock).await {
                Ok(result) => done.push(result),
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }

    async fn answer_requests(&self, clock: &dyn Clock) {
        let name = &self.settings.name;
        let requests = Requests::new(&self.all.clones_dir, name);
        loop {
            let mut pause = POLL;
            let answered = match requests.find() {
                Ok(None) => Ok(()),
                Ok(Some(request)) => {
                    let task = request.task.name();
                    info!(repository = name, "an operator requests a {task} of {name}");
                    let (done, result) = self.maintain(request.task, clock).await;
                    let error = result.err().map(|error| error_chain(&error));
                    match &error {
                        None => info!(repository = name, "the {task} of {name} is done"),
                        Some(error) => {
                            warn!(repository = name, error, "the {task} of {name} failed")
                        }
                    }
                    requests.answer(&request, Outcome { done, error })
                }
                Err(error) => Err(error),
            };
            if let Err(error) = answered {
                warn!(
                    repository = name,
                    error = error_chain(&error),
                    "cannot serve requests of operators; retrying in {} s",
                    POLL_AFTER_FAILURE.as_secs()
                );
                pause = POLL_AFTER_FAILURE;
            }
            clock.sleep(pause).await;
        }
    }

    /// Takes a free clone; waits up to `Limits::ready_wait` for one.
    pub(crate) async fn take_clone(&self) -> Result<PoolGuard<Ready>, NotPushed> {
        if let Some(slot) = self.pool.take(self.all.limits.ready_wait).await {
            return Ok(slot);
        }
        Err(match self.outage.words() {
            Some(words) => NotPushed::Ours(WorkerError::DiskFull {
                doing: format!("prepare the clone of {}", self.settings.name),
                words,
            }),
            None => NotPushed::Hold {
                after: NOT_READY_PAUSE,
                reason: format!("the clone of {} is not ready yet", self.settings.name),
            },
        })
    }

    /// Gives a clone back after a build with this `result`. A damaged clone is replaced, also if it cannot be marked as
    /// corrupt; any other is tidied up. Returns the final result of the build.
    pub(crate) async fn give_back<T>(
        &self,
        mut slot: PoolGuard<Ready>,
        mut result: Result<T, NotPushed>,
        clock: &dyn Clock,
    ) -> Result<T, NotPushed> {
        let mut is_marked = true;
        if let Err(NotPushed::Ours(error)) = &result
            && let Some(reason) = error.lost_data()
        {
            let reason = reason.to_owned();
            if let Err(error) = slot.dir.mark_corrupt() {
                warn!(
                    repository = self.settings.name,
                    error = error_chain(&error),
                    "cannot mark the clone as damaged; it is quarantined before its slot is used again"
                );
                self.outage.begins(&error, &self.all, clock);
                is_marked = false;
            }
            result = Err(WorkerError::Damaged {
                repository: self.settings.name.clone(),
                reason,
            }
            .into());
        }
        if matches!(&result, Err(NotPushed::Ours(error)) if error.is_of_vcs()) {
            // A command server that has failed may hold locks, and may have cached data that was rolled back.
            slot.clone.reset().await;
        }
        if let Err(NotPushed::Ours(WorkerError::Damaged { .. })) = &result {
            if let Some(lost) = slot.discard() {
                let number = lost.slot;
                // Unlock the slot first: its manager locks it again at once.
                drop(lost);
                self.slots.get(number).inspect(|slot| slot.lost(is_marked));
            }
        } else {
            self.finish_in_background(slot);
        }
        match &result {
            Err(NotPushed::Ours(error @ WorkerError::DiskFull { .. })) => {
                self.outage.begins(error, &self.all, clock);
            }
            Err(NotPushed::Ours(_)) => {}
            _ => self.outage.ends(&self.all, clock),
        }
        result
    }

    /// The state of the tree, by a response that can be some seconds old.
    pub(crate) async fn tree_state(&self) -> TreeState {
        self.tree_status.state(&self.settings.try_name).await
    }

    /// The state of the tree, by a new request.
    pub(crate) async fn request_tree_state(&self) -> TreeState {
        self.tree_status.request(&self.settings.try_name).await
    }

    /// Turns the error of a failed discard into [`WorkerError::Damaged`] when the clone may be damaged: it has to be
    /// cloned again.
    pub(crate) fn classify_damage(&self, error: WorkerError) -> WorkerError {
        if error.is_damage() {
            WorkerError::Damaged {
                repository: self.settings.name.clone(),
                reason: error_chain(&error),
            }
        } else {
            error
        }
    }

    /// The hold of all builds of the repository while its tree is closed.
    pub(crate) fn tree_closed(&self, reason: &str) -> NotPushed {
        NotPushed::Hold {
            after: CLOSED_PAUSE,
            reason: format!("{} is closed: {reason}", self.settings.try_name),
        }
    }

    fn finish_in_background(&self, mut slot: PoolGuard<Ready>) {
        let (name, closing) = (self.settings.name.clone(), self.closing.clone());
        let finishing = async move {
            // The build has its result. The next build discards first, and fails if that is not possible.
            if let Err(error) = slot.finish().await
                && !matches!(error, WorkerError::DiskFull { .. })
            {
                warn!(
                    repository = name,
                    error = error_chain(&error),
                    "cannot clean the clone after a build; the next build cleans it"
                );
            }
        };
        self.cleanup_tasks.spawn(async move {
            tokio::select! {
                () = finishing => {}
                () = closing.cancelled() => {}
            }
        });
    }

    /// Ends the command servers, and releases the clones and keys.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.cleanup_tasks.close();
        let _ = tokio::time::timeout(CLEANUP_GRACE, self.cleanup_tasks.wait()).await;
        let closing = self.pool.empty().into_iter().map(|mut slot| async move {
            slot.clone.close().await;
        });
        join_all(closing).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::atomic::Ordering};

    use jiff::Timestamp;
    use runtime::ManualClock;

    use super::*;
    use crate::{
        clone::fake_vcs::{FakeVcs, settings},
        source_tip,
    };

    #[tokio::test]
    async fn damaged_clone_that_cannot_be_marked_is_not_used_again() {
        let clones_dir = tempfile::tempdir().expect("a directory");
        let settings = settings(clones_dir.path());
        let vcs = FakeVcs::default();
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let trees = TreeStatus::new(None, clock.clone()).expect("no service is set up");
        let repository = Repository::new(
            Arc::new(settings.clone()),
            Backend::new(Arc::new(vcs.clone())),
            settings.repositories[0].clone(),
            Arc::new(trees),
            Arc::default(),
        )
        .expect("nothing is set up");
        let building = async {
            let slot = repository.take_clone().await.expect("it is prepared");
            let tip = slot.dir.path().join(source_tip::FILE);
            fs::remove_file(&tip).expect("it has one");
            fs::create_dir(&tip).expect("a directory, which cannot be written");
            let damaged = WorkerError::Damaged {
                repository: "nss".to_owned(),
                reason: "a file is missing".to_owned(),
            };
            let result: Result<(), _> = repository
                .give_back(slot, Err(damaged.into()), &*clock)
                .await;
            assert!(matches!(
                result,
                Err(NotPushed::Ours(WorkerError::Damaged { .. }))
            ));
            repository.take_clone().await.expect("another is prepared");
            assert_eq!(vcs.made.load(Ordering::SeqCst), 2);
        };
        tokio::select! {
            () = building => {}
            () = repository.run_slots(&*clock) => {}
        }
    }
}
