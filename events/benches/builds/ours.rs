//! The worker itself, on a bus in memory.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use build::{
    Build, BuildEventKind, BuildLog, BuildUpdate, BuildUpdateMessage, Ineligible, PatchContent,
    PatchSource, PatchSourceError, PushGuard, PushGuardError,
};
use bus::{Bus, BusError, Consumer, Context, Handler, MemoryBus, Outcome, Producer};
use events::queues::{BUILD_PUBLISH, BUILD_PUSH, BUILD_QUEUES};
use runtime::{Clock, Service, Shutdown, SystemClock, run_services};
use tokio::{sync::mpsc, task::JoinHandle};
use worker::{Settings, Worker};

use crate::{
    report::{Times, since},
    stack::{Stack, store},
    stage::repository,
    vcs::Vcs,
    watch::Watch,
};

/// How often a record is read.
const LOOK: Duration = Duration::from_millis(20);

pub struct Ours<'w> {
    bus: Arc<dyn Bus>,
    log: BuildLog,
    producer: Producer,
    updates: mpsc::UnboundedReceiver<BuildUpdateMessage>,
    watch: &'w mut Watch,
    shutdown: Shutdown,
    running: JoinHandle<()>,
}

/// All builds are wanted: there is no Phabricator to ask.
struct Wanted;

#[async_trait]
impl PushGuard for Wanted {
    async fn check(
        &self,
        _: &Build,
        _: jiff::Timestamp,
    ) -> Result<Option<Ineligible>, PushGuardError> {
        Ok(None)
    }
}

#[async_trait]
impl PatchSource for Wanted {
    async fn load(
        &self,
        build: &Build,
        directory: &Path,
    ) -> Result<Vec<PatchContent>, PatchSourceError> {
        store(build, directory).map_err(PatchSourceError::Disk)
    }
}

impl<'w> Ours<'w> {
    /// Starts the worker, and waits until its clones are ready.
    pub async fn start(vcs: Vcs, settings: Settings, watch: &'w mut Watch) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(clock.clone()));
        let log = BuildLog::new(Duration::from_secs(3600), "bench", BUILD_QUEUES);
        let worker = Worker::new(
            settings.clone(),
            move |_: &_| vcs.backend(),
            log.clone(),
            Arc::new(Wanted),
            Arc::new(Wanted),
            clock.clone(),
        )
        .expect("settings that are right");
        let (sender, updates) = mpsc::unbounded_channel();
        let services: Vec<Box<dyn Service>> = vec![
            Box::new(worker.clone_manager()),
            Box::new(
                Consumer::new(bus.clone(), clock.clone(), BUILD_PUSH, worker.handler())
                    .with_partitions(worker.clone_slots()),
            ),
            Box::new(Consumer::new(
                bus.clone(),
                clock.clone(),
                BUILD_PUBLISH,
                Updates(sender),
            )),
        ];
        let shutdown = Shutdown::new();
        while watch.try_recv().is_ok() {}
        let running = tokio::spawn({
            let shutdown = shutdown.clone();
            async move {
                run_services(services, shutdown)
                    .await
                    .expect("the worker runs")
            }
        });
        let mut clones = settings
            .repositories
            .iter()
            .map(|repository| repository.clone_slots)
            .sum::<usize>();
        while clones > 0 {
            let told = watch.recv().await.expect("the worker tells");
            clones -= usize::from(told.step.as_deref() == Some("ready"));
        }
        Self {
            producer: Producer::new(bus.clone(), clock),
            bus,
            log,
            updates,
            watch,
            shutdown,
            running,
        }
    }

    /// The time from handing a build over until there is an update.
    pub async fn build(&mut self, stack: &Stack) -> Times {
        let build = stack.build(repository());
        while self.watch.try_recv().is_ok() {}
        let begin = SystemClock.now();
        self.send(&build).await;
        self.pushed().await;
        let end = SystemClock.now();
        let mut steps = Vec::new();
        let mut last = begin;
        let mut step = |name: String, at: jiff::Timestamp| {
            steps.push((name, at.duration_since(last).as_secs_f64()));
            last = at;
        };
        while let Ok(seen) = self.watch.try_recv() {
            if let Some(name) = seen.step {
                step(name, seen.at);
            }
        }
        step("reported".to_owned(), end);
        Times {
            total: end.duration_since(begin).as_secs_f64(),
            steps,
        }
    }

    /// The time from handing all builds over until there are updates on all.
    pub async fn builds(&mut self, stacks: &[Stack]) -> f64 {
        let builds: Vec<_> = stacks
            .iter()
            .map(|stack| stack.build(repository()))
            .collect();
        let begin = SystemClock.now();
        for build in &builds {
            self.send(build).await;
        }
        for _ in &builds {
            self.pushed().await;
        }
        since(begin)
    }

    /// Hands two builds over at once; their updates, and the seconds until each.
    pub async fn pair(&mut self, builds: [&Build; 2]) -> [(BuildUpdate, f64); 2] {
        let begin = SystemClock.now();
        for build in builds {
            self.send(build).await;
        }
        let mut updates = [None, None];
        while updates.iter().any(Option::is_none) {
            let BuildUpdateMessage { request, update } = self.reported().await;
            let at = usize::from(request.target == builds[1].request.target);
            updates[at] = Some((update, since(begin)));
        }
        updates.map(|update| update.expect("each has one"))
    }

    /// Hands a build over that has to wait until `mend`: the seconds until it is deferred, and from then until it is pushed.
    pub async fn deferred_until(&mut self, build: &Build, mend: impl FnOnce()) -> (f64, f64) {
        let target = [build.request.target.clone()];
        let begin = SystemClock.now();
        self.send(build).await;
        loop {
            let records = self.log.find(self.bus.as_ref(), &target).await;
            let events = &records.expect("a record")[0].events;
            if events
                .iter()
                .any(|event| matches!(event.kind, BuildEventKind::Deferred { .. }))
            {
                break;
            }
            SystemClock.sleep(LOOK).await;
        }
        let (deferred, mended) = (since(begin), SystemClock.now());
        mend();
        self.pushed().await;
        (deferred, since(mended))
    }

    async fn send(&self, build: &Build) {
        self.producer
            .send(&BUILD_PUSH, build)
            .await
            .expect("the bus stores it");
    }

    async fn reported(&mut self) -> BuildUpdateMessage {
        self.updates.recv().await.expect("the worker sends updates")
    }

    async fn pushed(&mut self) {
        let update = self.reported().await.update;
        assert!(
            matches!(update, BuildUpdate::Pushed(_)),
            "a build is not pushed: {update:?}"
        );
    }

    pub async fn stop(self) {
        self.shutdown.stop();
        self.running.await.expect("the worker ends");
    }
}

struct Updates(mpsc::UnboundedSender<BuildUpdateMessage>);

#[async_trait]
impl Handler<BuildUpdateMessage> for Updates {
    type Error = BusError;

    async fn handle(&self, applied: BuildUpdateMessage, _: &Context) -> Result<Outcome, BusError> {
        let _ = self.0.send(applied);
        Ok(Outcome::Done)
    }
}
