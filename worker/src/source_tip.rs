//! The source tip of a clone: the newest revision of the source, as of the last update. It is in a file of the clone's
//! directory, beside the files of the version control. A clone without a valid one is not whole yet, or was found
//! damaged.

use std::{fs, io, path::Path};

use jiff::Timestamp;

use crate::{WorkerError, disk::write_atomically, text};

/// The name of the file.
pub const FILE: &str = "source-tip";

/// Writes the source tip of the clone in `directory`.
pub fn write(directory: &Path, tip: &str) -> Result<(), WorkerError> {
    write_atomically(&directory.join(FILE), tip.as_bytes()).map_err(WorkerError::io(format!(
        "write the source tip of {}",
        directory.display()
    )))
}

/// The source tip of the clone in `directory`; the error is the damage of the clone.
pub fn read(directory: &Path) -> Result<String, String> {
    let tip = fs::read_to_string(directory.join(FILE))
        .map_err(|error| format!("it has no source tip: {error}"))?;
    if text::is_hash(&tip) {
        Ok(tip)
    } else {
        Err("its source tip is not a revision".to_owned())
    }
}

/// Makes the source tip of the clone in `directory` invalid. The file stays: it shows that the clone is ours.
pub(crate) fn invalidate(directory: &Path) -> io::Result<()> {
    let mut options = fs::File::options();
    options.write(true).truncate(true);
    options.open(directory.join(FILE)).map(drop)
}

/// The first 12 digits of the source tip of the clone in `directory`, and the time when it was written. Also reads a
/// directory that somebody else filled.
pub(crate) fn describe(directory: &Path) -> io::Result<(String, Timestamp)> {
    let path = directory.join(FILE);
    let data = fs::symlink_metadata(&path)?;
    // A regular file of 40 digits: to read anything else could block.
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
