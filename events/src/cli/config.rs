//! Options of `events config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::role::Role;

/// Options of `events config`.
#[derive(Debug, Args)]
pub struct Config {
    /// The action.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// An action on a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Check a configuration, and report every fault at once
    Check(Check),
    /// Print each key of a configuration with its value and its line, and the defaults of the others; no secret is shown
    Show(Show),
    /// Print the JSON schema of a configuration, for editors
    Schema,
}

/// Options of `events config show`.
#[derive(Debug, Args)]
pub struct Show {
    /// YAML file with the configuration
    #[arg(env = "EVENTS_CONFIG")]
    pub file: Option<PathBuf>,
    /// Secret of Taskcluster that holds the configuration, instead of a file
    #[arg(long, env = "TASKCLUSTER_SECRET", value_name = "NAME")]
    pub taskcluster_secret: Option<String>,
}

/// Options of `events config check`.
#[derive(Debug, Args)]
pub struct Check {
    /// YAML file with the configuration; optional for the roles notify and telemetry, whose settings the environment may hold
    #[arg(env = "EVENTS_CONFIG")]
    pub file: Option<PathBuf>,
    /// Secret of Taskcluster that holds the configuration, instead of a file
    #[arg(long, env = "TASKCLUSTER_SECRET", value_name = "NAME")]
    pub taskcluster_secret: Option<String>,
    /// Role whose settings are checked; `all` is web and worker together
    #[arg(long, value_name = "ROLE", default_value = "all")]
    pub role: Role,
    /// Checks of the services too: a request to each, and a query for each configured name on Phabricator
    #[arg(long)]
    pub online: bool,
}
