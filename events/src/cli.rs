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
    /// Runs the web server, a worker, or both; or commit telemetry
    Run(Run),
    /// Checks a configuration and reports every fault at once
    CheckConfig(CheckConfig),
    /// Show the whole story of a build: what happened, what it waits for, what comes next, what was published
    Why(OneBuild),
    /// List builds, the newest first; restart those that have ended
    Builds(Builds),
    /// Sends a build that has no end through the pipeline again, or its answer if that was not said
    Retry(OneBuild),
    /// Ends a build with a neutral answer, unless its push has begun
    Cancel(OneBuild),
    /// Finds builds that nobody works on, and those whose request was lost; has them done
    Audit(Audit),
    /// Shows the queues, and what waits in them; requeues, drops, pauses, resumes and drains
    Queues(Queues),
    /// Show the messages that failed permanently; requeue and drop them
    Dead(Dead),
    /// Show the clones on this machine; pull, replace and remove them
    Repos(Repos),
    /// Shows what the next report on Taskcluster's tasks will say, or sends it now
    Report(Report),
    /// Shows what Pulse carries
    Pulse(Pulse),
    /// Tells people what happens to tasks, as the tasks ask for it
    Notify(Notify),
    /// Tells when builds and tests of interest have finished, and shows the newest builds
    Monitor(Monitor),
    /// Tells telemetry.mozilla.org how each pushed changeset was reviewed
    Telemetry(Telemetry),
    /// Shows a build from request to push, with a Phabricator and repositories of its own
    Demo(Demo),
}

/// Options of `events run`.
#[derive(Debug, Args)]
pub struct Run {
    /// What this process does; else it is taken from DYNO, else it does everything
    pub role: Option<Role>,
    /// The configuration.
    #[command(flatten)]
    pub source: Source,
    /// The address to listen on
    #[arg(long, default_value = "0.0.0.0", value_name = "ADDRESS")]
    pub bind: std::net::IpAddr,
    /// The port to listen on
    #[arg(long, env = "PORT", default_value_t = 9000)]
    pub port: u16,
    /// Seconds that work in flight is given after SIGTERM
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    pub grace: u64,
}

/// Options of `events check-config`.
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// The YAML file; the roles notify and telemetry need none where the environment says everything
    #[arg(env = "EVENTS_CONFIG")]
    pub file: Option<PathBuf>,
    /// Takes the document from this secret of Taskcluster instead
    #[arg(long, env = "TASKCLUSTER_SECRET", value_name = "NAME")]
    pub taskcluster_secret: Option<String>,
    /// Checks what this role needs of it; else what web and worker need together
    #[arg(long, value_name = "ROLE", default_value = "all")]
    pub role: Role,
    /// Asks each service whether it answers, and Phabricator what each name means
    #[arg(long)]
    pub online: bool,
}

/// Options of `events demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Prints the outcome as one JSON line on standard output, and the story on standard error
    #[arg(long)]
    pub json: bool,
    /// Goes on running after the build, for more of them
    #[arg(long)]
    pub keep: bool,
}
