//! Options of `events report` and `events pulse`.

use clap::{Args, Subcommand};

use super::Deployment;

/// Options of `events report`.
#[derive(Debug, Args)]
pub struct Report {
    /// The deployment of the tasks.
    #[command(flatten)]
    pub deployment: Deployment,
    /// Mail to the admins now; the next report begins after this one
    #[arg(long)]
    pub send: bool,
}

/// Options of `events pulse`.
#[derive(Debug, Args)]
pub struct Pulse {
    /// The deployment with our user on Pulse.
    #[command(flatten)]
    pub deployment: Deployment,
    /// The action.
    #[command(subcommand)]
    pub action: PulseAction,
}

/// An action of `events pulse`.
#[derive(Debug, Subcommand)]
pub enum PulseAction {
    /// Print messages as they arrive, one JSON object a line; other consumers still receive them
    Tail(Tail),
}

/// Options of `events pulse tail`.
#[derive(Debug, Args)]
pub struct Tail {
    /// Name of the exchange, such as exchange/taskcluster-queue/v1/task-completed
    #[arg(long)]
    pub exchange: String,
    /// Pattern of routing keys (* = one word, # = any number of words), which may be repeated
    #[arg(long = "topic", default_value = "#", value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Messages of the community's Taskcluster, instead of Firefox's
    #[arg(long)]
    pub community: bool,
    /// Number of messages after which the command ends; by default it ends at a signal
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}
