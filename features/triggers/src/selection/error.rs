//! Why a step of test selection failed.

use bus::{BusError, DecodeError, Retry, Retryable};
use pulse::UnreadableBody;
use taskcluster::TaskclusterError;
use thiserror::Error;

use super::action::ActionError;

/// Why a step of test selection failed.
#[derive(Debug, Error)]
pub enum SelectionError {
    /// Taskcluster gave no answer, or not the one that is needed.
    #[error("cannot read {what}")]
    Taskcluster {
        /// What was to be read, with its task or its push.
        what: String,
        /// What Taskcluster says.
        #[source]
        source: TaskclusterError,
    },
    /// The message is not what its exchange carries.
    #[error(transparent)]
    Message(#[from] UnreadableBody),
    /// What is remembered cannot be read or written.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// What is remembered was written by a release that this one does not understand.
    #[error("what is remembered of a push to try cannot be read")]
    Memory(#[from] DecodeError),
    /// The task that selected tests does not say for which diff.
    #[error(
        "the test selection task {task} has no phabricator-diff-id in its extra: check the hook's template"
    )]
    Diff {
        /// The task.
        task: String,
    },
    /// An artifact of the task that selected tests makes no sense.
    #[error("the artifact {artifact} of the test selection task {task} is {problem}")]
    Artifact {
        /// The task.
        task: String,
        /// The artifact.
        artifact: &'static str,
        /// What it is instead.
        problem: &'static str,
    },
    /// The decision task does not offer what is needed, or not in a way that can be trusted.
    #[error("the action to add tests of the decision task {decision} cannot be used")]
    Action {
        /// The decision task.
        decision: String,
        /// Why.
        #[source]
        source: ActionError,
    },
}

impl SelectionError {
    /// Why `what` could not be read.
    pub(super) fn reading(what: impl Into<String>) -> impl FnOnce(TaskclusterError) -> Self {
        let what = what.into();
        move |source| Self::Taskcluster { what, source }
    }

    /// Why an artifact of `task` could not be read.
    pub(super) fn reading_artifact(
        task: &str,
        artifact: &str,
    ) -> impl FnOnce(TaskclusterError) -> Self + use<> {
        Self::reading(format!("the artifact {artifact} of task {task}"))
    }
}

impl Retryable for SelectionError {
    fn retry(&self) -> Retry {
        match self {
            Self::Taskcluster { source, .. } => source.retry(),
            Self::Message(error) => error.retry(),
            Self::Bus(error) => error.retry(),
            Self::Memory(_) | Self::Diff { .. } | Self::Artifact { .. } | Self::Action { .. } => {
                Retry::Never
            }
        }
    }
}
