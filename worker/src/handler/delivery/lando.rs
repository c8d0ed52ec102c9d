//! The submission of a stack to Lando, and the wait for its job. [`crate::lando::records`] says what a repeated delivery
//! finds.

use std::time::Duration;

use runtime::error_chain;
use tracing::{info, warn};

use super::{Delivery, PushedHead};
use crate::{
    WorkerError,
    base::Base,
    clone::slot::Ready,
    lando::{
        Found, Job, Lando, MOST_BYTES, Refusal, Status, SubmitError, away, barred,
        records::{self, Gate, JobOfBuild},
    },
    outcome::{NotPushed, patch_failure},
    repository::Repository,
    revision::Revision,
    vcs::CommitPatch,
};

/// The longest wait for the gate before the next attempt. The stack is applied again in each.
const GATE_PAUSE: Duration = Duration::from_secs(15);

/// The wait for a base that Lando has not mapped yet.
const UNMAPPED_PAUSE: Duration = Duration::from_secs(60);

impl Delivery<'_> {
    // ---- the job

    /// The head of a build whose job has landed. `None` for a build without a job.
    pub(super) async fn landed(&self) -> Result<Option<PushedHead>, NotPushed> {
        let (target, repository) = (&self.build.request.target, &self.build.request.repository);
        let Some(repository) = self.worker.repositories.get(repository) else {
            return Ok(None);
        };
        let Some(lando) = repository.lando() else {
            return Ok(None);
        };
        let Some(job) = records::job(self.cx, target).await? else {
            return Ok(None);
        };
        let found = match lando.job(job.id).await {
            Ok(found) => {
                if lando.failures.recovered() {
                    info!("Lando responds again");
                }
                found
            }
            Err(error) => {
                let error = error_chain(&error);
                if lando.failures.should_log(()) {
                    warn!(error, "Lando does not respond; its jobs are read later");
                }
                return self.pending(lando, &job, &error).await;
            }
        };
        let Some(found) = found else {
            return self.pending(lando, &job, "Lando does not know it").await;
        };
        let ended = match found.status {
            Status::Landed => match found.head() {
                Some(head) => {
                    let id = head.to_owned();
                    self.gate().await?;
                    return Ok(Some(self.landed_as(
                        repository,
                        lando,
                        job,
                        Revision { id },
                    )));
                }
                None => return self.pending(lando, &job, "its head is not known").await,
            },
            Status::Failed if found.is_fault_of_patches() => patch_failure::not_landed(
                self.build,
                &job.base,
                &repository.settings().try_name,
                &lando.page(job.id),
                &found.error(),
            )
            .into(),
            Status::Failed => not_landed(lando, job.id, found.error()),
            Status::Cancelled => NotPushed::Cancelled(format!(
                "The job of this build was cancelled at Lando: {}",
                lando.page(job.id)
            )),
            _ => return self.pending(lando, &job, &state_of(&found)).await,
        };
        // A build that is private by now is not spoken of.
        self.gate().await?;
        Err(ended)
    }

    fn landed_as(
        &self,
        repository: &Repository,
        lando: &Lando,
        job: JobOfBuild,
        head: Revision,
    ) -> PushedHead {
        info!(
            outcome = "pushed",
            "the job {} of Lando has landed as {}", job.id, head.id
        );
        PushedHead {
            jobs_url: self.jobs_url(repository.settings(), &head, None),
            reference: None,
            job_url: Some(lando.page(job.id)),
            head,
            base: job.base,
        }
    }

    /// The next delivery of a build whose job has not ended. A job that does not end in time is ours to explain.
    async fn pending<T>(
        &self,
        lando: &Lando,
        job: &JobOfBuild,
        state: &str,
    ) -> Result<T, NotPushed> {
        let age = self.cx.clock().now().duration_since(job.at).unsigned_abs();
        let allowed = self.worker.settings.build_expiry;
        if age > allowed {
            self.gate().await?;
            let hours = allowed.as_secs() / 3600;
            let words = format!("it has not ended within {hours} hours: {state}");
            return Err(not_landed(lando, job.id, words));
        }
        Err(NotPushed::Defer {
            after: pause(age),
            reason: format!("the job {} is at Lando: {state}", lando.page(job.id)),
        })
    }

    // ---- the submission

    /// Submits the commits of the build, unless an earlier delivery has. The build waits for its job then.
    pub(super) async fn submit(
        &self,
        lando: &Lando,
        slot: &mut Ready,
        base: Base,
        head: &Revision,
    ) -> Result<PushedHead, NotPushed> {
        let target = &self.build.request.target;
        let commits = slot
            .clone
            .export(&base.revision, head, MOST_BYTES)
            .await?
            .map(|commits| self.with_target(commits));
        let body = match commits.map(|commits| lando.submission(&base.revision.id, &commits)) {
            Some(Ok(body)) => body,
            Some(Err(number)) => {
                return Err(patch_failure::no_text(self.build, number).into());
            }
            None => return Err(patch_failure::too_large_for_lando(self.build).into()),
        };
        let gate = match Gate::acquire(lando, self.cx, target).await? {
            Ok(gate) => gate,
            Err(look_again) => {
                return Err(NotPushed::Defer {
                    after: look_again.max(GATE_PAUSE),
                    reason: "another build is being submitted to Lando".to_owned(),
                });
            }
        };
        let id = self.submit_as_only_one(lando, &gate, body).await;
        let id = match id {
            Ok(id) => id,
            Err(failure) => {
                if !matches!(failure, Failure::Unclear(_)) {
                    gate.release();
                }
                return Err(self.not_submitted(lando, failure, &base)?);
            }
        };
        let job = JobOfBuild {
            id,
            base: base.choice,
            at: self.cx.clock().now(),
        };
        gate.end(&job).await?;
        info!("submitted to Lando as {}", lando.page(id));
        self.pending(lando, &job, "it was submitted").await
    }

    /// Adds the line by which people find the build of a job.
    fn with_target(&self, mut commits: Vec<CommitPatch>) -> Vec<CommitPatch> {
        if let Some(last) = commits.last_mut() {
            let message = last.message.trim_end();
            last.message = format!("{message}\n\nBuild Target: {}", self.build.request.target);
        }
        commits
    }

    /// Submits the build while no other one of the user does; returns the number of its job.
    async fn submit_as_only_one(
        &self,
        lando: &Lando,
        gate: &Gate<'_>,
        body: Vec<u8>,
    ) -> Result<u64, Failure> {
        if let Some(before) = gate.submission().await? {
            let Some(after) = before.after else {
                return Err(Failure::Untold);
            };
            match lando.find(after, before.until).await {
                Ok(Found::Job(id)) => {
                    info!("found the job {id} of an earlier delivery at Lando");
                    return Ok(id);
                }
                Ok(Found::Nothing) => {}
                Ok(Found::TooMany) => return Err(Failure::Untold),
                Err(error) => return Err(Failure::Refused(SubmitError::Away(error))),
            }
        }
        let known = gate.newest().await?;
        let newest = lando
            .newest(known)
            .await
            .map_err(|error| Failure::Refused(SubmitError::Away(error)))?;
        let log = &self.worker.log;
        log.mark_pushing(self.cx, &self.build.request.target)
            .await
            .map_err(WorkerError::from)?;
        gate.begin(newest).await?;
        lando.submit(body).await.map_err(|error| match error {
            SubmitError::Unclear(_) => Failure::Unclear(error),
            refused => Failure::Refused(refused),
        })
    }

    /// The outcome of a delivery whose build was not submitted.
    fn not_submitted(
        &self,
        lando: &Lando,
        failure: Failure,
        base: &Base,
    ) -> Result<NotPushed, WorkerError> {
        let name = &lando.settings.repository;
        let doing = format!("submit a stack to {name}");
        let refusal = match failure {
            Failure::Ours(error) => return Ok(error.into()),
            Failure::Untold => {
                let words = format!(
                    "an earlier attempt may have made a job at {}, which cannot be told: look for a job of {} there whose \
                     last commit has the line `Build Target: {}`",
                    lando.settings.url, lando.settings.user, self.build.request.target
                );
                return Ok(WorkerError::NotLanded { job: doing, words }.into());
            }
            Failure::Unclear(SubmitError::Unclear(error) | SubmitError::Away(error))
            | Failure::Refused(SubmitError::Unclear(error) | SubmitError::Away(error)) => {
                return Ok(away(doing, &error).into());
            }
            Failure::Unclear(SubmitError::Refused(refusal))
            | Failure::Refused(SubmitError::Refused(refusal)) => refusal,
        };
        let log = &self.worker.log;
        log.clear_pushing(self.cx, &self.build.request.target)?;
        Ok(match refusal {
            Refusal::TooLarge => patch_failure::too_large_for_lando(self.build).into(),
            Refusal::Patches(words) => {
                patch_failure::refused_by(self.build, &base.choice, name, &words).into()
            }
            Refusal::UnknownBase(words) => NotPushed::Defer {
                after: UNMAPPED_PAUSE,
                reason: format!("Lando does not know the base yet: {words}"),
            },
            Refusal::Operators(barrier, words) => barred(doing, barrier, words).into(),
        })
    }
}

/// The failure of a submission.
enum Failure {
    /// Our side failed before the request.
    Ours(WorkerError),
    /// There is no job.
    Refused(SubmitError),
    /// There may be a job, which a later delivery can find.
    Unclear(SubmitError),
    /// There may be a job, and nobody can find it.
    Untold,
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Self {
        Self::Ours(error)
    }
}

fn not_landed(lando: &Lando, job: u64, words: String) -> NotPushed {
    NotPushed::Ours(WorkerError::NotLanded {
        job: format!("land {}", lando.page(job)),
        words,
    })
}

/// The state of a job that has not ended.
fn state_of(job: &Job) -> String {
    let state = match job.status {
        Status::Created | Status::Submitted => "it waits for its turn",
        Status::InProgress => "it is in progress",
        Status::Deferred => "it is deferred",
        _ => "its status is unknown",
    };
    let error = job.error();
    if error.is_empty() {
        state.to_owned()
    } else {
        format!("{state}: {error}")
    }
}

/// The wait before a job of this age is read again.
fn pause(age: Duration) -> Duration {
    match age.as_secs() {
        0..60 => Duration::from_secs(10),
        60..600 => Duration::from_secs(30),
        _ => Duration::from_secs(60),
    }
}
