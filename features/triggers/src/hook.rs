//! Hooks, the triggers of hooks, and the tasks that they create.

use std::fmt;

use bus::{BusError, Context, Message, Queue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The name of a hook within its deployment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HookName {
    /// Its group, such as `project-relman`.
    pub group: String,
    /// Its id within the group. It may contain slashes.
    pub id: String,
}

impl HookName {
    /// Names the hook `id` of `group`.
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

/// A hook to trigger: the message of `hooks` and `hooks:community`, for the deployment that has the hook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// The hook.
    pub hook: HookName,
    /// The input of its template.
    pub payload: Value,
    /// The deduplication key: the hook is triggered once for a key, however many messages have it.
    pub key: String,
}

impl Trigger {
    /// Triggers `hook` with `payload`. `what` is what it is triggered for, such as a diff: it makes the key of this hook.
    pub fn new(hook: HookName, payload: Value, what: &str) -> Self {
        let key = format!("{hook} {what}");
        Self { hook, payload, key }
    }

    /// Sends it to `queue` in the current step, unless one with its key was sent there within the window.
    pub fn send(&self, queue: &Queue<Self>, cx: &Context) -> Result<(), BusError> {
        cx.send_deduplicated(queue, self, &self.key)
    }
}

impl Message for Trigger {
    const VERSION: u16 = 1;
}

/// A task that a hook created, to be watched until it ends: the message of `hook-tasks` and `hook-tasks:community`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookTask {
    /// The task.
    pub task_id: String,
    /// The hook that created it.
    pub hook: HookName,
    /// When the hook was triggered.
    pub triggered_at: Timestamp,
    /// The number of tasks before it that ended as an exception and were replaced.
    #[serde(default)]
    pub retried: u32,
}

impl Message for HookTask {
    const VERSION: u16 = 1;

    fn describe(&self, span: &tracing::Span) {
        span.record("task", tracing::field::display(&self.task_id));
    }
}
