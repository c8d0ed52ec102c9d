//! The calls of S3 that store a log.

use std::{mem, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_client::Response;
use reqwest::{Method, header::ETAG};
use roxmltree::Document;
use tokio::{runtime::Handle, sync::oneshot, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::NAME;
use crate::{
    ChannelError,
    aws::{Aws, Call},
};

/// The headers of each log. As plain text, it is not run by a browser.
const HEADERS: &[(&str, &str)] = &[
    ("content-type", "text/plain; charset=utf-8"),
    ("content-encoding", "gzip"),
];
/// The same for a log that everybody may read.
const PUBLIC_HEADERS: &[(&str, &str)] = &[HEADERS[0], HEADERS[1], ("x-amz-acl", "public-read")];
/// The time limit for aborting a dropped upload.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum length of the id of an upload, in bytes.
const MAX_ID: usize = 1024;

/// Whether a bucket may have this name: it becomes a part of an address.
pub(super) fn is_bucket(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (3..=255).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('.')
}

/// A bucket.
pub(super) struct Store {
    aws: Arc<Aws>,
    bucket: String,
    headers: &'static [(&'static str, &'static str)],
    /// The tasks that abort dropped uploads.
    aborting: TaskTracker,
}

/// A multipart upload. It is aborted when it is dropped before [`Upload::finish`].
pub(super) struct Upload {
    aws: Arc<Aws>,
    /// The bucket and the key.
    path: String,
    id: String,
    is_over: bool,
    aborting: TaskTracker,
}

impl Store {
    /// The bucket with this name. With `is_public`, everybody may read the logs.
    pub(super) fn new(aws: Aws, bucket: &str, is_public: bool) -> Self {
        let headers = if is_public { PUBLIC_HEADERS } else { HEADERS };
        Self {
            aws: Arc::new(aws),
            bucket: bucket.to_owned(),
            headers,
            aborting: TaskTracker::new(),
        }
    }

    /// Waits until dropped uploads are aborted, for [`ABORT_TIMEOUT`] at most.
    pub(super) async fn close(&self) {
        self.aborting.close();
        self.aborting.wait().await;
    }

    /// Requests the location of the bucket, and describes the response. It proves valid credentials and an existing bucket.
    pub(super) async fn check(&self) -> Result<String, ChannelError> {
        let path = format!("/{}", self.bucket);
        let call = Call {
            what: "get the location of the bucket",
            method: Method::GET,
            path: &path,
            query: "location=",
            headers: &[],
            body: Bytes::new(),
        };
        self.aws.ask(call).await
    }

    /// Stores a log of one part.
    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ChannelError> {
        let path = self.path(key);
        let call = Call {
            what: "store a log",
            method: Method::PUT,
            path: &path,
            query: "",
            headers: self.headers,
            body: bytes,
        };
        self.aws.call(call).await.map(drop)
    }

    /// Begins a multipart upload. A task of its own waits for the response: if the sending is dropped meanwhile, the upload
    /// still has an id with which it can be aborted.
    pub(super) async fn begin(&self, key: &str) -> Result<Upload, ChannelError> {
        let (mut reply, begun) = oneshot::channel();
        let (aws, path) = (Arc::clone(&self.aws), self.path(key));
        let (headers, aborting) = (self.headers, self.aborting.clone());
        self.aborting.spawn(async move {
            let mut beginning = pin!(Upload::begin(aws, path, headers, aborting));
            let upload = tokio::select! {
                upload = &mut beginning => Some(upload),
                () = reply.closed() => timeout(ABORT_TIMEOUT, beginning).await.ok(),
            };
            // The upload of a dropped sending is dropped here, which aborts it.
            if let Some(upload) = upload {
                let _: Result<(), Result<Upload, ChannelError>> = reply.send(upload);
            }
        });
        begun
            .await
            .unwrap_or_else(|_| Err(failed("the upload was cancelled, since this process ends")))
    }

    fn path(&self, key: &str) -> String {
        format!("/{}/{key}", self.bucket)
    }
}

impl Upload {
    async fn begin(
        aws: Arc<Aws>,
        path: String,
        headers: &'static [(&'static str, &'static str)],
        aborting: TaskTracker,
    ) -> Result<Self, ChannelError> {
        let call = Call {
            what: "begin the upload of a log",
            method: Method::POST,
            path: &path,
            query: "uploads=",
            headers,
            body: Bytes::new(),
        };
        let answer = aws.call(call).await?;
        let id = upload_id(&answer.body)
            .ok_or_else(|| failed("the store responded without the id of an upload"))?;
        Ok(Self {
            aws,
            path,
            id,
            is_over: false,
            aborting,
        })
    }

    /// Uploads part `number`, from 1. Returns its ETag.
    pub(super) async fn part(&self, number: usize, bytes: Bytes) -> Result<String, ChannelError> {
        let query = format!("partNumber={number}&uploadId={}", self.id);
        let answer = self
            .call("upload a part of a log", Method::PUT, &query, bytes)
            .await?;
        let tag = answer.header(ETAG);
        tag.filter(|tag| !tag.contains(['<', '&']))
            .map(str::to_owned)
            .ok_or_else(|| failed("the store responded without an ETag of a part"))
    }

    /// Completes the upload of the parts with these ETags.
    pub(super) async fn complete(&self, tags: &[String]) -> Result<(), ChannelError> {
        let parts: String = (1..)
            .zip(tags)
            .map(|(number, tag)| {
                format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
            })
            .collect();
        let namespace = "http://s3.amazonaws.com/doc/2006-03-01/";
        let body = format!(
            "<CompleteMultipartUpload xmlns=\"{namespace}\">{parts}</CompleteMultipartUpload>"
        );
        self.call(
            "complete the upload of a log",
            Method::POST,
            &self.query(),
            body.into(),
        )
        .await
        .map(drop)
    }

    /// Marks the upload as complete, so that it is not aborted.
    pub(super) fn finish(mut self) {
        self.is_over = true;
    }

    /// Aborts the upload.
    pub(super) async fn abort(mut self) {
        self.remove_parts().await;
        self.is_over = true;
    }

    async fn remove_parts(&self) {
        let query = self.query();
        if let Err(error) = self
            .call(
                "abort the upload of a log",
                Method::DELETE,
                &query,
                Bytes::new(),
            )
            .await
        {
            warn!(
                channel = NAME,
                error = runtime::error_chain(&error),
                "cannot abort an upload; its parts stay in the bucket until a lifecycle rule removes incomplete uploads"
            );
        }
    }

    async fn call(
        &self,
        what: &'static str,
        method: Method,
        query: &str,
        body: Bytes,
    ) -> Result<Response, ChannelError> {
        self.aws
            .call(Call {
                what,
                method,
                path: &self.path,
                query,
                headers: &[],
                body,
            })
            .await
    }

    fn query(&self) -> String {
        format!("uploadId={}", self.id)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if mem::replace(&mut self.is_over, true) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (aws, aborting) = (Arc::clone(&self.aws), self.aborting.clone());
        let rest = Self {
            aws,
            path: mem::take(&mut self.path),
            id: mem::take(&mut self.id),
            is_over: true,
            aborting,
        };
        self.aborting.spawn_on(
            async move { timeout(ABORT_TIMEOUT, rest.remove_parts()).await },
            &runtime,
        );
    }
}

/// The id of an upload, encoded for a query.
fn upload_id(answer: &[u8]) -> Option<String> {
    let answer = String::from_utf8_lossy(answer);
    let document = Document::parse(&answer).ok()?;
    let id = document
        .descendants()
        .find(|node| node.tag_name().name() == "UploadId")?
        .text()?;
    let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
    (1..=MAX_ID).contains(&id.len()).then_some(id)
}

fn failed(problem: &str) -> ChannelError {
    ChannelError::Failed {
        channel: NAME,
        problem: problem.to_owned(),
    }
}
