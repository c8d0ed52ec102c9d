//! A quick look at a clone: whether its files can be read, and whether it has what its branches name.
//!
//! It finds what a crash, a full disk or a bad sector usually leaves: an empty `HEAD`, a branch without its commit, a
//! truncated pack. It does not read the contents of packs, which takes minutes. Damage there is found when a build reads
//! it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use gix::ObjectId;
use worker::WorkerError;

use super::lookup;
use crate::{fault, quarantine};

/// The size of a checksum.
const CHECKSUM: u64 = 20;

/// Opens the repository in `git_dir`. The inner error is the damage. Blocks.
pub(super) fn check(
    git_dir: &Path,
    tip: ObjectId,
) -> Result<Result<gix::ThreadSafeRepository, String>, WorkerError> {
    match look(git_dir, tip) {
        Err(error) if let Some(reason) = damage(&error) => Ok(Err(reason)),
        looked => looked.map(Ok),
    }
}

fn look(git_dir: &Path, tip: ObjectId) -> Result<gix::ThreadSafeRepository, WorkerError> {
    const DOING: &str = "check a clone";
    let repository = quarantine::open(git_dir).map_err(|error| {
        // Git takes a directory for a repository by its files.
        fault::lost(DOING, fault::chain(&error))
    })?;
    if let Some(pack) =
        truncated_pack(&git_dir.join("objects/pack")).map_err(WorkerError::io(DOING))?
    {
        return Err(fault::lost(DOING, format!("{pack} is not whole")));
    }
    let local = repository.to_thread_local();
    local
        .head()
        .map_err(|error| fault::lost(DOING, fault::chain(&error)))?;
    let branches = lookup::refs(&local)?;
    for id in branches.values().chain([&tip]) {
        if !lookup::is_commit(&local, *id)? {
            return Err(fault::lost(DOING, format!("it has no commit {id}")));
        }
    }
    lookup::tree_of(&local, tip)?;
    Ok(repository)
}

/// The damage that an error shows.
fn damage(error: &WorkerError) -> Option<String> {
    match error {
        WorkerError::Command {
            words,
            integrity: worker::Integrity::Lost,
            ..
        } => Some(words.clone()),
        _ => None,
    }
}

/// The first pack that does not end with the checksum in its index. A pack without an index, or an index without a
/// pack, is what a killed `git` leaves.
fn truncated_pack(directory: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(directory)? {
        let index = entry?.path();
        if index.extension() != Some(OsStr::new("idx")) {
            continue;
        }
        let pack = index.with_extension("pack");
        if !pack.exists() {
            continue;
        }
        // An index ends with the checksum of its pack, and that of itself.
        if from_end(&pack, CHECKSUM)?
            .is_none_or(|sum| !from_end(&index, 2 * CHECKSUM).is_ok_and(|other| other == Some(sum)))
        {
            let name = pack.file_name().unwrap_or_default();
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

/// The checksum that begins the number of bytes before the end of a file. `None` when the file is shorter.
fn from_end(path: &Path, distance: u64) -> io::Result<Option<[u8; 20]>> {
    let mut file = File::open(path)?;
    let Some(start) = file.metadata()?.len().checked_sub(distance) else {
        return Ok(None);
    };
    file.seek(SeekFrom::Start(start))?;
    let mut sum = [0; 20];
    file.read_exact(&mut sum)?;
    Ok(Some(sum))
}
