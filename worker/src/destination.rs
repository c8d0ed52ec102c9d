//! The interface to a destination: where the heads of builds are pushed.
//!
//! A version control has a destination of its own, the repository at `try_url`: see
//! [`crate::vcs::VcsClone::own_destination`]. A [`crate::Backend`] names another one.
//!
//! # The end of a push
//!
//! | the destination | the result of [`Destination::push`] | the build |
//! | --- | --- | --- |
//! | stored the head | [`PushOutcome::Accepted`] | ends as `pushed` |
//! | had the head already | [`PushOutcome::UpToDate`] | ends as `pushed` |
//! | refuses the patches | [`PushError::Rejected`] | ends as `patch_failed`; its author reads the words |
//! | refuses the head by a hook | [`WorkerError::Refused`] | waits while the tree is closed; else it is retried |
//! | does not admit us | [`WorkerError::Forbidden`] with a [`crate::Barrier`], [`WorkerError::UnknownHost`], [`WorkerError::OtherHostKey`] | ends as `infra_failed` at once: an operator has to act |
//! | cannot be reached, or broke off | [`WorkerError::Remote`] with [`crate::Peer::Destination`] | is retried |
//! | did not end in time | [`WorkerError::Deadline`] | is retried |
//!
//! A failure of ours is another [`WorkerError`]: [`WorkerError::io`] for a file, so that all builds wait while our disk
//! is full, and [`WorkerError::Command`] for a program on the clone.
//!
//! # A push that is repeated
//!
//! A build is delivered again after its push when its worker died before it settled the delivery. The commits are a
//! pure function of the base, the stack and the target, so the head is the same. The destination finds it, and returns
//! [`PushOutcome::UpToDate`]. One that cannot find a head by its hash looks for it in another way when
//! [`Push::begun_before`] is set.

use std::path::Path;

use async_trait::async_trait;
use build::Build;

use crate::{WorkerError, revision::Revision};

/// A destination, as one clone slot uses it.
#[async_trait]
pub trait Destination: Send {
    /// Begins the part of a push that needs no head, such as a connection, while the stack is applied. Returns at once.
    fn prepare(&mut self) {}

    /// Pushes a head with its ancestors. On success the destination has stored it; the module's documentation lists the
    /// other results. Dropping the future ends the push: the destination must not take what was sent for a head.
    async fn push(&mut self, push: Push<'_>) -> Result<PushOutcome, PushError>;

    /// Ends what [`Destination::prepare`] began, at once. The build may have ended without a push.
    fn end(&mut self) {}
}

/// A head to push.
#[derive(Clone, Copy)]
pub struct Push<'a> {
    /// The directory of a repository that has the head and its ancestors until the push ends: with Mercurial the clone,
    /// with Git a bare repository of the build, where no ref names the head.
    pub repository: &'a Path,
    /// The revision of the source that the stack was applied on.
    pub base: &'a Revision,
    /// The last commit of the stack.
    pub head: &'a Revision,
    /// The build.
    pub build: &'a Build,
    /// The heads that a worker pushed to the same ref before, or began to push, the newest first: no others may be
    /// replaced. Empty where heads have no refs.
    pub replaces: &'a [Revision],
    /// Whether a delivery of the build began to push before this one, and no refusal is recorded: the destination may
    /// have the head.
    pub begun_before: bool,
}

/// The outcome of a push that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// The destination stored the head.
    Accepted,
    /// The destination had the head already, by an earlier push.
    UpToDate,
}

/// The failure of a push.
#[derive(Debug)]
pub enum PushError {
    /// The destination refuses the patches; another attempt cannot help.
    Rejected {
        /// The message of the destination, for the author: one line, made by [`crate::text::one_line`]. The author reads
        /// the lines that it joined, each on its own. The publisher shows at most 8,000 bytes.
        words: String,
    },
    /// The push failed; the error decides whether another attempt can help.
    Failed(WorkerError),
}

impl From<WorkerError> for PushError {
    fn from(error: WorkerError) -> Self {
        Self::Failed(error)
    }
}

/// The refs at the destination of a version control, as one process deletes old ones.
#[async_trait]
pub trait DestinationRefs: Send {
    /// Deletes a ref while it has one of `ours`, the heads that were pushed there, the newest first. An error concerns
    /// the destination, so other refs there would meet it too.
    async fn delete(
        &mut self,
        reference: &str,
        ours: &[Revision],
    ) -> Result<RefDeletion, WorkerError>;

    /// Ends its connections.
    async fn close(&mut self);
}

/// The end of the deletion of a ref.
#[derive(Debug)]
pub enum RefDeletion {
    /// It is deleted.
    Deleted,
    /// There is no such ref.
    Missing,
    /// It has this commit, which is not ours. It is left as it is.
    Moved(String),
    /// The destination refuses to delete this ref.
    Refused(WorkerError),
}
