//! What the queue says on Pulse.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::TaskStatus;

/// A message of the exchanges `exchange/taskcluster-queue/v1/task-{defined,pending,running,completed,failed,exception}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskMessage {
    /// How far the task is.
    pub status: TaskStatus,
    /// The run that the message is about. A task that is defined has none, and a task that was resolved by its deadline
    /// or before its first run may have none.
    pub run_id: Option<u32>,
    /// What the message says of the task itself; services of old said nothing.
    pub task: Option<MessageTask>,
}

/// What a message says of the task itself.
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

/// A message of the exchange `exchange/taskcluster-queue/v1/task-group-resolved`: no task of the group is left to do.
/// It comes again when a task is added to the group later, and that one is resolved.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupResolvedMessage {
    /// The group.
    pub task_group_id: String,
    /// Who made the group, such as `gecko-level-3`.
    pub scheduler_id: String,
}
