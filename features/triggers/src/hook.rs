//! Hooks: what is to be triggered, and what came of it.

use std::fmt;

use bus::{BusError, Context, Message, Queue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Names a hook within its deployment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HookName {
    /// The group that it belongs to, such as `project-relman`.
    pub group: String,
    /// Its name in the group. It may hold slashes.
    pub id: String,
}

impl HookName {
    /// The hook `id` of `group`.
    pub fn new(group: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            id: id.into(),
        }
    }
}

impl fmt::Display for HookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.id)
    }
}

/// A hook to trigger; travels in `hooks` or `hooks:community`, by the deployment that has the hook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// Which hook.
    pub hook: HookName,
    /// What its template is given.
    pub payload: Value,
    /// What the hook is triggered for. It is triggered once for one key, however often that is asked for.
    pub key: String,
}

impl Trigger {
    /// Triggers `hook` with `payload`. `what` it is for sets it apart from everything else that the hook is triggered for.
    pub fn new(hook: HookName, payload: Value, what: &str) -> Self {
        let key = format!("{hook} {what}");
        Self { hook, payload, key }
    }

    /// Sends it to `queue` with the step that runs, unless it was sent there already.
    pub fn send(&self, queue: &Queue<Self>, cx: &Context) -> Result<(), BusError> {
        cx.send_deduplicated(queue, self, &self.key)
    }
}

impl Message for Trigger {
    const VERSION: u16 = 1;
}

/// A task that a hook made, to be watched until it ends; travels in `monitoring` or `monitoring:community`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// The task.
    pub task_id: String,
    /// The hook that made it.
    pub hook: HookName,
    /// When.
    pub triggered_at: Timestamp,
    /// How many tasks were made in its place before it, each after an exception.
    #[serde(default)]
    pub retried: u32,
}

impl Message for Watched {
    const VERSION: u16 = 1;

    fn describe(&self, span: &tracing::Span) {
        span.record("task", tracing::field::display(&self.task_id));
    }
}
