//! The search for jobs. Lando lists none, but their numbers ascend.

use http_client::HttpError;

use super::Lando;

/// The most numbers in succession that no job has, while the newest one is looked for. A submission that fails at Lando
/// uses up a number.
const GAP: u64 = 3;

/// The same, while a job of ours is looked for.
const LONG_GAP: u64 = 20;

/// The most jobs that are read to find one of ours.
const MOST_JOBS: u64 = 2000;

/// The highest number that is tried when none is known, as a power of two.
const HIGHEST: u32 = 40;

/// The result of a search for a job of ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It has this number.
    Job(u64),
    /// There is none.
    Nothing,
    /// There are too many jobs to read.
    TooMany,
}

impl Lando {
    /// The number of a new job, at least `known`: few jobs are newer, or none. `None` when Lando has no job.
    pub(crate) async fn newest(&self, known: Option<u64>) -> Result<Option<u64>, HttpError> {
        let mut newest = match known {
            Some(known) => known,
            None => match self.any().await? {
                Some(first) => first,
                None => return Ok(None),
            },
        };
        let mut step = 1;
        while let Some(found) = self.near(newest.saturating_add(step)).await? {
            newest = found;
            step *= 2;
        }
        while step > 1 {
            step /= 2;
            if let Some(found) = self.near(newest.saturating_add(step)).await? {
                newest = found;
            }
        }
        Ok(Some(newest))
    }

    /// The job of our user after the job `after`, up to the job `until`.
    pub(crate) async fn find(&self, after: u64, until: Option<u64>) -> Result<Found, HttpError> {
        let (mut number, mut gap) = (after, 0);
        while gap < LONG_GAP && until.is_none_or(|until| number < until) {
            number += 1;
            if number - after > MOST_JOBS {
                return Ok(Found::TooMany);
            }
            match self.job(number).await? {
                Some(job) if self.is_ours(&job) => return Ok(Found::Job(number)),
                Some(_) => gap = 0,
                None => gap += 1,
            }
        }
        Ok(Found::Nothing)
    }

    /// A job, as new as possible, by powers of two.
    async fn any(&self) -> Result<Option<u64>, HttpError> {
        let mut found = None;
        for power in 0..HIGHEST {
            match self.near(1 << power).await? {
                Some(job) => found = Some(job),
                None if found.is_some() => break,
                None => {}
            }
        }
        Ok(found)
    }

    /// The first job from `number` on, within [`GAP`].
    async fn near(&self, number: u64) -> Result<Option<u64>, HttpError> {
        for number in number..number.saturating_add(GAP) {
            if self.job(number).await?.is_some() {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}
