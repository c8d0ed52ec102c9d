//! The operator's interface of backends: state, messages and dead letters of queues.
//!
//! Consumers use none of it. Operations on many messages work in chunks, so that consumers go on meanwhile. A message that
//! arrives during such an operation may or may not be part of it.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Bound, BusError, Envelope, Policy, QueueSpec};

/// The numbers of messages of a queue, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Depth {
    /// Messages that can be reserved now.
    pub ready: usize,
    /// Messages that were delivered and are not settled.
    pub in_flight: usize,
    /// Messages that become ready later.
    pub delayed: usize,
    /// Messages that failed permanently.
    pub dead: usize,
}

impl Depth {
    /// The number of all messages but the dead letters.
    pub fn unfinished(&self) -> usize {
        self.ready + self.in_flight + self.delayed
    }
}

/// The time after its due time from which on a delayed message that becomes ready is late.
pub const LATE: Duration = Duration::from_secs(30);

/// The state of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct QueueStatus {
    /// The numbers of its messages.
    pub depth: Depth,
    /// Whether reservations are paused until an operator resumes them.
    pub paused: bool,
    /// The time since the oldest message that is ready or in flight became ready.
    pub oldest: Option<Duration>,
    /// The time since a delayed message last became ready [`LATE`] or more after it was due: no consumer had reserved
    /// messages.
    pub last_late: Option<Duration>,
    /// Messages per minute that were done or became dead letters, over the last whole minute and the current one.
    pub settled_per_minute: f64,
    /// The approximate size in bytes of the messages that are ready, in flight or delayed.
    pub bytes: u64,
}

/// The state of a message that is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum MessageState {
    /// The message can be reserved.
    Ready {
        /// The time at which it became ready.
        since: Timestamp,
    },
    /// The message was delivered and is not settled.
    InFlight {
        /// The time at which it became ready.
        since: Timestamp,
    },
    /// The message becomes ready later.
    Delayed {
        /// The time at which it becomes ready.
        due: Timestamp,
    },
}

/// A message with its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedMessage {
    /// Ready, in flight or delayed.
    pub state: MessageState,
    /// The number of attempts, the current one included.
    pub attempts: u32,
    /// The message with its id.
    pub envelope: Envelope,
}

/// One message of a queue, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageSelector {
    /// Every message in a fitting state.
    All,
    /// The one with this id.
    One(Uuid),
}

/// A message that failed permanently, kept until an operator decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Unique within the queue.
    pub id: String,
    /// The error of the last attempt, with its chain of causes.
    pub reason: String,
    /// The number of attempts.
    pub attempts: u32,
    /// The time at which it became a dead letter.
    pub died_at: Timestamp,
    /// Whether its bytes were no envelope when it became a dead letter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreadable: bool,
}

/// The content of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterPayload {
    /// An envelope.
    Message(Envelope),
    /// Bytes that are not an envelope.
    Unreadable(Vec<u8>),
}

/// The operations of a backend for operators.
#[async_trait]
pub trait QueueAdmin: Send + Sync + 'static {
    /// The state of a queue. Reads no bodies.
    async fn status(&self, queue: &QueueSpec) -> Result<QueueStatus, BusError>;

    /// The numbers of messages of a queue.
    async fn depth(&self, queue: &QueueSpec) -> Result<Depth, BusError> {
        Ok(self.status(queue).await?.depth)
    }

    /// At most `max` messages, without a change: first those that are ready or in flight, by the time at which they became
    /// ready, then the delayed ones, by the time at which they will.
    async fn peek(&self, queue: &QueueSpec, max: usize) -> Result<Vec<QueuedMessage>, BusError>;

    /// The message `id`, without a change; `None` when it is gone.
    async fn message(&self, queue: &QueueSpec, id: Uuid)
    -> Result<Option<QueuedMessage>, BusError>;

    /// Makes delayed messages ready now; they keep their attempts. Returns their number.
    async fn requeue(&self, queue: &QueueSpec, which: MessageSelector) -> Result<usize, BusError>;

    /// Drops messages that are ready or delayed, but not those in flight. Returns their number.
    async fn drop_waiting(
        &self,
        queue: &QueueSpec,
        which: MessageSelector,
    ) -> Result<usize, BusError>;

    /// Pauses or resumes reservations from the queue, in every process. Pushes go on, and so do messages in flight.
    async fn set_paused(&self, queue: &QueueSpec, paused: bool) -> Result<(), BusError>;

    /// The newest `max` dead letters whose reason contains `reason`. Reads no bodies.
    async fn dead(
        &self,
        queue: &QueueSpec,
        reason: &str,
        max: usize,
    ) -> Result<Vec<DeadLetter>, BusError>;

    /// The dead letter `id` with its content; `None` when it is gone.
    async fn dead_letter(
        &self,
        queue: &QueueSpec,
        id: &str,
    ) -> Result<Option<(DeadLetter, DeadLetterPayload)>, BusError>;

    /// Makes messages of dead letters ready again, in the order of `ids` and with no attempts. Returns the number of those
    /// that existed.
    async fn requeue_dead(&self, queue: &QueueSpec, ids: &[String]) -> Result<usize, BusError>;

    /// Drops dead letters. Returns the number of those that existed.
    async fn drop_dead(&self, queue: &QueueSpec, ids: &[String]) -> Result<usize, BusError>;
}

/// The rate behind [`QueueStatus::settled_per_minute`]: `last` were settled in the last whole minute, and `current` in
/// the `seconds` since.
pub(crate) fn per_minute(last: u64, current: u64, seconds: u64) -> f64 {
    (last + current) as f64 * 60.0 / (60 + seconds) as f64
}

impl Policy {
    /// The bound that a queue in this state has reached, if any.
    pub fn bound_reached(&self, status: &QueueStatus) -> Option<Bound> {
        let messages = self
            .max_depth
            .filter(|bound| status.depth.unfinished() >= *bound)
            .map(Bound::Messages);
        let bytes = self
            .max_bytes
            .filter(|bound| status.bytes >= *bound)
            .map(Bound::Bytes);
        messages.or(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_over_the_last_whole_minute_and_the_current_one() {
        for (last, current, seconds, expected) in [
            (0, 0, 0, 0.0),
            (60, 0, 0, 60.0),
            (60, 30, 30, 60.0),
            (0, 8, 20, 6.0),
        ] {
            assert_eq!(
                per_minute(last, current, seconds),
                expected,
                "{last} {current} {seconds}"
            );
        }
    }
}
