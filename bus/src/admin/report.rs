//! What an operator is shown, as it is printed and sent.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    DeadLetter, Depth, Envelope, MessageState, QueueSpec, QueueStatus, QueuedMessage,
    body_json::Body,
};

/// How a queue is doing.
#[derive(Debug, Clone, Serialize)]
pub struct QueueReport {
    /// Its name.
    pub queue: &'static str,
    /// How full it is.
    #[serde(flatten)]
    pub depth: Depth,
    /// Whether nothing is taken from it.
    pub paused: bool,
    /// How long ago the oldest message that is ready or in flight became ready, in seconds.
    pub oldest_seconds: Option<f64>,
    /// Messages that ended, well or as dead letters, per minute: over the last whole minute and the one that runs.
    pub finished_per_minute: f64,
    /// What its messages take, about, in bytes.
    pub bytes: u64,
    /// Whether it is at its bound, so that pushes are refused.
    pub full: bool,
}

impl QueueReport {
    pub(super) fn new(queue: &QueueSpec, status: QueueStatus) -> Self {
        let QueueStatus {
            depth,
            paused,
            oldest,
            last_late: _,
            finished_per_minute,
            bytes,
        } = status;
        Self {
            queue: queue.name,
            depth,
            paused,
            oldest_seconds: oldest.map(|age| age.as_secs_f64()),
            finished_per_minute: (finished_per_minute * 10.0).round() / 10.0,
            bytes,
            full: queue.policy.bound_reached(&status).is_some(),
        }
    }
}

/// A message in its queue.
#[derive(Debug, Clone, Serialize)]
pub struct MessageReport {
    /// Its queue.
    pub queue: &'static str,
    /// Its id.
    pub id: Uuid,
    /// Where it is on its way.
    #[serde(flatten)]
    pub state: MessageState,
    /// How often it was tried.
    pub attempts: u32,
    /// What it holds.
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
    /// Its queue.
    pub queue: &'static str,
    /// The letter.
    #[serde(flatten)]
    pub letter: DeadLetter,
}

/// A dead letter with what it holds.
#[derive(Debug, Clone, Serialize)]
pub struct DeadLetterContents {
    /// The letter.
    #[serde(flatten)]
    pub report: DeadLetterReport,
    /// What it holds.
    #[serde(flatten)]
    pub contents: Contents,
}

/// What an envelope holds. Something that is no envelope has nothing but its bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Contents {
    /// The partition.
    pub partition: Option<String>,
    /// The version of the body.
    pub version: Option<u16>,
    /// When it was first sent.
    pub created_at: Option<Timestamp>,
    /// The length of the body.
    pub body_bytes: usize,
    /// The body, where one message is shown.
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
