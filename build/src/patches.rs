//! The contents of patches, for the step that applies them.
//!
//! Messages hold which patches a stack has, not what is in them: a queue of builds stays small however large their patches
//! are, and what became private while its build waited is in no queue, record or dead letter.

use std::{error::Error, fmt};

use async_trait::async_trait;
use bus::Blob;
use thiserror::Error;

use super::{Build, PatchFailure};

/// What a patch holds.
#[derive(Clone, PartialEq, Eq)]
pub struct PatchContent {
    /// `Name <mail>` of its first commit, without quotes; `None` when the diff has no commit information.
    pub author: Option<String>,
    /// The message of its first commit, or the one that the stack was loaded with. Never empty.
    pub message: String,
    /// The patch in git's format, as Phabricator gave it. Hostile.
    pub bytes: Blob,
}

/// It can be large, and private: it is not shown.
impl fmt::Debug for PatchContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatchContent")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Where the contents of patches are loaded from.
#[async_trait]
pub trait PatchSource: Send + Sync + 'static {
    /// The contents of a build's patches, in the order of its stack. They are the same each time.
    async fn load(&self, build: &Build) -> Result<Vec<PatchContent>, PatchSourceError>;
}

/// Why there are no contents.
#[derive(Debug, Error)]
pub enum PatchSourceError {
    /// A patch is not there any more, or they are too large together: for the author.
    #[error("the patches of the stack cannot be loaded")]
    Refused(Box<PatchFailure>),
    /// The source is away, for all builds. It is no attempt of the build.
    #[error("cannot load the patches of the stack")]
    Away(#[source] Box<dyn Error + Send + Sync>),
    /// What is answered about this build cannot be understood. It is no attempt of the build either.
    #[error("cannot read the patches of the stack")]
    Unclear(#[source] Box<dyn Error + Send + Sync>),
}
