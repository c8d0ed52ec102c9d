//! Artifacts: where they are, and what is in them.

use std::fmt;

use bytes::Bytes;
use url::Url;

use super::{Taskcluster, TaskclusterError};

/// Where an artifact's content is.
#[derive(Clone)]
pub struct Artifact {
    /// What kind of store it is in, such as `s3`, `object` or `reference`. Links are resolved by the queue.
    pub storage_type: String,
    /// The address of the content. Its query can hold a signature that opens it to anyone: it is not for logs.
    pub url: Url,
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact")
            .field("storage_type", &self.storage_type)
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

impl Taskcluster {
    /// Where an artifact of a task's latest run is (`queue.getLatestArtifact`).
    ///
    /// [`TaskclusterError::ErrorArtifact`] where the task put an error in its place.
    pub async fn artifact(&self, _task_id: &str, _name: &str) -> Result<Artifact, TaskclusterError> {
        unimplemented!()
    }

    /// The content of an artifact of a task's latest run, up to `limit` bytes. The credentials stay with the queue: the
    /// store is asked without. A gzip encoding is undone, and `limit` holds for what comes out of it.
    pub async fn artifact_content(
        &self,
        _task_id: &str,
        _name: &str,
        _limit: usize,
    ) -> Result<Bytes, TaskclusterError> {
        unimplemented!()
    }
}
