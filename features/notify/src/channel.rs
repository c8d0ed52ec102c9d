//! What a channel is: the one trait that mail, IRC and all the others implement.

use std::time::Duration;

use async_trait::async_trait;
use bus::{Retry, Retryable};
use thiserror::Error;

use crate::Notification;

/// How long a notification is deferred while its peer does not answer.
const OUTAGE_PAUSE: Duration = Duration::from_secs(30);
/// How long it is deferred while our credentials are not accepted. Only an operator can help.
const CREDENTIALS_PAUSE: Duration = Duration::from_secs(60);
/// The bounds of the pause that a peer asks for.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// See [`SHORTEST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// A way to people, or to their machines.
///
/// One is opened for the whole process, and sends several notifications at once. It connects when it first sends, and
/// again after its connection broke: a peer that is away must not keep the process from starting.
#[async_trait]
pub trait Channel: Send + Sync + 'static {
    /// Its name in `plugins`, in settings and in logs.
    fn name(&self) -> &'static str;

    /// The recipients of this notification, each by a name that [`Channel::send`] understands: an address, a nick, a
    /// room. A channel with one fixed receiver gives that one. Each is sent to, tried again and given up on its own.
    ///
    /// The names are shown in logs and records, so they hold no secret. None at all: there is nothing to send.
    fn recipients(&self, notification: &Notification) -> Vec<String>;

    /// The part of a recipient's name by which notifications are counted and recipients are muted: the whole name, unless
    /// it says more than where something is sent, such as who is addressed there.
    fn place<'a>(&self, recipient: &'a str) -> &'a str {
        recipient
    }

    /// Whether people read it: then many notifications within a minute become one digest. What machines read is never
    /// gathered.
    fn is_read_by_people(&self) -> bool {
        true
    }

    /// Sends to one recipient; `Ok` when the peer has taken it.
    ///
    /// It may be called again for what was sent already, when the process died at once after that:
    /// [`Notification::key`] is the same then, for peers that can tell by it. It ends by itself after a minute at the
    /// latest where it does not carry a stream; when the future is dropped, nothing of it may go on. One that does not end
    /// is dropped after two hours.
    ///
    /// Where nobody can tell whether the peer has taken it, that is [`ChannelError::Failed`]: a peer that takes everything
    /// and never says so must not be sent the same for a whole day.
    async fn send(&self, notification: &Notification, recipient: &str) -> Result<(), ChannelError>;

    /// Asks the peer whether it would take something of ours, without sending anything that people or machines notice.
    async fn check(&self) -> Result<Checked, ChannelError> {
        Ok(Checked {
            found: None,
            by_hand: Some("its settings are complete; its peer cannot be asked".to_owned()),
        })
    }

    /// Called once when the last notification is sent: take leave of the peer.
    async fn close(&self) {}
}

/// What a channel's peer answers without being sent anything.
#[derive(Debug, PartialEq, Eq)]
pub struct Checked {
    /// What was asked, and what the peer answered. `None` where nothing can be asked.
    pub found: Option<String>,
    /// What only a notification can show. `None` where nothing is left.
    pub by_hand: Option<String>,
}

/// Why a notification was not sent. Each `problem` is for operators, on one line: what was tried, what the peer said (made
/// harmless by [`crate::text::one_line`]), what to do. None holds a secret.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// The peer will never take this notification, or it cannot be written at all.
    #[error("{channel} refused it: {problem}")]
    Refused {
        /// The channel.
        channel: &'static str,
        /// What was refused, and why.
        problem: String,
    },
    /// The recipient does not exist, or never wants anything: it is left alone for a day.
    #[error("{channel} cannot reach {recipient}, nothing more is sent there for a day: {problem}")]
    HardBounce {
        /// The channel.
        channel: &'static str,
        /// Who cannot be reached.
        recipient: String,
        /// What the peer says.
        problem: String,
    },
    /// It failed, which may pass: a full mailbox, an answer that makes no sense, none to what was sent as a whole. Costs an
    /// attempt.
    #[error("{channel} failed: {problem}")]
    Failed {
        /// The channel.
        channel: &'static str,
        /// What happened.
        problem: String,
    },
    /// The peer wants to be left alone for a while.
    #[error("{channel} has too much to do: {problem}")]
    Busy {
        /// The channel.
        channel: &'static str,
        /// How long, where it says so.
        retry_after: Option<Duration>,
        /// What the peer says.
        problem: String,
    },
    /// The peer cannot be reached, or the connection broke before it can have taken anything.
    #[error("{channel} cannot be reached: {problem}")]
    Unreachable {
        /// The channel.
        channel: &'static str,
        /// What was tried and what happened.
        problem: String,
    },
    /// The peer does not accept our credentials, or they give no right to this.
    #[error("{channel} does not accept our credentials: {problem}")]
    Credentials {
        /// The channel.
        channel: &'static str,
        /// What the peer says, and which settings to look at.
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
