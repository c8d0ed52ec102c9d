//! The messages that the queue service publishes on Pulse.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::TaskStatus;

/// A message of the exchanges `exchange/taskcluster-queue/v1/task-{defined,pending,running,completed,failed,exception}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskMessage {
    /// The status of the task.
    pub status: TaskStatus,
    /// The run that the message is about. A defined task has none, and a task that was resolved by its deadline or before
    /// its first run may have none.
    pub run_id: Option<u32>,
    /// The task; old services left it out.
    pub task: Option<MessageTask>,
}

/// The part of a task that is in a message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct MessageTask {
    /// Its labels.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl TaskMessage {
    /// The value of one of the task's tags, such as `kind`.
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.task.as_ref()?.tags.get(name).map(String::as_str)
    }
}

/// A message of the exchange `exchange/taskcluster-queue/v1/task-group-resolved`: all tasks of the group
/// are resolved. Published again when a task that is added later is resolved.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupResolvedMessage {
    /// The group.
    pub task_group_id: String,
    /// The scheduler that created the group, such as `gecko-level-3`.
    pub scheduler_id: String,
}
