//! The handler of builds.

mod delivery;
mod patches;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use build::{Build, BuildLog, BuildUpdate, PatchSource, Phid, PushGuard};
use bus::{Cause, Context, Handler, Outcome, Requeue};
use futures::future::join_all;
use jiff::Timestamp;
use runtime::Clock;
use tracing::{debug, info};

use self::delivery::Delivery;
use crate::{Settings, WorkerError, outcome::infra_failure, repository::Repository};

/// Applies stacks and pushes them; see [`crate::Worker::handler`].
pub struct BuildHandler {
    pub(crate) settings: Arc<Settings>,
    pub(crate) repositories: Arc<HashMap<Phid, Repository>>,
    pub(crate) log: BuildLog,
    pub(crate) guard: Arc<dyn PushGuard>,
    pub(crate) patches: Arc<dyn PatchSource>,
}

#[async_trait]
impl Handler<Build> for BuildHandler {
    type Error = WorkerError;

    async fn handle(&self, build: Build, cx: &Context) -> Result<Outcome, WorkerError> {
        let target = &build.request.target;
        let record = self.log.read(cx, target).await?;
        if record.end.is_some() {
            debug!("skipping the build: its end is decided already");
            return Ok(Outcome::Done);
        }
        self.log
            .mark_started(cx, &build.request, self.queue())
            .await?;
        let delivery = Delivery {
            worker: self,
            cx,
            build: &build,
            record: &record,
            started: cx.clock().now(),
        };
        tokio::select! {
            ended = async { delivery.settle(delivery.run().await).await } => ended,
            // Dropping the other future kills and reaps its child processes.
            () = cx.cancelled() => Err(WorkerError::Cancelled),
        }
    }

    async fn on_dead_letter(
        &self,
        build: Build,
        cause: Cause<'_, WorkerError>,
        cx: &Context,
    ) -> Result<(), WorkerError> {
        let request = &build.request;
        let record = self.log.read(cx, &request.target).await?;
        if record.end.is_some() {
            return Ok(());
        }
        let seconds = seconds_since(request.accepted_at, cx.clock().as_ref());
        let repository = self.repositories.get(&request.repository);
        let failure = infra_failure::given_up(
            &cause,
            repository.map(Repository::settings),
            build.vcs,
            cx.attempt(),
            seconds,
        );
        info!(
            outcome = "infra_failed",
            "the build failed on our side: {}", failure.summary
        );
        let update = BuildUpdate::InfraFailed(failure);
        Ok(self.log.finish(cx, request, &record, update)?)
    }

    async fn on_requeue(
        &self,
        build: Build,
        requeue: Requeue<'_, WorkerError>,
        cx: &Context,
    ) -> Result<(), WorkerError> {
        let blocker = requeue.why.error().and_then(WorkerError::blocker);
        let target = &build.request.target;
        Ok(self
            .log
            .record_requeue(cx, target, self.queue(), &requeue, blocker)
            .await?)
    }

    async fn close(&self) {
        join_all(self.repositories.values().map(Repository::close)).await;
    }
}

impl BuildHandler {
    fn queue(&self) -> &'static str {
        self.log.queues().push.spec().name
    }

    fn skippable(&self, path: &[u8]) -> Option<&str> {
        let path = std::str::from_utf8(path).ok()?;
        self.settings.skippable_files.get(path).map(String::as_str)
    }
}

fn seconds_since(start: Timestamp, clock: &dyn Clock) -> f64 {
    clock.now().duration_since(start).as_secs_f64()
}
