//! How much memory the worker takes: the program's own process, on Redis.

use std::{fmt::Write as _, fs, sync::Arc, time::Duration};

use build::{Build, Phid};
use bus::{Bus, QueueAdmin, RedisBus, RedisOptions};
use events::queues::BUILD_PUSH;
use runtime::{Clock, SystemClock};
use testkit::{
    RedisServer,
    phabricator::{FakePhabricator, NewDiff, NewRevision},
};

use crate::{
    process::{Process, children, peak_mb, resident_mb},
    report::Report,
    stack::{AUTHOR, Stack, add, message},
    stage::{Stage, Try},
    vcs::Vcs,
};

/// How many patches each has.
const STACK: usize = 3;
/// The size of the large patch, in bytes: a little below the limit.
const HUGE: usize = 60 << 20;
/// How often the queue is polled.
const LOOK: Duration = Duration::from_millis(50);

/// The lines of the file that is changed in many places, and the distance between these.
const LINES: usize = 1_000_000;
const APART: usize = 10;

/// The time in which a process becomes idle: it unmaps its code every ten seconds.
const SETTLE: Duration = Duration::from_secs(25);

pub async fn measure(stage: &mut Stage, report: &Report, builds: usize, settles: bool) {
    let (name, vcs) = (stage.shape.name, stage.vcs);
    let running = Running::start(stage).await;
    for _ in 0..builds {
        let stack = stage.stack(STACK);
        running.push(&stack).await;
    }
    running.drained().await;
    let id = running.worker.id();
    report.figure(name, "worker_rss_mb", peak_mb(id), "MB");
    if vcs == Vcs::Hg {
        let servers = children(id, "hg").into_iter().map(peak_mb).sum();
        report.figure(name, "hg_rss_mb", servers, "MB");
    }
    let stack = stage.huge_stack(HUGE);
    running
        .measure_patch(report, name, "patch_60mb", &stack, settles)
        .await;
    running.end(builds + 1).await;
}

/// A patch with many hunks, on a large file. On a repository of its own.
pub async fn measure_hunks(stage: &mut Stage, report: &Report, smallest: bool) {
    let lines = if smallest { LINES / 100 } else { LINES };
    let source = stage.path("source");
    let made = stage
        .vcs
        .make_of(&source, &[("big", (0..lines).map(line).collect())])
        .await;
    made.expect("a repository");
    stage.move_to(source).await;
    let stack = stage.stack_of(vec![hunks(lines)]);
    let running = Running::start(stage).await;
    let harmless = stage.stack_of(vec![add("harmless", &["harmless"])]);
    running.push(&harmless).await;
    running.drained().await;
    running
        .measure_patch(report, "-", "patch_of_hunks", &stack, !smallest)
        .await;
    running.end(2).await;
}

fn line(number: usize) -> String {
    format!("line {number:>8} of a file that is large and has many\n")
}

/// The patch that changes a line in each ten.
fn hunks(lines: usize) -> String {
    let mut patch = "diff --git a/big b/big\n--- a/big\n+++ b/big\n".to_owned();
    for at in (APART / 2..lines).step_by(APART) {
        let context = |numbers: std::ops::Range<usize>| -> String {
            numbers.map(|number| format!(" {}", line(number))).collect()
        };
        let (first, before, after) = (at - 2, context(at - 3..at), context(at + 1..at + 4));
        let (old, new) = (line(at), line(at).to_uppercase());
        let _ = write!(
            patch,
            "@@ -{first},7 +{first},7 @@\n{before}-{old}+{new}{after}"
        );
    }
    patch
}

/// A worker process, with all that it needs.
struct Running {
    worker: Process,
    bus: RedisBus,
    phabricator: FakePhabricator,
    repository: Phid,
    author: Phid,
    target: Try,
    _server: RedisServer,
}

impl Running {
    async fn start(stage: &mut Stage) -> Self {
        let target = stage.fresh_try().await;
        let phabricator = FakePhabricator::start(Arc::new(SystemClock))
            .await
            .expect("a Phabricator");
        let repository = phabricator.add_repository("bench");
        let author = phabricator.add_user("ada", "Ada");
        phabricator.add_project("secure-revision");
        let place = stage.path("redis");
        fs::create_dir(&place).expect("a directory");
        let server = RedisServer::start(place)
            .await
            .expect("redis-server starts");
        let options = RedisOptions {
            namespace: "events".to_owned(),
            ..server.options()
        };
        let bus = RedisBus::new(&options, &SystemClock).expect("a bus on redis");
        let worker = Process::start(stage, &target, &phabricator, &server);
        Self {
            worker,
            bus,
            phabricator,
            repository,
            author,
            target,
            _server: server,
        }
    }

    async fn push(&self, stack: &Stack) {
        let build = registered(&self.phabricator, &self.author, stack, &self.repository);
        let packed = BUILD_PUSH
            .pack(&build, &SystemClock)
            .expect("a build is packed");
        let stored = self.bus.push(vec![packed]).await;
        stored.expect("the bus stores it");
    }

    /// Waits until nothing is left to build.
    async fn drained(&self) {
        let queue = BUILD_PUSH.spec();
        let left = async || self.bus.depth(&queue).await.expect("the bus answers");
        while left().await.unfinished() > 0 {
            SystemClock.sleep(LOOK).await;
        }
    }

    /// The peak with a stack of one large patch, and by how many times the size of the patch it is above the memory of
    /// the idle process.
    async fn measure_patch(
        &self,
        report: &Report,
        name: &str,
        patch: &str,
        stack: &Stack,
        settles: bool,
    ) {
        if settles {
            SystemClock.sleep(SETTLE).await;
        }
        let id = self.worker.id();
        let idle = resident_mb(id);
        let size = stack.patches[0].len() as f64 / f64::from(1 << 20);
        self.push(stack).await;
        self.drained().await;
        let peak = peak_mb(id);
        report.figure(name, &format!("{patch}_peak_mb"), peak, "MB");
        report.figure(name, &format!("{patch}_idle_mb"), idle, "MB");
        report.figure(name, &format!("{patch}_times"), (peak - idle) / size, "x");
    }

    /// Stops the worker, after this number of builds.
    async fn end(self, builds: usize) {
        self.worker.stop().await;
        assert!(self.target.heads().await == builds, "every build is on Try");
    }
}

/// A build whose revisions Phabricator has, so that the worker finds them public right before the push.
fn registered(
    phabricator: &FakePhabricator,
    author: &Phid,
    stack: &Stack,
    repository: &Phid,
) -> Build {
    let mut build = stack.build(repository.clone());
    for (patch, content) in build.stack.iter_mut().zip(&stack.patches) {
        let diff = NewDiff::new(content.clone()).commit(AUTHOR, message(patch.revision_id));
        let revision = NewRevision::new("Do it", author, repository, diff);
        let created = phabricator.create_revision(revision);
        (patch.revision_id, patch.diff.id, patch.diff.phid) =
            (created.id, created.diff.id, created.diff.phid);
        (build.revision.id, build.revision.phid) = (created.id, created.phid);
        (build.request.revision_id, build.request.diff_id) = (created.id, created.diff.id);
        build.diff = patch.diff.clone();
    }
    build
}
