//! A clone slot of a repository: the place for one clone, on which one build is made at a time.

use std::sync::Arc;

use runtime::Clock;
use tokio::sync::Notify;

use super::{
    dir::{CloneDir, SlotLock, slot_name},
    disk_budget::FullDisk,
    pool::{Pool, Pooled},
};
use crate::{
    Backend, RepositorySettings, Settings, WorkerError,
    destination::Destination,
    vcs::{Site, Vcs, VcsClone},
};

/// A clone that is ready for builds, with the lock of its slot.
pub(crate) struct Ready {
    pub(crate) clone: Box<dyn VcsClone>,
    /// The destination, if it is not the version control's own.
    pub(super) destination: Option<Box<dyn Destination>>,
    /// The number of its slot.
    pub(crate) slot: usize,
    /// Its directory, and those beside it.
    pub(crate) dir: CloneDir,
    /// Keeps other processes off the clone.
    pub(super) _lock: SlotLock,
}

impl Ready {
    /// The destination of heads.
    pub(crate) fn destination(&mut self) -> &mut dyn Destination {
        match &mut self.destination {
            Some(other) => other.as_mut(),
            None => self.clone.own_destination(),
        }
    }

    /// Removes what a build left in the clone, and ends what its destination prepared.
    pub(crate) async fn finish(&mut self) -> Result<(), WorkerError> {
        if let Some(other) = &mut self.destination {
            other.end();
        }
        self.clone.finish().await
    }
}

impl Pooled for Ready {
    fn put_back(&mut self) {
        // An interrupted build can have left its push prepared.
        self.destination().end();
    }
}

/// The context in which the clones of a repository are made.
#[derive(Clone, Copy)]
pub(crate) struct Home<'a> {
    pub(crate) all: &'a Settings,
    pub(crate) backend: &'a Backend,
    pub(crate) repository: &'a RepositorySettings,
    pub(crate) pool: &'a Arc<Pool<Ready>>,
    pub(crate) outage: &'a FullDisk,
    pub(crate) clock: &'a dyn Clock,
}

impl<'a> Home<'a> {
    pub(super) fn vcs(&self) -> &'a dyn Vcs {
        self.backend.vcs()
    }

    /// The slot with this name, as the version control sees it.
    pub(super) fn site(&self, slot: &'a str) -> Site<'a> {
        Site {
            settings: self.all,
            repository: self.repository,
            slot,
        }
    }
}

/// The place for one clone of a repository.
pub(crate) struct Slot {
    /// The first has 0.
    pub(crate) number: usize,
    pub(crate) dir: CloneDir,
    /// Notified when its clone was found broken.
    pub(crate) lost: Notify,
}

impl Slot {
    /// The slot with this number.
    pub(crate) fn new(settings: &Settings, repository: &RepositorySettings, number: usize) -> Self {
        let name = slot_name(&repository.name, number);
        Self {
            number,
            dir: CloneDir::new(&settings.clones_dir, name),
            lost: Notify::new(),
        }
    }
}
