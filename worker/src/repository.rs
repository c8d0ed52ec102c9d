//! One repository: its clones.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use runtime::{Clock, Shutdown, error_chain};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    RepositorySettings, Settings, WorkerError,
    clone::disk_budget::FullDisk,
    clone::manager::SlotManager,
    clone::pool::{Pool, PoolGuard},
    clone::requests::{MaintenanceResult, Outcome, Requests, Task},
    clone::slot::{Home, Ready},
    error::{CLOSED_PAUSE, NOT_READY_PAUSE},
    outcome::NotPushed,
    tree_status::{TreeStatus, Verdict},
    vcs::Vcs,
};

/// How long a clone that is being tidied up is waited for at the end of the process.
const LAST: Duration = Duration::from_secs(2);

/// How often requests of operators are looked for, and how often when that failed.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// A repository that builds may be for.
pub(crate) struct Repository {
    all: Arc<Settings>,
    vcs: Arc<dyn Vcs>,
    settings: RepositorySettings,
    tree_status: Arc<TreeStatus>,
    outage: Arc<FullDisk>,
    slots: Vec<SlotManager>,
    pool: Arc<Pool<Ready>>,
    /// What is done on a clone after its build was answered.
    cleanup_tasks: TaskTracker,
    closing: CancellationToken,
}

impl Repository {
    pub(crate) fn new(
        all: Arc<Settings>,
        vcs: Arc<dyn Vcs>,
        settings: RepositorySettings,
        tree_status: Arc<TreeStatus>,
        outage: Arc<FullDisk>,
    ) -> Self {
        let slots = (0..settings.lanes)
            .map(|number| SlotManager::new(&all, vcs.as_ref(), &settings, number))
            .collect();
        let (cleanup_tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        Self {
            all,
            vcs,
            settings,
            tree_status,
            outage,
            slots,
            pool: Pool::new(),
            cleanup_tasks,
            closing,
        }
    }

    /// Waits for a clone to build on, for a while; says whether there is one.
    pub(crate) async fn is_ready(&self) -> bool {
        self.pool.has_any(self.all.limits.ready).await
    }

    pub(crate) fn vcs(&self) -> &dyn Vcs {
        self.vcs.as_ref()
    }

    pub(crate) fn settings(&self) -> &RepositorySettings {
        &self.settings
    }

    /// Prepares the clones, each on its own, and does what operators ask for. Ends with `shutdown`; dropping what runs
    /// then kills and reaps it.
    pub(crate) async fn keep(&self, clock: &dyn Clock, shutdown: &Shutdown) {
        tokio::select! {
            () = shutdown.stopping() => {}
            () = self.run_slots(clock) => {}
            () = self.answer_requests(clock) => {}
        }
    }

    /// Prepares the clones, each on its own, for ever.
    pub(crate) async fn run_slots(&self, clock: &dyn Clock) {
        let site = Home {
            all: &self.all,
            vcs: self.vcs.as_ref(),
            repository: &self.settings,
            pool: &self.pool,
            outage: &self.outage,
            clock,
        };
        join_all(self.slots.iter().map(|slot| slot.run(site))).await;
    }

    /// Has a task done on one clone after another, by what runs in [`Self::run_slots`]. Ends with the first failure.
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
            let mut pause = LOOK;
            let answered = match requests.find() {
                Ok(None) => Ok(()),
                Ok(Some(request)) => {
                    let task = request.task.name();
                    info!(repository = name, "an operator asks for a {task} of {name}");
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
                    "cannot serve requests"
                );
                pause = LOOK_AFTER_FAILURE;
            }
            clock.sleep(pause).await;
        }
    }

    /// Takes a clone that nobody works on; waits for one for a while.
    pub(crate) async fn take_clone(&self) -> Result<PoolGuard<Ready>, NotPushed> {
        if let Some(slot) = self.pool.take(self.all.limits.ready).await {
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

    /// Gives a clone back after a build that ended so: a clone that is damaged is made again, any other is tidied up.
    /// Returns how the build ended.
    pub(crate) async fn give_back<T>(
        &self,
        mut slot: PoolGuard<Ready>,
        mut result: Result<T, NotPushed>,
        clock: &dyn Clock,
    ) -> Result<T, NotPushed> {
        if let Err(NotPushed::Ours(error)) = &result
            && let Some(reason) = error.lost_data()
        {
            let reason = reason.to_owned();
            slot.clone.mark_corrupt()?;
            result = Err(WorkerError::Damaged {
                repository: self.settings.name.clone(),
                reason,
            }
            .into());
        }
        if matches!(&result, Err(NotPushed::Ours(error)) if error.is_of_vcs()) {
            // A server that has failed may hold locks, and remember what was rolled back.
            slot.clone.reset().await;
        }
        if let Err(NotPushed::Ours(WorkerError::Damaged { .. })) = &result {
            if let Some(lost) = slot.discard() {
                self.slots.get(lost.slot).inspect(|slot| slot.lost());
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

    /// Whether the tree takes pushes.
    pub(crate) async fn look_at_tree(&self) -> Verdict {
        self.tree_status.look(&self.settings.try_name).await
    }

    /// Whether the tree takes pushes, by an answer of now.
    pub(crate) async fn look_at_tree_again(&self) -> Verdict {
        self.tree_status.look_again(&self.settings.try_name).await
    }

    /// A clone that cannot even be tidied up has to be cloned again.
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

    /// All builds of the repository wait for its tree.
    pub(crate) fn tree_closed(&self, reason: &str) -> NotPushed {
        NotPushed::Hold {
            after: CLOSED_PAUSE,
            reason: format!("{} is closed: {reason}", self.settings.try_name),
        }
    }

    fn finish_in_background(&self, mut slot: PoolGuard<Ready>) {
        let (name, closing) = (self.settings.name.clone(), self.closing.clone());
        let finishing = async move {
            // The build has its result; the next one discards first, and fails if that cannot be done.
            if let Err(error) = slot.clone.finish().await
                && !matches!(error, WorkerError::DiskFull { .. })
            {
                warn!(
                    repository = name,
                    error = error_chain(&error),
                    "cannot tidy up after a build"
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

    /// Ends the command servers and lets go of the clones and keys.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.cleanup_tasks.close();
        let _ = tokio::time::timeout(LAST, self.cleanup_tasks.wait()).await;
        let closing = self.pool.empty().into_iter().map(|mut slot| async move {
            slot.clone.close().await;
        });
        join_all(closing).await;
    }
}
