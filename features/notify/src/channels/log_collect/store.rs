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

/// What every log is stored as. Nothing in it is to be run by a browser.
const HEADERS: &[(&str, &str)] = &[
    ("content-type", "text/plain; charset=utf-8"),
    ("content-encoding", "gzip"),
];
/// The same for a log that everybody may read.
const PUBLIC_HEADERS: &[(&str, &str)] = &[HEADERS[0], HEADERS[1], ("x-amz-acl", "public-read")];
/// How long the end of a dropped upload may take.
const LEAVE: Duration = Duration::from_secs(10);
/// The longest id of an upload, in bytes.
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
    /// What throws away dropped uploads.
    leaving: TaskTracker,
}

/// A log that comes in parts. Until it is kept, dropping it throws away what came.
pub(super) struct Upload {
    aws: Arc<Aws>,
    /// Where it goes, and the query that says which upload it is.
    path: String,
    id: String,
    is_over: bool,
    leaving: TaskTracker,
}

impl Store {
    /// The bucket of this name. Where `is_public`, everybody may read what is stored.
    pub(super) fn new(aws: Aws, bucket: &str, is_public: bool) -> Self {
        let headers = if is_public { PUBLIC_HEADERS } else { HEADERS };
        Self {
            aws: Arc::new(aws),
            bucket: bucket.to_owned(),
            headers,
            leaving: TaskTracker::new(),
        }
    }

    /// Waits until nothing is left of dropped uploads, for some seconds at most.
    pub(super) async fn leave(&self) {
        self.leaving.close();
        self.leaving.wait().await;
    }

    /// Requests the location of the bucket. A store gives it only to credentials that it knows, for buckets that exist.
    pub(super) async fn ask(&self) -> Result<String, ChannelError> {
        let path = format!("/{}", self.bucket);
        let call = Call {
            what: "ask where the bucket is",
            method: Method::GET,
            path: &path,
            query: "location=",
            headers: &[],
            body: Bytes::new(),
        };
        self.aws.ask(call).await
    }

    /// Stores what is whole.
    pub(super) async fn put(&self, place: &str, bytes: Bytes) -> Result<(), ChannelError> {
        let path = self.path(place);
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

    /// Begins to store what comes in parts. A task of its own waits for the answer: a sending that is dropped meanwhile
    /// would leave an upload whose id nobody knows.
    pub(super) async fn begin(&self, place: &str) -> Result<Upload, ChannelError> {
        let (mut wanted, begun) = oneshot::channel();
        let (aws, path) = (Arc::clone(&self.aws), self.path(place));
        let (headers, leaving) = (self.headers, self.leaving.clone());
        self.leaving.spawn(async move {
            let mut beginning = pin!(Upload::begin(aws, path, headers, leaving));
            let upload = tokio::select! {
                upload = &mut beginning => Some(upload),
                () = wanted.closed() => timeout(LEAVE, beginning).await.ok(),
            };
            // One that nobody waits for is dropped here, which throws it away.
            if let Some(upload) = upload {
                let _: Result<(), Result<Upload, ChannelError>> = wanted.send(upload);
            }
        });
        begun
            .await
            .unwrap_or_else(|_| Err(senseless("was not waited for")))
    }

    fn path(&self, place: &str) -> String {
        format!("/{}/{place}", self.bucket)
    }
}

impl Upload {
    async fn begin(
        aws: Arc<Aws>,
        path: String,
        headers: &'static [(&'static str, &'static str)],
        leaving: TaskTracker,
    ) -> Result<Self, ChannelError> {
        let call = Call {
            what: "begin to store a log",
            method: Method::POST,
            path: &path,
            query: "uploads=",
            headers,
            body: Bytes::new(),
        };
        let answer = aws.call(call).await?;
        let id = upload_id(&answer.body).ok_or_else(|| senseless("begins no upload"))?;
        Ok(Self {
            aws,
            path,
            id,
            is_over: false,
            leaving,
        })
    }

    /// Stores part `number`, from 1. Returns its tag.
    pub(super) async fn part(&self, number: usize, bytes: Bytes) -> Result<String, ChannelError> {
        let query = format!("partNumber={number}&uploadId={}", self.id);
        let answer = self
            .call("store a part of a log", Method::PUT, &query, bytes)
            .await?;
        let tag = answer.header(ETAG);
        tag.filter(|tag| !tag.contains(['<', '&']))
            .map(str::to_owned)
            .ok_or_else(|| senseless("gives a part no tag"))
    }

    /// Makes one log of the parts with these tags.
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
        self.call("complete a log", Method::POST, &self.query(), body.into())
            .await
            .map(drop)
    }

    /// It is stored.
    pub(super) fn keep(mut self) {
        self.is_over = true;
    }

    /// Throws away what came of it.
    pub(super) async fn abort(mut self) {
        self.throw_away().await;
        self.is_over = true;
    }

    async fn throw_away(&self) {
        let query = self.query();
        if let Err(error) = self
            .call(
                "throw away the parts of a log",
                Method::DELETE,
                &query,
                Bytes::new(),
            )
            .await
        {
            warn!(
                channel = NAME,
                error = runtime::error_chain(&error),
                "parts of a log remain in the bucket: let a lifecycle rule end incomplete uploads"
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
        let (aws, leaving) = (Arc::clone(&self.aws), self.leaving.clone());
        let rest = Self {
            aws,
            path: mem::take(&mut self.path),
            id: mem::take(&mut self.id),
            is_over: true,
            leaving,
        };
        self.leaving.spawn_on(
            async move { timeout(LEAVE, rest.throw_away()).await },
            &runtime,
        );
    }
}

/// The id of an upload, as it can stand in a query.
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

fn senseless(problem: &str) -> ChannelError {
    ChannelError::Failed {
        channel: NAME,
        problem: format!("the store's answer {problem}"),
    }
}
