//! `log_collect`: the logs of a task's runs, kept in a bucket of Amazon S3 or of a store that speaks like it.
//!
//! A log is named `<branch>/<product>-<version>/build<n>/<name>-<platform>-<taskId>-<runId>`, of what the task says of its
//! build, and is stored packed with gzip (`Content-Encoding: gzip`), as plain text. The same log has the same name, so
//! what is collected again replaces itself.
//!
//! # A stream from one service to another
//!
//! A log may be longer than the memory of this process, so it passes through in parts of 5 MiB: while one is sent the
//! next is filled, and no log ever takes more than these two. What fits into one part is stored in one call. For
//! a longer one the store gathers parts until the upload is completed; no reader sees it before. When
//! anything fails on the way, the upload is aborted before the error is returned; when the sending is
//! dropped, right after that, by a task of its own, which the end of the process waits for. A process that is killed
//! cannot do so: a bucket is to have a lifecycle rule that ends incomplete uploads (`AbortIncompleteMultipartUpload`)
//! after a day.

mod parts;
mod place;
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
/// How long the beginning of an answer may take.
const REQUEST: Duration = Duration::from_secs(30);
/// Where the worker of a run leaves its log, and where it is when that is not there.
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

    /// One for each log: each is collected, tried again and given up on its own.
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
                run, "its log is gone and cannot be collected"
            );
            return Ok(());
        };
        let mut parts = LogParts::new(log)?;
        let place = place::of(&notification.task, run);
        let first = parts.next().await?;
        if first.is_last {
            return self.store.put(&place, first.bytes).await;
        }
        let upload = self.store.begin(&place).await?;
        match transfer(&upload, first, parts).await {
            Ok(()) => {
                upload.keep();
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
            found: Some(self.store.ask().await?),
            by_hand: Some(by_hand),
        })
    }

    async fn close(&self) {
        self.store.leave().await;
    }
}

impl LogCollect {
    /// The log of a run, or nothing where it is gone.
    async fn log(&self, task_id: &str, run: u32) -> Result<Option<ArtifactStream>, ChannelError> {
        for name in LOGS {
            match self.taskcluster.artifact_stream(task_id, run, name).await {
                Ok(log) => return Ok(Some(log)),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(unfetched(&error)),
            }
        }
        Ok(None)
    }
}

/// Sends part after part, each while the next is filled, and tells the store that they are all there.
async fn transfer(upload: &Upload, first: Part, mut parts: LogParts) -> Result<(), ChannelError> {
    let (mut part, mut tags) = (first, Vec::new());
    while !part.is_last {
        let (tag, next) = tokio::try_join!(upload.part(tags.len() + 1, part.bytes), parts.next())?;
        tags.push(tag);
        part = next;
    }
    // A log may end where a part does.
    if !part.bytes.is_empty() {
        tags.push(upload.part(tags.len() + 1, part.bytes).await?);
    }
    upload.complete(&tags).await
}

/// Whether the queue or the store says that there is no such log, or not any more.
fn is_gone(error: &TaskclusterError) -> bool {
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

/// What it means that no log was handed out.
fn unfetched(error: &TaskclusterError) -> ChannelError {
    use TaskclusterError as E;
    let (channel, problem) = (
        NAME,
        format!("tried to fetch a log: {}", runtime::error_chain(error)),
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
