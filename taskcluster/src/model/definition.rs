//! What a task is to do.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A task's definition. What this project has no use for is kept in `rest`, so that a definition that was read can be
/// written again without a loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskDefinition {
    /// The group it belongs to; the queue takes the task's own id where this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_group_id: Option<String>,
    /// How often it may be run again after its worker vanished; the queue takes 5 where this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// When it was created.
    pub created: Timestamp,
    /// When it has to be resolved at the latest.
    pub deadline: Timestamp,
    /// When it is forgotten; the queue takes a year after the deadline where this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// What its worker is given: an object whose shape depends on the kind of worker.
    pub payload: Value,
    /// What people read.
    pub metadata: TaskMetadata,
    /// Labels, all of them texts.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub tags: Map<String, Value>,
    /// Whatever else its maker wants to say.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
    /// All other fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What people read about a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskMetadata {
    /// Its name.
    pub name: String,
    /// All other fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl TaskDefinition {
    /// The same task, created at `now` (to the millisecond, as the queue keeps it), with its deadline and expiry as long
    /// after that as they were before.
    pub fn created_at(&self, now: Timestamp) -> Self {
        let now = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        let moved = |moment: Timestamp| {
            now.saturating_add(moment.duration_since(self.created))
                .unwrap_or(moment)
        };
        Self {
            created: now,
            deadline: moved(self.deadline),
            expires: self.expires.map(moved),
            ..self.clone()
        }
    }

    /// A text variable of the task's environment (`payload.env`).
    pub fn env(&self, name: &str) -> Option<&str> {
        self.payload.get("env")?.get(name)?.as_str()
    }
}
