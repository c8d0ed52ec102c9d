//! Stale locks.
//!
//! Mercurial breaks the lock of a process that died on this machine. It keeps a lock from another container, whose host
//! name no machine has any more, and a lock whose process number another process has got. Such a lock would block the
//! clone permanently. But no two processes of ours work on one clone (see `worker/src/clone/dir.rs`). So of all locks
//! in it only those can be valid that an `hg` of a killed worker holds while it finishes its command. Such an `hg` runs
//! on this machine and names the clone on its command line.

use std::{fs, io, os::unix::ffi::OsStrExt, path::Path};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

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

/// Kills each `hg clone` into `directory`, and returns whether there was one. A killed worker leaves it behind, and it
/// would write among the files of the next clone. Only the process with the lock of the clone slot calls this: no other
/// process makes that clone.
pub(crate) fn kill_orphans(directory: &Path) -> io::Result<bool> {
    let mut found = false;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if has_argument(process, directory.as_os_str().as_bytes())
            && has_argument(process, b"clone")
        {
            tracing::warn!(process, "killing an `hg clone` that a dead worker left");
            // Each `hg` leads a process group. One that has just ended needs no signal.
            let _ = killpg(Pid::from_raw(process.cast_signed()), Signal::SIGKILL);
            found = true;
        }
    }
    Ok(found)
}

fn has_argument(process: u32, wanted: &[u8]) -> bool {
    let Ok(arguments) = fs::read(format!("/proc/{process}/cmdline")) else {
        return false;
    };
    arguments
        .split(|&byte| byte == 0)
        .any(|argument| argument == wanted)
}
