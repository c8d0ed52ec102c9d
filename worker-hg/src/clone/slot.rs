//! One lane of a repository: a clone on which one build is made at a time, and how it comes to be.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bus::Backoff;
use jiff::Timestamp;
use runtime::{Clock, error_chain};
use tokio::sync::{Mutex, Notify, mpsc};
use tracing::{info, warn};

use crate::{
    HgError, RepositorySettings, Settings, Size,
    clone::disk_budget::{self, FullDisk},
    clone::layout::{self, lane_name},
    clone::maintenance::{CloneFate, MaintenanceJob},
    clone::pool::{Pool, PoolGuard},
    disk,
    hg::clone::{HgClone, Source},
    hg::locks,
    transport::ssh::Ssh,
};

/// The waits between attempts to prepare a clone.
const PREPARING: Backoff = Backoff {
    first: Duration::from_secs(2),
    factor: 2,
    cap: Duration::from_secs(300),
};

/// The longest wait when the disk is full.
const ROOM: Duration = Duration::from_secs(60);

/// How often the progress of a clone is logged.
const PROGRESS: Duration = Duration::from_secs(15);

/// How long the first lane may be busy before another lane gives up copying it, for now.
const SIBLING: Duration = Duration::from_secs(600);

/// How often it is looked whether processes that were killed are gone.
const ORPHANS: Duration = Duration::from_millis(100);

/// Held by the lane that is being copied.
static COPYING: Mutex<()> = Mutex::const_new(());

/// A clone that can be built on, and what has to last as long as it.
pub(crate) struct Ready {
    pub(crate) clone: HgClone,
    pub(crate) ssh: Ssh,
    pub(crate) lane: usize,
    /// Keeps other processes off the clone; the system lets go of it with the file, so a crash frees it.
    _lock: File,
}

/// Where and how clones of a repository are made.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) all: &'a Settings,
    pub(crate) repository: &'a RepositorySettings,
    pub(crate) pool: &'a Arc<Pool<Ready>>,
    pub(crate) outage: &'a FullDisk,
    pub(crate) clock: &'a dyn Clock,
}

impl Site<'_> {
    /// The source, by way of `ssh`.
    pub(crate) fn source(&self, ssh: &Ssh) -> Source {
        Source {
            name: self.repository.name.clone(),
            program: self.all.hg.clone(),
            hgrc: ssh.hgrc(),
            ssh: ssh.command(),
            passing_ssh: ssh.passing(),
            limits: self.all.limits.clone(),
        }
    }
}

/// The place of a clone.
pub(crate) struct Lane {
    pub(crate) number: usize,
    /// The name of its directory.
    pub(crate) name: String,
    /// Told when its clone turned out to be broken.
    pub(crate) lost: Notify,
    /// Where operators' tasks come in.
    pub(crate) orders: mpsc::Sender<MaintenanceJob>,
    incoming: Mutex<mpsc::Receiver<MaintenanceJob>>,
}

impl Lane {
    /// The lane with this number; the first has 0.
    pub(crate) fn new(repository: &RepositorySettings, number: usize) -> Self {
        let (orders, incoming) = mpsc::channel(1);
        let (name, incoming) = (lane_name(&repository.name, number), Mutex::new(incoming));
        Self {
            number,
            name,
            lost: Notify::new(),
            orders,
            incoming,
        }
    }

    /// Prepares the clone, again and again until it works, and once more whenever it was found broken. Meanwhile does what
    /// operators ask for.
    pub(crate) async fn keep(&self, site: Site<'_>) {
        let mut incoming = self.incoming.lock().await;
        let mut order = None;
        loop {
            let made = self.make_ready(site, &mut incoming, &mut order).await;
            loop {
                let next = match order.take() {
                    Some(order) => order,
                    None => tokio::select! {
                        () = self.lost.notified() => break,
                        Some(order) = incoming.recv() => order,
                    },
                };
                if self.execute(next, made, site).await == CloneFate::Lost {
                    break;
                }
            }
        }
    }

    /// Prepares the clone until it works; says when, if it was made for that. An order that comes meanwhile is waiting
    /// for an end: it has it with the next failure, and until then is kept in `order`.
    async fn make_ready(
        &self,
        site: Site<'_>,
        incoming: &mut mpsc::Receiver<MaintenanceJob>,
        order: &mut Option<MaintenanceJob>,
    ) -> Option<Timestamp> {
        let started = site.clock.now();
        let mut short_of_room = false;
        for attempt in 1.. {
            let error = match self.prepare(site).await {
                Ok((ready, fresh)) => {
                    site.pool.add(ready);
                    site.outage.ends(site.all, site.clock);
                    let now = site.clock.now();
                    let seconds = now.duration_since(started).as_secs_f64();
                    info!(
                        step = "ready",
                        repository = self.name,
                        seconds,
                        "the clone of {} is ready",
                        self.name
                    );
                    return fresh.then_some(now);
                }
                Err(error) => error,
            };
            let mut pause = PREPARING.after(attempt, site.clock);
            let text = error_chain(&error);
            if let HgError::DiskFull { .. } = error {
                pause = pause.min(ROOM);
                site.outage.begins(&error, site.all, site.clock);
            } else if let HgError::NoRoom { .. } = error {
                pause = PREPARING.cap;
                if !short_of_room {
                    warn!(repository = self.name, "{text}");
                }
                short_of_room = true;
            } else {
                let seconds = pause.as_secs();
                warn!(
                    repository = self.name,
                    error = text,
                    "cannot prepare the clone, next try in {seconds} s"
                );
            }
            if let Some(order) = order.take().or_else(|| incoming.try_recv().ok()) {
                order.end(Err(error));
            }
            tokio::select! {
                () = site.clock.sleep(pause) => {}
                // Whoever asks now wants to know how it is now.
                asked = incoming.recv() => *order = asked,
            }
        }
        None
    }

    /// Opens the clone, or makes it; says whether it was made.
    async fn prepare(&self, site: Site<'_>) -> Result<(Ready, bool), HgError> {
        let Site {
            all,
            repository,
            pool,
            clock,
            ..
        } = site;
        let lock = layout::lock(&all.clones_dir, &self.name)?;
        let ssh = Ssh::new(all, repository, &self.name)?;
        let source = site.source(&ssh);
        let directory = all.clones_dir.join(&self.name);
        let [temporary, removing] =
            ["cloning", "removing"].map(|what| layout::beside(&all.clones_dir, &self.name, what));
        let left = [temporary.clone(), removing];
        let clearing = || {
            HgError::io(format!(
                "remove what is left of a clone beside {}",
                directory.display()
            ))
        };
        // Until they are gone: to the last they write among what the next one writes.
        while locks::end_orphans(&temporary).map_err(clearing())? {
            clock.sleep(ORPHANS).await;
        }
        disk::blocking(move || left.iter().try_for_each(|left| disk::remove(left)))
            .await
            .map_err(clearing())?;
        if directory.exists() {
            match HgClone::open(&source, &directory).await {
                Ok(clone) => {
                    return Ok((
                        Ready {
                            clone,
                            ssh,
                            lane: self.number,
                            _lock: lock,
                        },
                        false,
                    ));
                }
                Err(error) if error.is_damage() => {
                    let aside = layout::beside(&all.clones_dir, &self.name, "aside");
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
        if self.number == 0 {
            // Nothing can be built without it. The damaged one tells how large it will be.
            let like = layout::beside(&all.clones_dir, &self.name, "aside");
            if let Err(reason) = self.make_room(all, like).await? {
                warn!(
                    repository = self.name,
                    "cloning {} although there is no room for it: {reason}", source.name
                );
            }
            self.clone_from_source(&source, &temporary, clock).await?;
        } else {
            self.copy_a_sibling(all, pool, &temporary).await?;
        }
        let (from, to) = (temporary, directory.clone());
        disk::blocking(move || std::fs::rename(from, to))
            .await
            .map_err(HgError::io(format!("put the clone {} in place", self.name)))?;
        let clone = HgClone::open(&source, &directory).await?;
        Ok((
            Ready {
                clone,
                ssh,
                lane: self.number,
                _lock: lock,
            },
            true,
        ))
    }

    /// Looks for room for another clone that is as large as `like`.
    async fn make_room(
        &self,
        all: &Settings,
        like: PathBuf,
    ) -> Result<Result<(), String>, HgError> {
        let settings = all.clone();
        let looking = move || Ok(disk_budget::make(&settings, disk_budget::taken(&like)));
        disk::blocking(looking)
            .await
            .map_err(HgError::io("look for room on the disk"))?
    }

    pub(crate) async fn clone_from_source(
        &self,
        source: &Source,
        temporary: &Path,
        clock: &dyn Clock,
    ) -> Result<(), HgError> {
        info!(
            repository = self.name,
            "cloning {}, which can take long the first time", source.name
        );
        let making = HgClone::make(source, temporary);
        tokio::pin!(making);
        loop {
            tokio::select! {
                made = &mut making => return made,
                () = clock.sleep(PROGRESS) => {
                    let there = temporary.to_owned();
                    let bytes = disk::blocking(move || Ok(disk_budget::taken(&there))).await.unwrap_or_default();
                    info!(repository = self.name, bytes, "cloning {}: {} so far", source.name, Size(bytes));
                }
            }
        }
    }

    /// The other lanes cost the source nothing: they begin as a copy of one that is ready.
    async fn copy_a_sibling(
        &self,
        all: &Settings,
        pool: &Arc<Pool<Ready>>,
        temporary: &Path,
    ) -> Result<(), HgError> {
        let not_ready = || HgError::NotReady {
            repository: self.name.clone(),
        };
        if !pool.has_any(SIBLING).await {
            return Err(not_ready());
        }
        // One after another: each has to see what the one before it took, and a disk is no faster for two.
        let _copying = COPYING.lock().await;
        let sibling = pool.take(SIBLING).await.ok_or_else(not_ready)?;
        let room = self
            .make_room(all, sibling.clone.directory().to_owned())
            .await?;
        room.map_err(|reason| HgError::NoRoom {
            clone: self.name.clone(),
            reason,
        })?;
        self.copy(sibling, temporary).await
    }

    /// Copies a clone that nobody else has meanwhile.
    pub(crate) async fn copy(
        &self,
        mut sibling: PoolGuard<Ready>,
        temporary: &Path,
    ) -> Result<(), HgError> {
        // What is copied must be the source's alone.
        sibling.clone.tidy().await?;
        let (from, to) = (sibling.clone.directory().to_owned(), temporary.to_owned());
        let copying = move || {
            disk::remove(&to)?;
            disk::copy(&from, &to)
        };
        let copied = disk::blocking(copying).await.map_err(HgError::io(format!(
            "copy a clone to {}",
            temporary.display()
        )));
        if copied.is_err() {
            let left = temporary.to_owned();
            // What is there may be what fills the disk. If it cannot be removed, the next attempt begins with that.
            let _ = disk::blocking(move || disk::remove(&left)).await;
        }
        copied
    }
}

async fn set_aside(directory: &Path, aside: PathBuf) -> std::io::Result<()> {
    let directory = directory.to_owned();
    let moving = move || {
        disk::remove(&aside)?;
        std::fs::rename(directory, aside)
    };
    disk::blocking(moving).await
}
