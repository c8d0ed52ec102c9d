//! The processes of a dead worker, and the files that a killed `git` leaves.
//!
//! A `git` that is killed leaves its lock files (`*.lock`), half-written packs and objects (`tmp_*`), and the marks of
//! packs that it was about to use (`*.keep`). Such a lock would block the clone permanently: Git does not know whose it
//! is. But no two processes of ours work on one clone (see `worker/src/clone/dir.rs`), so when no `git` of a killed
//! worker is left on it, all of these files are stale.

use std::{ffi::OsStr, fs, io, os::unix::ffi::OsStrExt, path::Path, time::Duration};

use worker::process;

/// The interval of the checks whether killed processes are gone.
const POLL: Duration = Duration::from_millis(10);

/// The number of these checks. A process that waits for a disk cannot be killed before it answers.
const POLLS: usize = 3000;

/// Kills each process that works on a repository in `directory`, and returns whether there was one. `git` names its
/// repository in the environment, which its children inherit.
pub(crate) fn kill_orphans(directory: &Path) -> io::Result<bool> {
    process::kill_orphans(|process| works_on(process, directory).then(|| "git".to_owned()))
}

/// Kills the processes that work on a repository in `directory`, and waits until they are gone. Blocks.
///
/// A process that begins another program has no environment for a moment, so two checks in a row have to find none.
pub(crate) fn end_orphans(directory: &Path) -> io::Result<()> {
    let mut was_clear = false;
    for _ in 0..POLLS {
        let is_clear = !kill_orphans(directory)?;
        if is_clear && was_clear {
            return Ok(());
        }
        was_clear = is_clear;
        #[expect(
            clippy::disallowed_methods,
            reason = "this thread may block, and a killed process is gone within milliseconds"
        )]
        std::thread::sleep(POLL);
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "a killed `git` does not end; is the disk stuck?",
    ))
}

/// Whether a process has a repository in `directory`. The environment of a process that has ended is empty.
fn works_on(process: u32, directory: &Path) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{process}/environ")) else {
        return false;
    };
    environment
        .split(|&byte| byte == 0)
        .filter_map(|variable| variable.strip_prefix(b"GIT_DIR="))
        .any(|git_dir| Path::new(OsStr::from_bytes(git_dir)).starts_with(directory))
}

/// Removes what a killed `git` left in the repository in `git_dir`. No `git` may work on it. Blocks.
pub(crate) fn remove_stale(git_dir: &Path) -> io::Result<()> {
    remove_in(git_dir, 0, &|name| name.ends_with(b".lock"))?;
    remove_in(&git_dir.join("refs"), usize::MAX, &|name| {
        name.ends_with(b".lock")
    })?;
    // `objects` has directories for loose objects, and `pack`, `info` and `info/commit-graphs`.
    remove_in(&git_dir.join("objects"), 2, &|name| {
        name.starts_with(b"tmp_")
            || name.starts_with(b".tmp-")
            || name.ends_with(b".lock")
            || name.ends_with(b".keep")
    })
}

/// Removes the files with such names in a directory, and in those below it down to `depth`. Directories with such names
/// are those in which Git collects objects.
fn remove_in(directory: &Path, depth: usize, is_stale: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (path, is_directory) = (entry.path(), entry.file_type()?.is_dir());
        if is_stale(entry.file_name().as_bytes()) {
            tracing::warn!(path = %path.display(), "removing what a killed `git` left");
            if is_directory {
                fs::remove_dir_all(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
        } else if is_directory && depth > 0 {
            remove_in(&path, depth - 1, is_stale)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn files_of_a_killed_git_are_removed_and_others_stay() {
        let home = tempfile::tempdir().expect("a directory");
        let stale = [
            "HEAD.lock",
            "packed-refs.lock",
            "refs/heads/a/b.lock",
            "objects/pack/tmp_pack_x",
            "objects/pack/.tmp-1-pack-y.pack",
            "objects/pack/pack-1.keep",
            "objects/ab/tmp_obj_z",
            "objects/tmp_objdir-incoming-1/pack/x",
            "objects/info/commit-graphs/commit-graph-chain.lock",
        ];
        let kept = [
            "HEAD",
            "refs/heads/tmp_x",
            "refs/heads/a/c",
            "objects/pack/pack-1.pack",
            "objects/ab/cd",
        ];
        for file in stale.iter().chain(&kept) {
            let path = home.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, "").expect("written");
        }
        remove_stale(home.path()).expect("removed");
        for file in stale {
            assert!(!home.path().join(file).exists(), "{file}");
        }
        for file in kept {
            assert!(home.path().join(file).exists(), "{file}");
        }
    }

    #[test]
    fn processes_on_the_clone_are_killed_and_others_live() {
        let home = tempfile::tempdir().expect("a directory");
        let start = |directory: &Path| {
            Command::new("sleep")
                .arg("600")
                .env("GIT_DIR", directory.join(".git"))
                .spawn()
                .expect("sleep")
        };
        let ours = home.path().join("central");
        let (mut orphan, mut other) = (start(&ours), start(&home.path().join("central@2")));
        assert!(kill_orphans(&ours).expect("read"));
        assert!(!orphan.wait().expect("ended").success());
        end_orphans(&ours).expect("all have ended");
        assert_eq!(other.try_wait().expect("a state"), None);
        other.kill().expect("killed");
        other.wait().expect("ended");
    }
}
