//! The command line.

mod builds;
mod config;
mod dead_letters;
mod deployment;
mod ids;
mod monitor;
mod notify;
mod queues;
mod refs;
mod repositories;
mod source;
mod telemetry;
mod triggers;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::builds::{
    Audit, BuildAction, BuildList, BuildSelector, Builds, OneBuild, Restart, RestartChoice,
};
pub use self::config::{Check, Config, ConfigAction, Show};
pub use self::dead_letters::{DeadLetterAction, DeadLetterChoice, DeadLetters};
pub use self::deployment::{Deployment, Output};
pub use self::monitor::{Format, Mobile, Monitor, Origin};
pub use self::notify::{Notify, NotifyAction, Replay};
pub use self::queues::{Drain, MessageChoice, QueueAction, Queues};
pub use self::refs::{Refs, RefsAction};
pub use self::repositories::{Repositories, RepositoryAction};
pub use self::source::Source;
pub use self::telemetry::{
    BackfillPushlog, DumpTelemetry, ProcessQueueMessages, Telemetry, TelemetryAction,
};
pub use self::triggers::{Pulse, PulseAction, Report, Tail};
use crate::role::Role;

/// Push published patches to Try, and link their builds to the jobs
#[derive(Debug, Parser)]
#[command(name = "events", version, max_term_width = 100)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the web server, a worker, or both; or the notifier, or commit telemetry
    Run(Run),
    /// Check a configuration, show it with its defaults, or print the schema of its keys
    Config(Config),
    /// List, show, retry, cancel, restart and audit builds
    Builds(Builds),
    /// List queues and their messages, and act on them
    Queues(Queues),
    /// List dead letters (messages that failed permanently); show, requeue and drop them
    DeadLetters(DeadLetters),
    /// List the clones on this machine; pull, replace and remove them
    Repositories(Repositories),
    /// List the refs at Git destinations that heads were pushed to, and delete old ones
    Refs(Refs),
    /// Notify people of the statuses of tasks, as the definition of each task requests
    Notify(Notify),
    /// Report to telemetry.mozilla.org how each pushed changeset was reviewed
    Telemetry(Telemetry),
    /// Print builds and tests of interest as they finish, run a command for each, and serve the newest builds
    Monitor(Monitor),
    /// Print the next report on tasks of Taskcluster, or send it now
    Report(Report),
    /// Print messages of Pulse
    Pulse(Pulse),
    /// Print the completions of a shell
    Completions(Completions),
    /// Write the manual pages, one for each command
    Man(Man),
}

/// Options of `events completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// Shell that reads the completions
    pub shell: clap_complete::Shell,
}

/// Options of `events man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Existing directory for the pages
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Options of `events run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Role of this process; by default that of $DYNO, or else `all`: web and worker together
    pub role: Option<Role>,
    /// The source of the configuration.
    #[command(flatten)]
    pub source: Source,
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0", value_name = "ADDRESS")]
    pub bind: std::net::IpAddr,
    /// Port to listen on
    #[arg(long, env = "PORT", default_value_t = 9000)]
    pub port: u16,
    /// Grace period in seconds for work in flight after SIGTERM
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    pub grace: u64,
}
