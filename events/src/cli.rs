//! The command line.

mod builds;
mod monitor;
mod notify;
mod operate;
mod source;
mod telemetry;
mod triggers;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::builds::{Audit, BuildList, Builds, BuildsAction, OneBuild, Restart, Which};
pub use self::monitor::{Format, Mobile, Monitor, Origin};
pub use self::notify::{Notify, NotifyAction};
pub use self::operate::{
    Dead, DeadAction, DeadChoice, Deployment, Drain, MessageChoice, Output, QueueAction, Queues,
    RepoAction, Repos,
};
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
    /// Check a configuration and report every fault at once
    CheckConfig(CheckConfig),
    /// Show the history of a build: its events, the reason of its wait, the next step and the published texts
    Why(OneBuild),
    /// List builds, the newest first; restart those that have ended
    Builds(Builds),
    /// Retry a build without an outcome, or publish its missing answer
    Retry(OneBuild),
    /// End a build as skipped, unless its push has begun
    Cancel(OneBuild),
    /// Find builds that are in no queue, and builds whose request was lost; build them again
    Audit(Audit),
    /// List queues and their messages; requeue, drop, pause, resume and drain them
    Queues(Queues),
    /// List dead letters (messages that failed permanently); show, requeue and drop them
    Dead(Dead),
    /// List the clones on this machine; pull, replace and remove them
    Repos(Repos),
    /// Print the next report on tasks of Taskcluster, or send it now
    Report(Report),
    /// Print messages of Pulse
    Pulse(Pulse),
    /// Notify people of the statuses of tasks, as the definition of each task requests
    Notify(Notify),
    /// Print builds and tests of interest as they finish, run a command for each, and serve the newest builds
    Monitor(Monitor),
    /// Report to telemetry.mozilla.org how each pushed changeset was reviewed
    Telemetry(Telemetry),
}

/// Options of `events run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Role of this process; else that of DYNO, else web and worker together
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

/// Options of `events check-config`.
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// Configuration, a YAML file; the roles notify and telemetry need none if the environment has every setting
    #[arg(env = "EVENTS_CONFIG")]
    pub file: Option<PathBuf>,
    /// Secret of Taskcluster that holds the configuration, instead of a file
    #[arg(long, env = "TASKCLUSTER_SECRET", value_name = "NAME")]
    pub taskcluster_secret: Option<String>,
    /// Role whose settings are checked; else those that web and worker need together
    #[arg(long, value_name = "ROLE", default_value = "all")]
    pub role: Role,
    /// Checks of the services too: a request to each, and a look-up of each configured name on Phabricator
    #[arg(long)]
    pub online: bool,
}
