//! The outcome of a build without a pushed head, and its text for the author.

pub(crate) mod infra_failure;
pub(crate) mod patch_failure;

use std::time::Duration;

use build::{Ineligible, PatchFailure};

use crate::WorkerError;

/// The reason for which the head of a build is not pushed.
#[derive(Debug)]
pub(crate) enum NotPushed {
    /// The patch cannot be built; another attempt cannot help.
    Patch(Box<PatchFailure>),
    /// Our side failed.
    Ours(WorkerError),
    /// The build is not to be built any more.
    Ineligible(Ineligible),
    /// Another process has decided the end of the build, and publishes the answer.
    Decided,
    /// Somebody cancelled it at the destination: a sentence for its author.
    Cancelled(String),
    /// It waits for something of its own: its author's time is used up, or its job at the destination has not ended.
    Defer {
        /// The time until the next delivery.
        after: Duration,
        /// The reason for the wait.
        reason: String,
    },
    /// All builds of its repository wait: a clone is not ready, or the tree is closed.
    Hold {
        /// The time until the next delivery.
        after: Duration,
        /// The reason for the wait.
        reason: String,
    },
}

impl From<WorkerError> for NotPushed {
    fn from(error: WorkerError) -> Self {
        Self::Ours(error)
    }
}

impl From<PatchFailure> for NotPushed {
    fn from(failure: PatchFailure) -> Self {
        Self::Patch(Box::new(failure))
    }
}
