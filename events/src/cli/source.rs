//! The source of the configuration.

use std::path::PathBuf;

use clap::Args;

/// The source of the configuration.
#[derive(Debug, Clone, Args)]
pub struct Source {
    /// YAML file with the configuration
    #[arg(long, env = "EVENTS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Secret of Taskcluster that holds the configuration, instead of a file; loaded with the credentials of the
    /// environment, or through TASKCLUSTER_PROXY_URL
    #[arg(long, env = "TASKCLUSTER_SECRET", value_name = "NAME")]
    pub taskcluster_secret: Option<String>,
}
