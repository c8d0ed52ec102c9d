//! The deployment that a command works on.

use std::path::PathBuf;

use clap::Args;

/// A deployment, and the form of the output.
#[derive(Debug, Args)]
pub struct Deployment {
    /// YAML file with the configuration of the deployment
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
