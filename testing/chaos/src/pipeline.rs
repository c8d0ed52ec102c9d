//! `./dev chaos pipeline`: the whole program under fault, from Harbormaster's request to the push and the answer.
//!
//! A web server and two workers (the real binary) work on builds of two repositories with a real Redis, real `hg` or
//! `git`, and real ssh. Meanwhile the driver kills them and what they started. [`plan`] decides everything from one seed,
//! [`world`] is what runs, and [`verify`] compares what Phabricator and Try show at the end with what must be there.

mod answer;
mod author;
mod child_processes;
mod driver;
mod harbormaster;
mod plan;
mod processes;
mod report;
mod repository;
mod stage;
mod vcs;
mod verify;
mod world;

pub use driver::run;
use vcs::Vcs;

/// Options of a campaign on the pipeline.
#[derive(Debug, clap::Args)]
pub struct Pipeline {
    /// The version control of the repositories
    #[arg(long, value_enum, default_value_t)]
    pub vcs: Vcs,
    /// Decides what goes wrong and when; a random one without it
    #[arg(long)]
    pub seed: Option<u64>,
    /// How many builds are asked for. From 50 on there are some that wait five minutes for a private revision
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..))]
    pub builds: u32,
    /// How often a process is killed or terminated; restarts of Redis come along with it. The campaign takes about
    /// 5 s for each
    #[arg(long, default_value_t = 40)]
    pub kills: u32,
    /// Outcome as one JSON line
    #[arg(long)]
    pub json: bool,
}
