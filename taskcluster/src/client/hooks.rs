//! The hooks service.

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::{Taskcluster, TaskclusterError, call::Call};

/// An empty object where the hook's template made no task.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Triggered {
    task_id: Option<String>,
}

impl Taskcluster {
    /// Triggers a hook (`hooks.triggerHook`) with a payload that its template reads. Returns the id of the task that it
    /// made; a template may make none.
    ///
    /// An answer can be lost after the hook has fired, so one call may make two tasks.
    pub async fn trigger_hook(
        &self,
        group: &str,
        hook: &str,
        payload: &Value,
    ) -> Result<Option<String>, TaskclusterError> {
        let path = ["hooks", group, hook, "trigger"];
        let answer = self
            .call(&Call::with_body(
                "hooks.triggerHook",
                Method::POST,
                &path,
                payload,
            ))
            .await?;
        Ok(answer.json::<Triggered>()?.task_id)
    }
}
