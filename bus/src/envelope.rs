//! Messages in the form in which backends store them.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Blob, QueueSpec};

/// A stored message, independent of its type.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Unique, and sorts by time of creation. All deliveries of a message have the same.
    pub id: Uuid,
    /// The [`crate::Message::VERSION`] in which the body is encoded.
    pub version: u16,
    /// The time at which the message was first sent.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub created_at: Timestamp,
    /// `None` in a queue without partitions.
    pub partition: Option<String>,
    /// The encoded message.
    pub body: Blob,
}

impl Envelope {
    /// The approximate size in bytes.
    pub(crate) fn size(&self) -> u64 {
        const REST: usize = 64;
        let partition = self.partition.as_ref().map_or(0, String::len);
        u64::try_from(self.body.len() + partition + REST).unwrap_or(u64::MAX)
    }
}

/// Shows the size of the body only: it may be private.
impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("id", &self.id)
            .field("version", &self.version)
            .field("created_at", &self.created_at)
            .field("partition", &self.partition)
            .field("body", &self.body)
            .finish()
    }
}

/// A message that is not stored yet.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The queue to store it in.
    pub queue: QueueSpec,
    /// The message with its id, version and partition.
    pub envelope: Envelope,
    /// The time from the push until the message is ready.
    pub after: Duration,
    /// The deduplication key: a message is not stored when its key was pushed within the queue's `dedup_window`.
    pub key: Option<String>,
}

impl Outgoing {
    /// Whether a backend can store it without any check.
    pub(crate) fn is_plain(&self) -> bool {
        self.after.is_zero()
            && self.key.is_none()
            && self.envelope.partition.is_none()
            && !self.queue.policy.is_bounded()
    }
}

/// The outcome of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EnqueueOutcome {
    /// The number of messages that were stored.
    pub inserted: usize,
    /// The number of messages that had been stored before, by their key or the record that they open.
    pub duplicates: usize,
}
