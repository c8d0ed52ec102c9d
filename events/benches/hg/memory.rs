//! How much memory the worker takes: the program's own process, on Redis.

use std::{fs, sync::Arc, time::Duration};

use build::{Build, Phid};
use bus::{Bus, RedisBus, RedisOptions};
use events::queues::BUILD_PUSH;
use runtime::{Clock, SystemClock};
use testkit::{
    RedisServer,
    phabricator::{FakePhabricator, NewDiff, NewRevision},
};

use crate::{
    process::{Process, hg_of, peak_mb},
    report::Report,
    stack::{AUTHOR, Stack, message},
    stage::Stage,
};

/// How many patches each has.
const STACK: usize = 3;
/// The size of the large patch, in bytes: a little below the limit.
const HUGE: usize = 60 << 20;
/// How often the queue is polled.
const LOOK: Duration = Duration::from_millis(50);

pub async fn measure(stage: &mut Stage, report: &Report, builds: usize) {
    let name = stage.shape.name;
    let target = stage.fresh_try().await;
    let phabricator = FakePhabricator::start(Arc::new(SystemClock))
        .await
        .expect("a Phabricator");
    let (repository, author) = (
        phabricator.add_repository("bench"),
        phabricator.add_user("ada", "Ada"),
    );
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

    for _ in 0..builds {
        push(
            &bus,
            &registered(&phabricator, &author, &stage.stack(STACK), &repository),
        )
        .await;
    }
    drained(&bus).await;
    report.figure(name, "worker_rss_mb", peak_mb(worker.id()), "MB");
    report.figure(
        name,
        "hg_rss_mb",
        hg_of(worker.id()).into_iter().map(peak_mb).sum(),
        "MB",
    );

    push(
        &bus,
        &registered(&phabricator, &author, &stage.huge_stack(HUGE), &repository),
    )
    .await;
    drained(&bus).await;
    report.figure(name, "patch_60mb_peak_mb", peak_mb(worker.id()), "MB");
    worker.stop().await;
    assert!(target.heads().await == builds + 1, "every build is on Try");
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

async fn push(bus: &RedisBus, build: &Build) {
    let packed = BUILD_PUSH
        .pack(build, &SystemClock)
        .expect("a build is packed");
    bus.push(vec![packed]).await.expect("the bus stores it");
}

/// Waits until nothing is left to build.
async fn drained(bus: &dyn Bus) {
    while bus
        .depth(&BUILD_PUSH.spec())
        .await
        .expect("the bus answers")
        .unfinished()
        > 0
    {
        SystemClock.sleep(LOOK).await;
    }
}
