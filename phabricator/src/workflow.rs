//! The first step of a build: from the request to a loaded stack, or to an answer that needs no build.

use std::time::Duration;

use async_trait::async_trait;
use bus::{BusError, Cause, Context, Handler, Outcome, Requeue, RequeueReason, Retry, Retryable};
use jiff::Timestamp;
use thiserror::Error;
use tracing::{debug, error, info};

use crate::{
    ConduitError, Eligibility,
    api::RevisionInfo,
    eligibility::Eligible,
    stack::{self, StackError},
};
use build::{
    Build, BuildLog, BuildRecord, BuildRequest, BuildUpdate, Ineligible, InfraFailure, NotPublic,
    Revision,
};

/// Settings of the workflow.
#[derive(Debug, Clone)]
pub struct WorkflowSettings {
    /// The number of checks after which a revision that is not public counts as private.
    pub visibility_checks: u32,
    /// The unit of the waits between these checks: after the n-th check, 2^n times this.
    pub visibility_sleep: Duration,
}

impl Default for WorkflowSettings {
    /// Five checks: at once, and then after 20, 40, 80 and 160 s.
    fn default() -> Self {
        Self {
            visibility_checks: 5,
            visibility_sleep: Duration::from_secs(10),
        }
    }
}

/// Handles `build:load`: waits until the revision is public, loads its stack, and sends the build on.
pub struct Workflow {
    eligibility: Eligibility,
    settings: WorkflowSettings,
    log: BuildLog,
}

/// The cause for which a build could not be evaluated.
#[derive(Debug, Error)]
pub enum WorkflowError {
    /// A call to Phabricator failed.
    #[error(transparent)]
    Conduit(#[from] ConduitError),
    /// The record or the queues cannot be read or written.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Retryable for WorkflowError {
    fn retry(&self) -> Retry {
        match self {
            Self::Conduit(error) => error.retry(),
            Self::Bus(error) => error.retry(),
        }
    }
}

/// The result of evaluating a request.
enum Evaluation {
    /// The revision is not public. It may become public later.
    NotPublic(NotPublic),
    /// The build ends here.
    End(BuildUpdate),
    /// The build can be applied.
    Ready(Box<Build>),
}

impl Workflow {
    /// A workflow that builds what `eligibility` allows, and records the progress of builds in `log`.
    pub fn new(eligibility: Eligibility, settings: WorkflowSettings, log: BuildLog) -> Self {
        Self {
            eligibility,
            settings,
            log,
        }
    }

    async fn evaluate(
        &self,
        request: &BuildRequest,
        is_last: bool,
        cx: &Context,
    ) -> Result<Evaluation, ConduitError> {
        let started = cx.clock().now();
        let vcs = self.eligibility.rules().vcs(&request.repository);
        let found = self.eligibility.on_load(request, started).await?;
        if !matches!(found, Err(Ineligible::Private(_))) {
            info!(state = "loading", "D{} is public", request.revision_id);
        }
        let Eligible { revision, diff } = match found {
            Ok(eligible) => eligible,
            Err(Ineligible::Private(hidden)) => return Ok(Evaluation::NotPublic(hidden)),
            Err(ineligible) => return Ok(Evaluation::End(ineligible.update(vcs))),
        };
        let privacy = self.eligibility.resolver().privacy();
        match stack::load(self.eligibility.conduit(), &privacy, &revision, &diff).await {
            Ok(stack) => Ok(Evaluation::Ready(Box::new(Build {
                request: request.clone(),
                vcs,
                revision: revision_of(&revision),
                diff: stack::diff_of(&diff),
                stack: stack.patches,
                landed: stack.landed,
            }))),
            // The revisions of a stack become public one after another.
            Err(StackError::HiddenParent(_)) if !is_last => {
                Ok(Evaluation::NotPublic(NotPublic::Parent))
            }
            Err(StackError::HiddenParent(child)) => {
                let revision = revision.id;
                let hidden = Ineligible::HiddenParent { revision, child };
                Ok(Evaluation::End(hidden.update(vcs)))
            }
            Err(StackError::Refused(reason)) => {
                let seconds = cx.clock().now().duration_since(started).as_secs_f64();
                Ok(Evaluation::End(reason.update(vcs, revision.id, seconds)))
            }
            Err(StackError::Conduit(error)) => Err(error),
        }
    }

    /// Whether this check is the last one: the checks are used up, or the build has expired and would not be built anyway.
    fn is_last_check(&self, request: &BuildRequest, record: &BuildRecord, now: Timestamp) -> bool {
        record.visibility_checks().saturating_add(1) >= self.settings.visibility_checks
            || now.duration_since(request.accepted_at).unsigned_abs()
                > self.eligibility.rules().expiry
    }

    /// Defers the build, or ends it as private. Logs and records get numbers only.
    fn not_public(
        &self,
        request: BuildRequest,
        record: &BuildRecord,
        is_last: bool,
        why: NotPublic,
        cx: &Context,
    ) -> Result<Outcome, BusError> {
        let build = request.target.clone();
        let checks = self.settings.visibility_checks;
        let check = record.visibility_checks().saturating_add(1);
        self.log.record_not_public(cx, &build, check, checks, why)?;
        if is_last {
            info!(
                outcome = "private",
                "D{} did not become public; ending the build as private", request.revision_id
            );
            self.end(&request, record, BuildUpdate::Private, cx)?;
            return Ok(Outcome::Done);
        }
        let wait = self
            .settings
            .visibility_sleep
            .saturating_mul(2_u32.saturating_pow(check));
        info!(
            state = "deferred",
            "deferred D{}: {}; check {} of {checks} follows in {} s",
            request.revision_id,
            why.text(),
            check + 1,
            wait.as_secs()
        );
        Ok(Outcome::defer(wait, why.text()))
    }

    fn end(
        &self,
        request: &BuildRequest,
        record: &BuildRecord,
        update: BuildUpdate,
        cx: &Context,
    ) -> Result<(), BusError> {
        match &update {
            BuildUpdate::Skipped(skip) => info!(outcome = "skipped", "{}", skip.text),
            BuildUpdate::PatchFailed(failure) => {
                info!(outcome = "patch_failed", "{}", failure.summary)
            }
            BuildUpdate::InfraFailed(failure) => {
                error!(outcome = "infra_failed", "{}", failure.summary)
            }
            BuildUpdate::Working | BuildUpdate::Pushed(_) | BuildUpdate::Private => {}
        }
        self.log.finish(cx, request, record, update)
    }
}

#[async_trait]
impl Handler<BuildRequest> for Workflow {
    type Error = WorkflowError;

    async fn handle(&self, request: BuildRequest, cx: &Context) -> Result<Outcome, WorkflowError> {
        let (target, queue) = (&request.target, self.log.queues().load.spec().name);
        let record = self.log.read(cx, target).await?;
        if record.end.is_some() {
            debug!("skipping the build: its end is decided already");
            return Ok(Outcome::Done);
        }
        self.log.mark_started(cx, &request, queue).await?;
        let is_last = self.is_last_check(&request, &record, cx.clock().now());
        match self.evaluate(&request, is_last, cx).await? {
            Evaluation::NotPublic(why) => {
                return Ok(self.not_public(request, &record, is_last, why, cx)?);
            }
            Evaluation::End(update) => self.end(&request, &record, update, cx)?,
            Evaluation::Ready(build) => {
                info!(
                    state = "applying",
                    "loaded a stack of {} patches, base {}",
                    build.stack.len(),
                    build.named_base().as_deref().unwrap_or("(none named)")
                );
                self.log.mark_loaded(cx, &build)?;
            }
        }
        Ok(Outcome::Done)
    }

    /// Ends the build as `infra_failed`. The cause may quote a private revision, so it stays in the dead letter.
    async fn on_dead_letter(
        &self,
        request: BuildRequest,
        _cause: Cause<'_, WorkflowError>,
        cx: &Context,
    ) -> Result<(), WorkflowError> {
        let record = self.log.read(cx, &request.target).await?;
        if record.end.is_some() {
            return Ok(());
        }
        let failure = InfraFailure {
            summary: "The revision and its stack could not be loaded from Phabricator.".to_owned(),
            details: String::new(),
            attempts: cx.attempt(),
            seconds: cx
                .clock()
                .now()
                .duration_since(request.accepted_at)
                .as_secs_f64(),
        };
        Ok(self.end(&request, &record, BuildUpdate::InfraFailed(failure), cx)?)
    }

    async fn on_requeue(
        &self,
        request: BuildRequest,
        requeue: Requeue<'_, WorkflowError>,
        cx: &Context,
    ) -> Result<(), WorkflowError> {
        let (target, queue) = (&request.target, self.log.queues().load.spec().name);
        match requeue.why {
            // `not_public` has recorded the event.
            RequeueReason::Deferred(reason) => {
                self.log.defer(cx, target, queue, requeue.after, reason)?;
            }
            _ => {
                self.log
                    .record_requeue(cx, target, queue, &requeue, None)
                    .await?
            }
        }
        Ok(())
    }
}

fn revision_of(info: &RevisionInfo) -> Revision {
    Revision {
        id: info.id,
        phid: info.phid.clone(),
        url: info.fields.uri.clone(),
        author: info.fields.author.clone(),
        reviewers: info.reviewers(),
    }
}
