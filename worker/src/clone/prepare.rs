//! How a clone comes to be: it is opened, made from the source, or copied from another slot of its repository.

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

/// How often the progress of a clone is logged.
const PROGRESS: Duration = Duration::from_secs(15);

/// How long the first clone may be busy before another slot gives up copying it, for now.
const SIBLING: Duration = Duration::from_secs(600);

/// The time between two checks whether processes that were killed are gone.
const ORPHANS: Duration = Duration::from_millis(100);

/// Held by the slot that copies.
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
    // Until they are gone: to the last they write among what the next one writes.
    while home
        .vcs
        .end_orphans(&dir.directory(Role::Cloning))
        .map_err(clearing())?
    {
        home.clock.sleep(ORPHANS).await;
    }
    let clearable = dir.clone();
    disk::blocking(move || clearable.clear())
        .await
        .map_err(clearing())?;
    let ready = |clone| Ready {
        clone,
        slot: slot.number,
        dir: dir.clone(),
        _lock: lock,
    };
    if dir.contents(Role::Clone) != Contents::Missing {
        match home.vcs.open(&site, &dir.path()).await {
            Ok(clone) => return Ok((ready(clone), false)),
            Err(error) if error.is_damage() => quarantine(slot, &error).await?,
            Err(error) => return Err(error),
        }
    }
    if slot.number == 0 {
        // Nothing can be built without it. The damaged one tells how large it will be.
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
    let clone = home.vcs.open(&site, &dir.path()).await?;
    Ok((ready(clone), true))
}

async fn quarantine(slot: &Slot, error: &WorkerError) -> Result<(), WorkerError> {
    let dir = slot.dir.clone();
    let name = dir.name();
    let path = dir.directory(Role::Quarantined);
    let path = path.display();
    let error = error_chain(error);
    warn!(repository = name, error, %path, "the clone is damaged: putting it in quarantine, making another");
    let doing = format!("put the clone {name} in quarantine");
    disk::blocking(move || dir.quarantine())
        .await
        .map_err(WorkerError::io(doing))
}

/// Looks for room for another clone that is as large as `like`.
async fn make_room(home: Home<'_>, like: PathBuf) -> Result<Result<(), String>, WorkerError> {
    let (inventory, budget) = (Inventory::new(home.all, home.vcs), home.all.disk_budget);
    let looking = move || {
        Ok(disk_budget::make(
            &inventory,
            budget,
            disk_budget::taken(&like),
        ))
    };
    disk::blocking(looking)
        .await
        .map_err(WorkerError::io("look for room on the disk"))?
}

/// Clones the source into the directory of clones in the making.
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
    let mut making = home.vcs.clone_into(site, &temporary);
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

/// The other slots cost the source nothing: they begin as a copy of a clone that is ready.
async fn copy_a_sibling(slot: &Slot, home: Home<'_>) -> Result<(), WorkerError> {
    let pool = home.pool;
    let name = slot.dir.name();
    let not_ready = || WorkerError::NotReady {
        repository: name.to_owned(),
    };
    if !pool.has_any(SIBLING).await {
        return Err(not_ready());
    }
    // One after another: each has to see what the one before it took, and a disk is no faster for two.
    let (_copying, sibling) = pool
        .take_in_turn(&COPYING, SIBLING)
        .await
        .ok_or_else(not_ready)?;
    let room = make_room(home, sibling.clone.directory().to_owned()).await?;
    room.map_err(|reason| WorkerError::NoRoom {
        clone: name.to_owned(),
        reason,
    })?;
    copy(slot, sibling).await
}

/// Copies a clone that nobody else has meanwhile into the directory of clones in the making.
pub(super) async fn copy(slot: &Slot, mut sibling: PoolGuard<Ready>) -> Result<(), WorkerError> {
    // What is copied must be the source's alone.
    sibling.clone.discard().await?;
    let temporary = slot.dir.directory(Role::Cloning);
    let doing = format!("copy a clone to {}", temporary.display());
    let (from, to) = (sibling.clone.directory().to_owned(), temporary.clone());
    let copying = move || {
        disk::remove(&to)?;
        disk::copy(&from, &to)
    };
    let copied = disk::blocking(copying)
        .await
        .map_err(WorkerError::io(doing));
    if copied.is_err() {
        // What is there may be what fills the disk. If it cannot be removed, the next attempt begins with that.
        let _ = disk::blocking(move || disk::remove(&temporary)).await;
    }
    copied
}
