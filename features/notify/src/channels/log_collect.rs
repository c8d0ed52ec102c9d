//! `log_collect`: the logs of a task's runs, in a bucket of Amazon S3 or of a compatible store.
//!
//! The key of a log is `<branch>/<product>-<version>/build<n>/<name>-<platform>-<taskId>-<runId>`, from the task's name and
//! build properties. The object is plain text, compressed with gzip (`Content-Encoding: gzip`). The same log has the same
//! key, so a log that is collected again replaces itself.
//!
//! # Streaming
//!
//! A log may be longer than the memory of this process, so it is transferred in parts of 5 MiB. While one part is
//! uploaded, the next one is read, and a log takes no more memory than these two. A log of one part is stored with one
//! call. A longer one is a multipart upload, which readers see when it is complete.
//!
//! * When a transfer fails, the upload is aborted before the error is returned.
//! * When the future of a sending is dropped, a task of its own aborts the upload, and the end of the process waits for
//!   that task.
//! * A killed process cannot abort an upload. So the bucket needs a lifecycle rule that aborts incomplete uploads after a
//!   day (`AbortIncompleteMultipartUpload`).

mod key;
mod parts;
mod store;

use std::time::Duration;

use async_trait::async_trait;
use http_client::{HttpError, Networks};
use taskcluster::{ArtifactStream, Taskcluster, TaskclusterError};
use tracing::warn;

use self::{
    parts::{Part, Parts as LogParts},
    store::{Store, Upload},
};
use crate::{
    Channel, ChannelError, Checked, Key, Notification, Opened, Parts, Registration, Settings,
    SettingsError,
    aws::{self, Aws},
};

const NAME: &str = "log_collect";
/// The time limit until the head of a response.
const REQUEST: Duration = Duration::from_secs(30);
/// The artifacts that may hold the log of a run. The first one that exists is collected.
const LOGS: [&str; 2] = ["public/logs/live_backing.log", "public/logs/live.log"];

static SERVICE: aws::Service = aws::Service {
    channel: NAME,
    name: "s3",
    host: "s3",
    resource: "notify.log_collect.bucket",
    region: "notify.log_collect.region",
    is_store: true,
};

pub(super) const REGISTRATION: Registration = Registration {
    name: NAME,
    keys: &[
        Key::new("bucket").or_variable("S3_BUCKET"),
        Key::new("acl"),
        Key::new("allowed_networks"),
        aws::ACCESS_KEY_ID,
        aws::SECRET_ACCESS_KEY,
        aws::SESSION_TOKEN,
        aws::REGION,
        aws::ENDPOINT,
    ],
    templates: &[],
    open,
};

fn open(settings: &Settings, parts: &Parts<'_>) -> Opened {
    let bucket = settings.text("bucket")?;
    if !store::is_bucket(&bucket) {
        return Err(settings.invalid("bucket", "the name of a bucket"));
    }
    let is_public = match settings.optional_text("acl").as_deref() {
        None | Some("private") => false,
        Some("public-read") => true,
        Some(_) => return Err(settings.invalid("acl", "private or public-read")),
    };
    let store = Store::new(
        Aws::open(&SERVICE, None, settings, parts)?,
        &bucket,
        is_public,
    );
    let mut taskcluster = parts.taskcluster.clone();
    let networks = settings
        .optional_value::<Networks>("allowed_networks", "a list of networks such as 10.1.0.0/16")?;
    if let Some(networks) = networks {
        let client = http_client::public_client(REQUEST, networks);
        let problem = |error| SettingsError::Needs {
            channel: NAME,
            problem: runtime::error_chain(&error),
        };
        taskcluster = taskcluster.fetching_elsewhere(client.map_err(problem)?);
    }
    Ok(Box::new(LogCollect { store, taskcluster }))
}

struct LogCollect {
    store: Store,
    taskcluster: Taskcluster,
}

#[async_trait]
impl Channel for LogCollect {
    fn name(&self) -> &'static str {
        NAME
    }

    /// One for each log: each is collected, retried and given up separately.
    fn recipients(&self, notification: &Notification) -> Vec<String> {
        notification
            .links
            .logs
            .iter()
            .map(|log| format!("run {}", log.run_id))
            .collect()
    }

    fn is_read_by_people(&self) -> bool {
        false
    }

    async fn send(&self, notification: &Notification, recipient: &str) -> Result<(), ChannelError> {
        let Some(run) = recipient
            .strip_prefix("run ")
            .and_then(|run| run.parse().ok())
        else {
            let problem = format!("{recipient} is not a run of task {}", notification.task.id);
            return Err(ChannelError::Refused {
                channel: NAME,
                problem,
            });
        };
        let Some(log) = self.log(&notification.task.id, run).await? else {
            warn!(
                task = notification.task.id,
                run, "the log of the run no longer exists; not collected"
            );
            return Ok(());
        };
        let mut parts = LogParts::new(log)?;
        let key = key::of(&notification.task, run);
        let first = parts.next().await?;
        if first.is_last {
            return self.store.put(&key, first.bytes).await;
        }
        let upload = self.store.begin(&key).await?;
        match transfer(&upload, first, parts).await {
            Ok(()) => {
                upload.finish();
                Ok(())
            }
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    async fn check(&self) -> Result<Checked, ChannelError> {
        let by_hand =
            "whether our credentials give the right to s3:PutObject in the bucket".to_owned();
        Ok(Checked {
            found: Some(self.store.check().await?),
            by_hand: Some(by_hand),
        })
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

impl LogCollect {
    /// The log of a run; `None` if it no longer exists.
    async fn log(&self, task_id: &str, run: u32) -> Result<Option<ArtifactStream>, ChannelError> {
        for name in LOGS {
            match self.taskcluster.artifact_stream(task_id, run, name).await {
                Ok(log) => return Ok(Some(log)),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(fetch_error(&error)),
            }
        }
        Ok(None)
    }
}

/// Uploads the parts one after another, each while the next one is read, and completes the upload.
async fn transfer(upload: &Upload, first: Part, mut parts: LogParts) -> Result<(), ChannelError> {
    let (mut part, mut tags) = (first, Vec::new());
    while !part.is_last {
        let (tag, next) = tokio::try_join!(upload.part(tags.len() + 1, part.bytes), parts.next())?;
        tags.push(tag);
        part = next;
    }
    // The last part is empty if the log ends where a part does.
    if !part.bytes.is_empty() {
        tags.push(upload.part(tags.len() + 1, part.bytes).await?);
    }
    upload.complete(&tags).await
}

/// Whether the queue or its store responds that the log does not exist.
fn is_missing(error: &TaskclusterError) -> bool {
    use TaskclusterError as E;
    matches!(
        error,
        E::NotFound { .. }
            | E::ErrorArtifact { .. }
            | E::Http {
                source: HttpError::NotFound { .. },
                ..
            }
    )
}

/// The error of a notification whose log cannot be fetched.
fn fetch_error(error: &TaskclusterError) -> ChannelError {
    use TaskclusterError as E;
    let (channel, problem) = (
        NAME,
        format!("cannot fetch a log: {}", runtime::error_chain(error)),
    );
    match error {
        E::Http {
            source:
                HttpError::Busy {
                    status: 429,
                    retry_after,
                },
            ..
        } => ChannelError::Busy {
            channel,
            retry_after: *retry_after,
            problem,
        },
        E::Http {
            source: HttpError::Silent { .. },
            ..
        } => ChannelError::Failed { channel, problem },
        E::Http { source, .. } if source.is_outage() => {
            ChannelError::Unreachable { channel, problem }
        }
        E::Credentials { .. } | E::Scopes { .. } | E::Unsigned { .. } => {
            ChannelError::Credentials { channel, problem }
        }
        E::Elsewhere { .. } | E::Input { .. } | E::Unsendable { .. } => {
            ChannelError::Refused { channel, problem }
        }
        _ => ChannelError::Failed { channel, problem },
    }
}
