//! The settlement of a delivery: the outcome of the build, or its next delivery.

use std::time::Duration;

use build::{BuildEventKind, BuildUpdate, Ineligible, PatchFailure, Pushed, Skip, SkipReason};
use bus::{Outcome, Retry, Retryable};
use runtime::error_chain;
use tracing::{error, info};

use super::{Delivery, PushedHead};
use crate::{
    WorkerError,
    handler::seconds_since,
    jobs_url,
    outcome::{NotPushed, infra_failure},
    revision::Revision,
    text,
    tree_status::TreeState,
};

impl Delivery<'_> {
    /// Finishes the build with what [`Delivery::run`] returned, or decides about the next delivery.
    pub(in crate::handler) async fn settle(
        &self,
        pushed: Result<PushedHead, NotPushed>,
    ) -> Result<Outcome, WorkerError> {
        let clock = self.cx.clock().as_ref();
        let update = match pushed {
            Ok(pushed) => self.pushed(pushed),
            Err(NotPushed::Patch(failure)) => BuildUpdate::PatchFailed(PatchFailure {
                seconds: seconds_since(self.started, clock),
                ..*failure
            }),
            Err(NotPushed::Ineligible(over)) => self.ineligible(&over).await,
            Err(NotPushed::Cancelled(text)) => BuildUpdate::skipped(SkipReason::Cancelled, text),
            Err(NotPushed::Decided) => {
                info!("skipping the push: the end of the build was decided meanwhile");
                return Ok(Outcome::Done);
            }
            Err(NotPushed::Defer { after, reason }) => return Ok(Outcome::defer(after, reason)),
            Err(NotPushed::Hold { after, reason }) => {
                self.share_wait(after, &reason)?;
                return Ok(Outcome::hold(after, reason));
            }
            Err(NotPushed::Ours(error)) => {
                // The error is recorded with the words of the version control, which name files. So a private build
                // ends here instead. For a deferred build, `wait` has checked that, or the error names no file.
                match error.retry() {
                    Retry::Hold(after) => {
                        // The words of this error name files, which may be private.
                        let reason = match &error {
                            WorkerError::DiskFull { .. } => "our disk is full".to_owned(),
                            error => error_chain(error),
                        };
                        self.share_wait(after, &reason)?;
                        return Err(error);
                    }
                    Retry::Defer(_) => return Err(error),
                    Retry::Backoff | Retry::After(_) | Retry::Never => {}
                }
                match self.worker.guard.check(self.build, clock.now()).await {
                    Ok(Some(private @ Ineligible::Private(_))) => private.update(self.build.vcs),
                    _ => return Err(error),
                }
            }
        };
        match &update {
            BuildUpdate::Skipped(skip) => {
                info!(outcome = "skipped", "skipping the build: {}", skip.text);
            }
            BuildUpdate::Private => {
                info!(outcome = "private", "the revision is not public any more")
            }
            BuildUpdate::PatchFailed(failure) => {
                info!(
                    outcome = "patch_failed",
                    "the patch cannot be built: {}", failure.summary
                );
            }
            BuildUpdate::InfraFailed(failure) => {
                error!(
                    outcome = "infra_failed",
                    "the build failed on our side: {}", failure.summary
                );
            }
            BuildUpdate::Working | BuildUpdate::Pushed(_) => {}
        }
        let log = &self.worker.log;
        log.finish(self.cx, &self.build.request, self.record, update)?;
        Ok(Outcome::Done)
    }

    /// Records the reason for which all builds of the repository wait.
    fn share_wait(&self, after: Duration, reason: &str) -> Result<(), WorkerError> {
        let repository = &self.build.request.repository;
        let log = &self.worker.log;
        Ok(log.hold(self.cx, repository, after, reason)?)
    }

    fn pushed(&self, pushed: PushedHead) -> BuildUpdate {
        let PushedHead {
            head: Revision { id: head },
            reference,
            jobs_url,
            job_url,
            base,
        } = pushed;
        let treeherder = &self.worker.settings.treeherder_url;
        BuildUpdate::Pushed(Box::new(Pushed {
            vcs: self.build.vcs,
            revision: head,
            reference,
            on_treeherder: jobs_url
                .as_deref()
                .is_some_and(|url| jobs_url::is_below(url, treeherder)),
            jobs_url,
            job_url,
            patches: self.build.stack.len(),
            revisions: self.build.revisions(),
            abandoned: self.build.abandoned_below(),
            landed: self.build.landed.clone(),
            base,
            seconds: seconds_since(self.started, self.cx.clock().as_ref()),
        }))
    }

    /// The update for an ineligible build. That of an expired build names what it waited for.
    async fn ineligible(&self, over: &Ineligible) -> BuildUpdate {
        let request = &self.build.request;
        let (Ineligible::Expired { allowed, .. }, Some(repository)) =
            (over, self.worker.repositories.get(&request.repository))
        else {
            return over.update(self.build.vcs);
        };
        let hours = allowed.as_secs() / 3600;
        let seconds = seconds_since(request.accepted_at, self.cx.clock().as_ref());
        let events = self.record.events.iter().rev();
        let mut waits = events.filter_map(|event| match &event.kind {
            BuildEventKind::Deferred { blocker, .. } => Some(*blocker),
            BuildEventKind::Failed { .. } => Some(None),
            _ => None,
        });
        if !self.record.pushing
            && let Some(blocker) = waits.next().flatten()
        {
            let failure = infra_failure::waited(blocker, repository.settings(), hours, seconds);
            return BuildUpdate::InfraFailed(failure);
        }
        if !repository.is_ready().await {
            let failure = infra_failure::never_ready(repository.settings(), hours, seconds);
            return BuildUpdate::InfraFailed(failure);
        }
        let mut update = over.update(self.build.vcs);
        if let BuildUpdate::Skipped(Skip { text, .. }) = &mut update
            && let TreeState::Closed(reason) = repository.tree_state().await
        {
            // The reason is foreign text.
            let reason = text::path(reason.as_bytes()).replace('`', "'");
            let tree = &repository.settings().try_name;
            text.push_str(&format!(
                " The build waited for {tree}, which is closed: `{reason}`."
            ));
        }
        update
    }
}
