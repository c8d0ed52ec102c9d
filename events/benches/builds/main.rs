//! How fast builds are on this machine with Mercurial and with Git, beside what other programs do, in the same run:
//! `./dev bench hg` and `./dev bench git`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    clippy::panic,
    reason = "a program that prints figures, or stops"
)]

mod content;
mod disk;
mod git;
mod hg;
mod hostile;
mod memory;
mod original;
mod ours;
mod process;
mod report;
mod repository;
mod stack;
mod stacks;
mod stage;
mod start;
mod throughput;
mod vcs;
mod watch;

use clap::{Parser, ValueEnum};

use content::{LARGE, SMALL, Shape};
use report::Report;
use repository::Cache;
use stage::Stage;
use vcs::Vcs;
use watch::Watch;

/// Measures builds.
#[derive(Parser)]
struct Options {
    /// With which version control. Else with each.
    #[arg(long)]
    vcs: Option<Vcs>,
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
    /// Whether a process may become idle before its memory is read.
    settles: bool,
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
    /// What hostile stacks cost. On a repository of its own, of Mercurial.
    Hostile,
}

fn main() {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let all = options
        .vcs
        .map_or_else(|| Vcs::value_variants().to_vec(), |vcs| vec![vcs]);
    runtime.block_on(async {
        let mut watch = watch::install();
        for vcs in all {
            measure_all(vcs, &options, &mut watch).await;
        }
    });
}

async fn measure_all(vcs: Vcs, options: &Options, watch: &mut Watch) {
    let cache = Cache::lock(vcs);
    let report = Report::new(vcs, options.json);
    let wants = |what| options.measures.is_empty() || options.measures.contains(&what);
    let (rounds, builds) = if options.smallest {
        (1, 2)
    } else {
        (options.rounds.unwrap_or(9), BUILDS)
    };
    let size = Size {
        rounds,
        builds,
        settles: !options.smallest,
    };
    measure(&cache, &SMALL, &report, watch, size, wants).await;
    if wants(Measure::Hostile) && vcs == Vcs::Hg {
        let mut stage = Stage::set_up(&cache, &SMALL).await;
        hostile::measure(&mut stage, &report, watch, options.smallest).await;
    }
    if wants(Measure::Memory) && vcs == Vcs::Git {
        let mut stage = Stage::set_up(&cache, &SMALL).await;
        memory::measure_hunks(&mut stage, &report, options.smallest).await;
    }
    if options.large {
        let size = Size {
            rounds: options.rounds.unwrap_or(5),
            builds: BUILDS,
            settles: true,
        };
        measure(&cache, &LARGE, &report, watch, size, wants).await;
    }
}

/// Takes the measures that are wanted on one repository.
async fn measure(
    cache: &Cache,
    shape: &'static Shape,
    report: &Report,
    watch: &mut Watch,
    Size {
        rounds,
        builds,
        settles,
    }: Size,
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
        memory::measure(&mut stage, report, builds, settles).await;
    }
}
