//! Options of `events queues`, `events dead` and `events repos`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, builder::NonEmptyStringValueParser};
use uuid::Uuid;

/// Options of `events queues`.
#[derive(Debug, Args)]
pub struct Queues {
    /// Whose queues.
    #[command(flatten)]
    pub deployment: Deployment,
    /// What to do; without it, all queues are shown.
    #[command(subcommand)]
    pub action: Option<QueueAction>,
}

/// What to do with a queue.
#[derive(Debug, Subcommand)]
pub enum QueueAction {
    /// Show the messages of a queue, the oldest first, or one with its body
    Peek {
        /// Queue
        queue: String,
        /// Message to show with its body
        #[arg(long, value_name = "ID")]
        id: Option<Uuid>,
        /// Most messages to show
        #[arg(long, default_value_t = 20, value_name = "N", conflicts_with = "id")]
        limit: usize,
    },
    /// Make delayed messages ready now, instead of when they are due
    Requeue {
        /// Queue
        queue: String,
        /// Which messages.
        #[command(flatten)]
        which: MessageChoice,
    },
    /// Delete messages that are ready or delayed; those in flight stay
    Drop {
        /// Queue
        queue: String,
        /// Which messages.
        #[command(flatten)]
        which: MessageChoice,
        /// Confirmation in advance, so that nothing is asked
        #[arg(long)]
        yes: bool,
    },
    /// Stop deliveries from a queue; builds are still accepted, and work in flight is finished
    Pause {
        /// Queue
        queue: String,
    },
    /// End a pause
    Resume {
        /// Queue
        queue: String,
    },
    /// Wait until nothing is ready, in flight or delayed; exit with 1 when the time is over
    Drain(Drain),
}

/// Options of `events queues drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// Queue
    pub queue: String,
    /// Longest wait; else there is no limit
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

/// Which messages of a queue.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct MessageChoice {
    /// Message
    #[arg(long, value_name = "ID")]
    pub id: Option<Uuid>,
    /// All messages
    #[arg(long)]
    pub all: bool,
}

/// Options of `events dead`.
#[derive(Debug, Args)]
pub struct Dead {
    /// Whose queues.
    #[command(flatten)]
    pub deployment: Deployment,
    /// What to do.
    #[command(subcommand)]
    pub action: DeadAction,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadAction {
    /// List dead letters, the newest first
    List {
        /// Only dead letters of this queue
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
        /// Only dead letters whose reason contains this
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        reason: Option<String>,
        /// Most dead letters to list
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    /// Show one dead letter with its message
    Show {
        /// Dead letter, by its id
        id: String,
        /// Only dead letters of this queue
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
    },
    /// Put dead letters back into their queues, their attempts at zero
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
        /// Confirmation in advance, so that nothing is asked
        #[arg(long)]
        yes: bool,
    },
}

/// A selection of dead letters.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").args(["ids", "reason", "all"]).required(true).multiple(false))]
pub struct DeadChoice {
    /// Dead letters, by their ids
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub ids: Vec<String>,
    /// Only dead letters of this queue
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<String>,
    /// All dead letters whose reason contains this
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub reason: Option<String>,
    /// All dead letters
    #[arg(long)]
    pub all: bool,
}

/// Options of `events repos`.
#[derive(Debug, Args)]
pub struct Repos {
    /// Whose clones.
    #[command(flatten)]
    pub deployment: Deployment,
    /// What to do; without it, all clones are shown.
    #[command(subcommand)]
    pub action: Option<RepoAction>,
}

/// What to do with clones.
#[derive(Debug, Subcommand)]
pub enum RepoAction {
    /// Remove clones that are not configured any more, quarantined and half ones, and patches of interrupted builds
    Prune {
        /// Preview only: nothing is removed
        #[arg(long)]
        dry_run: bool,
        /// Confirmation in advance, so that nothing is asked
        #[arg(long)]
        yes: bool,
    },
    /// Bring the clones of a repository up to date, and make those that are missing
    Pull {
        /// Repository
        name: String,
    },
    /// Replace the clones of a repository; the old ones serve until then
    Reclone {
        /// Repository
        name: String,
    },
}

/// Which deployment, and how it is shown.
#[derive(Debug, Args)]
pub struct Deployment {
    /// YAML file of the deployment
    #[arg(long, env = "EVENTS_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Secret of Taskcluster that holds the configuration instead
    #[arg(long, env = "TASKCLUSTER_SECRET", value_name = "NAME", global = true)]
    pub taskcluster_secret: Option<String>,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
}

/// How answers are shown.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Output as JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
}
