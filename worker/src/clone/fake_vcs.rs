//! A version control for tests of the clone slots.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use build::{BaseChoice, Build, Phid};
use jiff::Timestamp;
use runtime::ManualClock;
use tempfile::TempDir;

use super::{
    disk_budget::FullDisk,
    pool::Pool,
    slot::{Home, Ready},
};
use crate::{
    Backend, ProcessorTime, RepositorySettings, Settings, WorkerError,
    destination::{Destination, Push, PushError, PushOutcome},
    patch::{
        Rules,
        path_tree::{PathFilter, Tree},
        stack_size::Sizes,
    },
    probe::Probe,
    revision::{Revision, RevisionName},
    source_tip,
    vcs::{ApplyError, Site, Stack, Vcs, VcsClone},
};

const TIP: &str = "1111111111111111111111111111111111111111";

/// A version control whose clones are directories with a source tip. It counts calls.
#[derive(Default, Clone)]
pub(crate) struct FakeVcs {
    /// The clones that were made from the source.
    pub(crate) made: Arc<AtomicUsize>,
    /// The checks for a warning.
    pub(crate) warnings: Arc<AtomicUsize>,
}

/// What the slots of one repository share, with a [`FakeVcs`].
pub(crate) struct Fixture {
    _clones_dir: TempDir,
    pub(crate) settings: Settings,
    pub(crate) vcs: FakeVcs,
    backend: Backend,
    pub(crate) pool: Arc<Pool<Ready>>,
    outage: FullDisk,
    clock: ManualClock,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let clones_dir = tempfile::tempdir().expect("a directory");
        let vcs = FakeVcs::default();
        Self {
            settings: settings(clones_dir.path()),
            _clones_dir: clones_dir,
            backend: Backend::new(Arc::new(vcs.clone())),
            vcs,
            pool: Pool::new(),
            outage: FullDisk::default(),
            clock: ManualClock::new(Timestamp::UNIX_EPOCH),
        }
    }

    pub(crate) fn home(&self) -> Home<'_> {
        Home {
            all: &self.settings,
            backend: &self.backend,
            repository: &self.settings.repositories[0],
            pool: &self.pool,
            outage: &self.outage,
            clock: &self.clock,
        }
    }
}

struct FakeClone {
    warnings: Arc<AtomicUsize>,
}

/// Settings with one repository.
pub(crate) fn settings(clones_dir: &Path) -> Settings {
    let repository = RepositorySettings::new(
        Phid::parse("PHID-REPO-1").expect("a PHID"),
        "nss",
        "https://hg.example.org/nss",
        "ssh://hg.example.org/try",
    );
    Settings::new(vec![repository], clones_dir.to_owned())
}

#[async_trait]
impl Vcs for FakeVcs {
    fn name(&self) -> &'static str {
        "Fake"
    }

    fn rules(&self, _: &RepositorySettings) -> Rules {
        Rules::Mercurial
    }

    async fn clone_into(&self, _: &Site<'_>, directory: &Path) -> Result<(), WorkerError> {
        self.made.fetch_add(1, Ordering::SeqCst);
        fs::create_dir_all(directory).map_err(WorkerError::io("make a clone"))?;
        source_tip::write(directory, TIP)
    }

    async fn open(&self, _: &Site<'_>, _: &Path) -> Result<Box<dyn VcsClone>, WorkerError> {
        Ok(Box::new(FakeClone {
            warnings: Arc::clone(&self.warnings),
        }))
    }

    fn kill_orphans(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    async fn probe(&self, _: &Settings, _: &RepositorySettings) -> Vec<Probe> {
        Vec::new()
    }

    fn rebase_commands(&self, _: &Build, _: &BaseChoice) -> String {
        String::new()
    }
}

#[async_trait]
impl VcsClone for FakeClone {
    async fn discard(&mut self) -> Result<(), WorkerError> {
        Ok(())
    }

    async fn warning(&mut self) -> Option<String> {
        self.warnings.fetch_add(1, Ordering::SeqCst);
        None
    }

    async fn update(&mut self) -> Result<u64, WorkerError> {
        Ok(0)
    }

    async fn tip(&mut self) -> Result<Revision, WorkerError> {
        Ok(Revision { id: TIP.to_owned() })
    }

    async fn known(&mut self, _: &[RevisionName]) -> Result<Vec<Revision>, WorkerError> {
        Ok(Vec::new())
    }

    async fn contains(&mut self, _: &Revision, _: &[Revision]) -> Result<bool, WorkerError> {
        Ok(true)
    }

    async fn default_revision(&mut self) -> Result<Revision, WorkerError> {
        self.tip().await
    }

    async fn newest_before(
        &mut self,
        _: &Revision,
        _: Timestamp,
    ) -> Result<Option<Revision>, WorkerError> {
        Ok(None)
    }

    async fn tree(&mut self, _: &Revision, _: PathFilter) -> Result<Tree, WorkerError> {
        unreachable!("no build is made")
    }

    async fn sizes(&mut self, _: &Revision, _: &[&[u8]]) -> Result<Sizes, WorkerError> {
        Ok(Sizes::default())
    }

    async fn apply(
        &mut self,
        _: &Revision,
        _: &Stack<'_>,
        _: &mut ProcessorTime,
    ) -> Result<Revision, ApplyError> {
        unreachable!("no build is made")
    }

    fn own_destination(&mut self) -> &mut dyn Destination {
        self
    }

    async fn finish(&mut self) -> Result<(), WorkerError> {
        Ok(())
    }

    async fn reset(&mut self) {}

    async fn close(&mut self) {}
}

#[async_trait]
impl Destination for FakeClone {
    async fn push(&mut self, _: Push<'_>) -> Result<PushOutcome, PushError> {
        unreachable!("no build is made")
    }
}
