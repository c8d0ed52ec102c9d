//! Options of `events queues`.

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::{Deployment, ids};

/// Options of `events queues`.
#[derive(Debug, Args)]
pub struct Queues {
    /// The deployment of the queues.
    #[command(flatten)]
    pub deployment: Deployment,
    /// The action.
    #[command(subcommand)]
    pub action: QueueAction,
}

/// An action on a queue.
#[derive(Debug, Subcommand)]
pub enum QueueAction {
    /// List queues, each with its numbers of messages, the age of the oldest one, and its rate
    List,
    /// Show the messages of a queue, the oldest first, or one with its body
    Peek {
        /// Name of the queue, such as build:push
        queue: String,
        /// Id of a message to show with its body
        #[arg(long, value_name = "ID", value_parser = ids::message)]
        id: Option<Uuid>,
        /// Largest number of messages to show
        #[arg(long, default_value_t = 20, value_name = "N", conflicts_with = "id")]
        limit: usize,
    },
    /// Make delayed messages ready now, before they are due
    Requeue {
        /// Name of the queue, such as build:push
        queue: String,
        /// The messages.
        #[command(flatten)]
        which: MessageChoice,
    },
    /// Delete messages that are ready or delayed; those in flight stay
    Drop {
        /// Name of the queue, such as build:push
        queue: String,
        /// The messages.
        #[command(flatten)]
        which: MessageChoice,
        /// Confirmation without a prompt
        #[arg(long)]
        yes: bool,
    },
    /// Pause a queue; new messages are still accepted, and messages in flight are finished
    Pause {
        /// Name of the queue, such as build:push
        queue: String,
    },
    /// Resume a paused queue
    Resume {
        /// Name of the queue, such as build:push
        queue: String,
    },
    /// Wait until a queue has no message that is ready, in flight or delayed; exit with 1 when --timeout is over
    Drain(Drain),
}

/// Options of `events queues drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// Name of the queue, such as build:push
    pub queue: String,
    /// Longest wait in seconds; without a limit by default
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

/// A selection of messages of a queue.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct MessageChoice {
    /// Id of a message
    #[arg(long, value_name = "ID", value_parser = ids::message)]
    pub id: Option<Uuid>,
    /// All messages
    #[arg(long)]
    pub all: bool,
}
