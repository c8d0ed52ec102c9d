//! The command line.

use clap::{Args, Parser, Subcommand};

use crate::pipeline::Pipeline;

/// A fault campaign: real workers on a real Redis pass messages through three queues, while a seeded driver kills,
/// stops and cuts off what it can. At the end every message must be accounted for.
#[derive(Debug, Parser)]
#[command(
    name = "chaos",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// Another campaign, or what the driver starts.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What the driver of the campaign on the bus does.
    #[command(flatten)]
    pub campaign: Options,
}

/// Another campaign, or what the driver starts.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The same for the whole program: its processes build stacks and push them, while they, their hg or git, and ssh are killed
    Pipeline(Pipeline),
    /// A worker of a campaign
    #[command(hide = true)]
    Worker(WorkerOptions),
}

/// Options of a campaign.
#[derive(Debug, Args)]
pub struct Options {
    /// Decides what goes wrong and when; a random one without it
    #[arg(long)]
    pub seed: Option<u64>,
    /// How many messages go through the queues
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u32).range(24..))]
    pub messages: u32,
    /// How often a worker is killed, terminated or stopped; other faults come along with it. The campaign takes about
    /// 1.5 s for each
    #[arg(long, default_value_t = 15)]
    pub kills: u32,
    /// Restarts Redis by SIGKILL, and reports what that loses rather than fails
    #[arg(long)]
    pub kill_redis: bool,
    /// Outcome as one JSON line
    #[arg(long)]
    pub json: bool,
}

/// Options of a worker.
#[derive(Debug, Args)]
pub struct WorkerOptions {
    /// Redis, through a link
    #[arg(long)]
    pub bus: String,
    /// The world outside
    #[arg(long)]
    pub outside: String,
    /// Names this process in the log
    #[arg(long)]
    pub serial: u32,
}
