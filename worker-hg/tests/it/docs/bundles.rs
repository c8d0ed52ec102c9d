//! A destination that takes each head as a bundle of Mercurial: a file in a directory, which a CI system watches.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use build::{BaseChoice, Build};
use jiff::Timestamp;
use tempfile::NamedTempFile;
use worker::{
    Integrity, ProcessorTime, WorkerError,
    patch::{
        path_tree::{PathFilter, Tree},
        stack_size::Sizes,
    },
    process,
    vcs::{ApplyError, Revision, RevisionName, Site, Stack, Vcs, VcsClone},
};
use worker_hg::Mercurial;

/// Mercurial, but for its pushes.
pub struct Bundles(pub Mercurial);

struct Opened {
    clone: Box<dyn VcsClone>,
    /// The directory that the CI system watches.
    directory: PathBuf,
    /// The base of the applied stack, which the CI system has from the source.
    base: Option<Revision>,
    deadline: Duration,
}

#[async_trait]
impl Vcs for Bundles {
    async fn open(
        &self,
        site: &Site<'_>,
        directory: &Path,
    ) -> Result<Box<dyn VcsClone>, WorkerError> {
        Ok(Box::new(Opened {
            clone: self.0.open(site, directory).await?,
            directory: PathBuf::from(&site.repository.try_url),
            base: None,
            deadline: site.settings.limits.transfer,
        }))
    }

    // The rest is Mercurial's.

    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn metadata(&self) -> &'static str {
        self.0.metadata()
    }

    async fn clone_into(&self, site: &Site<'_>, directory: &Path) -> Result<(), WorkerError> {
        Vcs::clone_into(&self.0, site, directory).await
    }

    fn kill_orphans(&self, directory: &Path) -> io::Result<bool> {
        self.0.kill_orphans(directory)
    }

    fn rebase_commands(&self, build: &Build, base: &BaseChoice) -> String {
        self.0.rebase_commands(build, base)
    }
}

#[async_trait]
impl VcsClone for Opened {
    async fn apply(
        &mut self,
        base: &Revision,
        stack: &Stack<'_>,
        time: &mut ProcessorTime,
    ) -> Result<Revision, ApplyError> {
        self.base = Some(base.clone());
        self.clone.apply(base, stack, time).await
    }

    /// There is no connection to open in advance.
    fn prepare_push(&mut self) {}

    /// Stores the changesets from the base up to `head`. The file is named by the head, so an earlier push of it is found. It
    /// appears whole, by renaming; a part is removed when the future is dropped.
    async fn push(&mut self, head: &Revision) -> Result<(), WorkerError> {
        let file = self.directory.join(format!("{}.hg", head.id));
        if file.exists() {
            return Ok(());
        }
        let storing = format!("store {}", file.display());
        let part =
            NamedTempFile::new_in(&self.directory).map_err(WorkerError::io(storing.as_str()))?;
        let mut hg = process::bare(Path::new("hg"));
        hg.env("HGRCPATH", "")
            .arg("--repository")
            .arg(self.clone.directory())
            .args(["bundle", "--rev", &head.id]);
        if let Some(base) = &self.base {
            hg.args(["--base", &base.id]);
        }
        let output = process::run(hg, [part.path()], "hg bundle", self.deadline).await?;
        if output.code != 0 {
            return Err(WorkerError::Command {
                doing: format!("bundle {}", head.short()),
                words: output.words(),
                integrity: Integrity::Unknown,
            });
        }
        match part.persist(&file) {
            Ok(_) => Ok(()),
            Err(failed) => Err(WorkerError::io(storing)(failed.error)),
        }
    }

    fn end_push(&mut self) {}

    // The rest is the clone's.

    fn directory(&self) -> &Path {
        self.clone.directory()
    }

    async fn discard(&mut self) -> Result<(), WorkerError> {
        self.clone.discard().await
    }

    async fn warning(&mut self) -> Option<String> {
        self.clone.warning().await
    }

    async fn update(&mut self) -> Result<u64, WorkerError> {
        self.clone.update().await
    }

    async fn tip(&mut self) -> Result<Revision, WorkerError> {
        self.clone.tip().await
    }

    async fn known(&mut self, names: &[RevisionName]) -> Result<Vec<Revision>, WorkerError> {
        self.clone.known(names).await
    }

    async fn contains(
        &mut self,
        newest: &Revision,
        others: &[Revision],
    ) -> Result<bool, WorkerError> {
        self.clone.contains(newest, others).await
    }

    async fn default_revision(&mut self) -> Result<Revision, WorkerError> {
        self.clone.default_revision().await
    }

    async fn newest_before(
        &mut self,
        head: &Revision,
        date: Timestamp,
    ) -> Result<Option<Revision>, WorkerError> {
        self.clone.newest_before(head, date).await
    }

    async fn tree(&mut self, base: &Revision, filter: PathFilter) -> Result<Tree, WorkerError> {
        self.clone.tree(base, filter).await
    }

    async fn sizes(&mut self, base: &Revision, paths: &[&[u8]]) -> Result<Sizes, WorkerError> {
        self.clone.sizes(base, paths).await
    }

    async fn finish(&mut self) -> Result<(), WorkerError> {
        self.clone.finish().await
    }

    fn mark_corrupt(&mut self) -> Result<(), WorkerError> {
        self.clone.mark_corrupt()
    }

    async fn reset(&mut self) {
        self.clone.reset().await;
    }

    async fn close(&mut self) {
        self.clone.close().await;
    }
}
