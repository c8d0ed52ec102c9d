//! Sends notifications, each to each of its recipients once.
//!
//! # Duplicates after a crash
//!
//! A notification with several recipients is first split into one for each, one step for each. Sending, retries and dead
//! letters are then separate. The step that settles the message records that it was sent. So it is sent again only when the
//! process ends between the peer's answer and that step, or shuts down and receives no answer within its last two seconds;
//! [`Notification::key`] is the same then.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{BusError, Context, Handler, Outcome, Queue, Retry, Retryable};
use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use crate::{
    Channel, ChannelError, Channels, Notification, TemplateError, Templates,
    channel_health::ChannelHealth,
    dedup::claim_sending,
    influx::{self, InfluxRecorder},
    mutes::Muted,
    records::DAY,
    templates::{DIGEST, DIGEST_SUBJECT},
    throttle::{self, Digest},
};

/// The time limit of a sending. Channels have shorter ones (a stream: an hour); a channel that fails to keep its own must not
/// block its other notifications forever.
const SEND_TIMEOUT: Duration = Duration::from_secs(2 * 3600);
/// The concurrent sendings on a channel, in one process.
const CONCURRENCY: usize = 4;
/// The most lines in a digest; it counts the rest.
const MAX_LINES: usize = 500;

/// Why a notification was not sent.
#[derive(Debug, Error)]
pub enum SendError {
    /// Its channel is not open in this process.
    #[error("channel {channel} is not enabled: enable it, or drop the dead letter")]
    Closed {
        /// The channel.
        channel: String,
    },
    /// The channel could not send it.
    #[error("cannot notify {recipient} of {status} of task {task}")]
    Channel {
        /// The recipient.
        recipient: String,
        /// The change.
        status: crate::Status,
        /// The task's id.
        task: String,
        /// The error of the channel.
        #[source]
        source: ChannelError,
    },
    /// The channel could not send it for a day.
    #[error("cannot notify {recipient} of {status} of task {task}, which is a day old")]
    Stale {
        /// The recipient.
        recipient: String,
        /// The change.
        status: crate::Status,
        /// The task's id.
        task: String,
        /// The error of the channel.
        #[source]
        source: ChannelError,
    },
    /// The lines of a digest have expired.
    #[error("the lines of the digest for {recipient} expired after a week: drop the dead letter")]
    DigestExpired {
        /// The recipient of the digest.
        recipient: String,
    },
    /// The text of a digest could not be rendered.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Retryable for SendError {
    fn retry(&self) -> Retry {
        match self {
            Self::Closed { .. }
            | Self::Stale { .. }
            | Self::DigestExpired { .. }
            | Self::Template(_) => Retry::Never,
            Self::Channel { source, .. } => source.retry(),
            Self::Bus(error) => error.retry(),
        }
    }
}

impl SendError {
    fn of(
        source: ChannelError,
        notification: &Notification,
        recipient: &str,
        now: Timestamp,
    ) -> Self {
        let (recipient, status, task) = (
            recipient.to_owned(),
            notification.status,
            notification.task.id.clone(),
        );
        let old = now.duration_since(notification.created_at).unsigned_abs() > DAY;
        if old && matches!(source.retry(), Retry::Defer(_)) {
            return Self::Stale {
                recipient,
                status,
                task,
                source,
            };
        }
        Self::Channel {
            recipient,
            status,
            task,
            source,
        }
    }
}

/// Defers a digest that is not complete yet.
fn collecting(rest: Duration) -> Outcome {
    Outcome::defer(
        rest,
        "the digest collects notifications until its minute is over",
    )
}

/// Handles notifications, and the digests of those beyond the throttle.
#[derive(Clone)]
pub struct Sender {
    channels: Arc<Channels>,
    templates: Arc<Templates>,
    notifications: Queue<Notification>,
    digests: Queue<Digest>,
    limit: u32,
    influx: Option<InfluxRecorder>,
    states: Arc<BTreeMap<&'static str, ChannelState>>,
}

/// What the sendings on a channel share.
struct ChannelState {
    /// The permits to send; first come, first served.
    permits: Semaphore,
    health: ChannelHealth,
}

impl Sender {
    /// Sends over `channels`. Notifications beyond `limit` a minute to one recipient become a digest in the queue `digests`;
    /// `notifications` is the queue that it handles.
    pub fn new(
        channels: Arc<Channels>,
        templates: Arc<Templates>,
        notifications: Queue<Notification>,
        digests: Queue<Digest>,
        limit: u32,
    ) -> Self {
        let state = || ChannelState {
            permits: Semaphore::new(CONCURRENCY),
            health: ChannelHealth::default(),
        };
        let states = channels
            .iter()
            .map(|channel| (channel.name(), state()))
            .collect();
        Self {
            channels,
            templates,
            notifications,
            digests,
            limit,
            influx: None,
            states: Arc::new(states),
        }
    }

    /// Records the duration of each sending with `influx`.
    pub fn with_timings(self, influx: InfluxRecorder) -> Self {
        Self {
            influx: Some(influx),
            ..self
        }
    }

    fn channel(&self, name: &str) -> Result<&dyn Channel, SendError> {
        self.channels.get(name).ok_or_else(|| SendError::Closed {
            channel: name.to_owned(),
        })
    }

    /// Sends to one recipient, records the duration, and mutes a recipient that does not exist.
    async fn send(
        &self,
        channel: &dyn Channel,
        notification: &Notification,
        recipient: &str,
        cx: &Context,
    ) -> Result<(), SendError> {
        let state = self.states.get(channel.name());
        let _permit = match state {
            // The semaphore is never closed.
            Some(state) => state.permits.acquire().await.ok(),
            None => None,
        };
        let begun = cx.clock().now();
        let sent = tokio::select! {
            biased;
            sent = channel.send(notification, recipient) => sent,
            () = cx.clock().sleep(SEND_TIMEOUT) => Err(ChannelError::Failed {
                channel: channel.name(),
                problem: "sending timed out after two hours".to_owned(),
            }),
        };
        let now = cx.clock().now();
        if let Some(influx) = &self.influx {
            let outcome = if sent.is_ok() {
                influx::Outcome::Sent
            } else {
                influx::Outcome::Failed
            };
            influx.record(channel.name(), outcome, begun, now);
        }
        if let Some(state) = state {
            state.health.log_change(channel.name(), &sent);
        }
        let Err(error) = sent else { return Ok(()) };
        if let ChannelError::HardBounce { problem, .. } = &error {
            // The peer's spelling of the recipient may differ from ours.
            let recipient = channel.address(recipient);
            warn!(
                channel = channel.name(),
                recipient, problem, "muting recipient for a day: it cannot be reached"
            );
            let muted = Muted {
                channel: channel.name().to_owned(),
                recipient: recipient.to_owned(),
                since: now,
                problem: problem.clone(),
            };
            muted
                .updates()?
                .into_iter()
                .for_each(|update| cx.record(update));
        }
        Err(SendError::of(error, notification, recipient, now))
    }

    async fn send_to(
        &self,
        notification: &Notification,
        recipient: &str,
        cx: &Context,
    ) -> Result<(), SendError> {
        let channel = self.channel(&notification.channel)?;
        let (task, status) = (&notification.task.id, notification.status);
        let address = channel.address(recipient);
        if Muted::lookup(cx, channel.name(), address).await?.is_some() {
            info!(channel = channel.name(), recipient, task, %status, "skipping: the recipient is muted");
            return Ok(());
        }
        let claimant = notification.identity.as_deref().unwrap_or_default();
        let Some(claim) = claim_sending(cx, &notification.key(), recipient, claimant).await? else {
            debug!(channel = channel.name(), recipient, task, %status, "skipping: sent before");
            return Ok(());
        };
        let admission = match channel.is_read_by_people() {
            true => throttle::admit(cx, channel.name(), address, self.limit).await?,
            false => None,
        };
        if channel.is_read_by_people() && admission.is_none() {
            let now = cx.clock().now();
            let digest = Digest::new(notification, address, now);
            cx.send_deduplicated(&self.digests, &digest, &digest.key())?;
            cx.record(digest.line(notification)?);
            claim.complete(cx, &())?;
            debug!(channel = channel.name(), recipient, task, %status, "throttled; added to a digest");
            return Ok(());
        }
        if let Err(error) = self.send(channel, notification, recipient, cx).await {
            if let Some(admission) = admission {
                admission.release(cx).await?;
            }
            return Err(error);
        }
        claim.complete(cx, &())?;
        info!(channel = channel.name(), recipient, task, %status, "sent");
        Ok(())
    }
}

#[async_trait]
impl Handler<Notification> for Sender {
    type Error = SendError;

    async fn handle(&self, notification: Notification, cx: &Context) -> Result<Outcome, SendError> {
        if let Some(recipient) = &notification.recipient {
            self.send_to(&notification, recipient, cx).await?;
            return Ok(Outcome::Done);
        }
        let recipients = self
            .channel(&notification.channel)?
            .recipients(&notification);
        match (recipients.get(notification.next), recipients.len()) {
            (None, 0) => {
                let (channel, task) = (&notification.channel, &notification.task.id);
                warn!(
                    channel,
                    task, "skipping: the task names no recipient for this channel"
                );
                Ok(Outcome::Done)
            }
            // A process with other settings split the first ones, and counted more recipients.
            (None, _) => Ok(Outcome::Done),
            (Some(recipient), 1) => {
                self.send_to(&notification, recipient, cx).await?;
                Ok(Outcome::Done)
            }
            (Some(recipient), count) => {
                let one = Notification {
                    recipient: Some(recipient.clone()),
                    ..notification.clone()
                };
                cx.send(&self.notifications, &one)?;
                let next = notification.next + 1;
                if next < count {
                    cx.send(
                        &self.notifications,
                        &Notification {
                            next,
                            ..notification
                        },
                    )?;
                }
                Ok(Outcome::Done)
            }
        }
    }

    async fn close(&self) {
        for channel in self.channels.iter() {
            channel.close().await;
        }
    }
}

#[async_trait]
impl Handler<Digest> for Sender {
    type Error = SendError;

    async fn handle(&self, digest: Digest, cx: &Context) -> Result<Outcome, SendError> {
        let now = cx.clock().now();
        let wait = digest.due_in(now);
        if !wait.is_zero() {
            return Ok(collecting(wait));
        }
        let recipient = &digest.recipient;
        let unsent = digest.unsent(cx).await?;
        let (lines, sent) = unsent.ok_or_else(|| SendError::DigestExpired {
            recipient: recipient.clone(),
        })?;
        if !lines.is_empty()
            && Muted::lookup(cx, &digest.first.channel, recipient)
                .await?
                .is_none()
        {
            let count = lines.len();
            let mut notification = Notification {
                digest: lines,
                ..digest.first.clone()
            };
            let subject = self.templates.text(DIGEST_SUBJECT, &notification)?;
            notification.digest.truncate(MAX_LINES);
            let mut message = self.templates.text(DIGEST, &notification)?;
            if count > MAX_LINES {
                message.push_str(&format!("\nand {} more\n", count - MAX_LINES));
            }
            (notification.subject, notification.message) = (subject, message);
            self.send(
                self.channel(&digest.first.channel)?,
                &notification,
                recipient,
                cx,
            )
            .await?;
            info!(
                channel = digest.first.channel,
                recipient, count, "digest sent"
            );
        }
        cx.record(sent);
        match digest.closes_in(now) {
            Duration::ZERO => Ok(Outcome::Done),
            rest => Ok(collecting(rest)),
        }
    }
}
