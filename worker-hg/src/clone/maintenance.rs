//! What operators have done with a lane that is ready: its clone is pulled, or replaced while the old one serves.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use runtime::Clock;
use tokio::sync::oneshot;
use tracing::info;

use crate::{
    HgError, MaintenanceResult, Task,
    clone::disk_budget,
    clone::layout,
    clone::pool::PoolGuard,
    clone::slot::{Lane, Ready, Site},
    disk,
    hg::clone::HgClone,
    transport::ssh::Ssh,
};

/// How long the end of the builds on a lane is waited for.
const BUILDS: Duration = Duration::from_secs(3600);

/// A task for a lane.
pub(crate) struct MaintenanceJob {
    task: Task,
    asked: Timestamp,
    answer: oneshot::Sender<Result<MaintenanceResult, HgError>>,
}

/// Whether the lane still has its clone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CloneFate {
    Kept,
    Lost,
}

/// Why a task failed, and whether the clone went with it.
struct Failed {
    error: HgError,
    standing: CloneFate,
}

impl From<HgError> for Failed {
    fn from(error: HgError) -> Self {
        Self {
            error,
            standing: CloneFate::Kept,
        }
    }
}

impl MaintenanceJob {
    pub(crate) fn new(
        task: Task,
        clock: &dyn Clock,
    ) -> (Self, oneshot::Receiver<Result<MaintenanceResult, HgError>>) {
        let (answer, answered) = oneshot::channel();
        (
            Self {
                task,
                asked: clock.now(),
                answer,
            },
            answered,
        )
    }

    /// Ends it. Whoever asked may have gone.
    pub(crate) fn end(self, result: Result<MaintenanceResult, HgError>) {
        let _ = self.answer.send(result);
    }
}

impl Lane {
    /// Does what is asked for. `made` is when the clone was made, if it was made by this process.
    pub(crate) async fn execute(
        &self,
        order: MaintenanceJob,
        made: Option<Timestamp>,
        site: Site<'_>,
    ) -> CloneFate {
        let result = match order.task {
            Task::Pull => self.pull(site).await,
            // A clone that has just been made is what was asked for.
            Task::Reclone if made.is_some_and(|made| made >= order.asked) => self.show(site).await,
            Task::Reclone => self.reclone(site).await,
        };
        let (result, standing) = match result {
            Ok(result_at) => (Ok(result_at), CloneFate::Kept),
            Err(Failed { error, standing }) => (Err(error), standing),
        };
        order.end(result);
        standing
    }

    async fn pull(&self, site: Site<'_>) -> Result<MaintenanceResult, Failed> {
        let mut ready = self.take(site).await?;
        let result = async {
            ready.clone.tidy().await?;
            let before = ready.clone.source_tip();
            ready.clone.pull().await?;
            let new = u64::try_from(ready.clone.source_tip() - before).unwrap_or_default();
            Ok(self.result_at(ready.clone.tip().await?.short(), Some(new)))
        };
        match result.await {
            Err(error @ HgError::Damaged { .. }) => {
                ready.discard();
                Err(Failed {
                    error,
                    standing: CloneFate::Lost,
                })
            }
            result => Ok(result?),
        }
    }

    async fn show(&self, site: Site<'_>) -> Result<MaintenanceResult, Failed> {
        let mut ready = self.take(site).await?;
        Ok(self.result_at(ready.clone.tip().await?.short(), None))
    }

    async fn reclone(&self, site: Site<'_>) -> Result<MaintenanceResult, Failed> {
        let clones_dir = &site.all.clones_dir;
        let [temporary, spare] =
            ["cloning", "removing"].map(|what| layout::beside(clones_dir, &self.name, what));
        let made = self.make_another(site).await;
        if made.is_err() {
            let left = temporary.clone();
            // The next attempt begins with that, too.
            let _ = disk::blocking(move || disk::remove(&left)).await;
        }
        made?;
        // Out of the pool, and not back: if this ends in the middle, nobody may go on with what is known of the old clone.
        let Some(mut ready) = self.take(site).await?.discard() else {
            return Err(HgError::NotReady {
                repository: self.name.clone(),
            }
            .into());
        };
        ready.clone.close().await;
        let directory = clones_dir.join(&self.name);
        let (one, other) = (directory.clone(), temporary.clone());
        let lost = |error| Failed {
            error,
            standing: CloneFate::Lost,
        };
        disk::blocking(move || disk::exchange(&one, &other, &spare))
            .await
            .map_err(|error| {
                lost(HgError::io(format!(
                    "put the new clone {} in place",
                    self.name
                ))(error))
            })?;
        let source = site.source(&ready.ssh);
        let clone = HgClone::open(&source, &directory).await.map_err(lost)?;
        ready.clone = clone;
        let result_at = ready
            .clone
            .tip()
            .await
            .map(|tip| self.result_at(tip.short(), None))
            .map_err(lost)?;
        site.pool.add(ready);
        info!(
            step = "recloned",
            repository = self.name,
            "{} was cloned again",
            self.name
        );
        disk::blocking(move || disk::remove(&temporary))
            .await
            .map_err(HgError::io(format!("remove the old clone {}", self.name)))?;
        Ok(result_at)
    }

    /// Makes the other clone, beside the one that serves, and sees that it can be used.
    async fn make_another(&self, site: Site<'_>) -> Result<(), HgError> {
        let clones_dir = &site.all.clones_dir;
        let (settings, directory) = (site.all.clone(), clones_dir.join(&self.name));
        let looking = move || {
            Ok(disk_budget::make_for_a_time(
                &settings,
                disk_budget::taken(&directory),
            ))
        };
        let room = disk::blocking(looking)
            .await
            .map_err(HgError::io("look for room on the disk"))?;
        room?.map_err(|reason| HgError::NoRoom {
            clone: self.name.clone(),
            reason,
        })?;
        let temporary = layout::beside(clones_dir, &self.name, "cloning");
        // Builds may hang up the connections of the other one. A lane cannot be called so.
        let ssh = Ssh::new(site.all, site.repository, &format!("{}@new", self.name))?;
        let source = site.source(&ssh);
        let made = if self.number == 0 {
            self.clone_from_source(&source, &temporary, site.clock)
                .await
        } else {
            self.copy_the_first(site, &temporary).await
        };
        let opened = match made {
            Ok(()) => HgClone::open(&source, &temporary).await,
            Err(error) => Err(error),
        };
        ssh.hang_up().await;
        opened?.close().await;
        Ok(())
    }

    async fn copy_the_first(&self, site: Site<'_>, temporary: &Path) -> Result<(), HgError> {
        let not_ready = || HgError::NotReady {
            repository: site.repository.name.clone(),
        };
        let first = site
            .pool
            .take_where(BUILDS, |ready| ready.lane == 0)
            .await
            .ok_or_else(not_ready)?;
        self.copy(first, temporary).await
    }

    /// Takes the lane's own clone between two builds.
    async fn take(&self, site: Site<'_>) -> Result<PoolGuard<Ready>, Failed> {
        let not_ready = |standing| Failed {
            error: HgError::NotReady {
                repository: self.name.clone(),
            },
            standing,
        };
        tokio::select! {
            ready = site.pool.take_where(BUILDS, |ready| ready.lane == self.number) => {
                ready.ok_or_else(|| not_ready(CloneFate::Kept))
            }
            () = self.lost.notified() => Err(not_ready(CloneFate::Lost)),
        }
    }

    fn result_at(&self, tip: &str, new_changesets: Option<u64>) -> MaintenanceResult {
        MaintenanceResult {
            clone: self.name.clone(),
            tip: tip.to_owned(),
            new_changesets,
        }
    }
}
