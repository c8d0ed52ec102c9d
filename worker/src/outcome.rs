//! How a build ends without a head on the other side, and what its author reads then.

pub(crate) mod infra_failure;
pub(crate) mod patch_failure;

use std::time::Duration;

use build::{Ineligible, PatchFailure};

use crate::WorkerError;

/// Why a build has no head that is pushed.
#[derive(Debug)]
pub(crate) enum NotPushed {
    /// The patch is to blame; another attempt cannot help.
    Patch(Box<PatchFailure>),
    /// We are to blame.
    Ours(WorkerError),
    /// It is not to be built any more.
    Ineligible(Ineligible),
    /// Another process has decided how it ends, and publishes its answer.
    Decided,
    /// Its author's time is used up: builds of other authors go first.
    Defer {
        /// The time until the next attempt.
        after: Duration,
        /// What it waits for.
        reason: String,
    },
    /// All builds of its repository wait: a clone is not ready, or the tree is closed.
    Hold {
        /// The time until the next attempt.
        after: Duration,
        /// What they wait for.
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
