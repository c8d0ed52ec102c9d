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

/// From a published patch to a push on Try and a link on its build.
#[derive(Debug, Parser)]
#[command(name = "events", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the web server, a worker, or both; or commit telemetry
    Run(Run),
    /// Check a configuration and report every fault at once
    CheckConfig(CheckConfig),
    /// Show the whole story of a build: what happened, what it waits for, what comes next, what was published
    Why(OneBuild),
    /// List builds, the newest first; restart those that have ended
    Builds(Builds),
    /// Send a build without an outcome through the pipeline again, or send its missing answer
    Retry(OneBuild),
    /// End a build with a neutral answer, unless its push has begun
    Cancel(OneBuild),
    /// Find builds that no worker has, and those whose request was lost; start them again
    Audit(Audit),
    /// List queues and their messages; requeue, drop, pause, resume and drain them
    Queues(Queues),
    /// Show the messages that failed permanently; requeue and drop them
    Dead(Dead),
    /// Show the clones on this machine; pull, replace and remove them
    Repos(Repos),
    /// Show the next report on Taskcluster's tasks, or send it now
    Report(Report),
    /// Show messages of Pulse
    Pulse(Pulse),
    /// Notify people of what happens to tasks, as the tasks ask for it
    Notify(Notify),
    /// Report builds and tests of interest as they finish, and show the newest builds
    Monitor(Monitor),
    /// Report to telemetry.mozilla.org how each pushed changeset was reviewed
    Telemetry(Telemetry),
}

/// Options of `events run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Role of this process; else that of DYNO, else all of them
    pub role: Option<Role>,
    /// The configuration.
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
    /// YAML file; the roles notify and telemetry need none where the environment has every setting
    #[arg(env = "EVENTS_CONFIG")]
    pub file: Option<PathBuf>,
    /// Secret of Taskcluster that holds the configuration instead
    #[arg(long, env = "TASKCLUSTER_SECRET", value_name = "NAME")]
    pub taskcluster_secret: Option<String>,
    /// Role whose settings are checked; else those that web and worker need together
    #[arg(long, value_name = "ROLE", default_value = "all")]
    pub role: Role,
    /// Requests to each service too, and look-ups of each name at Phabricator
    #[arg(long)]
    pub online: bool,
}
