//! The queue's artifacts, and the store that has their contents.

use std::io::Write;

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::{
    FakeTaskcluster,
    auth::Caller,
    request::{Refusal, Reply, Request},
    state::State,
    tasks::Task,
};

/// What opens the store, in the query.
const SIGNATURE: &str = "X-Amz-Signature=c0ffee";

/// An artifact as a task's worker makes it.
#[derive(Debug, Clone)]
pub enum FakeArtifact {
    /// Kept in the fake's own store, which hands it out to whoever has the signed address, and to nobody who shows
    /// credentials beside it.
    S3(Vec<u8>),
    /// The same, packed as workers do it.
    Gzip(Vec<u8>),
    /// Kept at this address.
    Reference(String),
    /// Another artifact of the same task.
    Link(String),
    /// An error in the place of a content.
    Error {
        /// Why.
        reason: String,
        /// In the worker's words.
        message: String,
    },
}

impl FakeTaskcluster {
    /// Adds an artifact to the task's latest run.
    #[expect(
        clippy::panic,
        reason = "whoever names a task that was never created has a fault in the test"
    )]
    pub fn add_artifact(&self, task_id: &str, name: &str, artifact: FakeArtifact) {
        let mut state = self.state();
        let Some(task) = state.tasks.get_mut(task_id) else {
            panic!("there is no task {task_id}")
        };
        task.artifacts.insert(name.to_owned(), artifact);
    }
}

impl State {
    pub(super) fn latest_artifact(
        &self,
        caller: &Caller,
        request: &Request,
    ) -> Result<Reply, Refusal> {
        caller.needs_all(&[format!("queue:get-artifact:{}", request.param("name"))])?;
        let task = self
            .tasks
            .get(request.param("taskId"))
            .ok_or_else(|| absent("Task"))?;
        self.place(task, request)
    }

    pub(super) fn artifact(&self, caller: &Caller, request: &Request) -> Result<Reply, Refusal> {
        caller.needs_all(&[format!("queue:get-artifact:{}", request.param("name"))])?;
        let task = self
            .tasks
            .get(request.param("taskId"))
            .ok_or_else(|| absent("Task"))?;
        // Only the latest run has artifacts here.
        if task.latest_run() != request.param("runId").parse().ok() {
            return Err(absent("Artifact"));
        }
        self.place(task, request)
    }

    /// Where an artifact is.
    fn place(&self, task: &Task, request: &Request) -> Result<Reply, Refusal> {
        let (id, mut name) = (request.param("taskId"), request.param("name"));
        let see = |kind: &str, url: &str| {
            Ok(Reply::See(
                url.to_owned(),
                json!({ "storageType": kind, "url": url }),
            ))
        };
        loop {
            match task.artifacts.get(name).ok_or_else(|| absent("Artifact"))? {
                FakeArtifact::Link(target) => name = target,
                FakeArtifact::Reference(url) => return see("reference", url),
                FakeArtifact::S3(_) | FakeArtifact::Gzip(_) => {
                    let name: String = percent_encoding::utf8_percent_encode(
                        name,
                        percent_encoding::NON_ALPHANUMERIC,
                    )
                    .collect();
                    return see("s3", &format!("{}store/{id}/{name}?{SIGNATURE}", self.root));
                }
                FakeArtifact::Error { reason, message } => {
                    return Ok(Reply::Other(
                        424,
                        json!({ "reason": reason, "message": message }),
                    ));
                }
            }
        }
    }

    /// What the store answers.
    pub(super) fn stored(&self, path: &str, query: Option<&str>, headers: &HeaderMap) -> Response {
        // So does S3: one proof of who asks is enough.
        if headers.contains_key(header::AUTHORIZATION) {
            return (StatusCode::BAD_REQUEST, "Only one auth mechanism allowed").into_response();
        }
        if query != Some(SIGNATURE) {
            return (StatusCode::FORBIDDEN, "AccessDenied").into_response();
        }
        let artifact = path.split_once('/').and_then(|(id, name)| {
            let name = percent_decode_str(name).decode_utf8().ok()?;
            self.tasks.get(id)?.artifacts.get(name.as_ref())
        });
        match artifact {
            Some(FakeArtifact::S3(content)) => content.clone().into_response(),
            Some(FakeArtifact::Gzip(content)) => match packed(content) {
                Ok(packed) => ([(header::CONTENT_ENCODING, "gzip")], packed).into_response(),
                Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            },
            _ => (StatusCode::NOT_FOUND, "NoSuchKey").into_response(),
        }
    }
}

fn absent(what: &str) -> Refusal {
    Refusal::not_found(format!("{what} not found"))
}

fn packed(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(content)?;
    packer.finish()
}
