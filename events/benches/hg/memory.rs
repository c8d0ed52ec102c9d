//! How much memory the worker takes: the program's own process, on Redis.

use std::{fs, sync::Arc, time::Duration};

use bus::{Bus, Clock, RedisBus, RedisOptions, SystemClock, testing::RedisServer};
use events::queues::MERCURIAL;
use phabricator::{model::Phid, testing::FakePhabricator};

use crate::{
    process::{Process, hg_of, peak_mb},
    report::Report,
    stack::Stack,
    stage::Stage,
};

/// How many builds are done before it is looked at.
const BUILDS: usize = 10;
/// How many patches each has.
const STACK: usize = 3;
/// The size of the large patch, in bytes: a little below the limit.
const HUGE: usize = 60 << 20;
/// How often the queue is looked at.
const LOOK: Duration = Duration::from_millis(50);

pub async fn measure(stage: &mut Stage, report: &Report) {
    let name = stage.shape.name;
    let target = stage.fresh_try().await;
    let phabricator = FakePhabricator::start(Arc::new(SystemClock)).await.expect("a Phabricator");
    let repository = phabricator.add_repository("bench");
    phabricator.add_project("secure-revision");
    let place = stage.path("redis");
    fs::create_dir(&place).expect("a directory");
    let server = RedisServer::start(place).await.expect("redis-server starts");
    let options = RedisOptions { namespace: "events".to_owned(), ..server.options() };
    let bus = RedisBus::new(&options, &SystemClock).expect("a bus on redis");
    let worker = Process::start(stage, &target, &phabricator, &server);

    for _ in 0..BUILDS {
        push(&bus, &stage.stack(STACK), &repository).await;
    }
    drained(&bus).await;
    report.figure(name, "worker_rss_mb", peak_mb(worker.id()), "MB");
    report.figure(name, "hg_rss_mb", hg_of(worker.id()).into_iter().map(peak_mb).sum(), "MB");

    push(&bus, &stage.huge_stack(HUGE), &repository).await;
    drained(&bus).await;
    report.figure(name, "patch_60mb_peak_mb", peak_mb(worker.id()), "MB");
    worker.stop().await;
    assert!(target.heads().await == BUILDS + 1, "every build is on Try");
}

async fn push(bus: &RedisBus, stack: &Stack, repository: &Phid) {
    let packed = MERCURIAL.pack(&stack.build(repository.clone()), &SystemClock).expect("a build is packed");
    bus.push(vec![packed]).await.expect("the bus stores it");
}

/// Waits until nothing is left to build.
async fn drained(bus: &dyn Bus) {
    while bus.depth(&MERCURIAL.spec()).await.expect("the bus answers").unfinished() > 0 {
        SystemClock.sleep(LOOK).await;
    }
}
