//! Polls a task that a hook made until it has ended.

use std::time::Duration;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bus::{BusError, Context, Handler, Outcome, Queue, RecordStore, Retry, Retryable};
use jiff::Timestamp;
use runtime::error_chain;
use sha2::{Digest, Sha256};
use taskcluster::{
    Taskcluster, TaskclusterError,
    model::{TaskState, TaskStatus},
};
use thiserror::Error;
use tracing::{debug, info, warn};

use super::results::{self, EndedTask, TaskEnd};
use crate::{HookName, Watched};

/// The first look comes this long after a task was made, and the last ones this far apart.
const SOON: Duration = Duration::from_secs(60);
const SELDOM: Duration = Duration::from_secs(30 * 60);
/// How often a task may be run, where its definition does not say: the queue's own number.
const RETRIES: u32 = 5;

/// Handles `monitoring` or `monitoring:community`.
pub struct Monitor {
    taskcluster: Taskcluster,
    queue: Queue<Watched>,
    store: RecordStore,
}

/// Why it is not known whether a watched task has ended.
#[derive(Debug, Error)]
pub enum MonitorError {
    /// Taskcluster does not say, or does not make it again.
    #[error("cannot watch task {task_id} of hook {hook}")]
    Taskcluster {
        /// The task.
        task_id: String,
        /// The hook that made it.
        hook: HookName,
        /// What Taskcluster says.
        #[source]
        source: TaskclusterError,
    },
    /// Its end cannot be recorded.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Retryable for MonitorError {
    fn retry(&self) -> Retry {
        match self {
            Self::Taskcluster { source, .. } => source.retry(),
            Self::Bus(error) => error.retry(),
        }
    }
}

impl Monitor {
    /// A monitor of the tasks in `queue`, which are of this deployment. Their ends are recorded in `store`.
    pub fn new(taskcluster: Taskcluster, queue: Queue<Watched>, store: RecordStore) -> Self {
        Self {
            taskcluster,
            queue,
            store,
        }
    }

    /// Makes another task from the definition of one that ended as an exception, unless it was tried often enough or is not
    /// ours to make.
    async fn retry(&self, watched: &Watched, cx: &Context) -> Result<Option<String>, MonitorError> {
        let task_id = &watched.task_id;
        let definition = self
            .taskcluster
            .task(task_id)
            .await
            .map_err(watching(watched))?;
        let Some(retries) = definition.retries.unwrap_or(RETRIES).checked_sub(1) else {
            warn!(task = task_id, hook = %watched.hook, "the task ended as an exception and has no retries left");
            return Ok(None);
        };
        let now = cx.clock().now();
        let mut again = definition.created_at(now);
        again.retries = Some(retries);
        let new = successor(task_id);
        match self.taskcluster.create_task(&new, &again).await {
            // An earlier delivery made it, with another time.
            Ok(_) | Err(TaskclusterError::Conflict { .. }) => {}
            // Most of all for actions of a push, which may do what we may not. To wait for an operator would keep its end
            // from the report until the task is forgotten.
            Err(error @ TaskclusterError::Scopes { .. }) => {
                let error = error_chain(&error);
                warn!(task = task_id, hook = %watched.hook, error, "the task ended as an exception and is not made again");
                return Ok(None);
            }
            Err(source) => return Err(watching(watched)(source)),
        }
        info!(task = task_id, hook = %watched.hook, "the task ended as an exception, {new} was made in its place");
        let (hook, retried) = (watched.hook.clone(), watched.retried + 1);
        cx.send_after(
            &self.queue,
            &Watched {
                task_id: new.clone(),
                hook,
                triggered_at: now,
                retried,
            },
            SOON,
        )?;
        Ok(Some(new))
    }
}

#[async_trait]
impl Handler<Watched> for Monitor {
    type Error = MonitorError;

    async fn handle(&self, watched: Watched, cx: &Context) -> Result<Outcome, MonitorError> {
        // A hook that is asked for the same again hands the same task over again, days later perhaps.
        if results::is_known(cx, &self.store, &watched.task_id).await? {
            debug!(task = watched.task_id, hook = %watched.hook, "its end is known");
            return Ok(Outcome::Done);
        }
        let now = cx.clock().now();
        let status = match self.taskcluster.status(&watched.task_id).await {
            Ok(status) => Some(status),
            Err(TaskclusterError::NotFound { .. }) => None,
            Err(source) => return Err(watching(&watched)(source)),
        };
        let end = match status.as_ref().map(|status| status.state) {
            None => TaskEnd::Forgotten,
            Some(TaskState::Completed) => TaskEnd::Completed,
            Some(TaskState::Failed) => TaskEnd::Failed,
            Some(TaskState::Exception) => TaskEnd::Exception,
            Some(
                TaskState::Unscheduled
                | TaskState::Pending
                | TaskState::Running
                | TaskState::Unknown,
            ) => {
                let again = next_look(watched.triggered_at, now);
                return Ok(Outcome::defer(again, "the task has not ended"));
            }
        };
        let lost = end == TaskEnd::Exception && !status.as_ref().is_some_and(was_cancelled);
        let retried_as = if lost {
            self.retry(&watched, cx).await?
        } else {
            None
        };
        let Watched { task_id, hook, .. } = watched;
        info!(task = task_id, %hook, "the task has ended: {end:?}");
        results::ended(
            &self.store,
            &EndedTask {
                task_id,
                hook,
                end,
                at: now,
                retried_as,
            },
        )?
        .into_iter()
        .for_each(|update| cx.record(update));
        Ok(Outcome::Done)
    }
}

fn watching(watched: &Watched) -> impl FnOnce(TaskclusterError) -> MonitorError {
    let (task_id, hook) = (watched.task_id.clone(), watched.hook.clone());
    move |source| MonitorError::Taskcluster {
        task_id,
        hook,
        source,
    }
}

/// A quarter of the task's age, within bounds: who waits long already waits a little longer.
fn next_look(since: Timestamp, now: Timestamp) -> Duration {
    (now.duration_since(since).unsigned_abs() / 4).clamp(SOON, SELDOM)
}

/// Whether somebody wanted it to end.
fn was_cancelled(status: &TaskStatus) -> bool {
    status
        .runs
        .last()
        .is_some_and(|run| run.reason_resolved.as_deref() == Some("canceled"))
}

/// The id of the task that takes the place of `task_id`: a slug id, that is a random uuid in 22 letters, which begins with
/// a letter. The letters here are those of a hash.
fn successor(task_id: &str) -> String {
    let hash = Sha256::digest(task_id.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[0] &= 0x7f;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_become_rarer_as_task_ages() {
        let since: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (age, expected) in [
            (0, 60),
            (60, 60),
            (400, 100),
            (3600, 900),
            (7200, 1800),
            (1_000_000, 1800),
        ] {
            let again = next_look(since, since + Duration::from_secs(age));
            assert_eq!(again.as_secs(), expected, "after {age} s");
        }
    }

    #[test]
    fn successor_is_slug_id_derived_from_its_predecessor() {
        let first = "fN1SbArXTPSVFNUvaOlinQ";
        let id = successor(first);
        assert_eq!(id, successor(first));
        assert_ne!(id, successor(&id));
        // The pattern of the queue's schemas.
        assert_eq!(id.len(), 22);
        let letters: Vec<char> = id.chars().collect();
        assert!(letters[0].is_ascii_alphabetic());
        assert!("Q" == &id[8..9] || "RST".contains(letters[8]), "{id}");
        assert!(letters[10].is_ascii_alphanumeric() || "-_".contains(letters[10]));
        assert!("AQgw".contains(letters[21]), "{id}");
    }
}
