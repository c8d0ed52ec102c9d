//! Reports for an operator, in the form in which the command line prints them and the API sends them.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    DeadLetter, Depth, Envelope, MessageState, QueueSpec, QueueStatus, QueuedMessage,
    body_json::Body,
};

/// The state of a queue.
#[derive(Debug, Clone, Serialize)]
pub struct QueueReport {
    /// The name of the queue.
    pub queue: &'static str,
    /// The numbers of its messages.
    #[serde(flatten)]
    pub depth: Depth,
    /// Whether reservations are paused.
    pub paused: bool,
    /// The time since the oldest message that is ready or in flight became ready, in seconds.
    pub oldest_seconds: Option<f64>,
    /// Messages per minute that were done or became dead letters, over the last whole minute and the current one.
    pub settled_per_minute: f64,
    /// The approximate size of its messages, in bytes; dead letters do not count.
    pub bytes: u64,
    /// Whether it is at its bound and refuses pushes.
    pub full: bool,
}

impl QueueReport {
    pub(super) fn new(queue: &QueueSpec, status: QueueStatus) -> Self {
        let QueueStatus {
            depth,
            paused,
            oldest,
            last_late: _,
            settled_per_minute,
            bytes,
        } = status;
        Self {
            queue: queue.name,
            depth,
            paused,
            oldest_seconds: oldest.map(|age| age.as_secs_f64()),
            settled_per_minute: (settled_per_minute * 10.0).round() / 10.0,
            bytes,
            full: queue.policy.bound_reached(&status).is_some(),
        }
    }
}

/// A message in its queue.
#[derive(Debug, Clone, Serialize)]
pub struct MessageReport {
    /// The name of its queue.
    pub queue: &'static str,
    /// The same for all attempts.
    pub id: Uuid,
    /// Ready, in flight or delayed, and since or until when.
    #[serde(flatten)]
    pub state: MessageState,
    /// The number of attempts, the current one included.
    pub attempts: u32,
    /// The envelope, in parts.
    #[serde(flatten)]
    pub contents: Contents,
}

impl MessageReport {
    pub(super) fn new(queue: &QueueSpec, waiting: &QueuedMessage, contents: Contents) -> Self {
        let QueuedMessage {
            state,
            attempts,
            envelope,
        } = waiting;
        Self {
            queue: queue.name,
            id: envelope.id,
            state: *state,
            attempts: *attempts,
            contents,
        }
    }
}

/// A dead letter and its queue.
#[derive(Debug, Clone, Serialize)]
pub struct DeadLetterReport {
    /// The name of its queue.
    pub queue: &'static str,
    /// Its id, reason, attempts and time.
    #[serde(flatten)]
    pub letter: DeadLetter,
}

/// A dead letter with its message.
#[derive(Debug, Clone, Serialize)]
pub struct DeadLetterContents {
    /// The dead letter and its queue.
    #[serde(flatten)]
    pub report: DeadLetterReport,
    /// The envelope, in parts.
    #[serde(flatten)]
    pub contents: Contents,
}

/// The parts of an envelope. Bytes that are not an envelope have only a length and a body.
#[derive(Debug, Clone, Serialize)]
pub struct Contents {
    /// `None` in a queue without partitions.
    pub partition: Option<String>,
    /// The version in which the body is encoded.
    pub version: Option<u16>,
    /// The time at which the message was first sent.
    pub created_at: Option<Timestamp>,
    /// The length of the encoded body.
    pub body_bytes: usize,
    /// The decoded body; `None` in lists.
    #[serde(flatten)]
    pub body: Option<Body>,
}

impl Contents {
    pub(super) fn without_body(envelope: &Envelope) -> Self {
        Self {
            partition: envelope.partition.clone(),
            version: Some(envelope.version),
            created_at: Some(envelope.created_at),
            body_bytes: envelope.body.len(),
            body: None,
        }
    }

    pub(super) fn whole(envelope: &Envelope) -> Self {
        Self {
            body: Some(Body::read(&envelope.body)),
            ..Self::without_body(envelope)
        }
    }

    pub(super) fn unreadable(bytes: &[u8]) -> Self {
        let body = Some(Body::read(bytes));
        Self {
            partition: None,
            version: None,
            created_at: None,
            body_bytes: bytes.len(),
            body,
        }
    }
}
