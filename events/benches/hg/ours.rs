//! The worker itself, on a bus in memory.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Bus, BusError, Consumer, Context, Handler, MemoryBus, Producer};
use events::queues::{APPLIED, MERCURIAL};
use phabricator::model::{Applied, Build, Journal, Recheck, Report, Unsure};
use runtime::{Clock, Service, Shutdown, SystemClock, run_services};
use tokio::{sync::mpsc, task::JoinHandle};
use worker_hg::{Mercurial, MercurialQueues, Settings};

use crate::{
    report::{Times, since},
    stack::Stack,
    stage::repository,
    watch::Watch,
};

pub struct Ours<'w> {
    producer: Producer,
    reports: mpsc::UnboundedReceiver<Report>,
    watch: &'w mut Watch,
    shutdown: Shutdown,
    running: JoinHandle<()>,
}

/// All builds are wanted: there is no Phabricator to ask.
struct Wanted;

#[async_trait]
impl Recheck for Wanted {
    async fn recheck(&self, _: &Build) -> Result<Option<Report>, Unsure> {
        Ok(None)
    }
}

impl<'w> Ours<'w> {
    /// Starts the worker, and waits until its clones are ready.
    pub async fn start(settings: Settings, watch: &'w mut Watch) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(clock.clone()));
        let queues = MercurialQueues {
            builds: MERCURIAL,
            applied: APPLIED,
        };
        let journal = Journal::new(Duration::from_secs(3600), "bench");
        let mercurial = Mercurial::new(
            settings.clone(),
            queues,
            journal,
            Arc::new(Wanted),
            clock.clone(),
        )
        .expect("settings that are right");
        let (sender, reports) = mpsc::unbounded_channel();
        let services: Vec<Box<dyn Service>> = vec![
            Box::new(mercurial.keeper()),
            Box::new(
                Consumer::new(bus.clone(), clock.clone(), MERCURIAL, mercurial.handler())
                    .with_lanes(mercurial.lanes()),
            ),
            Box::new(Consumer::new(
                bus.clone(),
                clock.clone(),
                APPLIED,
                Reports(sender),
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
            .map(|repository| repository.lanes)
            .sum::<usize>();
        while clones > 0 {
            let told = watch.recv().await.expect("the worker tells");
            clones -= usize::from(told.step.as_deref() == Some("ready"));
        }
        Self {
            producer: Producer::new(bus, clock),
            reports,
            watch,
            shutdown,
            running,
        }
    }

    /// The time from handing a build over until there is a report.
    pub async fn build(&mut self, stack: &Stack) -> Times {
        let build = stack.build(repository());
        while self.watch.try_recv().is_ok() {}
        let begin = SystemClock.now();
        self.producer
            .send(&MERCURIAL, &build)
            .await
            .expect("the bus stores it");
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

    /// The time from handing all builds over until there are reports on all.
    pub async fn builds(&mut self, stacks: &[Stack]) -> f64 {
        let builds: Vec<_> = stacks
            .iter()
            .map(|stack| stack.build(repository()))
            .collect();
        let begin = SystemClock.now();
        for build in &builds {
            self.producer
                .send(&MERCURIAL, build)
                .await
                .expect("the bus stores it");
        }
        for _ in &builds {
            self.pushed().await;
        }
        since(begin)
    }

    async fn pushed(&mut self) {
        let report = self.reports.recv().await.expect("the worker reports");
        assert!(
            matches!(report, Report::Pushed(_)),
            "a build is not pushed: {report:?}"
        );
    }

    pub async fn stop(self) {
        self.shutdown.stop();
        self.running.await.expect("the worker ends");
    }
}

struct Reports(mpsc::UnboundedSender<Report>);

#[async_trait]
impl Handler<Applied> for Reports {
    type Error = BusError;

    async fn handle(&self, Applied { report, .. }: Applied, _: &Context) -> Result<(), BusError> {
        let _ = self.0.send(report);
        Ok(())
    }
}
