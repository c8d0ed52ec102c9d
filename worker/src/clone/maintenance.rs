//! What operators have done with a clone that is ready: it is pulled, or replaced while the old one serves.

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

/// How long the end of the builds on a clone is waited for.
const BUILDS: Duration = Duration::from_secs(3600);

/// Whether the slot still has its clone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CloneFate {
    Kept,
    Lost,
}

/// Why a task failed, and whether the clone went with it.
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

/// Does a task on the clone of a slot. A clone that `is_new` was made since the task was asked for.
pub(super) async fn execute(
    slot: &Slot,
    task: Task,
    is_new: bool,
    home: Home<'_>,
) -> (CloneFate, Result<MaintenanceResult, WorkerError>) {
    let result = match task {
        Task::Pull => pull(slot, home).await,
        Task::Reclone if is_new => show(slot, home).await,
        Task::Reclone => reclone(slot, home).await,
    };
    match result {
        Ok(result) => (CloneFate::Kept, Ok(result)),
        Err(Failed { error, fate }) => (fate, Err(error)),
    }
}

async fn pull(slot: &Slot, home: Home<'_>) -> Result<MaintenanceResult, Failed> {
    let mut ready = take(slot, home).await?;
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
    let mut ready = take(slot, home).await?;
    Ok(result_at(slot, ready.clone.tip().await?.short(), None))
}

async fn reclone(slot: &Slot, home: Home<'_>) -> Result<MaintenanceResult, Failed> {
    let dir = &slot.dir;
    let name = dir.name();
    let temporary = dir.directory(Role::Cloning);
    let made = make_another(slot, home).await;
    if made.is_err() {
        let left = temporary.clone();
        // The next attempt begins with that, too.
        let _ = disk::blocking(move || disk::remove(&left)).await;
    }
    made?;
    // Out of the pool, and not back: if this ends in the middle, nobody may go on with what is known of the old clone.
    let Some(mut ready) = take(slot, home).await?.discard() else {
        return Err(not_ready(name).into());
    };
    ready.clone.close().await;
    let Ready {
        clone,
        slot: number,
        dir: own,
        _lock,
    } = ready;
    // Before the other one is opened, which has the same key and connections.
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
    let opened = home.vcs.open(&home.site(name), &dir.path()).await;
    let mut ready = Ready {
        clone: opened.map_err(lost)?,
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

/// Makes the other clone, beside the one that serves, and opens it once.
async fn make_another(slot: &Slot, home: Home<'_>) -> Result<(), WorkerError> {
    let dir = &slot.dir;
    let (inventory, directory) = (Inventory::new(home.all, home.vcs), dir.path());
    // For a time only: the budget does not count.
    let looking = move || {
        Ok(disk_budget::make(
            &inventory,
            None,
            disk_budget::taken(&directory),
        ))
    };
    let room = disk::blocking(looking)
        .await
        .map_err(WorkerError::io("look for room on the disk"))?;
    room?.map_err(|reason| WorkerError::NoRoom {
        clone: dir.name().to_owned(),
        reason,
    })?;
    // Builds may hang up the connections of the other one. A slot cannot be called so.
    let other = format!("{}@new", dir.name());
    let site = home.site(&other);
    if slot.number == 0 {
        prepare::clone_from_source(slot, &site, home).await?;
    } else {
        copy_the_first(slot, home).await?;
    }
    let mut opened = home.vcs.open(&site, &dir.directory(Role::Cloning)).await?;
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

/// Takes the slot's own clone between two builds.
async fn take(slot: &Slot, home: Home<'_>) -> Result<PoolGuard<Ready>, Failed> {
    let not_ready = |fate| Failed {
        error: not_ready(slot.dir.name()),
        fate,
    };
    tokio::select! {
        ready = home.pool.take_where(BUILDS, |ready| ready.slot == slot.number) => {
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
