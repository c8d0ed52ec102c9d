//! The trait that mail, IRC and all other channels implement, and its errors.

use std::time::Duration;

use async_trait::async_trait;
use bus::{Retry, Retryable};
use thiserror::Error;

use crate::Notification;

/// The pause of a notification while its peer is away.
const OUTAGE_PAUSE: Duration = Duration::from_secs(30);
/// The pause while the peer rejects our credentials. Only an operator can correct them.
const CREDENTIALS_PAUSE: Duration = Duration::from_secs(60);
/// The bounds of a pause that a peer requests.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// See [`SHORTEST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// A way to send notifications, such as mail or IRC.
///
/// A process opens one of each, which sends several notifications at once. It connects with the first notification, and
/// reconnects after an error: a peer that is away must not keep the process from starting.
#[async_trait]
pub trait Channel: Send + Sync + 'static {
    /// Its name in `plugins`, in settings and in logs.
    fn name(&self) -> &'static str;

    /// The recipients of this notification, each by a name that [`Channel::send`] accepts: an address, a nick, a room. A
    /// channel with one fixed recipient returns that one. Sending, retries and dead letters are separate for each.
    ///
    /// The names appear in logs and records, so they hold no secret. With no recipient, nothing is sent.
    fn recipients(&self, notification: &Notification) -> Vec<String>;

    /// The part of a recipient's name to which throttle and mutes apply: the whole name, unless it holds more than the
    /// address, such as the nicks that a line on IRC mentions.
    fn address<'a>(&self, recipient: &'a str) -> &'a str {
        recipient
    }

    /// Whether people read it: then notifications beyond the throttle become one digest. Programs receive each of them.
    fn is_read_by_people(&self) -> bool {
        true
    }

    /// Sends to one recipient; `Ok` when the peer has accepted it.
    ///
    /// When a process dies right after sending, the next one sends the same again, with the same [`Notification::key`]:
    /// pass it to peers that can drop duplicates by it. Without a stream, it ends within a minute; the caller drops the
    /// future after two hours. After that, nothing of it may continue.
    ///
    /// When it is unknown whether the peer has accepted it, return [`ChannelError::Failed`], which limits the attempts: a
    /// peer that accepts everything and never confirms must not receive the same for a day.
    async fn send(&self, notification: &Notification, recipient: &str) -> Result<(), ChannelError>;

    /// Checks that the peer would accept our notifications, without an effect that recipients notice.
    async fn check(&self) -> Result<Checked, ChannelError> {
        Ok(Checked {
            found: None,
            by_hand: Some("its settings are complete; its peer offers no check".to_owned()),
        })
    }

    /// Closes the connection. Called once, after the last notification.
    async fn close(&self) {}
}

/// The result of [`Channel::check`].
#[derive(Debug, PartialEq, Eq)]
pub struct Checked {
    /// The request and the peer's answer. `None` where the peer offers no check.
    pub found: Option<String>,
    /// The part that only a real notification can verify. `None` where there is none.
    pub by_hand: Option<String>,
}

/// Why a notification was not sent. Each `problem` is one line for operators: what failed, the peer's answer (sanitized by
/// [`crate::text::one_line`]), what to do. None holds a secret.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// The peer rejects this notification permanently, or it cannot be rendered.
    #[error("{channel} refused the notification: {problem}")]
    Refused {
        /// The channel.
        channel: &'static str,
        /// The part that was refused, and the reason.
        problem: String,
    },
    /// The recipient does not exist, or blocks us: it is muted for a day.
    #[error("{channel} cannot reach {recipient}; muted for a day: {problem}")]
    HardBounce {
        /// The channel.
        channel: &'static str,
        /// The recipient.
        recipient: String,
        /// The peer's answer.
        problem: String,
    },
    /// A failure that may pass: a full mailbox, an invalid answer, no answer after the whole request. Counts an attempt.
    #[error("{channel} failed: {problem}")]
    Failed {
        /// The channel.
        channel: &'static str,
        /// The failure.
        problem: String,
    },
    /// The peer limits our rate, or is overloaded.
    #[error("{channel} is busy: {problem}")]
    Busy {
        /// The channel.
        channel: &'static str,
        /// The pause that the peer requests.
        retry_after: Option<Duration>,
        /// The peer's answer.
        problem: String,
    },
    /// The peer cannot be reached, or the connection broke before it can have accepted anything.
    #[error("{channel} cannot be reached: {problem}")]
    Unreachable {
        /// The channel.
        channel: &'static str,
        /// The attempt and its failure.
        problem: String,
    },
    /// The peer rejects our credentials, or they lack a right.
    #[error("{channel} rejects our credentials: {problem}")]
    Credentials {
        /// The channel.
        channel: &'static str,
        /// The peer's answer, and the settings to correct.
        problem: String,
    },
}

impl Retryable for ChannelError {
    fn retry(&self) -> Retry {
        match self {
            Self::Refused { .. } | Self::HardBounce { .. } => Retry::Never,
            Self::Failed { .. } => Retry::Backoff,
            Self::Busy { retry_after, .. } => Retry::Defer(
                retry_after
                    .unwrap_or(OUTAGE_PAUSE)
                    .clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
            ),
            Self::Unreachable { .. } => Retry::Defer(OUTAGE_PAUSE),
            Self::Credentials { .. } => Retry::Defer(CREDENTIALS_PAUSE),
        }
    }
}
