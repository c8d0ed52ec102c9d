//! Sends what was dispatched: each notification to each of its recipients once.
//!
//! # What a crash repeats
//!
//! A notification with several recipients is first split into one for each, one step for each; from there on each is sent,
//! tried again and given up on its own. That one was sent is recorded in the step that ends its message. So it is sent again
//! only when a process ends between the peer's answer and that step, or is shut down and does not see the answer within
//! its last two seconds; [`Notification::key`] is the same then.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{BusError, Context, Handler, Outcome, Queue, Retry, Retryable};
use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use crate::{
    Channel, ChannelError, Channels, Notification, TemplateError, Templates,
    flux::{self, Flux},
    memory::{DAY, Muted, claim_sending},
    storm::{self, Digest},
    templates::{DIGEST, DIGEST_SUBJECT},
    trouble::Troubles,
};

/// How long a sending may take. Channels end theirs long before that, a stream after an hour; one that does not must not
/// block the others of its channel without end.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// How many are sent over a channel at once, by one process.
const AT_ONCE: usize = 4;
/// The most lines that a digest lists. What is beyond is counted.
const MAX_LINES: usize = 500;

/// Why a notification was not sent, or not yet.
#[derive(Debug, Error)]
pub enum SendError {
    /// Its channel is not open in this process.
    #[error("the channel {channel} is not open: enable it, or remove the dead letter")]
    Closed {
        /// The channel.
        channel: String,
    },
    /// The channel could not send it.
    #[error("cannot tell {recipient} of {status} of task {task}")]
    Channel {
        /// The recipient.
        recipient: String,
        /// What.
        status: crate::Status,
        /// Of which task.
        task: String,
        /// Why not.
        #[source]
        source: ChannelError,
    },
    /// The same, for longer than it is of interest.
    #[error("cannot tell {recipient} of {status} of task {task}, and it is a day old")]
    Stale {
        /// The recipient.
        recipient: String,
        /// What.
        status: crate::Status,
        /// Of which task.
        task: String,
        /// Why not.
        #[source]
        source: ChannelError,
    },
    /// What a digest should list is no longer known.
    #[error(
        "what the digest for {recipient} was to list is forgotten: it is kept for a week, drop the letter"
    )]
    Forgotten {
        /// The recipient of the digest.
        recipient: String,
    },
    /// A digest's text cannot be written.
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
            | Self::Forgotten { .. }
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

/// A digest's time has not come.
fn gathering(rest: Duration) -> Outcome {
    Outcome::defer(rest, "the digest is gathered until its minute is over")
}

/// Handles notifications, and the digests of what it held back.
#[derive(Clone)]
pub struct Sender {
    channels: Arc<Channels>,
    templates: Arc<Templates>,
    notifications: Queue<Notification>,
    digests: Queue<Digest>,
    limit: u32,
    flux: Option<Flux>,
    troubles: Troubles,
    /// The places to send in. Who waits longest gets the next one.
    places: Arc<BTreeMap<&'static str, Semaphore>>,
}

impl Sender {
    /// Sends over `channels`. More than `limit` within a minute to one recipient become a digest, by way of `digests`;
    /// `notifications` is the queue that it handles.
    pub fn new(
        channels: Arc<Channels>,
        templates: Arc<Templates>,
        notifications: Queue<Notification>,
        digests: Queue<Digest>,
        limit: u32,
    ) -> Self {
        let places = channels
            .iter()
            .map(|channel| (channel.name(), Semaphore::new(AT_ONCE)))
            .collect();
        let (places, troubles) = (Arc::new(places), Troubles::default());
        Self {
            channels,
            templates,
            notifications,
            digests,
            limit,
            flux: None,
            troubles,
            places,
        }
    }

    /// The same, with each channel's time written to InfluxDB.
    pub fn timed_by(self, flux: Flux) -> Self {
        Self {
            flux: Some(flux),
            ..self
        }
    }

    fn channel(&self, name: &str) -> Result<&dyn Channel, SendError> {
        self.channels.get(name).ok_or_else(|| SendError::Closed {
            channel: name.to_owned(),
        })
    }

    /// Sends to one recipient, measures it, and records a recipient that cannot be reached.
    async fn send(
        &self,
        channel: &dyn Channel,
        notification: &Notification,
        recipient: &str,
        cx: &Context,
    ) -> Result<(), SendError> {
        let _place = match self.places.get(channel.name()) {
            // It is never closed.
            Some(places) => places.acquire().await.ok(),
            None => None,
        };
        let begun = cx.clock().now();
        let sent = tokio::select! {
            biased;
            sent = channel.send(notification, recipient) => sent,
            () = cx.clock().sleep(LONGEST) => Err(ChannelError::Failed {
                channel: channel.name(),
                problem: "the sending did not end within two hours, and was given up".to_owned(),
            }),
        };
        let now = cx.clock().now();
        if let Some(flux) = &self.flux {
            let outcome = if sent.is_ok() {
                flux::Outcome::Sent
            } else {
                flux::Outcome::Failed
            };
            flux.record(channel.name(), outcome, begun, now);
        }
        self.troubles.tell(channel.name(), &sent);
        let Err(error) = sent else { return Ok(()) };
        if let ChannelError::HardBounce { problem, .. } = &error {
            // By the name under which it is sent to: a peer may say it in other letters.
            let recipient = channel.place(recipient);
            warn!(
                channel = channel.name(),
                recipient, problem, "cannot be reached, nothing more is sent there for a day"
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
        let place = channel.place(recipient);
        if Muted::found(cx, channel.name(), place).await?.is_some() {
            info!(channel = channel.name(), recipient, task, %status, "not sent, the recipient could not be reached of late");
            return Ok(());
        }
        let claimant = notification.identity.as_deref().unwrap_or_default();
        let Some(claim) = claim_sending(cx, &notification.key(), recipient, claimant).await? else {
            debug!(channel = channel.name(), recipient, task, %status, "not sent, it was already");
            return Ok(());
        };
        let admission = match channel.is_read_by_people() {
            true => storm::admit(cx, channel.name(), place, self.limit).await?,
            false => None,
        };
        if channel.is_read_by_people() && admission.is_none() {
            let now = cx.clock().now();
            let digest = Digest::begun_by(notification, place, now);
            cx.send_deduplicated(&self.digests, &digest, &digest.key())?;
            cx.record(digest.holds(notification)?);
            claim.complete(cx, &())?;
            debug!(channel = channel.name(), recipient, task, %status, "held for a digest");
            return Ok(());
        }
        if let Err(error) = self.send(channel, notification, recipient, cx).await {
            if let Some(admission) = admission {
                admission.give_back(cx).await?;
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
                    task, "not sent, the task names no recipient on this channel"
                );
                Ok(Outcome::Done)
            }
            // There are fewer than there were: a process with other settings began.
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
            return Ok(gathering(wait));
        }
        let recipient = &digest.recipient;
        let untold = digest.untold(cx).await?;
        let (lines, told) = untold.ok_or_else(|| SendError::Forgotten {
            recipient: recipient.clone(),
        })?;
        if !lines.is_empty()
            && Muted::found(cx, &digest.first.channel, recipient)
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
                recipient, count, "sent as one digest"
            );
        }
        cx.record(told);
        match digest.over_in(now) {
            Duration::ZERO => Ok(Outcome::Done),
            rest => Ok(gathering(rest)),
        }
    }
}
