//! Builds that wait for a closed tree cost Redis little, and nothing more while they wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use build::{
    Build, BuildLog, BuildRequest, BuildUpdateMessage, Diff, Patch, Phid, Revision, Source,
    VersionControl,
};
use bus::{Bus, BusError, Consumer, Context, Handler, Outcome, Producer, RedisBus, Requeue};
use events::queues::{BUILD_LOAD, BUILD_PUBLISH, BUILD_PUSH, BUILD_QUEUES};
use runtime::{Clock, Service, Shutdown, SystemClock};
use testkit::RedisServer;

/// How many builds wait; `DEFERRED_BUILDS` asks for another number.
const BUILDS: u64 = 300;
/// What Redis may take beside the builds, for connections and buffers, and for each build: 10,000 stay below 50 MB.
const BYTES_BESIDE: u64 = 2 << 20;
const BYTES_OF_ONE: u64 = 4_000;
/// How often the first build is retried here; a worker does so every 20 s.
const HOLD: Duration = Duration::from_millis(20);
/// What one look writes, at most, whatever waits behind.
const BYTES_OF_A_LOOK: u64 = 2_000;

fn phid(kind: &str, number: u64) -> Phid {
    Phid::parse(&format!("PHID-{kind}-{number:020}")).unwrap()
}

fn request(number: u64) -> BuildRequest {
    BuildRequest {
        target: phid("HMBT", number),
        diff_id: number,
        repository: phid("REPO", 1),
        revision_id: number,
        accepted_at: SystemClock.now(),
        staged: None,
    }
}

/// A stack of two patches, however large.
fn build(request: BuildRequest) -> Build {
    let diff = |number| Diff {
        id: number,
        phid: phid("DIFF", number),
        created_at: SystemClock.now(),
        base: Some("f".repeat(40)),
    };
    let number = request.revision_id;
    let patch = |number| Patch {
        revision_id: number,
        diff: diff(number),
        message: None,
        abandoned: false,
    };
    Build {
        revision: Revision {
            id: number,
            phid: phid("DREV", number),
            url: format!("https://phabricator.example.org/D{number}"),
            author: phid("USER", number % 50),
            reviewers: vec![phid("USER", 1), phid("PROJ", 2)],
        },
        diff: diff(number),
        stack: vec![patch(number + 1_000_000), patch(number)],
        landed: Vec::new(),
        vcs: VersionControl::Mercurial,
        request,
    }
}

/// Does to the records and queues what the workflow, the publisher and the worker do.
#[derive(Clone)]
struct Steps {
    log: BuildLog,
    looks: Arc<AtomicUsize>,
}

impl Steps {
    async fn until_retried(&self, times: usize) {
        for _ in 0..18_000 {
            if self.looks.load(Ordering::SeqCst) >= times {
                return;
            }
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
        panic!("waited in vain for the first build to be retried");
    }
}

#[async_trait]
impl Handler<BuildRequest> for Steps {
    type Error = BusError;

    async fn handle(&self, request: BuildRequest, cx: &Context) -> Result<Outcome, BusError> {
        self.log
            .mark_started(cx, &request, BUILD_LOAD.spec().name)
            .await?;
        self.log.mark_loaded(cx, &build(request))?;
        Ok(Outcome::Done)
    }
}

#[async_trait]
impl Handler<BuildUpdateMessage> for Steps {
    type Error = BusError;

    async fn handle(&self, message: BuildUpdateMessage, cx: &Context) -> Result<Outcome, BusError> {
        self.log
            .record_working(cx, &message.request.target, "the work goes on")?;
        Ok(Outcome::Done)
    }
}

#[async_trait]
impl Handler<Build> for Steps {
    type Error = BusError;

    async fn handle(&self, build: Build, cx: &Context) -> Result<Outcome, BusError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.log
            .mark_started(cx, &build.request, BUILD_PUSH.spec().name)
            .await?;
        Ok(Outcome::hold(HOLD, "try is closed: Bug 1 - infra"))
    }

    async fn on_requeue(
        &self,
        build: Build,
        requeue: Requeue<'_, BusError>,
        cx: &Context,
    ) -> Result<(), BusError> {
        let (target, queue) = (&build.request.target, BUILD_PUSH.spec().name);
        self.log
            .record_requeue(cx, target, queue, &requeue, None)
            .await
    }
}

/// A number of `INFO`.
async fn info(server: &RedisServer, name: &str) -> u64 {
    let text: String = server.command(&["INFO", "everything"]).await.unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deferred_builds_keep_redis_small_and_its_file_still() {
    let number = std::env::var("DEFERRED_BUILDS").ok();
    let builds: u64 = number.map_or(BUILDS, |number| number.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let server = RedisServer::start(directory.path()).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let bus: Arc<dyn Bus> = Arc::new(RedisBus::new(&server.options(), &SystemClock).unwrap());
    let empty = info(&server, "used_memory").await;
    let steps = Steps {
        log: BuildLog::new(
            Duration::from_secs(30 * 24 * 3600),
            "a worker",
            BUILD_QUEUES,
        ),
        looks: Arc::default(),
    };
    let producer = Producer::new(bus.clone(), clock.clone());
    for number in 1..=builds {
        let request = request(number);
        steps
            .log
            .accept(&producer, &request, Source::Harbormaster)
            .await
            .unwrap();
    }
    let load = Consumer::new(bus.clone(), clock.clone(), BUILD_LOAD, steps.clone());
    while load.step().await.unwrap() > 0 {}
    let publish = Consumer::new(bus.clone(), clock.clone(), BUILD_PUBLISH, steps.clone());
    while publish.step().await.unwrap() > 0 {}

    let shutdown = Shutdown::new();
    let push = Consumer::new(bus.clone(), clock, BUILD_PUSH, steps.clone());
    let running = tokio::spawn(Box::new(push).run(shutdown.clone()));
    // It is recorded once what it waits for.
    steps.until_retried(5).await;
    let (before, first) = (
        info(&server, "aof_current_size").await,
        steps.looks.load(Ordering::SeqCst),
    );
    steps.until_retried(first + 100).await;
    let (after, looks) = (
        info(&server, "aof_current_size").await,
        steps.looks.load(Ordering::SeqCst) - first,
    );
    shutdown.stop();
    running.await.unwrap().unwrap();
    let waiting = bus.depth(&BUILD_PUSH.spec()).await.unwrap();
    assert_eq!(
        (waiting.ready, waiting.delayed, waiting.dead),
        (usize::try_from(builds).unwrap(), 0, 0)
    );
    let used = info(&server, "used_memory").await - empty;
    let a_look = (after - before) / u64::try_from(looks).unwrap();
    println!(
        "{builds} builds: {used} bytes, {} each; a look writes {a_look}",
        used / builds
    );
    assert!(
        used < BYTES_BESIDE + builds * BYTES_OF_ONE,
        "{used} bytes for {builds} builds"
    );
    assert!(
        a_look < BYTES_OF_A_LOOK,
        "a look at the first of {builds} writes {a_look} bytes"
    );
}
