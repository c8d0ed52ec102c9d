//! Operations on whole directories. They block: call them on threads that may.

use std::{
    collections::HashSet,
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    sys::statvfs::statvfs,
};

/// The unit in which the system counts the blocks of files, in bytes.
const BLOCK: u64 = 512;

/// Counts the disk usage of directories: the blocks of their files and directories, those of a file with several names
/// once. Symbolic links are not followed. A file that vanishes meanwhile counts nothing.
#[derive(Debug, Default)]
pub struct Usage {
    seen: HashSet<(u64, u64)>,
    /// The first path that could not be read, and its error.
    pub fault: Option<(PathBuf, io::Error)>,
}

impl Usage {
    /// The bytes of `path` and all below it.
    pub fn of(&mut self, path: &Path) -> u64 {
        let data = match fs::symlink_metadata(path) {
            Ok(data) => data,
            Err(error) => return self.skip(path, error),
        };
        if !data.is_dir() && data.nlink() > 1 && !self.seen.insert((data.dev(), data.ino())) {
            return 0;
        }
        let mut bytes = data.blocks() * BLOCK;
        if data.is_dir() {
            match fs::read_dir(path) {
                Ok(entries) => {
                    bytes += entries
                        .flatten()
                        .map(|entry| self.of(&entry.path()))
                        .sum::<u64>()
                }
                Err(error) => return bytes + self.skip(path, error),
            }
        }
        bytes
    }

    fn skip(&mut self, path: &Path, error: io::Error) -> u64 {
        if error.kind() != io::ErrorKind::NotFound {
            self.fault.get_or_insert_with(|| (path.to_owned(), error));
        }
        0
    }
}

/// The bytes that are free for us on the file system of `path`.
pub fn free(path: &Path) -> io::Result<u64> {
    let system = statvfs(path)?;
    Ok(system
        .blocks_available()
        .saturating_mul(system.fragment_size()))
}

/// Makes a directory and its missing parents, for our user alone.
pub fn create_private(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

/// Makes a directory accessible for our user alone.
pub fn make_private(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
}

/// Copies a directory of plain files and directories. File systems that can share the blocks of copies do so.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    create_private(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Exchanges the names of two directories. `spare` is a free name beside them, for file systems that cannot do it in
/// one step.
pub fn exchange(one: &Path, other: &Path, spare: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE) {
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            remove(spare)?;
            fs::rename(one, spare)?;
            fs::rename(other, one)?;
            fs::rename(spare, other)
        }
        done => Ok(done?),
    }
}

/// Removes a directory, if it exists.
pub fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the contents of a directory, if it exists.
pub fn empty(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?
        } else {
            fs::remove_file(entry.path())?
        }
    }
    Ok(())
}

/// Runs blocking `work` on a thread that may block.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(error.into()))
}

/// Replaces a file atomically, and flushes it to the disk.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent()
        .map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn file_with_two_names_counts_once_and_links_are_not_followed() {
        let home = tempfile::tempdir().expect("a directory");
        let one = home.path().join("one");
        fs::create_dir(&one).expect("made");
        let empty = Usage::default().of(&one);
        fs::write(one.join("a"), vec![7; 100_000]).expect("written");
        let alone = Usage::default().of(&one);
        assert!(alone >= empty + 100_000, "{alone}");
        fs::hard_link(one.join("a"), one.join("b")).expect("linked");
        symlink("/", one.join("root")).expect("linked");
        let linked = Usage::default().of(&one);
        assert!(
            (alone..alone + 50_000).contains(&linked),
            "{alone} {linked}"
        );
    }

    #[test]
    fn two_directories_change_places() {
        let home = tempfile::tempdir().expect("a directory");
        let [one, other, spare] = ["one", "other", "spare"].map(|name| home.path().join(name));
        for directory in [&one, &other] {
            fs::create_dir(directory).expect("made");
        }
        fs::write(one.join("mine"), "").expect("written");
        exchange(&one, &other, &spare).expect("exchanged");
        assert!(
            other.join("mine").exists()
                && one.exists()
                && !one.join("mine").exists()
                && !spare.exists()
        );
    }
}
