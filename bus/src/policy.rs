//! Policies: attempts, leases, backoff and bounds of a queue.

use std::{fmt, time::Duration};

use runtime::Backoff;

/// The rules of a queue. They are a constant beside its name.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The length of a lease. The worker renews it after each third of that.
    pub lease: Duration,
    /// The number of attempts after which a message becomes a dead letter. An attempt counts from its reservation on, so
    /// that of a worker that died counts too.
    pub attempts: u32,
    /// The number of unsettled deliveries in a row (the worker died, or lost its lease) after which a message becomes a
    /// dead letter, however many attempts are left.
    pub max_unsettled_deliveries: u32,
    /// The waits between attempts.
    pub backoff: Backoff,
    /// The number of messages that one process handles at once.
    pub concurrency: usize,
    /// The number of messages of one partition that one process handles at once.
    pub partition_concurrency: usize,
    /// The maximum number of messages that are ready, in flight or delayed. A push beyond it fails with
    /// [`crate::BusError::Full`]. What handlers send is never refused: their input was accepted already.
    pub max_depth: Option<usize>,
    /// The approximate size of these messages, in bytes, from which on a push fails with [`crate::BusError::Full`].
    pub max_bytes: Option<u64>,
    /// The time after a push in which a message with the same deduplication key is a duplicate.
    pub dedup_window: Duration,
}

impl Policy {
    /// Whether a push can be refused.
    pub(crate) fn is_bounded(&self) -> bool {
        self.max_depth.is_some() || self.max_bytes.is_some()
    }

    /// The rules of most queues.
    pub const DEFAULT: Self = Self {
        lease: Duration::from_secs(10),
        attempts: 5,
        max_unsettled_deliveries: 5,
        backoff: Backoff {
            first: Duration::from_secs(2),
            factor: 3,
            cap: Duration::from_secs(600),
        },
        concurrency: 8,
        partition_concurrency: 1,
        max_depth: None,
        max_bytes: None,
        dedup_window: Duration::from_secs(24 * 3600),
    };
}

/// A queue without the type of its messages.
#[derive(Debug, Clone, Copy)]
pub struct QueueSpec {
    /// Unique in a deployment.
    pub name: &'static str,
    /// The rules of the queue.
    pub policy: Policy,
    /// Whether its messages belong to partitions. Messages of one partition are delivered in order, different partitions
    /// side by side.
    pub partitions: bool,
}

/// A bound of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// [`Policy::max_depth`].
    Messages(usize),
    /// [`Policy::max_bytes`].
    Bytes(u64),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Messages(count) => write!(f, "{count} messages"),
            Self::Bytes(bytes) => write!(f, "messages of {bytes} bytes together"),
        }
    }
}
