//! Failures to trigger hooks.

use bus::{BusError, Retry, Retryable};
use pulse::UnreadableBody;
use taskcluster::TaskclusterError;
use thiserror::Error;

use crate::HookName;

/// A failure to trigger a hook.
#[derive(Debug, Error)]
pub enum HookError {
    /// Taskcluster did not trigger the hook.
    #[error("cannot trigger hook {hook}")]
    Trigger {
        /// The hook.
        hook: HookName,
        /// The error of the call.
        #[source]
        source: TaskclusterError,
    },
    /// Taskcluster did not return the tasks of a group.
    #[error("cannot read the tasks of group {group}")]
    Group {
        /// The group.
        group: String,
        /// The error of the call.
        #[source]
        source: TaskclusterError,
    },
    /// A group has more pages than are read.
    #[error("task group {group} has more than {pages} pages of tasks: no group is that large")]
    TooManyPages {
        /// The group.
        group: String,
        /// The number of pages that were read.
        pages: usize,
    },
    /// The environment of a task names no changeset.
    #[error(
        "task {task} of group {group} has no changeset in its {variable}: its hook cannot be triggered without one"
    )]
    NoChangeset {
        /// The task.
        task: String,
        /// Its group.
        group: String,
        /// The name of the variable.
        variable: &'static str,
    },
    /// A message cannot be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableBody),
    /// A message has a value that no hook can be triggered with.
    #[error("the message of {exchange} with routing key {key} is invalid: {problem}")]
    InvalidMessage {
        /// Its exchange.
        exchange: String,
        /// Its routing key.
        key: String,
        /// The invalid value.
        problem: &'static str,
    },
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Retryable for HookError {
    fn retry(&self) -> Retry {
        match self {
            Self::Trigger { source, .. } | Self::Group { source, .. } => source.retry(),
            Self::Unreadable(error) => error.retry(),
            Self::Bus(error) => error.retry(),
            Self::TooManyPages { .. } | Self::NoChangeset { .. } | Self::InvalidMessage { .. } => {
                Retry::Never
            }
        }
    }
}
