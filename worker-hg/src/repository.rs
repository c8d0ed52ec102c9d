//! One repository: its clones.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use runtime::{Clock, Shutdown, error_chain};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    HgError, RepositorySettings, Settings,
    clone::disk_budget::FullDisk,
    clone::maintenance::MaintenanceJob,
    clone::pool::{Pool, PoolGuard},
    clone::requests::{MaintenanceResult, Outcome, Requests, Task},
    clone::slot::{Lane, Ready, Site},
    error::{CLOSED_PAUSE, NOT_READY_PAUSE},
    hg::messages,
    hg::probe,
    outcome::NotPushed,
    transport::ssh_prewarm::PrewarmedSsh,
    tree_status::{TreeStatus, Verdict},
};

/// How long a lane that is being tidied up is waited for at the end of the process.
const LAST: Duration = Duration::from_secs(2);

/// How often requests of operators are looked for, and how often when that failed.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// A repository that builds may be for.
pub(crate) struct Repository {
    all: Arc<Settings>,
    settings: RepositorySettings,
    tree_status: Arc<TreeStatus>,
    outage: Arc<FullDisk>,
    lanes: Vec<Lane>,
    pool: Arc<Pool<Ready>>,
    /// What is done on a lane after its build was answered.
    cleanup_tasks: TaskTracker,
    closing: CancellationToken,
}

impl Repository {
    pub(crate) fn new(
        all: Arc<Settings>,
        settings: RepositorySettings,
        tree_status: Arc<TreeStatus>,
        outage: Arc<FullDisk>,
    ) -> Self {
        let lanes = (0..settings.lanes)
            .map(|number| Lane::new(&settings, number))
            .collect();
        let (cleanup_tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        Self {
            all,
            settings,
            tree_status,
            outage,
            lanes,
            pool: Pool::new(),
            cleanup_tasks,
            closing,
        }
    }

    /// Waits for a clone to build on, for a while; says whether there is one.
    pub(crate) async fn is_ready(&self) -> bool {
        self.pool.has_any(self.all.limits.ready).await
    }

    pub(crate) fn settings(&self) -> &RepositorySettings {
        &self.settings
    }

    /// Prepares the clones, each on its own, and does what operators ask for. Ends with `shutdown`; dropping what runs
    /// then kills and reaps it.
    pub(crate) async fn keep(&self, clock: &dyn Clock, shutdown: &Shutdown) {
        tokio::select! {
            () = shutdown.stopping() => {}
            () = self.keep_lanes(clock) => {}
            () = self.answer_requests(clock) => {}
            () = self.warn_of_branches() => {}
        }
    }

    /// Warns once, when there is a clone, if nothing says on which of several branches builds without a base belong.
    async fn warn_of_branches(&self) {
        if self.settings.default_revision == probe::UNSET {
            // It holds no clone: builds need not wait for this.
            while !self.pool.has_any(LAST).await {}
            let clone = self.all.clones_dir.join(&self.settings.name);
            if let Some(branches) = probe::branches(&self.all.hg, &clone).await
                && let Some(warning) = probe::ambiguous(&self.settings, &branches)
            {
                warn!(repository = self.settings.name, "{warning}");
            }
        }
        std::future::pending().await
    }

    /// Prepares the clones, each on its own, for ever.
    pub(crate) async fn keep_lanes(&self, clock: &dyn Clock) {
        let site = Site {
            all: &self.all,
            repository: &self.settings,
            pool: &self.pool,
            outage: &self.outage,
            clock,
        };
        join_all(self.lanes.iter().map(|lane| lane.keep(site))).await;
    }

    /// Has a task done on one lane after another, by what runs in [`Self::keep_lanes`]. Ends with the first failure.
    pub(crate) async fn maintain(
        &self,
        task: Task,
        clock: &dyn Clock,
    ) -> (Vec<MaintenanceResult>, Result<(), HgError>) {
        let mut done = Vec::new();
        for lane in &self.lanes {
            let (order, answer) = MaintenanceJob::new(task, clock);
            // Neither fails while the lane is kept.
            let _ = lane.orders.send(order).await;
            match answer.await.unwrap_or(Err(HgError::Cancelled)) {
                Ok(result_at) => done.push(result_at),
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
            Some(words) => NotPushed::Ours(HgError::DiskFull {
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
        session: Option<PrewarmedSsh>,
        mut result: Result<T, NotPushed>,
        clock: &dyn Clock,
    ) -> Result<T, NotPushed> {
        if let Err(NotPushed::Ours(error)) = &result
            && let Some(reason) = damage(error)
        {
            slot.clone.mark_corrupt()?;
            result = Err(HgError::Damaged {
                repository: self.settings.name.clone(),
                reason,
            }
            .into());
        }
        if matches!(&result, Err(NotPushed::Ours(error)) if error.is_of_mercurial()) {
            // A server that has failed may hold locks, and remember what was rolled back.
            slot.clone.close().await;
        }
        if let Err(NotPushed::Ours(HgError::Damaged { .. })) = &result {
            if let Some(lost) = slot.discard() {
                self.lanes
                    .get(lost.lane)
                    .inspect(|lane| lane.lost.notify_one());
            }
        } else {
            self.tidy_in_background(slot, session);
        }
        match &result {
            Err(NotPushed::Ours(error @ HgError::DiskFull { .. })) => {
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
    pub(crate) fn classify_damage(&self, error: HgError) -> HgError {
        if error.is_damage() {
            HgError::Damaged {
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

    fn tidy_in_background(&self, mut lane: PoolGuard<Ready>, session: Option<PrewarmedSsh>) {
        let (name, closing) = (self.settings.name.clone(), self.closing.clone());
        let tidying = async move {
            let closing = async {
                if let Some(session) = session {
                    session.close().await;
                }
            };
            let ((), tidied) = futures::join!(closing, lane.clone.tidy());
            // The build has its result; the next one tidies first, and fails if that cannot be done.
            if let Err(error) = tidied
                && !matches!(error, HgError::DiskFull { .. })
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
                () = tidying => {}
                () = closing.cancelled() => {}
            }
        });
    }

    /// Ends the command servers and lets go of the clones and keys.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.cleanup_tasks.close();
        let _ = tokio::time::timeout(LAST, self.cleanup_tasks.wait()).await;
        let closing = self.pool.empty().into_iter().map(|mut lane| async move {
            lane.clone.close().await;
            lane.ssh.hang_up().await;
        });
        join_all(closing).await;
    }
}

/// What an error says about the clone, if it says that the clone has lost data.
fn damage(error: &HgError) -> Option<String> {
    match error {
        HgError::Damaged { reason, .. } => Some(reason.clone()),
        HgError::Command { words, .. } if messages::is_corruption(words) => Some(words.clone()),
        _ => None,
    }
}
