//! What stacks that ask for too much cost: the time to their answer, disk, memory, and the time of the next author's build.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use build::{Build, BuildUpdate as Outcome, Phid};
use worker::patch::encode as binary_patch;

use crate::{
    disk::Disk,
    ours::Ours,
    process::{children, peak},
    report::{Report, median},
    stack::{Stack, add},
    stage::{Stage, repository},
    vcs::Vcs,
    watch::Watch,
};

/// The pause between two samples of memory and disk.
const SAMPLE: Duration = Duration::from_millis(20);

/// The lines of the files whose lines are equal, the hunks for these, and the lines of the patch of empty lines.
const EQUAL_LINES: usize = 400_000;
const HUNKS: usize = 150;
const EMPTY_LINES: usize = 31 << 20;

pub async fn measure(stage: &mut Stage, report: &Report, watch: &mut Watch, smallest: bool) {
    let source = source(stage.vcs, stage.path("source")).await;
    stage.move_to(source).await;
    let usual = usual(stage, watch, if smallest { 1 } else { 5 }).await;
    report.figure("-", "hostile: usual build", usual, "s");
    for (name, patches) in cases() {
        let case = Case { name, patches };
        case.measure(stage, report, watch, usual).await;
    }
    // Its builds are retried after 20 s.
    if !smallest {
        full_disk(stage, report, watch).await;
    }
}

/// A repository with the files that the stacks are made for.
async fn source(vcs: Vcs, path: PathBuf) -> PathBuf {
    let big: String = (0..500_000).map(big_line).collect();
    let marked = (0..EQUAL_LINES).map(|number| match number % 1000 {
        500 => format!("mark {}\n", number / 1000),
        _ => "same\n".to_owned(),
    });
    let files = [
        ("big", big),
        ("equal", "same\n".repeat(EQUAL_LINES)),
        ("marked", marked.collect()),
    ];
    let made = vcs.make_of(&path, &files).await;
    made.expect("a repository");
    path
}

fn big_line(number: usize) -> String {
    format!("line {number:>8} of big file\n")
}

/// The stacks: each is a list of patches.
fn cases() -> Vec<(&'static str, Vec<String>)> {
    let copies = |count: usize| {
        (0..count)
            .map(|n| copy("big", &format!("a{n}")))
            .collect::<String>()
    };
    let renames = |from: &str, to: &str| {
        (0..8)
            .map(|n| rename(&format!("{from}{n}"), &format!("{to}{n}")))
            .collect::<String>()
    };
    let zeros = binary("zeros", 9 << 20);
    let many_zeros = (0..28).map(|n| zeros.replace("zeros", &format!("zeros{n}")));
    let delta = binary("big", 100)
        .replace("new file mode 100644\n", "")
        .replace("literal 100", "delta 100");
    let empty = vec![""; EMPTY_LINES];
    vec![
        ("copies", vec![copies(120)]),
        ("zeros", vec![many_zeros.collect()]),
        ("deltas", vec![delta.clone(), delta]),
        (
            "renames",
            vec![copies(8), renames("a", "b"), renames("b", "c")],
        ),
        ("hunks nowhere", vec![hunks_nowhere()]),
        ("hunks far away", vec![hunks_far_away()]),
        ("empty lines", vec![add("empty", &empty)]),
    ]
}

fn copy(from: &str, to: &str) -> String {
    format!("diff --git a/{from} b/{to}\ncopy from {from}\ncopy to {to}\n")
}

/// A rename of a copy of `big`, with an edit.
fn rename(from: &str, to: &str) -> String {
    let header = copy(from, to).replace("copy", "rename");
    let (line, next) = (big_line(0), big_line(1));
    format!("{header}--- a/{from}\n+++ b/{to}\n@@ -1,2 +1,2 @@\n-{line}+line of {to}\n {next}")
}

/// A new binary file of `size` zeros.
fn binary(path: &str, size: usize) -> String {
    let data = binary_patch(&vec![0; size]).expect("zeros are packed");
    let data = String::from_utf8(data).expect("letters and digits");
    format!("diff --git a/{path} b/{path}\nnew file mode 100644\n{data}")
}

/// Hunks that look like all of their file but for one line.
fn hunks_nowhere() -> String {
    let mut patch = "diff --git a/equal b/equal\n--- a/equal\n+++ b/equal\n".to_owned();
    let same = " same\n".repeat(3);
    for number in 0..HUNKS {
        let line = 1000 + 2000 * number;
        let _ = write!(
            patch,
            "@@ -{line},7 +{line},7 @@\n{same}-other\n+new\n{same}"
        );
    }
    patch
}

/// Hunks that fit, now near the beginning of the file, now near its end.
fn hunks_far_away() -> String {
    let mut patch = "diff --git a/marked b/marked\n--- a/marked\n+++ b/marked\n".to_owned();
    let last = EQUAL_LINES / 1000 - 1;
    for number in 0..HUNKS {
        let mark = [number / 2, last - number / 2][number % 2];
        let line = number * 10 + 1;
        let _ = write!(
            patch,
            "@@ -{line},4 +{line},4 @@\n same\n same\n-mark {mark}\n+new\n same\n"
        );
    }
    patch
}

/// The time of a build of one patch on a worker that has nothing else to do.
async fn usual(stage: &mut Stage, watch: &mut Watch, rounds: usize) -> f64 {
    let target = stage.fresh_try().await;
    let mut ours = Ours::start(stage.vcs, stage.settings(&target), watch).await;
    let mut seconds = Vec::new();
    for _ in 0..=rounds {
        seconds.push(ours.build(&harmless(stage)).await.total);
    }
    ours.stop().await;
    // The first one warms up.
    median(seconds.split_off(1))
}

/// A stack of one patch.
fn harmless(stage: &mut Stage) -> Stack {
    stage.stack_of(vec![add("harmless", &["harmless"])])
}

/// The same, as a build of another author than that of the hostile stacks.
fn next_build(stage: &mut Stage) -> Build {
    let mut build = harmless(stage).build(repository());
    build.revision.author = Phid::parse("PHID-USER-next").expect("a PHID");
    build
}

struct Case {
    name: &'static str,
    patches: Vec<String>,
}

impl Case {
    /// Queues the stack and the build of another author behind it.
    async fn measure(self, stage: &mut Stage, report: &Report, watch: &mut Watch, usual: f64) {
        let target = stage.fresh_try().await;
        let mut ours = Ours::start(stage.vcs, stage.settings(&target), watch).await;
        ours.build(&harmless(stage)).await;
        let hostile = stage.stack_of(self.patches).build(repository());
        let next = next_build(stage);
        let samples = Samples::begin(vec![stage.clones(), target.path().to_owned()]);
        let [(outcome, answer), (next_outcome, next_seconds)] = ours.pair([&hostile, &next]).await;
        let (disk, memory) = samples.end();
        ours.stop().await;
        let name = self.name;
        assert!(
            matches!(outcome, Outcome::PatchFailed(_)),
            "{name}: {outcome:?}"
        );
        assert!(
            matches!(next_outcome, Outcome::Pushed(_)),
            "{name}: {next_outcome:?}"
        );
        let figure = |what: &str, value: f64, unit: &str| {
            report.figure("-", &format!("hostile {name}: {what}"), value, unit);
        };
        figure("answer", answer, "s");
        figure("disk", disk, "MB");
        figure("memory of hg", memory, "MB");
        figure("delay of next", (next_seconds - usual).max(0.0), "s");
    }
}

/// Builds on a disk that is full in the middle of an import, and has room later.
async fn full_disk(stage: &mut Stage, report: &Report, watch: &mut Watch) {
    let Some(disk) = Disk::mount(stage.path("disk"), 400) else {
        return;
    };
    let target = stage.fresh_try().await;
    let mut settings = stage.settings(&target);
    settings.clones_dir = disk.path().join("clones");
    let mut ours = Ours::start(stage.vcs, settings, watch).await;
    ours.build(&harmless(stage)).await;
    disk.fill(1 << 20);
    let build = stage.huge_stack(8 << 20).build(repository());
    let samples = Samples::begin(Vec::new());
    let (deferred, pushed) = ours.deferred_until(&build, || disk.free()).await;
    let (_, memory) = samples.end();
    ours.stop().await;
    report.figure("-", "hostile full disk: deferred", deferred, "s");
    report.figure("-", "hostile full disk: memory of hg", memory, "MB");
    report.figure("-", "hostile full disk: pushed after room", pushed, "s");
}

/// Samples the disk and the memory that this process's `hg` takes, until it is ended.
struct Samples {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<(f64, f64)>,
}

impl Samples {
    fn begin(directories: Vec<PathBuf>) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let taken = move || {
            directories
                .iter()
                .map(|directory| size(directory))
                .sum::<u64>()
        };
        let thread = std::thread::spawn({
            let ends = Arc::clone(&ends);
            move || {
                let before = taken();
                let (mut disk, mut memory) = (0, 0.0_f64);
                while !ends.load(Ordering::Relaxed) {
                    disk = disk.max(taken().saturating_sub(before));
                    let peaks = children(std::process::id(), "hg")
                        .into_iter()
                        .filter_map(peak);
                    memory = peaks.fold(memory, f64::max);
                    std::thread::park_timeout(SAMPLE);
                }
                (disk as f64 / 1e6, memory)
            }
        });
        Self { ends, thread }
    }

    /// The growth of the directories and the peak of one `hg`, both in MB.
    fn end(self) -> (f64, f64) {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("the samples are taken")
    }
}

/// The bytes of all files below a directory, some of which may just be going.
fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
