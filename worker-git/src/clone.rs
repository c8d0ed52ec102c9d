//! A clone without a working tree, and the invariant that all of its users rely on.
//!
//! # The clone holds what the source has
//!
//! The clone is a bare repository with the branches of the source. Only a fetch writes into it: builds have repositories
//! of their own, see `quarantine.rs`. So nothing of a build can be left in it, whatever state a build was in.
//!
//! The file `HEAD` names the default branch of the source, as of the last look. The *source tip* is the commit that
//! `default_revision` names, as of the last fetch.
//!
//! A crash can end each step:
//! * a clone: it is made under another name, and moved into place when it is whole and has its source tip;
//! * a fetch: Git stores the objects before it moves the branches. A killed `git` leaves locks and unfinished files,
//!   which are removed before the next build, and when the clone is opened: see `locks.rs`;
//! * the maintenance: Git removes packs after it has stored the pack that replaces them.
//!
//! A clone that has lost data is cloned again. Whether it has is decided by reading it ([`GitClone::check`]), not by the
//! words of `git`.

pub(crate) mod default_revision;
mod integrity;
pub(crate) mod lookup;
mod missing;
pub(crate) mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use gix::ObjectId;
use tracing::warn;
use worker::{Integrity, Limits, Peer, WorkerError, disk, process::CommandOutput, source_tip};

use crate::{
    fault, locks,
    program::{Program, SOURCE},
    quarantine::{self, git_dir},
    remote,
};

/// The branches that a clone has.
const BRANCHES: &str = "+refs/heads/*:refs/heads/*";

/// The most packs of a clone before the maintenance makes fewer of them. Each fetch makes one. Git and `gix` search
/// through all of them.
const PACKS: usize = 50;

/// The same for a partial clone, where Git can only make one pack of all.
const PARTIAL_PACKS: usize = 300;

/// The most commits that one `git rev-list` gets as arguments.
const TIPS: usize = 500;

/// A clone that is ready for builds.
pub(crate) struct GitClone {
    source: Source,
    directory: PathBuf,
    repository: gix::ThreadSafeRepository,
    /// Whether file contents are fetched when they are needed.
    partial: bool,
    /// The source tip.
    tip: ObjectId,
    /// Whether a `git` may have left locks or unfinished files.
    dirty: bool,
}

/// The program `git`, and what is cloned.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) git: Program,
    /// The configured name of the newest revision.
    pub(crate) default_revision: String,
    /// Whether a new clone is a partial one.
    pub(crate) partial: bool,
    pub(crate) limits: Limits,
}

/// The branches and their commits.
type Refs = BTreeMap<Vec<u8>, ObjectId>;

impl GitClone {
    /// Makes a clone in `temporary`, and removes first what an interrupted attempt left there. The result is whole, has
    /// its source tip, and can be moved into its place.
    pub(crate) async fn make(source: &Source, temporary: &Path) -> Result<(), WorkerError> {
        remove(temporary).await?;
        let made = Self::make_in(source, temporary).await;
        if made.is_err() {
            // The rest may be what fills the disk. If it cannot be removed now, the next attempt begins with its
            // removal.
            let _ = remove(temporary).await;
        }
        made
    }

    async fn make_in(source: &Source, temporary: &Path) -> Result<(), WorkerError> {
        let (directory, partial) = (temporary.to_owned(), source.partial);
        let repository = blocking(format!("make a clone of {}", source.name), move || {
            disk::create_private(&directory)
                .and_then(|()| quarantine::init(&git_dir(&directory), partial))
                .map_err(WorkerError::io(format!("make {}", directory.display())))?;
            quarantine::open(&git_dir(&directory)).map_err(fault::read("open a new clone"))
        })
        .await?;
        let mut clone = Self {
            source: source.clone(),
            directory: temporary.to_owned(),
            repository,
            partial,
            tip: ObjectId::null(gix::hash::Kind::Sha1),
            dirty: true,
        };
        clone.fetch(&[BRANCHES], source.limits.clone).await?;
        clone.pack_refs().await?;
        let tip = clone.default_revision().await?;
        clone.write_tip(tip)
    }

    /// Opens the clone in `directory`, and removes what builds left there. [`WorkerError::Damaged`] when it has to be
    /// cloned again.
    pub(crate) async fn open(source: &Source, directory: &Path) -> Result<Self, WorkerError> {
        let name = source.name.clone();
        let damaged = move |reason| WorkerError::Damaged {
            repository: name,
            reason,
        };
        // Other users may have got the right to read it.
        disk::make_private(directory).map_err(WorkerError::io(format!(
            "make the clone of {} private",
            source.name
        )))?;
        tidy(&source.name, directory, true).await?;
        let place = directory.to_owned();
        let opened = blocking(format!("open the clone of {}", source.name), move || {
            let tip = source_tip::read(&place).and_then(|tip| {
                ObjectId::from_hex(tip.as_bytes()).map_err(|error| fault::chain(&error))
            });
            match tip {
                Ok(tip) => {
                    let checked = integrity::check(&git_dir(&place), tip)?;
                    Ok(checked.map(|repository| (repository, tip)))
                }
                Err(damage) => Ok(Err(damage)),
            }
        })
        .await?;
        let (repository, tip) = opened.map_err(damaged)?;
        let partial = lookup::is_partial(&repository);
        Ok(Self {
            source: source.clone(),
            directory: directory.to_owned(),
            repository,
            partial,
            tip,
            dirty: false,
        })
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn is_partial(&self) -> bool {
        self.partial
    }

    /// The commit that `default_revision` named at the last fetch.
    pub(crate) fn tip(&self) -> ObjectId {
        self.tip
    }

    /// Removes what a build left, and what a killed `git` left.
    pub(crate) async fn tidy(&mut self) -> Result<(), WorkerError> {
        tidy(&self.source.name, &self.directory, self.dirty).await?;
        if self.dirty {
            self.reopen().await?;
        }
        self.dirty = false;
        Ok(())
    }

    /// Fetches the branches of the source; returns the number of new commits.
    pub(crate) async fn update(&mut self) -> Result<u64, WorkerError> {
        let before = self.refs().await?;
        self.fetch(&[BRANCHES], self.source.limits.transfer).await?;
        let after = self.refs().await?;
        let name = self.source.default_revision.clone();
        let tip = self
            .read("find the source tip", move |repository| {
                lookup::local(repository, &name)
            })
            .await?;
        // The count leaves out what the tip of the last fetch had.
        let count = self.count(&before, &after).await?;
        // While the source has no such branch, the last one counts.
        self.write_tip(tip.unwrap_or(self.tip))?;
        Ok(count)
    }

    /// Makes few packs of many. A killed one leaves files that the next [`Self::tidy`] removes.
    pub(crate) async fn maintain(&mut self) -> Result<(), WorkerError> {
        let packs = git_dir(&self.directory).join("objects/pack");
        let count = blocking("count the packs of a clone".to_owned(), move || {
            let entries =
                fs::read_dir(&packs).map_err(WorkerError::io("count the packs of a clone"))?;
            let names = entries.flatten().map(|entry| entry.path());
            Ok(names
                .filter(|path| path.extension().is_some_and(|end| end == "pack"))
                .count())
        })
        .await?;
        let (most, how) = if self.partial {
            (PARTIAL_PACKS, "-a")
        } else {
            (PACKS, "--geometric=2")
        };
        if count <= most {
            return Ok(());
        }
        self.dirty = true;
        self.pack_refs().await?;
        let doing = format!("pack the clone of {}", self.source.name);
        self.run(&["repack", "-d", "-q", how], "git repack", &doing)
            .await?;
        self.dirty = false;
        self.reopen().await
    }

    /// Reads the clone on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        doing: &str,
        reading: impl FnOnce(&gix::Repository) -> Result<T, WorkerError> + Send + 'static,
    ) -> Result<T, WorkerError> {
        let repository = self.repository.clone();
        let doing = format!("{doing} in the clone of {}", self.source.name);
        blocking(doing, move || reading(&repository.to_thread_local())).await
    }

    pub(crate) async fn has_commit(&self, id: ObjectId) -> Result<bool, WorkerError> {
        self.read("find a commit", move |repository| {
            lookup::is_commit(repository, id)
        })
        .await
    }

    async fn refs(&self) -> Result<Refs, WorkerError> {
        self.read("list the branches", lookup::refs).await
    }

    /// Fetches `specs`. The clone has to hold nothing unfinished.
    async fn fetch(&mut self, specs: &[&str], deadline: Duration) -> Result<(), WorkerError> {
        let mut arguments = vec![
            "fetch",
            "--quiet",
            "--prune",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-show-forced-updates",
        ];
        arguments.extend([SOURCE]);
        arguments.extend(specs);
        let doing = format!("fetch {}", self.source.name);
        self.fetch_with(&arguments, &doing, deadline).await?;
        // Without it, a look at the history reads each commit.
        let arguments = ["commit-graph", "write", "--reachable", "--split"];
        let written = self
            .run(&arguments, "git commit-graph", "write the commit graph")
            .await;
        match written {
            Err(error @ WorkerError::Command { .. }) => {
                let repository = &self.source.name;
                warn!(repository, %error, "cannot write the commit graph; builds take longer");
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        self.dirty = false;
        self.reopen().await
    }

    /// Runs a `git fetch`. One that fails on a damaged clone is [`WorkerError::Damaged`].
    async fn fetch_with(
        &mut self,
        arguments: &[&str],
        doing: &str,
        deadline: Duration,
    ) -> Result<(), WorkerError> {
        self.dirty = true;
        let output = self
            .source
            .git
            .run(&git_dir(&self.directory), arguments, "git fetch", deadline)
            .await?;
        if output.code == 0 {
            return Ok(());
        }
        let failure = remote::failure(Peer::Source, doing, &output);
        if !matches!(failure, WorkerError::DiskFull { .. }) {
            self.check().await?;
        }
        Err(failure)
    }

    /// Returns [`WorkerError::Damaged`] if the clone has lost data, as far as a quick look shows.
    async fn check(&mut self) -> Result<(), WorkerError> {
        let (place, tip) = (git_dir(&self.directory), self.tip);
        let doing = format!("check the clone of {}", self.source.name);
        let checked = blocking(doing, move || {
            if tip.is_null() {
                // It is being made.
                return Ok(Ok(()));
            }
            Ok(integrity::check(&place, tip)?.map(|_| ()))
        });
        checked.await?.map_err(|reason| WorkerError::Damaged {
            repository: self.source.name.clone(),
            reason,
        })
    }

    /// Opens the repository again: an open one has a fixed number of places for packs.
    async fn reopen(&mut self) -> Result<(), WorkerError> {
        let place = git_dir(&self.directory);
        let doing = format!("open the clone of {}", self.source.name);
        self.repository = blocking(doing.clone(), move || {
            quarantine::open(&place).map_err(fault::read(doing))
        })
        .await?;
        Ok(())
    }

    fn write_tip(&mut self, tip: ObjectId) -> Result<(), WorkerError> {
        source_tip::write(&self.directory, &tip.to_string())?;
        self.tip = tip;
        Ok(())
    }

    /// The number of commits that came with a fetch.
    async fn count(&self, before: &Refs, after: &Refs) -> Result<u64, WorkerError> {
        let old: BTreeSet<_> = before.values().collect();
        let new: Vec<String> = after
            .values()
            .filter(|id| !old.contains(id))
            .take(TIPS)
            .map(ToString::to_string)
            .collect();
        if new.is_empty() {
            return Ok(0);
        }
        let changed = before
            .iter()
            .filter(|(name, id)| after.get(*name) != Some(id));
        let hidden: Vec<String> = changed
            .take(TIPS)
            .map(|(_, id)| format!("^{id}"))
            .chain([format!("^{}", self.tip)])
            .collect();
        let mut arguments = vec!["rev-list", "--count"];
        arguments.extend(new.iter().chain(&hidden).map(String::as_str));
        let output = self
            .run(&arguments, "git rev-list", "count new commits")
            .await?;
        Ok(output.text().parse().unwrap_or_default())
    }

    /// Writes the branches into one file.
    async fn pack_refs(&self) -> Result<(), WorkerError> {
        let arguments = ["pack-refs", "--all", "--prune"];
        self.run(&arguments, "git pack-refs", "pack the branches")
            .await
            .map(drop)
    }

    /// Runs a command that uses the clone alone, and has to succeed.
    async fn run(
        &self,
        arguments: &[&str],
        name: &str,
        doing: &str,
    ) -> Result<CommandOutput, WorkerError> {
        let doing = format!("{doing} in the clone of {}", self.source.name);
        let output = self
            .source
            .git
            .run(
                &git_dir(&self.directory),
                arguments,
                name,
                self.source.limits.command,
            )
            .await?;
        let words = output.words();
        match output.code {
            0 => Ok(output),
            _ if remote::is_full_disk(&output) => Err(WorkerError::DiskFull { doing, words }),
            _ => Err(WorkerError::Command {
                doing,
                words,
                integrity: Integrity::Unknown,
            }),
        }
    }
}

/// Removes what builds left in the clone in `directory`; if it is `dirty`, what a killed `git` left too.
async fn tidy(name: &str, directory: &Path, dirty: bool) -> Result<(), WorkerError> {
    let doing = format!("remove what is left of a build from the clone of {name}");
    let place = directory.to_owned();
    blocking(doing.clone(), move || {
        let tidying = || {
            if dirty {
                locks::end_orphans(&place)?;
                locks::remove_stale(&git_dir(&place))?;
            }
            quarantine::clear(&place)
        };
        tidying().map_err(WorkerError::io(doing))
    })
    .await
}

async fn remove(directory: &Path) -> Result<(), WorkerError> {
    let place = directory.to_owned();
    disk::blocking(move || disk::remove(&place))
        .await
        .map_err(WorkerError::io(format!("remove {}", directory.display())))
}

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: String,
    work: impl FnOnce() -> Result<T, WorkerError> + Send + 'static,
) -> Result<T, WorkerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(WorkerError::io(doing)(error.into())),
    }
}
