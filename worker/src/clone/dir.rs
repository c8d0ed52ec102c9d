//! The directories of a clone below `clones_dir`, and the steps from one to another.
//!
//! | name | what it is |
//! | --- | --- |
//! | `<slot>` | a clone; a slot is `<repository>`, or `<repository>@<n>` for the others, from 2 |
//! | `.<slot>.lock` | the lock of the process that works on the clone. It stays when the clone goes: a process that finds it gone could lock another file than one that still has it open |
//! | `.<slot>.cloning` | a clone in the making |
//! | `.<slot>.quarantined` | a damaged clone |
//! | `.<slot>.removing` | what is being removed |
//! | `.<slot>.patches` | the patches of the build that is made on the clone; they may be private |
//! | `.<repository>.request`, `.<repository>.done` | see `requests.rs` |
//! | `.ssh` | keys and connections of ssh, see `worker-hg/src/transport/ssh.rs` |
//!
//! A clone is made under `.cloning`, and takes its name by a rename when it is whole ([`CloneDir::install`]). A damaged
//! one loses its name by a rename ([`CloneDir::quarantine`]), and so does one that is removed. So whatever has the name
//! of a clone was whole once, at whichever step the process died; and what has another name can go, but for what is
//! kept in quarantine. Patches go with their build ([`CloneDir::make_patches`]); those of a process that died go with the
//! next one that has the lock ([`CloneDir::clear`]). Only the process with the lock takes these steps. The functions block.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use tempfile::TempDir;

use crate::{WorkerError, disk, settings, text};

/// The file with the source tip, within [`crate::vcs::Vcs::metadata`].
pub const SOURCE_TIP: &str = "source-tip";

/// What a directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Clone,
    Cloning,
    Quarantined,
    Removing,
    Patches,
}

impl Role {
    /// What its name ends with, if it is not the clone's own.
    fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Clone => None,
            Self::Cloning => Some("cloning"),
            Self::Quarantined => Some("quarantined"),
            Self::Removing => Some("removing"),
            Self::Patches => Some("patches"),
        }
    }
}

/// What is in a directory, as far as it is known without the version control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Nothing has its name.
    Missing,
    /// It cannot be read, for this reason.
    Unreadable(String),
    /// There is no source tip: it is not whole yet, or was found damaged.
    Incomplete,
    /// It was whole after its last pull.
    Complete {
        /// The first 12 digits of the source tip.
        tip: String,
        /// When it was last pulled, or cloned.
        last_pull: Timestamp,
    },
}

/// The lock of a slot, held while it lives.
#[derive(Debug)]
pub(crate) struct SlotLock(File);

impl Drop for SlotLock {
    fn drop(&mut self) {
        // To close the file is not enough: a child that another thread has forked shares it until its program begins.
        // If this fails, the lock goes with that child.
        let _ = self.0.unlock();
    }
}

/// The directories of one clone slot.
#[derive(Debug, Clone)]
pub(crate) struct CloneDir {
    clones_dir: PathBuf,
    metadata: &'static str,
    name: String,
}

impl CloneDir {
    /// The directories of the slot called `name`; `metadata` is that of its version control.
    pub(crate) fn new(clones_dir: &Path, metadata: &'static str, name: impl Into<String>) -> Self {
        Self {
            clones_dir: clones_dir.to_owned(),
            metadata,
            name: name.into(),
        }
    }

    /// The name of the slot.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The clone's own directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory(Role::Clone)
    }

    /// The directory with this role.
    pub(crate) fn directory(&self, role: Role) -> PathBuf {
        match role.suffix() {
            None => self.clones_dir.join(&self.name),
            Some(suffix) => beside(&self.clones_dir, &self.name, suffix),
        }
    }

    /// What is in the directory with this role.
    pub(crate) fn contents(&self, role: Role) -> Contents {
        let directory = self.directory(role);
        let path = directory.display();
        match fs::symlink_metadata(&directory) {
            Ok(data) if data.is_dir() => {}
            Ok(data) if data.is_symlink() => {
                return Contents::Unreadable(format!(
                    "{path} is a symbolic link, which is not followed"
                ));
            }
            Ok(_) => return Contents::Unreadable(format!("{path} is no directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Contents::Missing,
            Err(error) => return Contents::Unreadable(format!("cannot read {path}: {error}")),
        }
        let file = directory.join(self.metadata).join(SOURCE_TIP);
        match read_source_tip(&file) {
            Ok((tip, last_pull)) => Contents::Complete { tip, last_pull },
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidData
                ) =>
            {
                Contents::Incomplete
            }
            Err(error) => Contents::Unreadable(format!("cannot read {}: {error}", file.display())),
        }
    }

    /// Keeps others off the slot until what is returned is dropped; the system unlocks it when the process ends, so a
    /// crash frees it. [`WorkerError::InUse`] when another process has it.
    pub(crate) fn lock(&self) -> Result<SlotLock, WorkerError> {
        let path = self.lock_file();
        let mut options = File::options();
        options
            .write(true)
            .create(true)
            .custom_flags(OFlag::O_NOFOLLOW.bits());
        let file = disk::create_private(&self.clones_dir)
            .and_then(|()| options.open(&path))
            .map_err(WorkerError::io(format!("create {}", path.display())))?;
        match file.try_lock() {
            Ok(()) => Ok(SlotLock(file)),
            Err(TryLockError::WouldBlock) => Err(WorkerError::InUse {
                repository: self.name.clone(),
            }),
            Err(TryLockError::Error(error)) => {
                Err(WorkerError::io(format!("lock {}", path.display()))(error))
            }
        }
    }

    /// Whether a process has the lock. It is held for this moment, beside others who ask the same.
    pub(crate) fn is_locked(&self) -> Result<bool, WorkerError> {
        let path = self.lock_file();
        let doing = || WorkerError::io(format!("look at the lock {}", path.display()));
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        match File::options()
            .read(true)
            .custom_flags(flags.bits())
            .open(&path)
            .map(|file| file.try_lock_shared())
        {
            Ok(Ok(())) => Ok(false),
            Ok(Err(TryLockError::WouldBlock)) => Ok(true),
            Ok(Err(TryLockError::Error(error))) => Err(doing()(error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(doing()(error)),
        }
    }

    /// Whether the directory with the clone's name is a clone that a worker made: an operator may keep others beside
    /// ours.
    pub(crate) fn is_ours(&self) -> bool {
        let is_directory = |path: &Path| fs::symlink_metadata(path).is_ok_and(|data| data.is_dir());
        let directory = self.path();
        let metadata = directory.join(self.metadata);
        let traces = [metadata.join(SOURCE_TIP), self.lock_file()];
        is_directory(&directory)
            && is_directory(&metadata)
            && traces
                .iter()
                .any(|trace| fs::symlink_metadata(trace).is_ok_and(|data| data.is_file()))
    }

    /// Removes what an interrupted clone, removal or build left beside the clone.
    pub(crate) fn clear(&self) -> io::Result<()> {
        [Role::Cloning, Role::Removing, Role::Patches]
            .into_iter()
            .try_for_each(|role| disk::remove(&self.directory(role)))
    }

    /// Makes the directory for the patches of a build, which nobody else can look into. It goes when what is returned is
    /// dropped, which has to be before the next build on the clone.
    pub(crate) fn make_patches(&self) -> Result<TempDir, WorkerError> {
        let directory = self.directory(Role::Patches);
        let making = || {
            // What is there could not be removed after an earlier build.
            disk::remove(&directory)?;
            tempfile::Builder::new()
                .prefix(directory.file_name().unwrap_or_default())
                .rand_bytes(0)
                .permissions(fs::Permissions::from_mode(0o700))
                .tempdir_in(&self.clones_dir)
        };
        making().map_err(WorkerError::io(format!("make {}", directory.display())))
    }

    /// Gives the clone in the making its name.
    pub(crate) fn install(&self) -> io::Result<()> {
        fs::rename(self.directory(Role::Cloning), self.path())
    }

    /// Takes its name from a damaged clone. The one that was in quarantine before goes.
    pub(crate) fn quarantine(&self) -> io::Result<()> {
        let quarantined = self.directory(Role::Quarantined);
        disk::remove(&quarantined)?;
        fs::rename(self.path(), quarantined)
    }

    /// Lets the clone and the one in the making have each other's name.
    pub(crate) fn exchange(&self) -> io::Result<()> {
        let [cloning, spare] = [Role::Cloning, Role::Removing].map(|role| self.directory(role));
        disk::exchange(&self.path(), &cloning, &spare)
    }

    /// Removes the directory with this role. One that is removed in part only must not be taken for a clone, so it
    /// first loses its name.
    pub(crate) fn remove(&self, role: Role) -> io::Result<()> {
        let removing = self.directory(Role::Removing);
        if role != Role::Removing {
            disk::remove(&removing)?;
            fs::rename(self.directory(role), &removing)?;
        }
        disk::remove(&removing)
    }

    fn lock_file(&self) -> PathBuf {
        beside(&self.clones_dir, &self.name, "lock")
    }
}

/// The meaning of a file name below `clones_dir`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) role: Role,
    /// The slot's name.
    pub(crate) slot: String,
    pub(crate) repository: String,
    /// The slot's number; the first has 0.
    pub(crate) number: usize,
}

impl Entry {
    /// What a file name means, if it is one of ours.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (slot, role) = match name.strip_prefix('.') {
            None => (name, Role::Clone),
            Some(rest) => {
                let (slot, suffix) = rest.rsplit_once('.')?;
                let roles = [
                    Role::Cloning,
                    Role::Quarantined,
                    Role::Removing,
                    Role::Patches,
                ];
                (
                    slot,
                    roles
                        .into_iter()
                        .find(|role| role.suffix() == Some(suffix))?,
                )
            }
        };
        let (repository, number) = match slot.split_once('@') {
            None => (slot, 0),
            Some((repository, number)) => {
                (repository, number.parse::<usize>().ok()?.checked_sub(1)?)
            }
        };
        let entry = Self {
            role,
            slot: slot.to_owned(),
            repository: repository.to_owned(),
            number,
        };
        (settings::is_name(repository) && slot_name(repository, number) == slot).then_some(entry)
    }
}

/// The name of a repository's slot. A repository cannot be called so: see `Settings::check`.
pub(crate) fn slot_name(repository: &str, number: usize) -> String {
    if number == 0 {
        repository.to_owned()
    } else {
        format!("{repository}@{}", number + 1)
    }
}

/// A name of ours for a slot or a repository.
pub(crate) fn beside(clones_dir: &Path, name: &str, what: &str) -> PathBuf {
    clones_dir.join(format!(".{name}.{what}"))
}

/// The changeset in a file with a source tip, shortened, and when it was written.
fn read_source_tip(path: &Path) -> io::Result<(String, Timestamp)> {
    let data = fs::symlink_metadata(path)?;
    // Forty digits; whoever put something else there is not waited for.
    if !data.is_file() || data.len() != 40 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut tip = fs::read_to_string(path)?;
    if !text::is_hash(&tip) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    tip.truncate(12);
    let at = Timestamp::try_from(data.modified()?).map_err(io::Error::other)?;
    Ok((tip, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_was_written_under_them() {
        let table = [
            ("nss", Some((Role::Clone, "nss", "nss", 0))),
            ("nss@2", Some((Role::Clone, "nss@2", "nss", 1))),
            (
                ".nss@12.cloning",
                Some((Role::Cloning, "nss@12", "nss", 11)),
            ),
            (
                ".a.b-c_d.quarantined",
                Some((Role::Quarantined, "a.b-c_d", "a.b-c_d", 0)),
            ),
            (".nss.removing", Some((Role::Removing, "nss", "nss", 0))),
            (".nss@2.patches", Some((Role::Patches, "nss@2", "nss", 1))),
            (".nss.lock", None),
            (".ssh", None),
            ("..", None),
            (".", None),
            ("", None),
            ("..quarantined", None),
            ("-nss", None),
            ("nss\n", None),
            ("nss/..", None),
            ("nss@1", None),
            ("nss@0", None),
            ("nss@02", None),
            ("nss@+2", None),
            ("nss@", None),
            ("nss@2@3", None),
            ("nss@99999999999999999999", None),
        ];
        for (name, expected) in table {
            let entry = Entry::parse(name);
            let entry = entry
                .as_ref()
                .map(|it| (it.role, it.slot.as_str(), it.repository.as_str(), it.number));
            assert_eq!(entry, expected, "{name:?}");
        }
    }

    #[test]
    fn a_lock_is_seen_while_it_is_held() {
        let home = tempfile::tempdir().expect("a directory");
        let slot = CloneDir::new(home.path(), ".hg", "nss");
        assert!(!slot.is_locked().expect("looked"));
        assert!(
            !home.path().join(".nss.lock").exists(),
            "looking makes nothing"
        );
        let held = slot.lock().expect("locked");
        assert!(slot.is_locked().expect("looked"));
        assert!(matches!(slot.lock(), Err(WorkerError::InUse { .. })));
        drop(held);
        assert!(!slot.is_locked().expect("looked"));
    }

    #[test]
    fn a_child_that_shares_the_file_does_not_keep_the_lock() {
        let home = tempfile::tempdir().expect("a directory");
        let slot = CloneDir::new(home.path(), ".hg", "nss");
        let held = slot.lock().expect("locked");
        // As a fork has it.
        let shared = held.0.try_clone().expect("the same file again");
        drop(held);
        assert!(!slot.is_locked().expect("looked"));
        drop(shared);
    }
}
