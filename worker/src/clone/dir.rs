//! The directories of a clone below `clones_dir`, and the renames between them.
//!
//! | name | what it is |
//! | --- | --- |
//! | `<slot>` | a clone; a slot is `<repository>`, or `<repository>@<n>` for the others, from 2 |
//! | `.<slot>.lock` | the lock of the process that works on the clone. It stays when the clone is removed: otherwise a process could lock a new file while another still has the old one open |
//! | `.<slot>.cloning` | a clone that is being made |
//! | `.<slot>.quarantined` | a damaged clone |
//! | `.<slot>.removing` | a directory that is being removed |
//! | `.<slot>.patches` | the patches of the build on the clone; they may be private |
//! | `.<repository>.request`, `.<repository>.done` | see `requests.rs` |
//! | `.ssh` | keys and connections of ssh, see `ssh.rs` |
//!
//! A clone is made under `.cloning`, and gets its name by a rename when it is whole ([`CloneDir::install`]). A damaged
//! clone loses its name by a rename ([`CloneDir::quarantine`]), and so does one that is removed. So a directory with
//! the name of a clone was whole once, at whichever step the process died. A directory with another name can be
//! removed; a quarantined clone is kept for inspection. Patches are removed with their build
//! ([`CloneDir::make_patches`]). Those of a process that died are removed by the next one that has the lock
//! ([`CloneDir::clear`]). Only the process with the lock takes these steps; [`super::inventory::Inventory::remove`]
//! removes `.quarantined` and `.removing` without it. The functions block.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
};
use tempfile::TempDir;

use crate::{WorkerError, disk, settings, source_tip};

/// The purpose of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Clone,
    Cloning,
    Quarantined,
    Removing,
    Patches,
}

impl Role {
    /// The end of its name; `None` for a clone.
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

/// The contents of a directory, as far as they are known without the version control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Contents {
    /// There is no such directory.
    Missing,
    /// It cannot be read, for this reason.
    Unreadable(String),
    /// There is no source tip: the clone is not whole yet, or was found damaged.
    Incomplete,
    /// It was whole after its last pull.
    Complete {
        /// The first 12 digits of the source tip.
        tip: String,
        /// The time of the last pull, or of the clone.
        last_pull: Timestamp,
    },
}

/// The lock of a slot, held until this is dropped. It belongs to the open file, as a lock of flock(2) does. In contrast
/// to that, it can be queried without being taken.
#[derive(Debug)]
pub(crate) struct SlotLock(File);

impl Drop for SlotLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that another thread has forked shares it until its program begins. If
        // the unlock fails, the lock ends with that child.
        let _ = set_lock(&self.0, libc::F_UNLCK);
    }
}

/// Locks or unlocks a file, without waiting. Another open file with the lock gives `EAGAIN` or `EACCES`.
fn set_lock(file: &File, kind: libc::c_int) -> nix::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(kind))).map(drop)
}

/// Whether another open file has the lock. The query takes no lock, so [`CloneDir::lock`] cannot fail because of it.
fn is_held(file: &File) -> io::Result<bool> {
    let mut lock = whole_file(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK)
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// The directories of one clone slot.
#[derive(Debug, Clone)]
pub(crate) struct CloneDir {
    clones_dir: PathBuf,
    name: String,
}

impl CloneDir {
    /// The directories of the slot called `name`.
    pub(crate) fn new(clones_dir: &Path, name: impl Into<String>) -> Self {
        Self {
            clones_dir: clones_dir.to_owned(),
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

    /// The contents of the directory with this role.
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
            Ok(_) => return Contents::Unreadable(format!("{path} is not a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Contents::Missing,
            Err(error) => return Contents::Unreadable(format!("cannot read {path}: {error}")),
        }
        match source_tip::describe(&directory) {
            Ok((tip, last_pull)) => Contents::Complete { tip, last_pull },
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidData
                ) =>
            {
                Contents::Incomplete
            }
            Err(error) => Contents::Unreadable(format!(
                "cannot read {}: {error}",
                directory.join(source_tip::FILE).display()
            )),
        }
    }

    /// Locks the slot until the return value is dropped. The system unlocks it when the process ends, so a crash frees
    /// it. Returns [`WorkerError::InUse`] when another process has the lock.
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
        match set_lock(&file, libc::F_WRLCK) {
            Ok(()) => Ok(SlotLock(file)),
            Err(Errno::EAGAIN | Errno::EACCES) => Err(WorkerError::InUse {
                repository: self.name.clone(),
            }),
            Err(error) => Err(WorkerError::io(format!("lock {}", path.display()))(
                error.into(),
            )),
        }
    }

    /// Whether a process has the lock. The check takes no lock itself.
    pub(crate) fn is_locked(&self) -> Result<bool, WorkerError> {
        let path = self.lock_file();
        let doing = WorkerError::io(format!("check the lock {}", path.display()));
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        match File::options()
            .read(true)
            .custom_flags(flags.bits())
            .open(&path)
            .and_then(|file| is_held(&file))
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            held => held.map_err(doing),
        }
    }

    /// Whether the directory with the clone's name is a clone that a worker made: an operator may keep others beside
    /// ours.
    pub(crate) fn is_ours(&self) -> bool {
        let directory = self.path();
        let is = |path: &Path, kind: fn(&fs::Metadata) -> bool| {
            fs::symlink_metadata(path).is_ok_and(|data| kind(&data))
        };
        is(&directory, fs::Metadata::is_dir)
            && is(&directory.join(source_tip::FILE), fs::Metadata::is_file)
    }

    /// Marks the clone as damaged: it cannot be opened again, and has to be cloned again.
    pub(crate) fn mark_corrupt(&self) -> Result<(), WorkerError> {
        source_tip::invalidate(&self.path()).map_err(WorkerError::io(format!(
            "mark the clone {} as corrupt",
            self.name
        )))
    }

    /// Removes what an interrupted clone, removal or build left beside the clone.
    pub(crate) fn clear(&self) -> io::Result<()> {
        [Role::Cloning, Role::Removing, Role::Patches]
            .into_iter()
            .try_for_each(|role| disk::remove(&self.directory(role)))
    }

    /// Makes the directory for the patches of a build, for our user alone. It is removed when the return value is
    /// dropped, which has to be before the next build on the clone.
    pub(crate) fn make_patches(&self) -> Result<TempDir, WorkerError> {
        let directory = self.directory(Role::Patches);
        let making = || {
            // This exists if it could not be removed after an earlier build.
            disk::remove(&directory)?;
            tempfile::Builder::new()
                .prefix(directory.file_name().unwrap_or_default())
                .rand_bytes(0)
                .permissions(fs::Permissions::from_mode(0o700))
                .tempdir_in(&self.clones_dir)
        };
        making().map_err(WorkerError::io(format!("make {}", directory.display())))
    }

    /// Renames a finished clone from `.cloning` to its own name.
    pub(crate) fn install(&self) -> io::Result<()> {
        fs::rename(self.directory(Role::Cloning), self.path())
    }

    /// Renames a damaged clone. Removes the one that was quarantined before.
    pub(crate) fn quarantine(&self) -> io::Result<()> {
        let quarantined = self.directory(Role::Quarantined);
        disk::remove(&quarantined)?;
        fs::rename(self.path(), quarantined)
    }

    /// Exchanges the names of the clone and of the new one in `.cloning`.
    pub(crate) fn exchange(&self) -> io::Result<()> {
        let [cloning, spare] = [Role::Cloning, Role::Removing].map(|role| self.directory(role));
        disk::exchange(&self.path(), &cloning, &spare)
    }

    /// Removes the directory with this role. It is renamed first: a directory that is removed in part must not count as
    /// a clone.
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
    /// The meaning of a file name, if it is one of ours.
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

/// The name of a repository's slot. No repository has a name with `@`: see `Settings::check`.
pub(crate) fn slot_name(repository: &str, number: usize) -> String {
    if number == 0 {
        repository.to_owned()
    } else {
        format!("{repository}@{}", number + 1)
    }
}

/// The path of one of our files or directories for a slot or a repository.
pub(crate) fn beside(clones_dir: &Path, name: &str, what: &str) -> PathBuf {
    clones_dir.join(format!(".{name}.{what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_parsed_into_role_and_slot() {
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
    fn lock_is_seen_while_it_is_held() {
        let home = tempfile::tempdir().expect("a directory");
        let slot = CloneDir::new(home.path(), "nss");
        assert!(!slot.is_locked().expect("looked"));
        assert!(
            !home.path().join(".nss.lock").exists(),
            "the check makes no file"
        );
        let held = slot.lock().expect("locked");
        assert!(slot.is_locked().expect("looked"));
        assert!(matches!(slot.lock(), Err(WorkerError::InUse { .. })));
        drop(held);
        assert!(!slot.is_locked().expect("looked"));
    }

    #[test]
    fn child_that_shares_the_file_does_not_keep_the_lock() {
        let home = tempfile::tempdir().expect("a directory");
        let slot = CloneDir::new(home.path(), "nss");
        let held = slot.lock().expect("locked");
        // As a forked child has it.
        let shared = held.0.try_clone().expect("the same file again");
        drop(held);
        assert!(!slot.is_locked().expect("looked"));
        drop(shared);
    }

    #[test]
    fn check_of_a_lock_takes_none() {
        let home = tempfile::tempdir().expect("a directory");
        let slot = CloneDir::new(home.path(), "nss");
        drop(slot.lock().expect("locked"));
        let file = File::open(slot.lock_file()).expect("opened");
        assert!(!is_held(&file).expect("checked"));
        // A forked child keeps the file of a check open until its program begins.
        let _held = slot.lock().expect("the check has no lock");
        assert!(is_held(&file).expect("checked"));
    }
}
