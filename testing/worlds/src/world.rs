//! A source and a destination, a worker between them, and a queue with builds in front of it.

mod builds;
mod fakes;
mod outcomes;
mod processes;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use build::{
    Build, BuildEventKind, BuildLog, BuildQueues, BuildRecord, BuildRequest, BuildUpdate,
    BuildUpdateMessage, PatchSource, Phid, Source,
};
use bus::{
    Backoff, Bus, BusError, Consumer, Context, Handler, MemoryBus, Message, MessageSelector,
    Outcome, Policy, Producer, Queue, RecordUpdate, Reserve, Settlement,
};
use runtime::{Clock, ManualClock, Service, Shutdown, SystemClock};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use worker::{Backend, RepositorySettings, Settings, Worker};

pub use builds::{TestPatch, add, add_mode, change};
pub use fakes::{Answer, Answers, Contents, KnownPatch};
pub use processes::{hanging_hook, living_in_group};

use crate::{Repository, Side};

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
pub const PUBLISH: Queue<BuildUpdateMessage> = Queue::new("build:publish", POLICY);
const LOAD: Queue<BuildRequest> = Queue::new("build:load", POLICY);

/// How long a test waits for something before it fails.
const PATIENCE: Duration = Duration::from_secs(180);

/// A world whose repositories are those of one version control.
pub struct World<S: Side> {
    pub home: TempDir,
    pub side: S,
    pub source: S::Repo,
    pub destination: S::Repo,
    pub settings: Settings,
    /// The backend, if that is not the version control alone.
    pub backend: Option<Backend>,
    pub clock: Arc<ManualClock>,
    pub phabricator: Arc<Answers>,
    pub contents: Arc<Contents>,
    /// Whether the worker finds its clone when it first starts, and need not make it.
    pub has_clone: bool,
    /// Where patches are loaded from, if that is not `contents`.
    pub source_of_patches: Option<Arc<dyn PatchSource>>,
    pub bus: Arc<dyn Bus>,
    running: Option<Running>,
}

pub fn build_log() -> BuildLog {
    let queues = BuildQueues::new(LOAD, PUSH, PUBLISH);
    BuildLog::new(Duration::from_secs(30 * 24 * 3600), "a worker", queues)
}

/// The workflow, for one build.
struct Loads(Build);

#[async_trait]
impl Handler<BuildRequest> for Loads {
    type Error = BusError;

    async fn handle(&self, _: BuildRequest, cx: &Context) -> Result<Outcome, BusError> {
        build_log().mark_loaded(cx, &self.0)?;
        Ok(Outcome::Done)
    }
}

struct Running {
    worker: Worker,
    consumer: Consumer,
    keeper: JoinHandle<()>,
    shutdown: Shutdown,
}

impl<S: Side> Default for World<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Side> World<S> {
    /// A source with the files of [`crate::base_files`], and a destination.
    pub fn new() -> Self {
        let home = TempDir::new().unwrap();
        let [source, destination] =
            ["source", "destination"].map(|name| S::Repo::at(home.path().join(name)));
        let mut side = S::default();
        side.create(&source, &destination);
        let mut repository = RepositorySettings::new(
            phid("PHID-REPO-central"),
            "central",
            &source.address(),
            &destination.address(),
        );
        S::configure(&mut repository);
        let mut settings = Settings::new(vec![repository], home.path().join("clones"));
        settings.limits.ready_wait = Duration::from_millis(100);
        settings.default_author = "Bot <bot@example.org>".to_owned();
        let clock = Arc::new(ManualClock::new("2026-11-21T12:00:00Z".parse().unwrap()));
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(clock.clone()));
        Self {
            home,
            side,
            source,
            destination,
            settings,
            backend: None,
            clock,
            phabricator: Arc::default(),
            contents: Arc::default(),
            has_clone: true,
            source_of_patches: None,
            bus,
            running: None,
        }
    }

    pub fn repository(&mut self) -> &mut RepositorySettings {
        &mut self.settings.repositories[0]
    }

    /// The worker's clone.
    pub fn own_clone(&self) -> S::Repo {
        self.clone_called("central")
    }

    /// The clone of this name.
    pub fn clone_called(&self, name: &str) -> S::Repo {
        S::Repo::at(self.settings.clones_dir.join(name))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn worker(&self) -> Worker {
        let guard = Arc::clone(&self.phabricator);
        let patches = match &self.source_of_patches {
            Some(source) => Arc::clone(source),
            None => Arc::clone(&self.contents) as Arc<dyn PatchSource>,
        };
        let backend = match &self.backend {
            Some(backend) => backend.clone(),
            None => self.side.backend(),
        };
        Worker::new(
            self.settings.clone(),
            |_: &_| backend.clone(),
            build_log(),
            guard,
            patches,
            self.clock.clone(),
        )
        .unwrap()
    }

    /// What is recorded of a build.
    pub async fn record(&self, build: &Build) -> BuildRecord {
        build_log()
            .find(
                self.bus.as_ref(),
                std::slice::from_ref(&build.request.target),
            )
            .await
            .unwrap()
            .pop()
            .unwrap()
    }

    /// What operators see of these builds.
    pub async fn shown(&self, builds: &[Build]) -> Vec<BuildRecord> {
        let targets: Vec<Phid> = builds
            .iter()
            .map(|build| build.request.target.clone())
            .collect();
        let (log, bus) = (build_log(), self.bus.as_ref());
        let mut records = log.find(bus, &targets).await.unwrap();
        log.show_shared_waits(bus, &mut records, self.clock.now())
            .await
            .unwrap();
        records
    }

    /// Decides how a build ends, as somebody else than the worker.
    pub async fn decide(&self, build: &Build, end: &BuildUpdate) {
        let producer = Producer::new(self.bus.clone(), self.clock.clone());
        let (log, record) = (build_log(), BuildRecord::default());
        log.finish_from(&producer, &build.request, &record, end.clone(), None)
            .await
            .unwrap();
        self.bus
            .drop_waiting(&PUBLISH.spec(), MessageSelector::All)
            .await
            .unwrap();
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

    /// Writes records.
    pub async fn write(&self, updates: Vec<RecordUpdate>) {
        self.bus.push_with(Vec::new(), updates).await.unwrap();
    }

    /// Starts a worker.
    pub fn start(&mut self) {
        assert!(self.running.is_none());
        if std::mem::take(&mut self.has_clone) {
            self.side.plant(&self.source, &self.own_clone());
        }
        let worker = self.worker();
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
        // Another attempt to make it may wait for its time.
        let ready = async {
            while !running.worker.is_ready().await {
                self.clock.advance(Duration::from_secs(1));
            }
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .expect("the clone is ready in time");
    }

    /// Works on what is in the queue in the background, until the shutdown that is returned.
    pub fn work(&mut self) -> (Shutdown, JoinHandle<()>) {
        let Running {
            consumer,
            keeper,
            shutdown,
            ..
        } = self.running.take().unwrap();
        let working = tokio::spawn({
            let shutdown = shutdown.clone();
            async move {
                Box::new(consumer).run(shutdown).await.unwrap();
                keeper.await.unwrap();
            }
        });
        (shutdown, working)
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
        // The clone may be just about to be ready: its builds are deferred until then.
        for _ in 0..PATIENCE.as_millis() / 10 {
            if moment() {
                break;
            }
            self.clock.advance(Duration::from_secs(1));
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
        assert!(moment(), "the moment to stop never came");
        running.shutdown.cancel();
        // Its work never ends by itself: what holds it is removed later.
        tokio::time::timeout(PATIENCE, consuming)
            .await
            .expect("ends without its work")
            .unwrap()
            .unwrap();
        running.keeper.await.unwrap();
    }

    /// Puts a build into the queue.
    pub async fn send(&self, build: &Build) {
        Producer::new(self.bus.clone(), self.clock.clone())
            .send(&PUSH, build)
            .await
            .unwrap();
    }

    /// Has a build accepted and loaded, with its record.
    pub async fn accept(&self, build: &Build) {
        let producer = Producer::new(self.bus.clone(), self.clock.clone());
        let source = Source::Harbormaster;
        build_log()
            .accept(&producer, &build.request, source)
            .await
            .unwrap();
        let load = Consumer::new(
            self.bus.clone(),
            self.clock.clone(),
            LOAD,
            Loads(build.clone()),
        );
        assert_eq!(load.step().await.unwrap(), 1);
        self.bus
            .drop_waiting(&PUBLISH.spec(), MessageSelector::All)
            .await
            .unwrap();
    }

    /// Puts a build into the queue and handles it to its end, through deferrals and retries.
    pub async fn build(&self, build: &Build) -> BuildUpdate {
        self.send(build).await;
        let applied = self.next_update().await;
        assert_eq!(applied.request, build.request);
        applied.update
    }

    /// Handles what is in the queue until there is an update.
    pub async fn next_update(&self) -> BuildUpdateMessage {
        let running = self.running.as_ref().expect("the worker runs");
        for _ in 0..PATIENCE.as_millis() / 10 {
            if running.consumer.step().await.unwrap() == 0 {
                self.clock.advance(Duration::from_secs(10));
                SystemClock.sleep(Duration::from_millis(10)).await;
            }
            if let Some(applied) = self.update().await {
                return applied;
            }
        }
        panic!("no update, dead letters: {:?}", self.dead_letters().await);
    }

    /// Handles what is in the queue until something is so.
    pub async fn work_until(&self, is_so: impl Fn() -> bool) {
        let running = self.running.as_ref().expect("the worker runs");
        for _ in 0..PATIENCE.as_millis() / 10 {
            if running.consumer.step().await.unwrap() == 0 {
                self.clock.advance(Duration::from_secs(10));
                SystemClock.sleep(Duration::from_millis(10)).await;
            }
            if is_so() {
                return;
            }
        }
        panic!(
            "waited in vain, dead letters: {:?}",
            self.dead_letters().await
        );
    }

    /// Handles what is ready, without letting time pass.
    pub async fn handle_all(&self) {
        let running = self.running.as_ref().expect("the worker runs");
        while running.consumer.step().await.unwrap() > 0 {}
    }

    /// An update that is there.
    pub async fn update(&self) -> Option<BuildUpdateMessage> {
        let delivery = self
            .bus
            .reserve(&PUBLISH.spec(), Reserve::now(1))
            .await
            .unwrap()
            .pop()?;
        let applied =
            BuildUpdateMessage::decode(delivery.envelope.version, &delivery.envelope.body).unwrap();
        self.bus
            .settle(&delivery.lease, &Settlement::Done { emit: Vec::new() })
            .await
            .unwrap();
        Some(applied)
    }

    /// Handles what is in the queue, as often as it comes back within `time`: looks each ten seconds in the first minutes, and
    /// each minute after these.
    pub async fn pass(&self, time: Duration) {
        let running = self.running.as_ref().expect("the worker runs");
        let begin = self.clock.now();
        loop {
            let passed = self.clock.now().duration_since(begin).unsigned_abs();
            if passed >= time {
                break;
            }
            while running.consumer.step().await.unwrap() > 0 {}
            let step = if passed.as_secs() < 300 { 10 } else { 60 };
            self.clock.advance(Duration::from_secs(step));
        }
    }

    /// The record of a build once its first attempt has failed.
    pub async fn failed_once(&self, build: &Build) -> BuildRecord {
        let failed =
            |what: &BuildEventKind| matches!(what, BuildEventKind::Failed { attempt: 1, .. });
        self.recorded(build, failed).await
    }

    /// The record of a build once it has such an event.
    pub async fn recorded(
        &self,
        build: &Build,
        event: impl Fn(&BuildEventKind) -> bool,
    ) -> BuildRecord {
        let running = self.running.as_ref().expect("the worker runs");
        for _ in 0..PATIENCE.as_millis() / 10 {
            while running.consumer.step().await.unwrap() > 0 {}
            let record = self.record(build).await;
            if record.events.iter().any(|found| event(&found.kind)) {
                return record;
            }
            // The clone may take a moment.
            SystemClock.sleep(Duration::from_millis(10)).await;
            self.clock.advance(Duration::from_secs(1));
        }
        panic!(
            "waited in vain for an event: {:?}",
            self.record(build).await
        );
    }

    /// The number of builds in the queue, with those that run.
    pub async fn waiting(&self) -> usize {
        self.bus.depth(&PUSH.spec()).await.unwrap().unfinished()
    }

    /// Waits until nothing of a build is left in a clone, which is after its answer.
    pub async fn until_tidy(&self, clone: &S::Repo, tip: &str) {
        until("nothing to be left in the clone", || S::is_tidy(clone, tip)).await;
    }

    pub async fn dead_letters(&self) -> Vec<String> {
        let letters = self.bus.dead(&PUSH.spec(), "", 10).await.unwrap();
        letters.into_iter().map(|letter| letter.reason).collect()
    }
}

pub fn phid(text: &str) -> Phid {
    Phid::parse(text).unwrap()
}

/// Lets what runs beside the test go on for a moment.
pub async fn pause() {
    SystemClock.sleep(Duration::from_millis(10)).await;
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
