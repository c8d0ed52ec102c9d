//! Options of `events report` and `events pulse`.

use clap::{Args, Subcommand};

use super::Deployment;

/// Options of `events report`.
#[derive(Debug, Args)]
pub struct Report {
    /// Whose tasks.
    #[command(flatten)]
    pub deployment: Deployment,
    /// Delivery by mail to the admins now; the next report begins after it
    #[arg(long)]
    pub send: bool,
}

/// Options of `events pulse`.
#[derive(Debug, Args)]
pub struct Pulse {
    /// Whose user on Pulse.
    #[command(flatten)]
    pub deployment: Deployment,
    /// What to do.
    #[command(subcommand)]
    pub action: PulseAction,
}

/// What to do with Pulse.
#[derive(Debug, Subcommand)]
pub enum PulseAction {
    /// Print messages as they come, one object a line; nobody else misses them
    Tail(Tail),
}

/// Options of `events pulse tail`.
#[derive(Debug, Args)]
pub struct Tail {
    /// Exchange, such as exchange/taskcluster-queue/v1/task-completed
    #[arg(long)]
    pub exchange: String,
    /// Only messages whose routing key fits: * is one word, # any number of them; may be given several times
    #[arg(long = "topic", default_value = "#")]
    pub topics: Vec<String>,
    /// Pulse of the community's Taskcluster instead
    #[arg(long)]
    pub community: bool,
    /// Number of messages to print before it ends; without it, it ends at a signal
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}
