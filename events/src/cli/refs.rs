//! Options of `events refs`.

use clap::{Args, Subcommand};

use super::Deployment;

/// Options of `events refs`.
#[derive(Debug, Args)]
pub struct Refs {
    /// The deployment of the refs.
    #[command(flatten)]
    pub deployment: Deployment,
    /// The action.
    #[command(subcommand)]
    pub action: RefsAction,
}

/// An action on refs.
#[derive(Debug, Subcommand)]
pub enum RefsAction {
    /// List the refs at Git destinations that heads were pushed to, each with its newest head
    List {
        /// Repository of the listed refs
        #[arg(long, value_name = "NAME")]
        repository: Option<String>,
    },
    /// Delete refs that are older than ref_retention or whose revision is closed, as a worker does once an hour
    Prune {
        /// Preview of the refs that would be deleted, each with the reason
        #[arg(long)]
        dry_run: bool,
        /// Repository whose refs are deleted
        #[arg(long, value_name = "NAME")]
        repository: Option<String>,
    },
}
