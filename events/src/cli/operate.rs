//! Options of `events queues`, `events dead` and `events repos`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, builder::NonEmptyStringValueParser};
use uuid::Uuid;

/// Options of `events queues`.
#[derive(Debug, Args)]
pub struct Queues {
    /// The deployment of the queues.
    #[command(flatten)]
    pub deployment: Deployment,
    /// The action; without one, the command lists all queues.
    #[command(subcommand)]
    pub action: Option<QueueAction>,
}

/// An action on a queue.
#[derive(Debug, Subcommand)]
pub enum QueueAction {
    /// Show the messages of a queue, the oldest first, or one with its body
    Peek {
        /// Name of the queue, such as build:push
        queue: String,
        /// Id of a message to show with its body
        #[arg(long, value_name = "ID")]
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
        /// Confirmation in advance, without a prompt
        #[arg(long)]
        yes: bool,
    },
    /// Pause deliveries from a queue; builds are still accepted, and messages in flight are finished
    Pause {
        /// Name of the queue, such as build:push
        queue: String,
    },
    /// Resume deliveries from a queue
    Resume {
        /// Name of the queue, such as build:push
        queue: String,
    },
    /// Wait until a queue has no message that is ready, in flight or delayed; exit with 1 after --timeout
    Drain(Drain),
}

/// Options of `events queues drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// Name of the queue, such as build:push
    pub queue: String,
    /// Longest wait, in seconds; else no limit
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

/// A selection of messages of a queue.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct MessageChoice {
    /// Id of a message
    #[arg(long, value_name = "ID")]
    pub id: Option<Uuid>,
    /// All messages
    #[arg(long)]
    pub all: bool,
}

/// Options of `events dead`.
#[derive(Debug, Args)]
pub struct Dead {
    /// The deployment of the queues.
    #[command(flatten)]
    pub deployment: Deployment,
    /// The action.
    #[command(subcommand)]
    pub action: DeadAction,
}

/// An action on dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadAction {
    /// List dead letters, the newest first
    List {
        /// Queue of the dead letters
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
        /// Text that the reasons of the dead letters contain
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        reason: Option<String>,
        /// Largest number of dead letters to list
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    /// Show one dead letter with its message
    Show {
        /// Id of the dead letter
        id: String,
        /// Queue of the dead letters
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
    },
    /// Requeue dead letters, with their attempts at zero
    Requeue {
        /// The dead letters.
        #[command(flatten)]
        which: DeadChoice,
    },
    /// Delete dead letters
    Drop {
        /// The dead letters.
        #[command(flatten)]
        which: DeadChoice,
        /// Confirmation in advance, without a prompt
        #[arg(long)]
        yes: bool,
    },
}

/// A selection of dead letters.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").args(["ids", "reason", "all"]).required(true).multiple(false))]
pub struct DeadChoice {
    /// Ids of dead letters
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub ids: Vec<String>,
    /// Queue of the dead letters
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<String>,
    /// Text that the reasons of the dead letters contain
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub reason: Option<String>,
    /// All dead letters
    #[arg(long)]
    pub all: bool,
}

/// Options of `events repos`.
#[derive(Debug, Args)]
pub struct Repos {
    /// The deployment of the clones.
    #[command(flatten)]
    pub deployment: Deployment,
    /// The action; without one, the command lists all clones.
    #[command(subcommand)]
    pub action: Option<RepoAction>,
}

/// An action on clones.
#[derive(Debug, Subcommand)]
pub enum RepoAction {
    /// Remove clones that are quarantined, incomplete or not configured any more, and patches of interrupted builds
    Prune {
        /// Preview of the clones that would be removed
        #[arg(long)]
        dry_run: bool,
        /// Confirmation in advance, without a prompt
        #[arg(long)]
        yes: bool,
    },
    /// Pull into the clones of a repository, and make missing ones
    Pull {
        /// Name of the repository in the configuration
        name: String,
    },
    /// Clone a repository again; the old clones serve until then
    Reclone {
        /// Name of the repository in the configuration
        name: String,
    },
}

/// A deployment, and the form of the output.
#[derive(Debug, Args)]
pub struct Deployment {
    /// Configuration of the deployment, a YAML file
    #[arg(long, env = "EVENTS_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Secret of Taskcluster that holds the configuration, instead of a file
    #[arg(long, env = "TASKCLUSTER_SECRET", value_name = "NAME", global = true)]
    pub taskcluster_secret: Option<String>,
    /// The form of the output.
    #[command(flatten)]
    pub output: Output,
}

/// The form of the output.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// JSON output, one object a line
    #[arg(long, global = true)]
    pub json: bool,
}
