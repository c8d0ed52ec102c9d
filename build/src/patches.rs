//! The contents of patches, for the step that applies them.
//!
//! A message names the patches of a stack and does not hold their contents. So a queue of builds stays small however large
//! the patches are, and a patch that becomes private while its build waits is in no queue, record or dead letter.

use std::{error::Error, fmt};

use async_trait::async_trait;
use bus::Blob;
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
    pub bytes: Blob,
}

/// Leaves the content out: it may be large, and private.
impl fmt::Debug for PatchContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatchContent")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// A source of the contents of patches.
#[async_trait]
pub trait PatchSource: Send + Sync + 'static {
    /// The contents of a build's patches, in the order of its stack. Each call returns the same contents.
    async fn load(&self, build: &Build) -> Result<Vec<PatchContent>, PatchSourceError>;
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
}
