//! The status of a task.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The state of a task, or of one of its runs (a run is never [`TaskState::Unscheduled`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// It waits for other tasks.
    Unscheduled,
    /// It waits for a worker.
    Pending,
    /// A worker has it.
    Running,
    /// It succeeded.
    Completed,
    /// It failed.
    Failed,
    /// It was cancelled or malformed, its worker vanished, or its deadline passed.
    Exception,
    /// A state that this program does not know.
    #[serde(other)]
    Unknown,
}

/// The status of a task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// The task.
    pub task_id: String,
    /// Its group.
    pub task_group_id: String,
    /// The scheduler that created the group, such as `gecko-level-3`.
    pub scheduler_id: String,
    /// Its state.
    pub state: TaskState,
    /// The time by which it must be resolved.
    pub deadline: Timestamp,
    /// When the queue service deletes it.
    pub expires: Timestamp,
    /// Its runs, the oldest first.
    pub runs: Vec<Run>,
}

/// One attempt at a task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Its number within the task, from 0.
    pub run_id: u32,
    /// Its state.
    pub state: TaskState,
    /// Why it was resolved, such as `completed`, `canceled` or `worker-shutdown`; none before that.
    pub reason_resolved: Option<String>,
    /// When it was scheduled.
    pub scheduled: Timestamp,
    /// When a worker took it.
    pub started: Option<Timestamp>,
    /// When it was resolved.
    pub resolved: Option<Timestamp>,
}
