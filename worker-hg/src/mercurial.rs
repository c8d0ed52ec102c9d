//! Mercurial as a version control of the worker.

use std::{
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use build::{BaseChoice, Build};
use jiff::Timestamp;
use worker::{
    ProcessorTime, RepositorySettings, Settings, WorkerError,
    destination::Destination,
    patch::{
        Rules,
        path_tree::{PathFilter, Tree},
        stack_size::Sizes,
    },
    probe::Probe,
    process::{self, has_argument},
    revision::{Revision, RevisionName},
    ssh::Ssh,
    vcs::{ApplyError, CommitPatch, Site, Stack, Vcs, VcsClone},
};

use crate::{
    apply, branches,
    changeset::Changeset,
    clone::{HgClone, Source},
    manifest::ManifestReader,
    probe,
    transport::{address, ssh_prewarm::PrewarmedSsh},
};

/// Mercurial: clones without a working copy, each with one warm command server.
#[derive(Debug, Clone)]
pub struct Mercurial {
    program: PathBuf,
}

impl Mercurial {
    /// Runs the program `hg` from `/usr/local/bin`, `/usr/bin` or `/bin`.
    pub fn new() -> Self {
        Self::with_program("hg")
    }

    /// Runs another program. A bare name is searched in the same directories.
    pub fn with_program(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
        }
    }

    fn connect(&self, site: &Site<'_>) -> Result<(Ssh, Source), WorkerError> {
        let ssh = Ssh::new(site.settings, site.repository, site.slot)?;
        let source = Source {
            name: site.repository.name.clone(),
            program: self.program.clone(),
            hgrc: address::write_hgrc(&ssh, site.repository)?,
            ssh: ssh.command(),
            one_off_ssh: ssh.one_off_command(),
            limits: site.settings.limits.clone(),
        };
        Ok((ssh, source))
    }
}

impl Default for Mercurial {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Vcs for Mercurial {
    fn name(&self) -> &'static str {
        "Mercurial"
    }

    fn rules(&self, _: &RepositorySettings) -> Rules {
        Rules::Mercurial
    }

    async fn clone_into(&self, site: &Site<'_>, directory: &Path) -> Result<(), WorkerError> {
        let (_ssh, source) = self.connect(site)?;
        HgClone::make(&source, directory).await
    }

    async fn open(
        &self,
        site: &Site<'_>,
        directory: &Path,
    ) -> Result<Box<dyn VcsClone>, WorkerError> {
        let (ssh, source) = self.connect(site)?;
        Ok(Box::new(Opened {
            clone: HgClone::open(&source, directory).await?,
            ssh,
            prewarmed: None,
            repository: site.repository.clone(),
            seen: Vec::new(),
        }))
    }

    fn kill_orphans(&self, directory: &Path) -> io::Result<bool> {
        let directory = directory.as_os_str().as_bytes();
        process::kill_orphans(|process| {
            let clones = has_argument(process, directory) && has_argument(process, b"clone");
            clones.then(|| "hg clone".to_owned())
        })
    }

    async fn probe(&self, settings: &Settings, repository: &RepositorySettings) -> Vec<Probe> {
        probe::probe(&self.program, settings, repository).await
    }

    /// `moz-phab` puts the revision's address into the commit messages; the commands find the author's commits by it.
    /// `arc` leaves the messages of Mercurial's commits as they are, so its author goes to the commit first.
    fn rebase_commands(&self, build: &Build, base: &BaseChoice) -> String {
        let (top, used) = (build.request.revision_id, &base.used);
        let bottom = build.stack.first().map_or(top, |patch| patch.revision_id);
        format!(
            "# with the commits in your clone\n\
             hg pull\n\
             hg rebase --source 'draft() and desc(r\"re:/D{bottom}\\b\")' --dest {used}\n\
             moz-phab submit\n\
             \n\
             # or from what is on Phabricator\n\
             moz-phab patch D{top} --apply-to {used}\n\
             moz-phab submit\n\
             \n\
             # or with Arcanist, on your commit of D{top}\n\
             hg pull\n\
             hg rebase --dest {used}\n\
             arc diff --update D{top} .^"
        )
    }
}

/// An open clone, with its ssh. It is its own destination: see `push.rs`.
pub(crate) struct Opened {
    pub(crate) clone: HgClone,
    pub(crate) ssh: Ssh,
    /// The session for the next push.
    pub(crate) prewarmed: Option<PrewarmedSsh>,
    pub(crate) repository: RepositorySettings,
    /// Changesets that were looked up since the last [`VcsClone::discard`].
    seen: Vec<Changeset>,
}

impl Opened {
    fn revision(&mut self, changeset: Changeset) -> Revision {
        let id = changeset.node.clone();
        self.seen.push(changeset);
        Revision { id }
    }

    async fn changeset(&mut self, revision: &Revision) -> Result<Changeset, WorkerError> {
        match self.seen.iter().find(|seen| seen.node == revision.id) {
            Some(changeset) => Ok(changeset.clone()),
            None => self.clone.changeset(&revision.id).await,
        }
    }
}

#[async_trait]
impl VcsClone for Opened {
    async fn discard(&mut self) -> Result<(), WorkerError> {
        self.seen.clear();
        self.clone.tidy().await
    }

    /// Warns when the source has several branches and `default_revision` does not choose one.
    async fn warning(&mut self) -> Option<String> {
        if self.repository.default_revision != branches::UNSET {
            return None;
        }
        let found = self.clone.branches().await.ok()?;
        branches::ambiguous(&self.repository, &found)
    }

    async fn update(&mut self) -> Result<u64, WorkerError> {
        let before = self.clone.source_tip();
        self.clone.pull().await?;
        Ok(u64::try_from(self.clone.source_tip() - before).unwrap_or_default())
    }

    async fn tip(&mut self) -> Result<Revision, WorkerError> {
        let tip = self.clone.tip().await?;
        Ok(self.revision(tip))
    }

    async fn known(&mut self, names: &[RevisionName]) -> Result<Vec<Revision>, WorkerError> {
        let mut known = self.clone.known(names).await?;
        known.sort_by_key(|changeset| changeset.number);
        Ok(known
            .into_iter()
            .map(|changeset| self.revision(changeset))
            .collect())
    }

    async fn contains(
        &mut self,
        newest: &Revision,
        others: &[Revision],
    ) -> Result<bool, WorkerError> {
        let newest = self.changeset(newest).await?;
        let mut numbers = Vec::new();
        for other in others {
            numbers.push(self.changeset(other).await?.number);
        }
        self.clone.contains(newest.number, &numbers).await
    }

    async fn default_revision(&mut self) -> Result<Revision, WorkerError> {
        let name = &self.repository.default_revision;
        let newest = self.clone.default_revision(name).await?;
        Ok(self.revision(newest))
    }

    async fn newest_before(
        &mut self,
        head: &Revision,
        date: Timestamp,
    ) -> Result<Option<Revision>, WorkerError> {
        let head = self.changeset(head).await?;
        let found = self.clone.newest_before(&head, date).await?;
        Ok(found.map(|changeset| self.revision(changeset)))
    }

    async fn tree(&mut self, base: &Revision, filter: PathFilter) -> Result<Tree, WorkerError> {
        let base = self.changeset(base).await?;
        let reader = ManifestReader::new(filter);
        Ok(self.clone.read_manifest(&base, reader).await?.tree())
    }

    async fn sizes(&mut self, base: &Revision, paths: &[&[u8]]) -> Result<Sizes, WorkerError> {
        let base = self.changeset(base).await?;
        self.clone.sizes(&base, paths).await
    }

    async fn apply(
        &mut self,
        base: &Revision,
        stack: &Stack<'_>,
        time: &mut ProcessorTime,
    ) -> Result<Revision, ApplyError> {
        let base = self.changeset(base).await?;
        let head = apply::apply(&mut self.clone, &base, stack, time).await?;
        Ok(self.revision(head))
    }

    async fn export(
        &mut self,
        base: &Revision,
        head: &Revision,
        limit: usize,
    ) -> Result<Option<Vec<CommitPatch>>, WorkerError> {
        self.clone.export(&base.id, &head.id, limit).await
    }

    fn own_destination(&mut self) -> &mut dyn Destination {
        self
    }

    async fn finish(&mut self) -> Result<(), WorkerError> {
        self.seen.clear();
        let prewarmed = self.prewarmed.take();
        let closing = async {
            if let Some(prewarmed) = prewarmed {
                prewarmed.close().await;
            }
        };
        let ((), tidied) = futures::join!(closing, self.clone.tidy());
        tidied
    }

    async fn reset(&mut self) {
        self.clone.close().await;
    }

    async fn close(&mut self) {
        self.prewarmed = None;
        self.clone.close().await;
        self.ssh.close_connections().await;
    }
}
