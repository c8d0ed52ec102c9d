//! The index service.

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{Call, Taskcluster, TaskclusterError};

/// A task that can be found under a name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexedTask {
    /// The task.
    pub task_id: String,
    /// What was put beside it: an object.
    pub data: Value,
}

impl Taskcluster {
    /// The task under `namespace` (`index.findTask`), such as `gecko.v2.try.revision.<rev>.taskgraph.decision`.
    pub async fn find_task(&self, namespace: &str) -> Result<IndexedTask, TaskclusterError> {
        let call = Call {
            name: "index.findTask",
            method: Method::GET,
            service: "index",
            path: &["task", namespace],
            query: &[],
            body: None,
        };
        self.call(&call).await?.json()
    }

    /// The address under which anyone who may read it finds an artifact of the task under `namespace`
    /// (`index.findArtifactFromTask`), now or later. Nothing is asked.
    pub fn indexed_artifact_url(&self, _namespace: &str, _name: &str) -> Result<Url, TaskclusterError> {
        unimplemented!()
    }
}
