//! Why no hook was triggered.

use std::time::Duration;

use bus::{BusError, Classify, DecodeError, Disposition};
use pulse::UnreadableBody;
use thiserror::Error;

use crate::{TaskclusterError, model::HookName};

/// How long to wait before looking again at what another delivery is about to do.
const LOOK: Duration = Duration::from_secs(5);

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
    /// Another delivery of the trigger may be at it.
    #[error("another delivery is about to trigger hook {hook}: waiting for what comes of it")]
    Unsettled {
        /// The hook.
        hook: HookName,
    },
    /// The record of the trigger cannot be read.
    #[error(
        "the record of what was triggered at hook {hook} cannot be read: it was written by another release"
    )]
    Record {
        /// The hook.
        hook: HookName,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
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

impl Classify for HookError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Trigger { source, .. } | Self::Group { source, .. } => source.disposition(),
            Self::Unsettled { .. } => Disposition::Defer(LOOK),
            Self::Unreadable(error) => error.disposition(),
            Self::Bus(error) => error.disposition(),
            Self::Record { .. }
            | Self::Endless { .. }
            | Self::NoChangeset { .. }
            | Self::Useless { .. } => Disposition::Dead,
        }
    }
}
