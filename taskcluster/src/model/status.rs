//! How far a task is.

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
    /// It ended well.
    Completed,
    /// It ended badly.
    Failed,
    /// It did not end by itself: cancelled, malformed, its worker lost, or over its deadline.
    Exception,
    /// A state that this program does not know.
    #[serde(other)]
    Unknown,
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// The task.
    pub task_id: String,
    /// Its group.
    pub task_group_id: String,
    /// Who made the group, such as `gecko-level-3`.
    pub scheduler_id: String,
    /// Its state.
    pub state: TaskState,
    /// When it has to be resolved at the latest.
    pub deadline: Timestamp,
    /// When it is forgotten.
    pub expires: Timestamp,
    /// Its runs, the first one first.
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
    /// Why it was resolved, such as `completed`, `canceled` or `worker-shutdown`; none while it is not.
    pub reason_resolved: Option<String>,
    /// When it was scheduled.
    pub scheduled: Timestamp,
    /// When a worker took it.
    pub started: Option<Timestamp>,
    /// When it was resolved.
    pub resolved: Option<Timestamp>,
}
