//! The preparation of a clone: it is opened, cloned from the source, or copied from another slot of its repository.

use std::{path::PathBuf, time::Duration};

use runtime::error_chain;
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::{
    dir::{Contents, Role},
    disk_budget,
    inventory::Inventory,
    pool::PoolGuard,
    slot::{Home, Ready, Slot},
};
use crate::{Size, WorkerError, disk, vcs::Site};

/// The interval at which the progress of a clone is logged.
const PROGRESS: Duration = Duration::from_secs(15);

/// The longest wait for a clone that can be copied, before this attempt fails.
const SIBLING: Duration = Duration::from_secs(600);

/// The interval of the checks whether killed processes are gone.
const ORPHANS: Duration = Duration::from_millis(100);

/// Locked by the slot that copies, among those of all repositories.
static COPYING: Mutex<()> = Mutex::const_new(());

/// Opens the clone, or makes it; returns whether it was made.
pub(super) async fn prepare(slot: &Slot, home: Home<'_>) -> Result<(Ready, bool), WorkerError> {
    let dir = &slot.dir;
    let name = dir.name();
    let lock = dir.lock()?;
    let site = home.site(name);
    let clearing = || {
        WorkerError::io(format!(
            "remove what is left of a clone or a build beside {}",
            dir.path().display()
        ))
    };
    // Wait until they are gone: until then they may write among the files of the next clone.
    while home
        .vcs()
        .kill_orphans(&dir.directory(Role::Cloning))
        .map_err(clearing())?
    {
        home.clock.sleep(ORPHANS).await;
    }
    let clearable = dir.clone();
    disk::blocking(move || clearable.clear())
        .await
        .map_err(clearing())?;
    let destination = home.backend.open_destination(&site)?;
    let ready = |clone| Ready {
        clone,
        destination,
        slot: slot.number,
        dir: dir.clone(),
        _lock: lock,
    };
    if dir.contents(Role::Clone) != Contents::Missing {
        match home.vcs().open(&site, &dir.path()).await {
            Ok(clone) => return Ok((ready(clone), false)),
            Err(error) if error.is_damage() => quarantine(slot, &error).await?,
            Err(error) => return Err(error),
        }
    }
    if slot.number == 0 {
        // No build runs without this clone, so it is made even without room. The size of the quarantined one is the
        // estimate.
        let like = dir.directory(Role::Quarantined);
        if let Err(reason) = make_room(home, like).await? {
            warn!(
                repository = name,
                "cloning {} although there is no room for it: {reason}", home.repository.name
            );
        }
        clone_from_source(slot, &site, home).await?;
    } else {
        copy_a_sibling(slot, home).await?;
    }
    let installed = dir.clone();
    disk::blocking(move || installed.install())
        .await
        .map_err(WorkerError::io(format!("put the clone {name} in place")))?;
    let clone = home.vcs().open(&site, &dir.path()).await?;
    Ok((ready(clone), true))
}

async fn quarantine(slot: &Slot, error: &WorkerError) -> Result<(), WorkerError> {
    let dir = slot.dir.clone();
    let name = dir.name();
    let path = dir.directory(Role::Quarantined);
    let path = path.display();
    let error = error_chain(error);
    warn!(repository = name, error, %path, "the clone is damaged; quarantining it and making another");
    let doing = format!("put the clone {name} in quarantine");
    disk::blocking(move || dir.quarantine())
        .await
        .map_err(WorkerError::io(doing))
}

/// Makes room for another clone that is as large as `like`.
async fn make_room(home: Home<'_>, like: PathBuf) -> Result<Result<(), String>, WorkerError> {
    let (inventory, budget) = (Inventory::new(home.all), home.all.disk_budget);
    let making = move || {
        Ok(disk_budget::make(
            &inventory,
            budget,
            disk_budget::taken(&like),
        ))
    };
    disk::blocking(making)
        .await
        .map_err(WorkerError::io("make room on the disk"))?
}

/// Clones the source into `.cloning`.
pub(super) async fn clone_from_source(
    slot: &Slot,
    site: &Site<'_>,
    home: Home<'_>,
) -> Result<(), WorkerError> {
    let name = slot.dir.name();
    let source = &home.repository.name;
    info!(
        repository = name,
        "cloning {source}, which can take long the first time"
    );
    let temporary = slot.dir.directory(Role::Cloning);
    let mut making = home.vcs().clone_into(site, &temporary);
    loop {
        tokio::select! {
            made = &mut making => return made,
            () = home.clock.sleep(PROGRESS) => {
                let there = temporary.clone();
                let bytes = disk::blocking(move || Ok(disk_budget::taken(&there))).await.unwrap_or_default();
                info!(repository = name, bytes, "cloning {source}: {} so far", Size(bytes));
            }
        }
    }
}

/// Copies a ready clone of the repository, which costs the source nothing.
async fn copy_a_sibling(slot: &Slot, home: Home<'_>) -> Result<(), WorkerError> {
    let pool = home.pool;
    let name = slot.dir.name();
    let not_ready = || WorkerError::NotReady {
        repository: name.to_owned(),
    };
    if !pool.has_any(SIBLING).await {
        return Err(not_ready());
    }
    // One copy at a time: each check for room has to see the copies before it, and a disk is no faster for two.
    let (_copying, sibling) = pool
        .take_in_turn(&COPYING, SIBLING)
        .await
        .ok_or_else(not_ready)?;
    let room = make_room(home, sibling.dir.path()).await?;
    room.map_err(|reason| WorkerError::NoRoom {
        clone: name.to_owned(),
        reason,
    })?;
    copy(slot, sibling).await
}

/// Copies `sibling` into `.cloning`. No build has the sibling meanwhile.
pub(super) async fn copy(slot: &Slot, mut sibling: PoolGuard<Ready>) -> Result<(), WorkerError> {
    // The copy must hold changesets of the source alone.
    sibling.clone.discard().await?;
    let temporary = slot.dir.directory(Role::Cloning);
    let doing = format!("copy a clone to {}", temporary.display());
    let (from, to) = (sibling.dir.path(), temporary.clone());
    let copying = move || {
        disk::remove(&to)?;
        disk::copy(&from, &to)
    };
    let copied = disk::blocking(copying)
        .await
        .map_err(WorkerError::io(doing));
    if copied.is_err() {
        // The rest may be what fills the disk. If it cannot be removed, the next attempt removes it.
        let _ = disk::blocking(move || disk::remove(&temporary)).await;
    }
    copied
}
