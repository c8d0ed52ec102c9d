//! Messages as the backends store them.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Blob, QueueSpec};

/// A message on its way, independent of its type.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Unique, and sorts by time of creation. It stays the same over retries.
    pub id: Uuid,
    /// The version of the body.
    pub version: u16,
    /// When it was first sent.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub created_at: Timestamp,
    /// The partition, for a queue that has partitions.
    pub partition: Option<String>,
    /// The encoded message.
    pub body: Blob,
}

impl Envelope {
    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> u64 {
        const REST: usize = 64;
        let partition = self.partition.as_ref().map_or(0, String::len);
        u64::try_from(self.body.len() + partition + REST).unwrap_or(u64::MAX)
    }
}

/// A body may hold private things: it is never shown.
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

/// A message to send, and how.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The queue that it is stored in.
    pub queue: QueueSpec,
    /// The message with its id and version.
    pub envelope: Envelope,
    /// How long it is held back. Zero makes it ready at once.
    pub after: Duration,
    /// The idempotence key: within the queue's `dedup_window` it is stored once.
    pub key: Option<String>,
}

impl Outgoing {
    /// Whether it can be stored without a look at anything else.
    pub(crate) fn is_plain(&self) -> bool {
        self.after.is_zero()
            && self.key.is_none()
            && self.envelope.partition.is_none()
            && !self.queue.policy.is_bounded()
    }
}

/// What a push did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EnqueueOutcome {
    /// How many messages were inserted.
    pub inserted: usize,
    /// How many had been inserted before, by their key.
    pub duplicates: usize,
}
