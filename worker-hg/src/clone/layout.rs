//! The names below `clones_dir`, and the locks there.
//!
//! | name | what it is |
//! | --- | --- |
//! | `<lane>` | a clone; a lane is `<repository>`, or `<repository>@<n>` for the others, from 2 |
//! | `.<lane>.lock` | the lock of whoever works on the clone. It stays when the clone goes: who finds it gone could lock another file than who still has it open |
//! | `.<lane>.cloning` | a clone in the making |
//! | `.<lane>.aside` | a damaged clone |
//! | `.<lane>.removing` | what is being removed |
//! | `.<repository>.request`, `.<repository>.done` | see `request.rs` |
//! | `.ssh` | see `ssh.rs` |

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use crate::{HgError, disk, hg::clone::SOURCE_TIP, settings};

/// What a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Clone,
    Cloning,
    Aside,
    Removing,
}

/// A directory of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// The lane's name.
    pub(crate) lane: String,
    pub(crate) repository: String,
    /// The lane's number; the first has 0.
    pub(crate) number: usize,
}

impl Place {
    /// What a file name means, if it is one of ours.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (lane, kind) = match name.strip_prefix('.') {
            None => (name, Kind::Clone),
            Some(rest) => match rest.rsplit_once('.')? {
                (lane, "cloning") => (lane, Kind::Cloning),
                (lane, "aside") => (lane, Kind::Aside),
                (lane, "removing") => (lane, Kind::Removing),
                _ => return None,
            },
        };
        let (repository, number) = match lane.split_once('@') {
            None => (lane, 0),
            Some((repository, number)) => {
                (repository, number.parse::<usize>().ok()?.checked_sub(1)?)
            }
        };
        let place = Self {
            kind,
            lane: lane.to_owned(),
            repository: repository.to_owned(),
            number,
        };
        (settings::is_name(repository) && lane_name(repository, number) == lane).then_some(place)
    }
}

/// The name of a repository's lane. A repository cannot be called so: see `Settings::check`.
pub(crate) fn lane_name(repository: &str, number: usize) -> String {
    if number == 0 {
        repository.to_owned()
    } else {
        format!("{repository}@{}", number + 1)
    }
}

/// A name of ours for a lane or a repository.
pub(crate) fn beside(clones_dir: &Path, lane: &str, what: &str) -> PathBuf {
    clones_dir.join(format!(".{lane}.{what}"))
}

/// Keeps others off a lane until what is returned is dropped; the system lets go of it with the file, so a crash frees
/// it. [`HgError::InUse`] when somebody has it.
pub(crate) fn lock(clones_dir: &Path, lane: &str) -> Result<File, HgError> {
    let path = beside(clones_dir, lane, "lock");
    let mut options = File::options();
    options
        .write(true)
        .create(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits());
    let file = disk::create_private(clones_dir)
        .and_then(|()| options.open(&path))
        .map_err(HgError::io(format!("create {}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(HgError::InUse {
            repository: lane.to_owned(),
        }),
        Err(TryLockError::Error(error)) => {
            Err(HgError::io(format!("lock {}", path.display()))(error))
        }
    }
}

/// Whether somebody has the lock of a lane. It is held for this moment, beside others who ask the same.
pub(crate) fn is_locked(clones_dir: &Path, lane: &str) -> Result<bool, HgError> {
    let path = beside(clones_dir, lane, "lock");
    let doing = || HgError::io(format!("look at the lock {}", path.display()));
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

/// Whether a directory with a clone's name is a clone that a worker made: an operator may keep others beside ours.
pub(crate) fn is_ours(clones_dir: &Path, lane: &str) -> bool {
    let is_directory = |path: &Path| fs::symlink_metadata(path).is_ok_and(|data| data.is_dir());
    let directory = clones_dir.join(lane);
    let traces = [directory.join(SOURCE_TIP), beside(clones_dir, lane, "lock")];
    is_directory(&directory)
        && is_directory(&directory.join(".hg"))
        && traces
            .iter()
            .any(|trace| fs::symlink_metadata(trace).is_ok_and(|data| data.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_was_written_under_them() {
        let table = [
            ("nss", Some((Kind::Clone, "nss", "nss", 0))),
            ("nss@2", Some((Kind::Clone, "nss@2", "nss", 1))),
            (
                ".nss@12.cloning",
                Some((Kind::Cloning, "nss@12", "nss", 11)),
            ),
            (
                ".a.b-c_d.aside",
                Some((Kind::Aside, "a.b-c_d", "a.b-c_d", 0)),
            ),
            (".nss.removing", Some((Kind::Removing, "nss", "nss", 0))),
            (".nss.lock", None),
            (".ssh", None),
            (".ssh", None),
            ("..", None),
            (".", None),
            ("", None),
            ("..aside", None),
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
            let place = Place::parse(name);
            let place = place
                .as_ref()
                .map(|it| (it.kind, it.lane.as_str(), it.repository.as_str(), it.number));
            assert_eq!(place, expected, "{name:?}");
        }
    }

    #[test]
    fn a_lock_is_seen_while_it_is_held() {
        let home = tempfile::tempdir().expect("a directory");
        assert!(!is_locked(home.path(), "nss").expect("looked"));
        assert!(
            !home.path().join(".nss.lock").exists(),
            "looking makes nothing"
        );
        let held = lock(home.path(), "nss").expect("locked");
        assert!(is_locked(home.path(), "nss").expect("looked"));
        assert!(matches!(
            lock(home.path(), "nss"),
            Err(HgError::InUse { .. })
        ));
        drop(held);
        assert!(!is_locked(home.path(), "nss").expect("looked"));
    }
}
