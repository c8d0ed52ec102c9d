//! Errors of the dispatcher.

use bus::{BusError, Retry, Retryable};
use pulse::UnreadableBody;
use taskcluster::TaskclusterError;
use thiserror::Error;

use crate::TemplateError;

/// Why a message of Pulse gave no notifications.
#[derive(Debug, Error)]
pub enum DispatchError {
    /// It came from an exchange that tells of no status.
    #[error(
        "the exchange {exchange} tells of no status of a task: route no such messages to the notifier"
    )]
    Exchange {
        /// The exchange.
        exchange: String,
    },
    /// What should be the id of a task is none.
    #[error("a message of {exchange} speaks of the task {id}, which can be none")]
    NoId {
        /// The exchange.
        exchange: String,
        /// What stands for the id.
        id: String,
    },
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableBody),
    /// Taskcluster does not tell what the task asks for.
    #[error("cannot load the recipients of task {task}")]
    Task {
        /// The task.
        task: String,
        /// What Taskcluster says.
        #[source]
        source: TaskclusterError,
    },
    /// A text could not be written.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Retryable for DispatchError {
    fn retry(&self) -> Retry {
        match self {
            Self::Exchange { .. } | Self::NoId { .. } | Self::Template(_) => Retry::Never,
            Self::Unreadable(error) => error.retry(),
            Self::Task { source, .. } => source.retry(),
            Self::Bus(error) => error.retry(),
        }
    }
}
