//! From what Harbormaster asked for to a build that can be applied, or to an answer that needs no build.

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
    Blame, Build, BuildLog, BuildRecord, BuildRequest, Hidden, Ineligible, Report, Revision,
};

/// What the workflow goes by.
#[derive(Debug, Clone)]
pub struct WorkflowSettings {
    /// How many times a revision is looked at before it counts as private.
    pub visibility_checks: u32,
    /// The unit of the waits between these looks: after the n-th it is 2^n times this.
    pub visibility_sleep: Duration,
}

impl Default for WorkflowSettings {
    /// Looks at once and after 20, 40, 80 and 160 s.
    fn default() -> Self {
        Self {
            visibility_checks: 5,
            visibility_sleep: Duration::from_secs(10),
        }
    }
}

/// Handles `build:load`: waits until the revision is public, loads its stack, and hands the build on.
pub struct Workflow {
    eligibility: Eligibility,
    settings: WorkflowSettings,
    log: BuildLog,
}

/// Why a build could not be looked at.
#[derive(Debug, Error)]
pub enum WorkflowError {
    /// Phabricator gave no answer.
    #[error(transparent)]
    Conduit(#[from] ConduitError),
    /// Something cannot be sent.
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

/// What a look at a build says.
enum Finding {
    /// The revision may not be spoken of, perhaps not yet.
    Hidden(Hidden),
    /// The build ends here.
    End(Report),
    /// The build can be applied.
    Ready(Box<Build>),
}

impl Workflow {
    /// A workflow that builds what `eligibility` says, and records the progress of builds.
    pub fn new(eligibility: Eligibility, settings: WorkflowSettings, log: BuildLog) -> Self {
        Self {
            eligibility,
            settings,
            log,
        }
    }

    async fn look(
        &self,
        request: &BuildRequest,
        is_last: bool,
        cx: &Context,
    ) -> Result<Finding, ConduitError> {
        let started = cx.clock().now();
        let found = self.eligibility.on_load(request, started).await?;
        if !matches!(found, Err(Ineligible::Private(_))) {
            info!(state = "loading", "D{} is public", request.revision_id);
        }
        let Eligible { revision, diff } = match found {
            Ok(eligible) => eligible,
            Err(Ineligible::Private(hidden)) => return Ok(Finding::Hidden(hidden)),
            Err(ineligible) => return Ok(Finding::End(ineligible.report())),
        };
        let privacy = self.eligibility.directory().privacy();
        match stack::load(self.eligibility.conduit(), &privacy, &revision, &diff).await {
            Ok(stack) => Ok(Finding::Ready(Box::new(Build {
                request: request.clone(),
                revision: revision_of(&revision),
                diff: stack::diff_of(&diff),
                stack: stack.patches,
                landed: stack.landed,
            }))),
            // The revisions of a stack become public one after another.
            Err(StackError::HiddenParent(_)) if !is_last => Ok(Finding::Hidden(Hidden::Parent)),
            Err(StackError::HiddenParent(child)) => {
                let revision = revision.id;
                let hidden = Ineligible::HiddenParent { revision, child };
                Ok(Finding::End(hidden.report()))
            }
            Err(StackError::Refused(refusal)) => {
                let seconds = cx.clock().now().duration_since(started).as_secs_f64();
                Ok(Finding::End(refusal.report(revision.id, seconds)))
            }
            Err(StackError::Conduit(error)) => Err(error),
        }
    }

    /// Whether nobody waits any longer for the revision to become public. A build that is too old would not be built then.
    fn is_last_look(&self, request: &BuildRequest, record: &BuildRecord, now: Timestamp) -> bool {
        record.looks().saturating_add(1) >= self.settings.visibility_checks
            || now.duration_since(request.accepted_at).unsigned_abs()
                > self.eligibility.rules().expiry
    }

    /// Looks again later, or gives up. Nothing but numbers may be said here.
    fn hidden(
        &self,
        request: BuildRequest,
        record: &BuildRecord,
        is_last: bool,
        why: Hidden,
        cx: &Context,
    ) -> Result<Outcome, BusError> {
        let build = request.target.clone();
        let looks = self.settings.visibility_checks;
        let look = record.looks().saturating_add(1);
        self.log.not_public(cx, &build, look, looks, why)?;
        if is_last {
            info!(
                outcome = "private",
                "D{} did not become public", request.revision_id
            );
            self.end(&request, record, Report::Withheld, cx)?;
            return Ok(Outcome::Done);
        }
        let wait = self
            .settings
            .visibility_sleep
            .saturating_mul(2_u32.saturating_pow(look));
        info!(
            state = "deferred",
            "D{}: {}; look {} of {looks} follows in {} s",
            request.revision_id,
            why.text(),
            look + 1,
            wait.as_secs()
        );
        Ok(Outcome::defer(wait, why.text()))
    }

    fn end(
        &self,
        request: &BuildRequest,
        record: &BuildRecord,
        report: Report,
        cx: &Context,
    ) -> Result<(), BusError> {
        match &report {
            Report::Neutral(neutral) => info!(outcome = "skipped", "{}", neutral.text),
            Report::PatchFailed(failure) => {
                info!(outcome = "patch_failed", "{}", failure.summary)
            }
            Report::InfrastructureFailed(blame) => {
                error!(outcome = "infra_failed", "{}", blame.summary)
            }
            Report::Working | Report::Pushed(_) | Report::Withheld => {}
        }
        self.log.finish(cx, request, record, report)
    }
}

#[async_trait]
impl Handler<BuildRequest> for Workflow {
    type Error = WorkflowError;

    async fn handle(&self, request: BuildRequest, cx: &Context) -> Result<Outcome, WorkflowError> {
        let (target, queue) = (&request.target, self.log.queues().load.spec().name);
        let record = self.log.read(cx, target).await?;
        if record.end.is_some() {
            debug!("its end is decided already");
            return Ok(Outcome::Done);
        }
        self.log.begin(cx, &request, queue).await?;
        let is_last = self.is_last_look(&request, &record, cx.clock().now());
        match self.look(&request, is_last, cx).await? {
            Finding::Hidden(why) => return Ok(self.hidden(request, &record, is_last, why, cx)?),
            Finding::End(report) => self.end(&request, &record, report, cx)?,
            Finding::Ready(build) => {
                info!(
                    state = "applying",
                    "loaded a stack of {} patches, base {}",
                    build.stack.len(),
                    build.named_base().as_deref().unwrap_or("(none named)")
                );
                self.log.loaded(cx, &build)?;
            }
        }
        Ok(Outcome::Done)
    }

    /// A build that could not be looked at gets its answer too. The reason may hold words about a private revision,
    /// so it stays in the dead letter.
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
        let blame = Blame {
            summary: "The revision and its stack could not be loaded from Phabricator.".to_owned(),
            details: String::new(),
            attempts: cx.attempt(),
            seconds: cx
                .clock()
                .now()
                .duration_since(request.accepted_at)
                .as_secs_f64(),
        };
        Ok(self.end(&request, &record, Report::InfrastructureFailed(blame), cx)?)
    }

    async fn on_requeue(
        &self,
        request: BuildRequest,
        requeue: Requeue<'_, WorkflowError>,
        cx: &Context,
    ) -> Result<(), WorkflowError> {
        let (target, queue) = (&request.target, self.log.queues().load.spec().name);
        match requeue.why {
            // The look is recorded already.
            RequeueReason::Deferred(reason) => {
                self.log.waits(cx, target, queue, requeue.after, reason)?;
            }
            _ => self.log.requeued(cx, target, queue, &requeue, None).await?,
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
