//! The records by which the job of a build is found again.
//!
//! # Who may submit
//!
//! A job does not tell for which build it is, only whose token made it. So the builds of one user at one Lando submit one
//! after another: each first acquires [`GATE`], and releases it when it knows whether there is a job. The gate of a worker
//! that died expires after [`GATE_TIME`], which is longer than Lando can work on a submission. No other program may use the
//! token.
//!
//! # What is recorded
//!
//! Before a build submits, it records the newest job at that moment ([`Submission`]). Its own job, if there is one, is a
//! later one of the same user. The next build to submit records its newest job in the other's record, too
//! ([`Submission::until`]): the jobs of all builds are in intervals that do not overlap.
//!
//! | the worker dies | the next delivery finds | and |
//! | --- | --- | --- |
//! | before the submission is recorded | nothing | submits |
//! | after that, and before the request | a submission, no job | searches the interval, and submits |
//! | after the request, and before its answer is recorded | a submission, and a job at Lando | searches the interval, and adopts the job |
//! | after that | the job | reads its state |
//!
//! An answer that is lost while the worker lives, such as by a broken connection, leaves the gate as a death does.
//!
//! If Lando had no job at all before, or too many have come since, nobody can tell. Such a build fails, and its operators
//! look for its job.

use std::time::Duration;

use build::{BaseChoice, Phid};
use bus::{BusError, Claim, ClaimField, ClaimHandle, Context, Field, RecordStore};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Lando;
use crate::WorkerError;

/// The time from a submission until Lando cannot be working on it any more.
const GATE_TIME: Duration = Duration::from_secs(180);

/// The gate of each user, with the submission that passed it last.
const GATES: RecordStore = RecordStore {
    name: "lando_gates",
    retention: Duration::from_secs(365 * 24 * 3600),
};

const GATE: ClaimField = ClaimField::new("claim", GATE_TIME);
const LAST: Field<Last> = Field::new("last");

/// The submission and the job of each build.
const BUILDS: RecordStore = RecordStore {
    name: "lando_builds",
    retention: Duration::from_secs(90 * 24 * 3600),
};

const SUBMISSION: Field<Submission> = Field::new("submission");
const JOB: Field<JobOfBuild> = Field::new("job");

/// The last submission of a user.
#[derive(Debug, Serialize, Deserialize)]
struct Last {
    /// The build.
    target: Phid,
    /// The newest job that is known.
    newest: Option<u64>,
}

/// An attempt to submit a build.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Submission {
    /// The newest job before it; `None` when there was none.
    pub(crate) after: Option<u64>,
    /// The newest job before the next submission of another build.
    pub(crate) until: Option<u64>,
}

/// The job of a build.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JobOfBuild {
    pub(crate) id: u64,
    /// The base of its patches.
    pub(crate) base: BaseChoice,
    /// The time at which it was recorded.
    pub(crate) at: Timestamp,
}

/// The gate, held by one delivery of a build.
pub(crate) struct Gate<'a> {
    claim: ClaimHandle,
    cx: &'a Context,
    target: &'a Phid,
    /// Of its user.
    id: String,
}

/// The job of a build, if it has one.
pub(crate) async fn job(cx: &Context, target: &Phid) -> Result<Option<JobOfBuild>, WorkerError> {
    read(cx, &BUILDS, target.as_str(), JOB).await
}

impl<'a> Gate<'a> {
    /// Acquires the gate, or returns the time until the next attempt.
    pub(crate) async fn acquire(
        lando: &Lando,
        cx: &'a Context,
        target: &'a Phid,
    ) -> Result<Result<Self, Duration>, WorkerError> {
        let id = format!("{} {}", lando.settings.user, lando.settings.url);
        Ok(match cx.claim::<()>(&GATES, &id, GATE).await? {
            Claim::Acquired(claim) => Ok(Self {
                claim,
                cx,
                target,
                id,
            }),
            Claim::Held { look_again, .. } => Err(look_again),
            Claim::Done(()) => Err(GATE_TIME),
        })
    }

    /// The earlier attempt to submit this build, if there was one.
    pub(crate) async fn submission(&self) -> Result<Option<Submission>, WorkerError> {
        read(self.cx, &BUILDS, self.target.as_str(), SUBMISSION).await
    }

    /// The newest job that is known.
    pub(crate) async fn newest(&self) -> Result<Option<u64>, WorkerError> {
        Ok(self.last().await?.and_then(|last| last.newest))
    }

    /// Records that the build is about to be submitted, after the job `newest`.
    pub(crate) async fn begin(&self, newest: Option<u64>) -> Result<(), WorkerError> {
        let mut updates = vec![
            GATES.set(&self.id, LAST, &self.at(newest))?,
            BUILDS.set(
                self.target.as_str(),
                SUBMISSION,
                &Submission {
                    after: newest,
                    until: None,
                },
            )?,
        ];
        if let Some(last) = self
            .last()
            .await?
            .filter(|last| last.target != *self.target)
            && let Some(open) = read(self.cx, &BUILDS, last.target.as_str(), SUBMISSION).await?
            && open.until.is_none()
        {
            let closed = Submission {
                until: newest,
                ..open
            };
            updates.push(BUILDS.set(last.target.as_str(), SUBMISSION, &closed)?);
        }
        Ok(self.cx.record_now(updates).await?)
    }

    /// Records the job of the build, and releases the gate.
    pub(crate) async fn end(self, job: &JobOfBuild) -> Result<(), WorkerError> {
        let updates = vec![
            BUILDS.set(self.target.as_str(), JOB, job)?,
            GATES.set(&self.id, LAST, &self.at(Some(job.id)))?,
        ];
        self.cx.record_now(updates).await?;
        self.release();
        Ok(())
    }

    /// Releases the gate, since there is no job.
    pub(crate) fn release(self) {
        self.claim.release(self.cx);
    }

    fn at(&self, newest: Option<u64>) -> Last {
        Last {
            target: self.target.clone(),
            newest,
        }
    }

    async fn last(&self) -> Result<Option<Last>, WorkerError> {
        read(self.cx, &GATES, &self.id, LAST).await
    }
}

async fn read<T: DeserializeOwned>(
    cx: &Context,
    store: &RecordStore,
    id: &str,
    field: Field<T>,
) -> Result<Option<T>, WorkerError> {
    let record = cx.recorded(store, id).await?;
    Ok(record.field(field).map_err(|source| BusError::Record {
        record: id.to_owned(),
        source,
    })?)
}
