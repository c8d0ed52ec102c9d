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
mod disk;
mod hostile;
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

use clap::{Parser, ValueEnum};

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
    /// The least that each measure can do: whether it still works. The figures mean nothing.
    #[arg(long, conflicts_with = "large")]
    smallest: bool,
    /// How often each build is timed, the original and ours in turn; the medians are reported.
    #[arg(long)]
    rounds: Option<usize>,
    /// What to measure. Else everything.
    measures: Vec<Measure>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How many builds are queued at once, where builds are counted.
const BUILDS: usize = 20;

/// The amount of work of each measure.
struct Size {
    /// How often each build is timed.
    rounds: usize,
    /// How many builds are queued at once.
    builds: usize,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// The time until the first build can begin.
    Start,
    /// The time of one build, for stacks of several lengths.
    Stacks,
    /// Builds a minute.
    Builds,
    /// The worker's memory.
    Memory,
    /// What hostile stacks cost. On a repository of its own.
    Hostile,
}

fn main() {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let cache = Cache::lock();
        let report = Report::new(options.json);
        let mut watch = watch::install();
        let wants = |what| options.measures.is_empty() || options.measures.contains(&what);
        let (rounds, builds) = if options.smallest {
            (1, 2)
        } else {
            (options.rounds.unwrap_or(9), BUILDS)
        };
        measure(
            &cache,
            &SMALL,
            &report,
            &mut watch,
            Size { rounds, builds },
            wants,
        )
        .await;
        if wants(Measure::Hostile) {
            let mut stage = Stage::set_up(&cache, &SMALL).await;
            hostile::measure(&mut stage, &report, &mut watch, options.smallest).await;
        }
        if options.large {
            let size = Size {
                rounds: options.rounds.unwrap_or(5),
                builds: BUILDS,
            };
            measure(&cache, &LARGE, &report, &mut watch, size, wants).await;
        }
    });
}

/// Takes the measures that are wanted on one repository.
async fn measure(
    cache: &Cache,
    shape: &'static Shape,
    report: &Report,
    watch: &mut Watch,
    Size { rounds, builds }: Size,
    wants: impl Fn(Measure) -> bool,
) {
    let mut stage = Stage::set_up(cache, shape).await;
    let copy = start::clone(&stage);
    if wants(Measure::Start) {
        start::measure(&mut stage, report, watch, rounds, &copy).await;
    }
    if wants(Measure::Stacks) {
        stacks::measure(&mut stage, report, watch, &copy.path, rounds).await;
    }
    if wants(Measure::Builds) {
        throughput::measure(&mut stage, report, watch, &copy.path, builds).await;
    }
    if wants(Measure::Memory) {
        memory::measure(&mut stage, report, builds).await;
    }
}
