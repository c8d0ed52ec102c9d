//! One lane of a repository: a clone on which one build is made at a time, and how it comes to be.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bus::{Backoff, Clock, error_chain};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::{
    HgError, RepositorySettings, Settings,
    clone::{HgClone, Source},
    disk,
    pool::Pool,
    ssh::Ssh,
};

/// The waits between attempts to prepare a clone.
const PREPARING: Backoff = Backoff { first: Duration::from_secs(2), factor: 2, cap: Duration::from_secs(300) };

/// How often the progress of a clone is told.
const PROGRESS: Duration = Duration::from_secs(15);

/// How long the first lane may be busy before another lane gives up copying it, for now.
const SIBLING: Duration = Duration::from_secs(600);

/// A clone that can be built on, and what has to last as long as it.
pub(crate) struct Ready {
    pub(crate) clone: HgClone,
    pub(crate) ssh: Ssh,
    pub(crate) lane: usize,
    /// Keeps other processes off the clone; the system lets go of it with the file, so a crash frees it.
    _lock: File,
}

/// The place of a clone.
pub(crate) struct Lane {
    number: usize,
    /// The name of its directory.
    pub(crate) name: String,
    /// Told when its clone turned out to be broken.
    pub(crate) lost: Notify,
}

impl Lane {
    /// The lane with this number; the first has 0.
    pub(crate) fn new(repository: &RepositorySettings, number: usize) -> Self {
        Self { number, name: lane_name(&repository.name, number), lost: Notify::new() }
    }

    /// Prepares the clone, again and again until it works, and anew whenever it was found broken.
    pub(crate) async fn keep(
        &self,
        all: &Settings,
        repository: &RepositorySettings,
        pool: &Arc<Pool<Ready>>,
        clock: &dyn Clock,
    ) {
        loop {
            let started = clock.now();
            for attempt in 1.. {
                match self.prepare(all, repository, pool, clock).await {
                    Ok(ready) => {
                        pool.add(ready);
                        let seconds = clock.now().duration_since(started).as_secs_f64();
                        info!(step = "ready", repository = self.name, seconds, "the clone of {} is ready", self.name);
                        break;
                    }
                    Err(error) => {
                        let pause = PREPARING.after(attempt, clock);
                        let seconds = pause.as_secs();
                        let error = error_chain(&error);
                        warn!(repository = self.name, error, "cannot prepare the clone, next try in {seconds} s");
                        clock.sleep(pause).await;
                    }
                }
            }
            self.lost.notified().await;
        }
    }

    async fn prepare(
        &self,
        all: &Settings,
        repository: &RepositorySettings,
        pool: &Arc<Pool<Ready>>,
        clock: &dyn Clock,
    ) -> Result<Ready, HgError> {
        let lock = self.lock(&all.clones_dir)?;
        let ssh = Ssh::new(all, repository, &self.name)?;
        let source = Source {
            name: repository.name.clone(),
            url: repository.url.clone(),
            program: all.hg.clone(),
            ssh: ssh.command(),
            limits: all.limits.clone(),
        };
        let directory = all.clones_dir.join(&self.name);
        if directory.exists() {
            match HgClone::open(&source, &directory).await {
                Ok(clone) => return Ok(Ready { clone, ssh, lane: self.number, _lock: lock }),
                Err(error) if error.is_damage() => {
                    let aside = all.clones_dir.join(format!(".{}.aside", self.name));
                    let error = error_chain(&error);
                    let path = aside.display();
                    warn!(repository = self.name, error, %path, "the clone is damaged: setting it aside, making another");
                    set_aside(&directory, aside.clone())
                        .await
                        .map_err(HgError::io(format!("set the clone {} aside", self.name)))?;
                }
                Err(error) => return Err(error),
            }
        }
        let temporary = all.clones_dir.join(format!(".{}.cloning", self.name));
        if self.number == 0 {
            self.clone_from_source(&source, &directory, &temporary, clock).await?;
        } else {
            self.copy_a_sibling(pool, &directory, &temporary).await?;
        }
        let clone = HgClone::open(&source, &directory).await?;
        Ok(Ready { clone, ssh, lane: self.number, _lock: lock })
    }

    async fn clone_from_source(
        &self,
        source: &Source,
        directory: &Path,
        temporary: &Path,
        clock: &dyn Clock,
    ) -> Result<(), HgError> {
        info!(repository = self.name, "cloning {}, which can take long the first time", source.name);
        let making = HgClone::make(source, directory, temporary);
        tokio::pin!(making);
        loop {
            tokio::select! {
                made = &mut making => return made,
                () = clock.sleep(PROGRESS) => {
                    let there = temporary.to_owned();
                    let megabytes = disk::blocking(move || Ok(disk::size(&there))).await.unwrap_or_default() >> 20;
                    info!(repository = self.name, megabytes, "cloning {}: {megabytes} MB so far", source.name);
                }
            }
        }
    }

    /// The other lanes cost the source nothing: they begin as a copy of one that is ready.
    async fn copy_a_sibling(&self, pool: &Arc<Pool<Ready>>, directory: &Path, temporary: &Path) -> Result<(), HgError> {
        let not_ready = || HgError::NotReady { repository: self.name.clone() };
        let mut sibling = pool.take(SIBLING).await.ok_or_else(not_ready)?;
        // What is copied must be the source's alone, and nothing may change it meanwhile.
        sibling.clone.tidy().await?;
        let (from, to, target) = (sibling.clone.directory().to_owned(), temporary.to_owned(), directory.to_owned());
        let copying = move || {
            disk::remove(&to)?;
            disk::copy(&from, &to)?;
            std::fs::rename(to, target)
        };
        disk::blocking(copying).await.map_err(HgError::io(format!("copy a clone to {}", directory.display())))
    }

    fn lock(&self, clones_dir: &Path) -> Result<File, HgError> {
        let path = clones_dir.join(format!(".{}.lock", self.name));
        let file = std::fs::create_dir_all(clones_dir)
            .and_then(|()| File::create(&path))
            .map_err(HgError::io(format!("create {}", path.display())))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => Err(HgError::InUse { repository: self.name.clone() }),
            Err(std::fs::TryLockError::Error(error)) => Err(HgError::io(format!("lock {}", path.display()))(error)),
        }
    }
}

/// The directory of a repository's lane. A repository cannot be called so: see `Settings::check`.
pub(crate) fn lane_name(repository: &str, number: usize) -> String {
    if number == 0 { repository.to_owned() } else { format!("{repository}@{}", number + 1) }
}

async fn set_aside(directory: &Path, aside: PathBuf) -> std::io::Result<()> {
    let directory = directory.to_owned();
    let moving = move || {
        disk::remove(&aside)?;
        std::fs::rename(directory, aside)
    };
    disk::blocking(moving).await
}
