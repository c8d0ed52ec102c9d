//! Why no hook was triggered.

use bus::{BusError, Retry, Retryable};
use pulse::UnreadableBody;
use taskcluster::TaskclusterError;
use thiserror::Error;

use crate::HookName;

/// Why no hook was triggered.
#[derive(Debug, Error)]
pub enum HookError {
    /// Taskcluster did not trigger it.
    #[error("cannot trigger hook {hook}")]
    Trigger {
        /// The hook.
        hook: HookName,
        /// What Taskcluster says.
        #[source]
        source: TaskclusterError,
    },
    /// Taskcluster does not tell what is in a task group.
    #[error("cannot look into task group {group}")]
    Group {
        /// The group.
        group: String,
        /// What Taskcluster says.
        #[source]
        source: TaskclusterError,
    },
    /// A group's pages come to no end.
    #[error("task group {group} has more than {pages} pages of tasks: no group is that large")]
    Endless {
        /// The group.
        group: String,
        /// How many were read.
        pages: usize,
    },
    /// A task does not say what it was made from.
    #[error(
        "task {task} of group {group} has no changeset in its {variable}: its hook cannot be told what to look at"
    )]
    NoChangeset {
        /// The task.
        task: String,
        /// Its group.
        group: String,
        /// The variable of its environment.
        variable: &'static str,
    },
    /// A message is not what those of its exchange are.
    #[error(transparent)]
    Unreadable(#[from] UnreadableBody),
    /// A message holds something that nothing can be triggered with.
    #[error("the message of {exchange} with routing key {key} is no use: {problem}")]
    Useless {
        /// Its exchange.
        exchange: String,
        /// Its routing key.
        key: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Something cannot be sent or recorded.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Retryable for HookError {
    fn retry(&self) -> Retry {
        match self {
            Self::Trigger { source, .. } | Self::Group { source, .. } => source.retry(),
            Self::Unreadable(error) => error.retry(),
            Self::Bus(error) => error.retry(),
            Self::Endless { .. } | Self::NoChangeset { .. } | Self::Useless { .. } => Retry::Never,
        }
    }
}
