//! How fast builds are with Mercurial on this machine, beside what the original does, in the same run: `./dev bench hg`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    clippy::panic,
    reason = "a program that prints figures, or stops"
)]

mod base;
mod client;
mod content;
mod memory;
mod ours;
mod process;
mod report;
mod repository;
mod stack;
mod stacks;
mod stage;
mod start;
mod throughput;
mod watch;

use clap::Parser;

use content::{LARGE, SMALL, Shape};
use report::Report;
use repository::Cache;
use stage::Stage;
use watch::Watch;

/// Measures builds with Mercurial.
#[derive(Parser)]
struct Options {
    /// Also on a repository of 100,000 files, which takes minutes to make the first time.
    #[arg(long)]
    large: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// How often each build is timed, the original and ours in turn; the medians are reported.
    #[arg(long)]
    rounds: Option<usize>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let cache = Cache::lock();
        let report = Report::new(options.json);
        let mut watch = watch::install();
        measure(&cache, &SMALL, &report, &mut watch, options.rounds.unwrap_or(9)).await;
        if options.large {
            measure(&cache, &LARGE, &report, &mut watch, options.rounds.unwrap_or(5)).await;
        }
    });
}

/// Takes all measures on one repository.
async fn measure(cache: &Cache, shape: &'static Shape, report: &Report, watch: &mut Watch, rounds: usize) {
    let mut stage = Stage::set_up(cache, shape).await;
    let copy = start::measure(&mut stage, report, watch, rounds).await;
    stacks::measure(&mut stage, report, watch, &copy, rounds).await;
    throughput::measure(&mut stage, report, watch, &copy).await;
    memory::measure(&mut stage, report).await;
}
