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
    /// Shows the messages of a queue, the oldest first, or one with its body
    Peek {
        /// The queue
        queue: String,
        /// Shows this message with its body
        #[arg(long, value_name = "ID")]
        id: Option<Uuid>,
        /// How many messages are shown
        #[arg(long, default_value_t = 20, value_name = "N", conflicts_with = "id")]
        limit: usize,
    },
    /// Makes delayed messages ready now, instead of when they are due
    Requeue {
        /// The queue
        queue: String,
        /// Which messages.
        #[command(flatten)]
        which: MessageChoice,
    },
    /// Throws away messages that are ready or delayed; those that a worker holds stay
    Drop {
        /// The queue
        queue: String,
        /// Which messages.
        #[command(flatten)]
        which: MessageChoice,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Lets nothing be taken from a queue; builds are still accepted, and what a worker holds is finished
    Pause {
        /// The queue
        queue: String,
    },
    /// Ends a pause
    Resume {
        /// The queue
        queue: String,
    },
    /// Waits until nothing is ready, in flight or delayed; exits with 1 when the time is over
    Drain(Drain),
}

/// Options of `events queues drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// The queue
    pub queue: String,
    /// The longest wait; without it, there is none
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

/// Which messages of a queue.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct MessageChoice {
    /// This message
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
    /// Lists dead letters, the newest first
    List {
        /// Of this queue only
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
        /// Those whose reason contains this
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        reason: Option<String>,
        /// How many letters are listed
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    /// Shows one dead letter with its message
    Show {
        /// The letter
        id: String,
        /// Of this queue only
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
    },
    /// Puts dead letters back into their queues, their attempts at zero
    Requeue {
        /// Which letters.
        #[command(flatten)]
        which: DeadChoice,
    },
    /// Throws dead letters away
    Drop {
        /// Which letters.
        #[command(flatten)]
        which: DeadChoice,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Which dead letters.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").args(["ids", "reason", "all"]).required(true).multiple(false))]
pub struct DeadChoice {
    /// These letters
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub ids: Vec<String>,
    /// Of this queue only
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<String>,
    /// All whose reason contains this
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub reason: Option<String>,
    /// All
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
    /// Removes clones that are not configured any more, damaged ones that were set aside, and half ones
    Prune {
        /// Shows what would be removed, and removes nothing
        #[arg(long)]
        dry_run: bool,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Brings the clones of a repository up to date, and makes those that are missing
    Pull {
        /// The repository
        name: String,
    },
    /// Replace the clones of a repository; the old ones serve until then
    Reclone {
        /// The repository
        name: String,
    },
}

/// Which deployment, and how it is shown.
#[derive(Debug, Args)]
pub struct Deployment {
    /// The YAML file of the deployment
    #[arg(long, env = "EVENTS_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Takes its configuration from this secret of Taskcluster instead
    #[arg(long, env = "TASKCLUSTER_SECRET", value_name = "NAME", global = true)]
    pub taskcluster_secret: Option<String>,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
}

/// How answers are shown.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Prints JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
}
