//! The repository of one build.
//!
//! A build writes its blobs, trees and commits into a repository of its own, whose `objects/info/alternates` names the
//! objects of the clone: it reads both, and the push sends from both. So the clone never holds an object of a build.
//! There is nothing to strip or to collect, and the objects of a private patch are gone with the directory.
//!
//! It is `builds/<any name>` below the directory of the clone. Each one has another name: the thread of an interrupted
//! build can still write into its own one. [`clear`] removes them all, after each build and when the clone is opened. So
//! a crash leaves nothing for long.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use worker::disk;

use crate::program::SOURCE;

/// The directory of Git's own files in a clone.
pub(crate) const GIT_DIR: &str = ".git";

/// The directory with the repositories of builds in a clone.
const BUILDS: &str = "builds";

/// The objects of the clone, as seen from those of a build in `builds/<name>/objects`.
const ALTERNATE: &str = "../../../.git/objects\n";

/// The repository of one build, until [`clear`] removes it.
#[derive(Debug, Clone)]
pub(crate) struct Quarantine {
    git_dir: PathBuf,
}

impl Quarantine {
    /// Makes the repository for a build on the clone in `clone`. Blocks.
    pub(crate) fn make(clone: &Path, partial: bool) -> io::Result<Self> {
        let builds = clone.join(BUILDS);
        disk::create_private(&builds)?;
        let git_dir = tempfile::Builder::new()
            .disable_cleanup(true)
            .tempdir_in(&builds)?
            .path()
            .to_owned();
        init(&git_dir, partial)?;
        let info = git_dir.join("objects/info");
        fs::create_dir(&info)?;
        fs::write(info.join("alternates"), ALTERNATE)?;
        Ok(Self { git_dir })
    }

    /// The directory with its files, for a `git push`.
    pub(crate) fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// Opens it. Blocks.
    pub(crate) fn open(&self) -> gix::Result<gix::Repository> {
        Ok(open(self.git_dir())?.to_thread_local())
    }
}

/// Removes the repositories of builds on the clone in `clone`. Blocks.
pub(crate) fn clear(clone: &Path) -> io::Result<()> {
    disk::remove(&clone.join(BUILDS))
}

/// The directory of Git's own files of the clone in `clone`.
pub(crate) fn git_dir(clone: &Path) -> PathBuf {
    clone.join(GIT_DIR)
}

/// Opens a repository without any setting of the machine. Blocks.
pub(crate) fn open(git_dir: &Path) -> gix::Result<gix::ThreadSafeRepository> {
    gix::open::Options::isolated()
        .open_path_as_is(true)
        .strict_config(true)
        .open(git_dir)
}

/// Makes the files of a bare repository. A partial one has the source as the place of what it lacks. Blocks.
pub(crate) fn init(git_dir: &Path, partial: bool) -> io::Result<()> {
    for directory in ["objects/pack", "refs/heads"] {
        fs::create_dir_all(git_dir.join(directory))?;
    }
    let config = if partial {
        format!(
            "[core]\n\trepositoryformatversion = 1\n\tbare = true\n\
             [extensions]\n\tpartialClone = {SOURCE}\n\
             [remote \"{SOURCE}\"]\n\tpromisor = true\n\tpartialCloneFilter = blob:none\n"
        )
    } else {
        "[core]\n\trepositoryformatversion = 0\n\tbare = true\n".to_owned()
    };
    fs::write(git_dir.join("config"), config)?;
    fs::write(git_dir.join("HEAD"), head("refs/heads/main"))
}

/// The content of the file `HEAD` that names a branch.
pub(crate) fn head(branch: &str) -> String {
    format!("ref: {branch}\n")
}
