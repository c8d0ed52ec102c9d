//! Hooks: what is to be triggered.

use std::fmt;

use bus::Message;
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
        Self { group: group.into(), id: id.into() }
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
}

impl Message for Trigger {
    const VERSION: u16 = 1;
}
