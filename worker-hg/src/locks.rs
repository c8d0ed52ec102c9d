//! Stale locks.
//!
//! Mercurial breaks the lock of a process that died on this machine. It keeps a lock from another container, whose host
//! name no machine has any more, and a lock whose process number another process has got. Such a lock would block the
//! clone permanently. But no two processes of ours work on one clone (see `worker/src/clone/dir.rs`). So of all locks
//! in it only those can be valid that an `hg` of a killed worker holds while it finishes its command. Such an `hg` runs
//! on this machine and names the clone on its command line.

use std::{fs, io, os::unix::ffi::OsStrExt, path::Path};

use worker::process::has_argument;

/// Mercurial's locks of a repository. A lock is a symbolic link to `host:process`.
const LOCKS: [&str; 2] = [".hg/wlock", ".hg/store/lock"];

/// Removes the locks in the clone in `directory` that no living `hg` holds.
pub(crate) fn break_stale(directory: &Path) -> io::Result<()> {
    for lock in LOCKS {
        let path = directory.join(lock);
        let Ok(holder) = fs::read_link(&path) else {
            continue;
        };
        let holder = holder.to_string_lossy();
        let process = holder
            .rsplit_once(':')
            .and_then(|(_, number)| number.parse().ok());
        if !process.is_some_and(|process| works_on(process, directory)) {
            tracing::warn!(path = %path.display(), %holder, "removing a lock whose process is gone");
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Whether a process of this machine names `directory` as its repository.
fn works_on(process: u32, directory: &Path) -> bool {
    has_argument(
        process,
        &[b"--repository=", directory.as_os_str().as_bytes()].concat(),
    )
}
