//! Git as a version control of the worker.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use build::{BaseChoice, Build};
use gix::ObjectId;
use jiff::Timestamp;
use tokio::sync::OnceCell;
use worker::{
    ProcessorTime, RepositorySettings, Settings, WorkerError,
    destination::{Destination, DestinationRefs},
    patch::{
        Rules,
        path_tree::{PathFilter, Tree},
        stack_size::Sizes,
    },
    probe::Probe,
    revision::{Revision, RevisionName},
    ssh::Ssh,
    vcs::{ApplyError, CommitPatch, Site, Stack, Staged, StagedDiff, Vcs, VcsClone},
};

use crate::{
    clone::{GitClone, Source, blocking, lookup, tree},
    export, fault, locks,
    old_refs::OldRefs,
    probe,
    program::Program,
    quarantine::Quarantine,
    stack,
};

/// Git: bare clones, each with a repository of its own for the commits of a build.
#[derive(Debug, Clone)]
pub struct Git {
    program: PathBuf,
    /// Set once the program was found to be new enough.
    checked: Arc<OnceCell<()>>,
}

impl Git {
    /// Runs the program `git` from `/usr/local/bin`, `/usr/bin` or `/bin`.
    pub fn new() -> Self {
        Self::with_program("git")
    }

    /// Runs another program. A bare name is searched in the same directories.
    pub fn with_program(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            checked: Arc::default(),
        }
    }

    async fn connect(&self, site: &Site<'_>) -> Result<(Ssh, Source), WorkerError> {
        let repository = site.repository;
        let ssh = Ssh::new(site.settings, repository, site.slot)?;
        let git = Program::new(&self.program, &ssh, repository)?;
        self.checked.get_or_try_init(|| git.check_version()).await?;
        let source = Source {
            name: repository.name.clone(),
            git,
            default_revision: repository.default_revision.clone(),
            partial: repository.vcs.git().is_some_and(|git| git.partial),
            limits: site.settings.limits.clone(),
        };
        Ok((ssh, source))
    }
}

impl Default for Git {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Vcs for Git {
    fn name(&self) -> &'static str {
        "Git"
    }

    fn rules(&self, repository: &RepositorySettings) -> Rules {
        Rules::Git {
            submodules: repository.vcs.git().is_some_and(|git| git.submodules),
        }
    }

    async fn clone_into(&self, site: &Site<'_>, directory: &Path) -> Result<(), WorkerError> {
        let (ssh, mut source) = self.connect(site).await?;
        source.git = source.git.with_one_off(&ssh);
        GitClone::make(&source, directory).await
    }

    async fn open(
        &self,
        site: &Site<'_>,
        directory: &Path,
    ) -> Result<Box<dyn VcsClone>, WorkerError> {
        let (ssh, source) = self.connect(site).await?;
        Ok(Box::new(Opened {
            clone: GitClone::open(&source, directory).await?,
            ssh,
            repository: site.repository.clone(),
            quarantine: None,
        }))
    }

    fn kill_orphans(&self, directory: &Path) -> io::Result<bool> {
        locks::kill_orphans(directory)
    }

    async fn probe(&self, settings: &Settings, repository: &RepositorySettings) -> Vec<Probe> {
        probe::probe(&self.program, settings, repository).await
    }

    async fn refs(&self, site: &Site<'_>) -> Result<Option<Box<dyn DestinationRefs>>, WorkerError> {
        let (ssh, source) = self.connect(site).await?;
        let (name, time) = (&site.repository.try_name, site.settings.limits.command);
        let refs = OldRefs::open(source.git, ssh, name, time).await?;
        Ok(Some(Box::new(refs)))
    }

    /// The commits of an author have other hashes than ours, so each command names what is to be moved. `arc` leaves the
    /// choice of the branch to the author.
    fn rebase_commands(&self, build: &Build, base: &BaseChoice) -> String {
        let (top, used) = (build.request.revision_id, &base.used);
        let old = build
            .stack
            .first()
            .and_then(|patch| patch.diff.base.as_deref())
            .and_then(RevisionName::parse)
            .filter(|old| old.as_str() != used);
        let rebase = match old {
            Some(old) => format!("git rebase --onto {used} {}", old.as_str()),
            None => format!("git rebase {used}"),
        };
        format!(
            "# with the commits in your clone\n\
             git fetch\n\
             {rebase}\n\
             moz-phab submit\n\
             \n\
             # or from what is on Phabricator\n\
             moz-phab patch D{top} --apply-to {used}\n\
             moz-phab submit\n\
             \n\
             # or with Arcanist, on your commit of D{top}\n\
             git fetch\n\
             {rebase}\n\
             arc diff --update D{top} HEAD^\n\
             \n\
             # or with Arcanist, from what is on Phabricator\n\
             git fetch\n\
             git checkout --detach {used}\n\
             arc patch --nobranch D{top}\n\
             arc diff --update D{top} HEAD^"
        )
    }
}

/// An open clone, with its ssh. It is its own destination: see `push.rs`.
pub(crate) struct Opened {
    pub(crate) clone: GitClone,
    pub(crate) ssh: Ssh,
    pub(crate) repository: RepositorySettings,
    /// The repository with the commits of the build.
    pub(crate) quarantine: Option<Quarantine>,
}

#[async_trait]
impl VcsClone for Opened {
    async fn discard(&mut self) -> Result<(), WorkerError> {
        self.quarantine = None;
        self.clone.tidy().await
    }

    async fn warning(&mut self) -> Option<String> {
        None
    }

    async fn update(&mut self) -> Result<u64, WorkerError> {
        self.clone.update().await
    }

    async fn tip(&mut self) -> Result<Revision, WorkerError> {
        Ok(revision(self.clone.tip()))
    }

    async fn known(&mut self, names: &[RevisionName]) -> Result<Vec<Revision>, WorkerError> {
        let names = names.to_vec();
        let known = self
            .clone
            .read("look up commits", move |repository| {
                lookup::known(repository, &names)
            })
            .await?;
        Ok(known.into_iter().map(revision).collect())
    }

    async fn contains(
        &mut self,
        newest: &Revision,
        others: &[Revision],
    ) -> Result<bool, WorkerError> {
        let newest = id(newest)?;
        let others: Vec<ObjectId> = others.iter().map(id).collect::<Result<_, _>>()?;
        self.clone
            .read("compare commits", move |repository| {
                lookup::contains(repository, newest, &others)
            })
            .await
    }

    async fn default_revision(&mut self) -> Result<Revision, WorkerError> {
        Ok(revision(self.clone.default_revision().await?))
    }

    async fn newest_before(
        &mut self,
        head: &Revision,
        date: Timestamp,
    ) -> Result<Option<Revision>, WorkerError> {
        let head = id(head)?;
        let found = self
            .clone
            .read("find a commit by its date", move |repository| {
                lookup::newest_before(repository, head, date)
            })
            .await?;
        Ok(found.map(revision))
    }

    async fn tree(&mut self, base: &Revision, filter: PathFilter) -> Result<Tree, WorkerError> {
        let base = id(base)?;
        let filter = self
            .clone
            .read("look up files", move |repository| {
                tree::filtered(repository, base, filter)
            })
            .await?;
        Ok(filter.tree())
    }

    async fn sizes(&mut self, base: &Revision, paths: &[&[u8]]) -> Result<Sizes, WorkerError> {
        let base = id(base)?;
        let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.to_vec()).collect();
        self.clone.fetch_missing(base, paths.clone()).await?;
        self.clone
            .read("read the sizes of files", move |repository| {
                tree::sizes(repository, base, &paths)
            })
            .await
    }

    async fn staged(&mut self, wanted: &StagedDiff<'_>) -> Result<Staged, WorkerError> {
        self.clone.staged(wanted).await
    }

    async fn apply(
        &mut self,
        base: &Revision,
        stack: &Stack<'_>,
        time: &mut ProcessorTime,
    ) -> Result<Revision, ApplyError> {
        let base = id(base)?;
        self.clone
            .fetch_missing(base, stack::sources(stack))
            .await?;
        let (place, partial) = (self.clone.directory().to_owned(), self.clone.is_partial());
        let doing = format!("make the repository of a build on {}", self.repository.name);
        let quarantine = blocking(doing.clone(), move || {
            Quarantine::make(&place, partial).map_err(WorkerError::io(doing))
        })
        .await?;
        let quarantine = self.quarantine.insert(quarantine).clone();
        let head = stack::apply(quarantine, base, stack, time).await?;
        Ok(revision(head))
    }

    async fn export(
        &mut self,
        base: &Revision,
        head: &Revision,
        limit: usize,
    ) -> Result<Option<Vec<CommitPatch>>, WorkerError> {
        let quarantine = self.quarantine.as_ref();
        export::export(self.clone.source(), quarantine, base, head, limit).await
    }

    fn repository_of_head(&self, clone: &Path) -> PathBuf {
        match &self.quarantine {
            Some(quarantine) => quarantine.git_dir().to_owned(),
            None => clone.to_owned(),
        }
    }

    fn own_destination(&mut self) -> &mut dyn Destination {
        self
    }

    async fn finish(&mut self) -> Result<(), WorkerError> {
        self.quarantine = None;
        self.clone.tidy().await?;
        self.clone.maintain().await
    }

    async fn reset(&mut self) {
        self.ssh.close_connections().await;
    }

    async fn close(&mut self) {
        self.ssh.close_connections().await;
    }
}

fn revision(id: ObjectId) -> Revision {
    Revision { id: id.to_string() }
}

/// The object of a revision, which came from this clone.
fn id(revision: &Revision) -> Result<ObjectId, WorkerError> {
    ObjectId::from_hex(revision.id.as_bytes())
        .map_err(fault::write(format!("read the hash {}", revision.id)))
}
