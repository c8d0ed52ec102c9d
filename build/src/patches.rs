//! The contents of patches, for the step that applies them.
//!
//! A message names the patches of a stack and does not hold their contents. So a queue of builds stays small however large
//! the patches are, and a patch that becomes private while its build waits is in no queue, record or dead letter.
//!
//! The contents are on disk, in a directory that the step makes and removes. So a worker has one patch at a time in memory.

use std::{
    error::Error,
    fmt,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use thiserror::Error;

use super::{Build, PatchFailure};

/// The content of a patch.
#[derive(Clone, PartialEq, Eq)]
pub struct PatchContent {
    /// `Name <mail>` of its first commit, without quotes; `None` when the diff has no commit information.
    pub author: Option<String>,
    /// The message of its first commit, or the one that the stack was loaded with. Never empty.
    pub message: String,
    /// The patch in git's format, as Phabricator renders it. Hostile.
    pub file: PatchFile,
}

/// Leaves the content out: it may be large, and private.
impl fmt::Debug for PatchContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatchContent")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// A patch on disk. Whoever made its directory removes the file with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchFile {
    path: PathBuf,
    size: usize,
}

impl PatchFile {
    /// Creates the file of the patch at this place of a stack. No other user can read it.
    pub fn create(directory: &Path, place: usize) -> io::Result<PatchWriter> {
        let path = directory.join(format!("{place}.patch"));
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(PatchWriter {
            file,
            written: Self { path, size: 0 },
        })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Reads [`Self::size`] bytes; fails when the file has fewer. Blocks.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.size);
        let size = u64::try_from(self.size).unwrap_or(u64::MAX);
        File::open(&self.path)?.take(size).read_to_end(&mut bytes)?;
        if bytes.len() < self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }
}

/// A patch that is being written. Writing blocks.
#[derive(Debug)]
pub struct PatchWriter {
    file: File,
    written: PatchFile,
}

impl PatchWriter {
    /// The file with what was written.
    pub fn finish(self) -> PatchFile {
        self.written
    }
}

impl Write for PatchWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written.size += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A source of the contents of patches.
#[async_trait]
pub trait PatchSource: Send + Sync + 'static {
    /// The contents of a build's patches, in the order of its stack. Each call returns the same contents.
    ///
    /// The files are in `directory`, which is empty before the call. The caller removes it, also after an error and when
    /// it drops this future. So the future makes no file after it is dropped.
    async fn load(
        &self,
        build: &Build,
        directory: &Path,
    ) -> Result<Vec<PatchContent>, PatchSourceError>;
}

/// The cause for which contents cannot be loaded.
#[derive(Debug, Error)]
pub enum PatchSourceError {
    /// A patch does not exist any more, or the patches are too large together. The author reads this.
    #[error("the patches of the stack cannot be loaded")]
    Refused(Box<PatchFailure>),
    /// The source is down, for all builds. The build loses no attempt.
    #[error("cannot load the patches of the stack")]
    Away(#[source] Box<dyn Error + Send + Sync>),
    /// The response about this build cannot be read. The build loses no attempt either.
    #[error("cannot read the patches of the stack")]
    Unclear(#[source] Box<dyn Error + Send + Sync>),
    /// The patches cannot be written to our disk, which may be full.
    #[error("cannot store the patches of the stack")]
    Disk(#[source] io::Error),
}
