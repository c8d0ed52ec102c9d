//! The inventory of `clones_dir`: the clones, the rests of others, and which of them can be removed. The functions
//! block.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::Serialize;
use tracing::info;

use crate::{
    Settings, WorkerError,
    clone::dir::{CloneDir, Contents, Entry, Role, slot_name},
    disk::Usage,
};

/// The contents of `clones_dir`, compared with the configured repositories.
#[derive(Debug, Clone)]
pub struct Inventory {
    clones_dir: PathBuf,
    /// The names of the repositories, each with its number of clone slots.
    configured: Vec<(String, usize)>,
}

/// A clone, or the rest of one.
#[derive(Debug, Clone, Serialize)]
pub struct CloneReport {
    /// The repository's name.
    pub repository: String,
    /// The number of the clone slot, from 1.
    pub slot: usize,
    /// Its state.
    pub state: CloneState,
    /// Whether a process has its clone slot.
    pub in_use: bool,
    /// The name of the directory, below `clones_dir`.
    pub directory: String,
    /// Its disk usage. A file that several share counts for the first of them.
    pub bytes: u64,
    /// The first 12 digits of the newest changeset of the source, as of the last pull.
    pub tip: Option<String>,
    /// The time of its last pull, or of its clone.
    pub last_pull: Option<Timestamp>,
    /// The first part of it that could not be read, and the error.
    pub fault: Option<String>,
}

/// The state of a clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CloneState {
    /// Whole, and no process has it.
    Ready,
    /// A worker, or a command of an operator, has it.
    InUse,
    /// It is being made.
    Cloning,
    /// It has no source tip, so the source's changesets in it are unknown; the next worker clones it again.
    Damaged,
    /// Configured, and not there yet; the next worker makes it.
    Missing,
    /// It was damaged; kept for inspection.
    Quarantined,
    /// The rest of a clone, a removal or a build that was interrupted.
    Interrupted,
    /// A whole clone, of a repository or a clone slot that is not configured.
    NotConfigured,
    /// We cannot read it.
    Unreadable,
}

impl CloneState {
    /// The state of a directory with this role. Only this function decides it.
    fn of(role: Role, contents: &Contents, is_configured: bool, in_use: bool) -> Self {
        match (role, contents) {
            (Role::Cloning, _) if in_use => Self::Cloning,
            (Role::Cloning | Role::Removing | Role::Patches, _) => Self::Interrupted,
            (Role::Quarantined, _) => Self::Quarantined,
            (Role::Clone, Contents::Missing) => Self::Missing,
            (Role::Clone, _) if !is_configured => Self::NotConfigured,
            (Role::Clone, Contents::Unreadable(_)) => Self::Unreadable,
            (Role::Clone, _) if in_use => Self::InUse,
            (Role::Clone, Contents::Incomplete) => Self::Damaged,
            (Role::Clone, Contents::Complete { .. }) => Self::Ready,
        }
    }

    /// The state in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::InUse => "in use",
            Self::Cloning => "cloning",
            Self::Damaged => "damaged",
            Self::Missing => "missing",
            Self::Quarantined => "quarantined",
            Self::Interrupted => "interrupted",
            Self::NotConfigured => "not configured",
            Self::Unreadable => "unreadable",
        }
    }
}

impl CloneReport {
    /// The name of the clone slot.
    pub fn name(&self) -> String {
        slot_name(&self.repository, self.slot - 1)
    }

    /// Whether no worker needs it.
    pub fn is_removable(&self) -> bool {
        match self.state {
            CloneState::Quarantined | CloneState::Interrupted => true,
            CloneState::NotConfigured => !self.in_use,
            _ => false,
        }
    }
}

impl Inventory {
    /// The directory and the repositories of these settings.
    pub fn new(settings: &Settings) -> Self {
        let configured = settings
            .repositories
            .iter()
            .map(|one| (one.name.clone(), one.clone_slots));
        Self {
            clones_dir: settings.clones_dir.clone(),
            configured: configured.collect(),
        }
    }

    /// The directory with the clones.
    pub fn directory(&self) -> &Path {
        &self.clones_dir
    }

    /// The clones and rests of clones, and the configured clones that are missing: by repository and slot, the clone
    /// first.
    pub fn list(&self) -> Result<Vec<CloneReport>, WorkerError> {
        self.measured(|_| true)
    }

    /// As [`Self::list`], for one repository.
    pub fn of(&self, repository: &str) -> Result<Vec<CloneReport>, WorkerError> {
        self.measured(|report| report.repository == repository)
    }

    /// The clones and rests that no worker needs, in the order in which they can be removed.
    pub fn removable(&self) -> Result<Vec<CloneReport>, WorkerError> {
        let mut reports = self.measured(CloneReport::is_removable)?;
        // The removal of a clone also removes the rest of an earlier removal.
        reports.sort_by_key(|report| !report.directory.ends_with(".removing"));
        Ok(reports)
    }

    /// The whole clones of repositories and slots that are not configured, in use or not.
    pub fn not_configured(&self) -> Result<Vec<CloneReport>, WorkerError> {
        self.measured(|report| report.state == CloneState::NotConfigured)
    }

    /// Removes a clone that [`Self::removable`] found. Returns `false` when it is needed after all, or gone.
    pub fn remove(&self, report: &CloneReport) -> Result<bool, WorkerError> {
        let Some(entry) = Entry::parse(&report.directory) else {
            return Ok(false);
        };
        let dir = self.dir(&entry);
        // The lock protects a clone and its build. No build uses a quarantined clone, or one that is being removed.
        let _lock = match entry.role {
            Role::Clone | Role::Cloning | Role::Patches => match dir.lock() {
                Err(WorkerError::InUse { .. }) => return Ok(false),
                lock => Some(lock?),
            },
            Role::Quarantined | Role::Removing => None,
        };
        let directory = dir.directory(entry.role);
        let needed =
            entry.role == Role::Clone && (self.is_configured(&entry) || !self.is_there(&entry));
        if needed || !is_directory(&directory) {
            return Ok(false);
        }
        dir.remove(entry.role)
            .map(|()| true)
            .map_err(WorkerError::io(format!("remove {}", directory.display())))
    }

    /// Removes the patches of interrupted builds on clones that are not configured: no worker prepares such a clone,
    /// and the patches may be private.
    pub(crate) fn remove_left_patches(&self) -> Result<(), WorkerError> {
        for report in self.scan()? {
            let is_left = Entry::parse(&report.directory)
                .is_some_and(|it| it.role == Role::Patches && !self.is_configured(&it));
            if is_left && self.remove(&report)? {
                info!(
                    repository = report.name(),
                    "removed the patches of an interrupted build"
                );
            }
        }
        Ok(())
    }

    fn measured(
        &self,
        wanted: impl Fn(&CloneReport) -> bool,
    ) -> Result<Vec<CloneReport>, WorkerError> {
        let mut reports = self.scan()?;
        reports.retain(wanted);
        let mut usage = Usage::default();
        for report in &mut reports {
            report.bytes = usage.of(&self.clones_dir.join(&report.directory));
            if let Some((path, error)) = usage.fault.take() {
                report
                    .fault
                    .get_or_insert_with(|| format!("cannot read {}: {error}", path.display()));
            }
        }
        Ok(reports)
    }

    /// Makes the reports of all directories, without their sizes.
    fn scan(&self) -> Result<Vec<CloneReport>, WorkerError> {
        let doing = || {
            format!(
                "read the directory with the clones, {}",
                self.clones_dir.display()
            )
        };
        let mut entries = Vec::new();
        match fs::read_dir(&self.clones_dir) {
            Ok(files) => {
                for file in files {
                    let name = file.map_err(WorkerError::io(doing()))?.file_name();
                    entries.extend(
                        name.to_str()
                            .and_then(Entry::parse)
                            .filter(|entry| self.is_there(entry)),
                    );
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(WorkerError::io(doing())(error)),
        }
        let mut reports = Vec::with_capacity(entries.len());
        for entry in &entries {
            let report = self.report(entry)?;
            // Patches in use are removed with their build.
            if entry.role != Role::Patches || !report.in_use {
                reports.push(report);
            }
        }
        for (repository, slots) in &self.configured {
            for slot in 1..=*slots {
                let is_it = |report: &CloneReport| {
                    report.repository == *repository
                        && report.slot == slot
                        && !matches!(
                            report.state,
                            CloneState::Quarantined | CloneState::Interrupted
                        )
                };
                if !reports.iter().any(is_it) {
                    reports.push(self.report(&Entry {
                        role: Role::Clone,
                        slot: slot_name(repository, slot - 1),
                        repository: repository.clone(),
                        number: slot - 1,
                    })?);
                }
            }
        }
        reports.sort_by_cached_key(|it| {
            (
                it.repository.clone(),
                it.slot,
                it.directory.starts_with('.'),
                it.directory.clone(),
            )
        });
        Ok(reports)
    }

    /// Whether it is a directory, and ours.
    fn is_there(&self, entry: &Entry) -> bool {
        let dir = self.dir(entry);
        match entry.role {
            Role::Clone if !self.is_configured(entry) => dir.is_ours(),
            role => is_directory(&dir.directory(role)),
        }
    }

    fn is_configured(&self, entry: &Entry) -> bool {
        self.configured
            .iter()
            .any(|(name, slots)| *name == entry.repository && entry.number < *slots)
    }

    fn dir(&self, entry: &Entry) -> CloneDir {
        CloneDir::new(&self.clones_dir, entry.slot.as_str())
    }

    fn report(&self, entry: &Entry) -> Result<CloneReport, WorkerError> {
        let dir = self.dir(entry);
        let in_use = dir.is_locked()?;
        let contents = dir.contents(entry.role);
        let state = CloneState::of(entry.role, &contents, self.is_configured(entry), in_use);
        let (tip, last_pull, fault) = match contents {
            Contents::Missing | Contents::Incomplete => (None, None, None),
            Contents::Complete { tip, last_pull } => (Some(tip), Some(last_pull), None),
            Contents::Unreadable(fault) => (None, None, Some(fault)),
        };
        let directory = dir.directory(entry.role);
        let directory = directory.file_name().unwrap_or_default().to_string_lossy();
        Ok(CloneReport {
            repository: entry.repository.clone(),
            slot: entry.number + 1,
            state,
            in_use,
            directory: directory.into_owned(),
            bytes: 0,
            tip,
            last_pull,
            fault,
        })
    }
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|data| data.is_dir())
}
