//! The index service.

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{Taskcluster, TaskclusterError, call::Call};

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
        self.call(&Call::get("index.findTask", &["task", namespace]))
            .await?
            .json()
    }

    /// The address under which whoever may read it finds an artifact of the task under `namespace`, now or later
    /// (`index.findArtifactFromTask`). Nothing is asked. With a proxy as root it is the proxy's address, which is of use
    /// only here: make it with a client of the deployment itself.
    pub fn indexed_artifact_url(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Url, TaskclusterError> {
        Call::get(
            "index.findArtifactFromTask",
            &["task", namespace, "artifacts", name],
        )
        .url(&self.root)
    }
}
