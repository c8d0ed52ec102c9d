//! Options of `events repositories`.

use clap::{Args, Subcommand};

use super::Deployment;

/// Options of `events repositories`.
#[derive(Debug, Args)]
pub struct Repositories {
    /// The deployment of the clones.
    #[command(flatten)]
    pub deployment: Deployment,
    /// The action.
    #[command(subcommand)]
    pub action: RepositoryAction,
}

/// An action on clones.
#[derive(Debug, Subcommand)]
pub enum RepositoryAction {
    /// List the clones on this machine, each with its state, size, tip and last pull
    List,
    /// Remove clones that are quarantined, incomplete or no longer configured, and patches of interrupted builds
    Prune {
        /// Preview of the clones that would be removed
        #[arg(long)]
        dry_run: bool,
        /// Confirmation without a prompt
        #[arg(long)]
        yes: bool,
    },
    /// Pull into the clones of a repository, and create missing ones
    Pull {
        /// Name of the repository in the configuration
        name: String,
    },
    /// Replace the clones of a repository; the old ones stay in use until then
    Reclone {
        /// Name of the repository in the configuration
        name: String,
    },
}
