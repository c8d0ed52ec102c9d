//! A source and a destination, a worker between them, and a queue with builds in front of it.

// They know no version control, and are those of the Mercurial worker's tests.
#[path = "../../../worker-hg/tests/it/world/builds.rs"]
mod builds;
#[expect(dead_code, reason = "only some of its answers are needed here")]
#[path = "../../../worker-hg/tests/it/world/fakes.rs"]
mod fakes;
#[path = "../../../worker-hg/tests/it/world/outcomes.rs"]
mod outcomes;
mod refs;
mod repo;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};

use build::{
    Build, BuildLog, BuildQueues, BuildRecord, BuildRequest, BuildUpdate, BuildUpdateMessage, Phid,
};
use bus::{
    Backoff, Bus, Consumer, MemoryBus, Message, Policy, Producer, Queue, Reserve, Settlement,
};
use runtime::{Clock, ManualClock, Service, Shutdown, SystemClock};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use worker::{Backend, GitSettings, RepositorySettings, Settings, TryMode, VcsSettings, Worker};
use worker_git::Git;

pub use builds::{TestPatch, add, change};
pub use fakes::{Answer, Answers, Contents, KnownPatch};
pub use refs::Closed;
pub use repo::Repo;

const POLICY: Policy = Policy {
    attempts: 3,
    backoff: Backoff {
        first: Duration::from_secs(6),
        factor: 6,
        cap: Duration::from_secs(1296),
    },
    ..Policy::DEFAULT
};
pub const PUSH: Queue<Build> = Queue::with_partitions("build:push", POLICY, |build| {
    build.request.repository.as_str().to_owned()
});
const PUBLISH: Queue<BuildUpdateMessage> = Queue::new("build:publish", POLICY);
const LOAD: Queue<BuildRequest> = Queue::new("build:load", POLICY);

/// How long a test waits for something before it fails.
const PATIENCE: Duration = Duration::from_secs(180);

pub struct World {
    pub home: TempDir,
    pub source: Repo,
    pub destination: Repo,
    pub settings: Settings,
    /// The program of Git.
    pub git: PathBuf,
    pub clock: Arc<ManualClock>,
    pub phabricator: Arc<Answers>,
    contents: Arc<Contents>,
    bus: Arc<dyn Bus>,
    running: Option<Running>,
}

struct Running {
    worker: Worker,
    consumer: Consumer,
    keeper: JoinHandle<()>,
    shutdown: Shutdown,
}

fn build_log() -> BuildLog {
    let queues = BuildQueues::new(LOAD, PUSH, PUBLISH);
    BuildLog::new(Duration::from_secs(30 * 24 * 3600), "a worker", queues)
}

impl World {
    /// A source with a few files, and an empty destination.
    pub fn new() -> Self {
        let home = TempDir::new().unwrap();
        let source = Repo::init(home.path().join("source"));
        source.write("hello.txt", numbered("line", 20).as_bytes());
        source.write("dir/sub/file.txt", numbered("deep", 5).as_bytes());
        source.write("script.sh", b"#!/bin/sh\n");
        source.commit("the beginning");
        let destination = Repo::init_bare(home.path().join("destination"));
        let (url, try_url) = (source.url(), destination.url());
        let mut repository =
            RepositorySettings::new(phid("PHID-REPO-central"), "central", &url, &try_url);
        repository.vcs = VcsSettings::Git(GitSettings::default());
        repository.default_revision = repository.vcs.default_revision().to_owned();
        repository.mode = TryMode::None;
        let mut settings = Settings::new(vec![repository], home.path().join("clones"));
        settings.limits.ready_wait = Duration::from_millis(100);
        settings.default_author = "Bot <bot@example.org>".to_owned();
        let clock = Arc::new(ManualClock::new("2026-11-21T12:00:00Z".parse().unwrap()));
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(clock.clone()));
        Self {
            home,
            source,
            destination,
            settings,
            git: PathBuf::from("git"),
            clock,
            phabricator: Arc::default(),
            contents: Arc::default(),
            bus,
            running: None,
        }
    }

    pub fn repository(&mut self) -> &mut RepositorySettings {
        &mut self.settings.repositories[0]
    }

    pub fn git_settings(&mut self) -> &mut GitSettings {
        match &mut self.repository().vcs {
            VcsSettings::Git(git) => git,
            VcsSettings::Mercurial => panic!("the repository is Mercurial's"),
        }
    }

    /// The worker's clone.
    pub fn clone(&self) -> Repo {
        Repo {
            path: self.settings.clones_dir.join("central"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Has the worker run a script in place of Git, which finds the real one as `git`.
    pub fn wrap_git(&mut self, script: &str) {
        let path = self.path("wrapped-git");
        fs::write(&path, format!("#!/bin/sh\n{script}\nexec git \"$@\"\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self.git = path;
    }

    /// Starts a worker.
    pub fn start(&mut self) {
        assert!(self.running.is_none());
        let backend = Backend::new(Arc::new(Git::with_program(&self.git)));
        let worker = Worker::new(
            self.settings.clone(),
            |_: &_| backend.clone(),
            build_log(),
            Arc::clone(&self.phabricator) as _,
            Arc::clone(&self.contents) as _,
            self.clock.clone(),
        )
        .unwrap();
        let shutdown = Shutdown::new();
        let keeper = Box::new(worker.clone_manager());
        let keeper = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { keeper.run(shutdown).await.unwrap() }
        });
        let consumer = Consumer::new(self.bus.clone(), self.clock.clone(), PUSH, worker.handler())
            .with_partitions(worker.clone_slots());
        self.running = Some(Running {
            worker,
            consumer,
            keeper,
            shutdown,
        });
    }

    /// Starts a worker and waits until its clone can be built on.
    pub async fn start_ready(&mut self) {
        self.start();
        let running = self.running.as_ref().unwrap();
        let ready = async {
            while !running.worker.is_ready().await {
                self.clock.advance(Duration::from_secs(1));
            }
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .expect("the clone is ready in time");
    }

    /// Ends the worker as SIGTERM does when nothing is in flight.
    pub async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.shutdown.stop();
        running.keeper.await.unwrap();
        Box::new(running.consumer)
            .run(running.shutdown)
            .await
            .unwrap();
    }

    /// Starts on what is in the queue, and ends the worker as SIGTERM does after the grace period as soon as `moment`
    /// has come.
    pub async fn stop_in_flight(&mut self, moment: impl Fn() -> bool) {
        let running = self.running.take().unwrap();
        let consuming = tokio::spawn(Box::new(running.consumer).run(running.shutdown.clone()));
        for _ in 0..PATIENCE.as_millis() / 10 {
            if moment() {
                break;
            }
            self.clock.advance(Duration::from_secs(1));
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
        assert!(moment(), "the moment to stop never came");
        running.shutdown.cancel();
        tokio::time::timeout(PATIENCE, consuming)
            .await
            .expect("ends without its work")
            .unwrap()
            .unwrap();
        running.keeper.await.unwrap();
    }

    /// What is recorded of a build.
    pub async fn record(&self, build: &Build) -> BuildRecord {
        let target = std::slice::from_ref(&build.request.target);
        let mut records = build_log().find(self.bus.as_ref(), target).await.unwrap();
        records.pop().unwrap()
    }

    /// Leaves the record of a build as it is when its worker dies after the push and before it has said so.
    pub async fn die_before_the_end_is_recorded(&self, build: &Build) {
        let base = self.record(build).await.base;
        let (store, id) = (build_log().store(), build.request.target.as_str());
        let mut updates = vec![
            store.erase(id),
            store.set(id, bus::Field::new("pushing"), &true).unwrap(),
        ];
        updates.extend(base.map(|base| store.set(id, bus::Field::new("base"), &base).unwrap()));
        self.bus.push_with(Vec::new(), updates).await.unwrap();
    }

    /// Puts a build into the queue.
    pub async fn send(&self, build: &Build) {
        Producer::new(self.bus.clone(), self.clock.clone())
            .send(&PUSH, build)
            .await
            .unwrap();
    }

    /// Puts a build into the queue and handles it to its end, through deferrals and retries.
    pub async fn build(&self, build: &Build) -> BuildUpdate {
        self.send(build).await;
        self.next_update().await.update
    }

    /// Handles what is in the queue until there is an update.
    pub async fn next_update(&self) -> BuildUpdateMessage {
        let running = self.running.as_ref().expect("the worker runs");
        for _ in 0..PATIENCE.as_millis() / 10 {
            if running.consumer.step().await.unwrap() == 0 {
                self.clock.advance(Duration::from_secs(10));
                SystemClock.sleep(Duration::from_millis(10)).await;
            }
            if let Some(update) = self.update().await {
                return update;
            }
        }
        panic!("no update, dead letters: {:?}", self.dead_letters().await);
    }

    async fn update(&self) -> Option<BuildUpdateMessage> {
        let delivery = self
            .bus
            .reserve(&PUBLISH.spec(), Reserve::now(1))
            .await
            .unwrap()
            .pop()?;
        let envelope = &delivery.envelope;
        let update = BuildUpdateMessage::decode(envelope.version, &envelope.body).unwrap();
        self.bus
            .settle(&delivery.lease, &Settlement::Done { emit: Vec::new() })
            .await
            .unwrap();
        Some(update)
    }

    pub async fn dead_letters(&self) -> Vec<String> {
        let letters = self.bus.dead(&PUSH.spec(), "", 10).await.unwrap();
        letters.into_iter().map(|letter| letter.reason).collect()
    }
}

pub fn phid(text: &str) -> Phid {
    Phid::parse(text).unwrap()
}

/// A file of numbered lines.
pub fn numbered(prefix: &str, count: u32) -> String {
    (1..=count).map(|n| format!("{prefix} {n}\n")).collect()
}

/// Waits, in real time, until something is so.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 10 {
        if is_so() {
            return;
        }
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain for {what}");
}
