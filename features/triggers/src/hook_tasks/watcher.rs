//! Polls a task of a hook until it ends.

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

use super::results::{self, EndedTask, TaskResult};
use crate::{HookName, HookTask};

/// The shortest and the longest time between two polls of a task.
const MIN_POLL: Duration = Duration::from_secs(60);
const MAX_POLL: Duration = Duration::from_secs(30 * 60);
/// The retries of a task whose definition names none: the default of the queue service.
const DEFAULT_RETRIES: u32 = 5;

/// Handles `hook-tasks` or `hook-tasks:community`: polls tasks, and records their results.
pub struct TaskWatcher {
    taskcluster: Taskcluster,
    queue: Queue<HookTask>,
    store: RecordStore,
}

/// A failure to watch a task.
#[derive(Debug, Error)]
pub enum WatchError {
    /// Taskcluster did not return the task, or did not create it again.
    #[error("cannot watch task {task_id} of hook {hook}")]
    Taskcluster {
        /// The task.
        task_id: String,
        /// The hook that created it.
        hook: HookName,
        /// The error of the call.
        #[source]
        source: TaskclusterError,
    },
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Retryable for WatchError {
    fn retry(&self) -> Retry {
        match self {
            Self::Taskcluster { source, .. } => source.retry(),
            Self::Bus(error) => error.retry(),
        }
    }
}

impl TaskWatcher {
    /// Watches the tasks in `queue`, which are tasks of the deployment `taskcluster`. Records their results in `store`.
    pub fn new(taskcluster: Taskcluster, queue: Queue<HookTask>, store: RecordStore) -> Self {
        Self {
            taskcluster,
            queue,
            store,
        }
    }

    /// Creates a new task from the definition of one that ended as an exception, and returns its id. Creates none if the
    /// task has no retries left, or if our credentials lack its scopes.
    async fn recreate(
        &self,
        watched: &HookTask,
        cx: &Context,
    ) -> Result<Option<String>, WatchError> {
        let task_id = &watched.task_id;
        let definition = self
            .taskcluster
            .task(task_id)
            .await
            .map_err(watching(watched))?;
        let Some(retries) = definition.retries.unwrap_or(DEFAULT_RETRIES).checked_sub(1) else {
            warn!(hook = %watched.hook, "the task ended as an exception and has no retries left; it is not created again");
            return Ok(None);
        };
        let now = cx.clock().now();
        let mut recreated = definition.created_at(now);
        recreated.retries = Some(retries);
        let new = successor(task_id);
        match self.taskcluster.create_task(&new, &recreated).await {
            // An earlier delivery created it, with other dates.
            Ok(_) | Err(TaskclusterError::Conflict { .. }) => {}
            // Common for the tasks of a push's actions, which have scopes that we lack. Waiting for an operator would
            // keep the result out of the report until the task expires.
            Err(error @ TaskclusterError::Scopes { .. }) => {
                let error = error_chain(&error);
                warn!(hook = %watched.hook, error, "the task ended as an exception; our credentials lack the scopes to create it again");
                return Ok(None);
            }
            Err(source) => return Err(watching(watched)(source)),
        }
        info!(hook = %watched.hook, successor = new, "the task ended as an exception; created another in its place");
        cx.send_after(
            &self.queue,
            &HookTask {
                task_id: new.clone(),
                hook: watched.hook.clone(),
                triggered_at: now,
                retried: watched.retried + 1,
            },
            MIN_POLL,
        )?;
        Ok(Some(new))
    }
}

#[async_trait]
impl Handler<HookTask> for TaskWatcher {
    type Error = WatchError;

    async fn handle(&self, watched: HookTask, cx: &Context) -> Result<Outcome, WatchError> {
        // A repeated trigger sends the same task again, perhaps days later.
        if results::is_known(cx, &self.store, &watched.task_id).await? {
            debug!(hook = %watched.hook, "the result of the task is already recorded");
            return Ok(Outcome::Done);
        }
        let now = cx.clock().now();
        let status = match self.taskcluster.status(&watched.task_id).await {
            Ok(status) => Some(status),
            Err(TaskclusterError::NotFound { .. }) => None,
            Err(source) => return Err(watching(&watched)(source)),
        };
        let result = match status.as_ref().map(|status| status.state) {
            None => TaskResult::Expired,
            Some(TaskState::Completed) => TaskResult::Completed,
            Some(TaskState::Failed) => TaskResult::Failed,
            Some(TaskState::Exception) => TaskResult::Exception,
            Some(
                TaskState::Unscheduled
                | TaskState::Pending
                | TaskState::Running
                | TaskState::Unknown,
            ) => {
                let after = next_poll(watched.triggered_at, now);
                return Ok(Outcome::defer(after, "the task has not ended"));
            }
        };
        let lost = result == TaskResult::Exception && !status.as_ref().is_some_and(was_cancelled);
        let retried_as = if lost {
            self.recreate(&watched, cx).await?
        } else {
            None
        };
        let HookTask { task_id, hook, .. } = watched;
        info!(%hook, ?result, "the task ended");
        results::record(
            &self.store,
            &EndedTask {
                task_id,
                hook,
                result,
                at: now,
                retried_as,
            },
        )?
        .into_iter()
        .for_each(|update| cx.record(update));
        Ok(Outcome::Done)
    }
}

fn watching(watched: &HookTask) -> impl FnOnce(TaskclusterError) -> WatchError {
    let task_id = watched.task_id.clone();
    let hook = watched.hook.clone();
    move |source| WatchError::Taskcluster {
        task_id,
        hook,
        source,
    }
}

/// The time until the next poll: a quarter of the task's age, within bounds.
fn next_poll(since: Timestamp, now: Timestamp) -> Duration {
    (now.duration_since(since).unsigned_abs() / 4).clamp(MIN_POLL, MAX_POLL)
}

/// Whether somebody cancelled the task.
fn was_cancelled(status: &TaskStatus) -> bool {
    status
        .runs
        .last()
        .is_some_and(|run| run.reason_resolved.as_deref() == Some("canceled"))
}

/// The id of the task that takes the place of `task_id`. It is a slug id (a uuid as 22 characters, beginning with a letter)
/// with the bytes of a hash, so that each delivery computes the same one.
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
            let again = next_poll(since, since + Duration::from_secs(age));
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
