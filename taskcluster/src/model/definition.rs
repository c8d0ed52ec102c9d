//! The definition of a task.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A task's definition. `rest` keeps the fields that this project does not use, so that a definition can be read and written
/// again without a loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskDefinition {
    /// Its task group; by default its own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_group_id: Option<String>,
    /// How often the queue service runs it again after its worker vanished; by default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// When it was created.
    pub created: Timestamp,
    /// The time by which it must be resolved.
    pub deadline: Timestamp,
    /// When the queue service deletes it; by default a year after the deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The input of its worker: an object whose shape depends on the kind of worker.
    pub payload: Value,
    /// Its description for people.
    pub metadata: TaskMetadata,
    /// Labels, with strings as values.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub tags: Map<String, Value>,
    /// Data that its creator added.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
    /// All other fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A task's description for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskMetadata {
    /// Its name.
    pub name: String,
    /// All other fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl TaskDefinition {
    /// The same task, created at `now` (to the millisecond, the resolution of the queue service). Its deadline and expiry move
    /// by the same time.
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

    /// A string variable of the task's environment (`payload.env`).
    pub fn env(&self, name: &str) -> Option<&str> {
        self.payload.get("env")?.get(name)?.as_str()
    }
}
