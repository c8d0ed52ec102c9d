//! The maintenance of a ready clone for an operator: a pull, or a replacement while the old clone serves.

use std::time::Duration;

use tracing::info;

use super::{
    dir::Role,
    disk_budget,
    inventory::Inventory,
    pool::PoolGuard,
    prepare,
    requests::{MaintenanceResult, Task},
    slot::{Home, Ready, Slot},
};
use crate::{WorkerError, disk};

/// The longest wait for the builds on a clone to end.
const BUILDS: Duration = Duration::from_secs(3600);

/// Whether the slot still has its clone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CloneFate {
    Kept,
    Lost,
}

/// The error of a task, and whether the clone was lost with it.
struct Failed {
    error: WorkerError,
    fate: CloneFate,
}

impl From<WorkerError> for Failed {
    fn from(error: WorkerError) -> Self {
        Self {
            error,
            fate: CloneFate::Kept,
        }
    }
}

/// Does a task on the clone of a slot. A clone that `is_new` was made after the request.
pub(super) async fn execute(
    slot: &Slot,
    task: Task,
    is_new: bool,
    home: Home<'_>,
) -> (CloneFate, Result<MaintenanceResult, WorkerError>) {
    let result = match task {
        Task::Pull => pull(slot, home).await,
        Task::Reclone if is_new => show(slot, home).await,
        Task::Reclone => reclone(slot, home, BUILDS).await,
    };
    match result {
        Ok(result) => (CloneFate::Kept, Ok(result)),
        Err(Failed { error, fate }) => (fate, Err(error)),
    }
}

async fn pull(slot: &Slot, home: Home<'_>) -> Result<MaintenanceResult, Failed> {
    let mut ready = take(slot, home, BUILDS).await?;
    let result = async {
        ready.clone.discard().await?;
        let new = ready.clone.update().await?;
        Ok(result_at(slot, ready.clone.tip().await?.short(), Some(new)))
    };
    match result.await {
        Err(error @ WorkerError::Damaged { .. }) => {
            ready.discard();
            Err(Failed {
                error,
                fate: CloneFate::Lost,
            })
        }
        result => Ok(result?),
    }
}

async fn show(slot: &Slot, home: Home<'_>) -> Result<MaintenanceResult, Failed> {
    let mut ready = take(slot, home, BUILDS).await?;
    Ok(result_at(slot, ready.clone.tip().await?.short(), None))
}

/// Replaces the clone of a slot. Waits up to `timeout` for the builds on the old one to end.
async fn reclone(
    slot: &Slot,
    home: Home<'_>,
    timeout: Duration,
) -> Result<MaintenanceResult, Failed> {
    let dir = &slot.dir;
    let name = dir.name();
    let temporary = dir.directory(Role::Cloning);
    let making = async {
        make_another(slot, home).await?;
        take(slot, home, timeout).await
    };
    let taken = making.await;
    // The lock of the slot is lost with its clone. Then another process may be cloning into this directory already, and
    // the next one with the lock removes what is left there.
    if matches!(&taken, Err(failed) if failed.fate == CloneFate::Kept) {
        let left = temporary.clone();
        // If this fails, the next attempt removes it.
        let _ = disk::blocking(move || disk::remove(&left)).await;
    }
    // The old clone leaves the pool permanently: if this future is dropped in the middle, no build may go on with the
    // cached state of the old clone.
    let Some(mut ready) = taken?.discard() else {
        return Err(not_ready(name).into());
    };
    ready.clone.close().await;
    let Ready {
        clone,
        destination,
        slot: number,
        dir: own,
        _lock,
    } = ready;
    // Close it before the new clone is opened, which has the same key and connections.
    drop(clone);
    let lost = |error| Failed {
        error,
        fate: CloneFate::Lost,
    };
    let exchanged = dir.clone();
    disk::blocking(move || exchanged.exchange())
        .await
        .map_err(WorkerError::io(format!(
            "put the new clone {name} in place"
        )))
        .map_err(lost)?;
    let opened = home.vcs().open(&home.site(name), &dir.path()).await;
    let mut ready = Ready {
        clone: opened.map_err(lost)?,
        destination,
        slot: number,
        dir: own,
        _lock,
    };
    let tip = ready.clone.tip().await.map_err(lost)?;
    let result = result_at(slot, tip.short(), None);
    home.pool.add(ready);
    info!(
        step = "recloned",
        repository = name,
        "{name} was cloned again"
    );
    disk::blocking(move || disk::remove(&temporary))
        .await
        .map_err(WorkerError::io(format!("remove the old clone {name}")))?;
    Ok(result)
}

/// Makes the new clone, beside the one that serves, and opens it once.
async fn make_another(slot: &Slot, home: Home<'_>) -> Result<(), WorkerError> {
    let dir = &slot.dir;
    let (inventory, directory) = (Inventory::new(home.all), dir.path());
    // There are two clones for a time only: the budget does not count.
    let making = move || {
        Ok(disk_budget::make(
            &inventory,
            None,
            disk_budget::taken(&directory),
        ))
    };
    let room = disk::blocking(making)
        .await
        .map_err(WorkerError::io("make room on the disk"))?;
    room?.map_err(|reason| WorkerError::NoRoom {
        clone: dir.name().to_owned(),
        reason,
    })?;
    // The new clone gets connections of its own, since builds may close those of the old one. No slot has such a name.
    let other = format!("{}@new", dir.name());
    let site = home.site(&other);
    if slot.number == 0 {
        prepare::clone_from_source(slot, &site, home).await?;
    } else {
        copy_the_first(slot, home).await?;
    }
    let mut opened = home
        .vcs()
        .open(&site, &dir.directory(Role::Cloning))
        .await?;
    opened.close().await;
    Ok(())
}

async fn copy_the_first(slot: &Slot, home: Home<'_>) -> Result<(), WorkerError> {
    let first = home
        .pool
        .take_where(BUILDS, |ready| ready.slot == 0)
        .await
        .ok_or_else(|| not_ready(&home.repository.name))?;
    prepare::copy(slot, first).await
}

/// Takes the slot's own clone between two builds; waits up to `timeout` for that.
async fn take(slot: &Slot, home: Home<'_>, timeout: Duration) -> Result<PoolGuard<Ready>, Failed> {
    let not_ready = |fate| Failed {
        error: not_ready(slot.dir.name()),
        fate,
    };
    tokio::select! {
        ready = home.pool.take_where(timeout, |ready| ready.slot == slot.number) => {
            ready.ok_or_else(|| not_ready(CloneFate::Kept))
        }
        () = slot.lost.notified() => Err(not_ready(CloneFate::Lost)),
    }
}

fn not_ready(name: &str) -> WorkerError {
    WorkerError::NotReady {
        repository: name.to_owned(),
    }
}

fn result_at(slot: &Slot, tip: &str, new_changesets: Option<u64>) -> MaintenanceResult {
    MaintenanceResult {
        clone: slot.dir.name().to_owned(),
        tip: tip.to_owned(),
        new_changesets,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::clone::fake_vcs::Fixture;

    #[tokio::test]
    async fn new_clone_is_removed_when_the_old_one_stays_in_use() {
        let fixture = Fixture::new();
        let home = fixture.home();
        let slot = Slot::new(home.all, home.repository, 0);
        let (ready, _) = prepare::prepare(&slot, home).await.expect("prepared");
        home.pool.add(ready);
        let _building = home.pool.take(Duration::ZERO).await.expect("it is free");
        let failed = reclone(&slot, home, Duration::ZERO).await.err();
        let failed = failed.expect("the build does not end");
        assert!(matches!(failed.error, WorkerError::NotReady { .. }));
        assert_eq!(failed.fate, CloneFate::Kept);
        assert_eq!(fixture.vcs.made.load(Ordering::SeqCst), 2);
        assert!(!slot.dir.directory(Role::Cloning).exists());
    }
}
