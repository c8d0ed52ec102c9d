//! Errors of the dispatcher.

use bus::{BusError, Retry, Retryable};
use pulse::UnreadableBody;
use taskcluster::TaskclusterError;
use thiserror::Error;

use crate::TemplateError;

/// Why a message of Pulse could not be dispatched.
#[derive(Debug, Error)]
pub enum DispatchError {
    /// The exchange is not one of task statuses.
    #[error("{exchange} is not a task-status exchange; remove it from the notifier's routes")]
    UnknownExchange {
        /// The exchange.
        exchange: String,
    },
    /// The id of the task, or of its group, is malformed.
    #[error("invalid task id {id} in a message from {exchange}")]
    InvalidTaskId {
        /// The exchange.
        exchange: String,
        /// The malformed id.
        id: String,
    },
    /// The body cannot be parsed.
    #[error(transparent)]
    Unreadable(#[from] UnreadableBody),
    /// The task's definition cannot be fetched.
    #[error("cannot load the recipients of task {task}")]
    Task {
        /// The task.
        task: String,
        /// The error of Taskcluster.
        #[source]
        source: TaskclusterError,
    },
    /// A template could not be rendered.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Retryable for DispatchError {
    fn retry(&self) -> Retry {
        match self {
            Self::UnknownExchange { .. } | Self::InvalidTaskId { .. } | Self::Template(_) => {
                Retry::Never
            }
            Self::Unreadable(error) => error.retry(),
            Self::Task { source, .. } => source.retry(),
            Self::Bus(error) => error.retry(),
        }
    }
}
