//! Failures of test selection.

use bus::{BusError, DecodeError, Retry, Retryable};
use pulse::UnreadableBody;
use taskcluster::TaskclusterError;
use thiserror::Error;

use super::action::ActionError;

/// A failure of a step of test selection.
#[derive(Debug, Error)]
pub enum SelectionError {
    /// Taskcluster did not return something.
    #[error("cannot read {what}")]
    Taskcluster {
        /// What could not be read, with its task or its push.
        what: String,
        /// The error of the call.
        #[source]
        source: TaskclusterError,
    },
    /// The message cannot be read.
    #[error(transparent)]
    Message(#[from] UnreadableBody),
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The record of a push was written by an incompatible release.
    #[error("cannot read the record of a push to try")]
    Record(#[from] DecodeError),
    /// The task that selected tests names no diff.
    #[error(
        "the test selection task {task} has no phabricator-diff-id in its extra: check the hook's template"
    )]
    Diff {
        /// The task.
        task: String,
    },
    /// An artifact of the task that selected tests is invalid.
    #[error("the artifact {artifact} of the test selection task {task} is {problem}")]
    Artifact {
        /// The task.
        task: String,
        /// The artifact.
        artifact: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The decision task does not offer the action, or the action is not safe.
    #[error("cannot use the action of decision task {decision} to add tests")]
    Action {
        /// The decision task.
        decision: String,
        /// The reason.
        #[source]
        source: ActionError,
    },
}

impl SelectionError {
    /// Makes the error for `what`, which could not be read.
    pub(super) fn reading(what: impl Into<String>) -> impl FnOnce(TaskclusterError) -> Self {
        let what = what.into();
        move |source| Self::Taskcluster { what, source }
    }

    /// Makes the error for an artifact of `task`, which could not be read.
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
            Self::Record(_) | Self::Diff { .. } | Self::Artifact { .. } | Self::Action { .. } => {
                Retry::Never
            }
        }
    }
}
