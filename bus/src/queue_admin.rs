//! What an operator may ask of a backend, and do to what waits in it.
//!
//! Nothing here takes part in handling messages. What touches many of them does so in chunks, so that the queue goes on
//! being served meanwhile; what arrives during such an operation may or may not be part of it.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Bound, BusError, Envelope, Policy, QueueSpec};

/// How full a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Depth {
    /// Messages that can be reserved now.
    pub ready: usize,
    /// Messages that a worker holds.
    pub in_flight: usize,
    /// Messages whose time has not come.
    pub delayed: usize,
    /// Dead letters.
    pub dead: usize,
}

impl Depth {
    /// What is still to be handled: everything but the dead letters.
    pub fn unfinished(&self) -> usize {
        self.ready + self.in_flight + self.delayed
    }
}

/// A delayed message that becomes ready this long after it was due is late.
pub const LATE: Duration = Duration::from_secs(30);

/// How a queue is doing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct QueueStatus {
    /// How full it is.
    pub depth: Depth,
    /// Whether nothing is taken from it until it is resumed.
    pub paused: bool,
    /// How long ago the oldest message that is ready or in flight became ready.
    pub oldest: Option<Duration>,
    /// How long ago a delayed message last became ready [`LATE`] or more after it was due: nobody had asked for messages.
    pub last_late: Option<Duration>,
    /// Messages that ended, well or as dead letters, per minute: over the last whole minute and the one that runs.
    pub finished_per_minute: f64,
    /// What its messages take, about, in bytes: those that are ready, in flight or delayed.
    pub bytes: u64,
}

/// Where a message is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum MessageState {
    /// It can be reserved.
    Ready {
        /// When it became ready.
        since: Timestamp,
    },
    /// A worker holds it.
    InFlight {
        /// When it became ready.
        since: Timestamp,
    },
    /// Its time has not come.
    Delayed {
        /// When it becomes ready.
        due: Timestamp,
    },
}

/// A message as it lies in its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedMessage {
    /// Where it is on its way.
    pub state: MessageState,
    /// How often it was tried, the attempt that runs included.
    pub attempts: u32,
    /// The message.
    pub envelope: Envelope,
}

/// Which messages of a queue are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageSelector {
    /// All that are there.
    All,
    /// The one with this id.
    One(Uuid),
}

/// A message that could not be handled, kept until an operator decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Names the letter within its queue.
    pub id: String,
    /// Why it died.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it died.
    pub died_at: Timestamp,
    /// Whether it held no message of ours when it died.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreadable: bool,
}

/// What a dead letter holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterPayload {
    /// The message.
    Message(Envelope),
    /// The bytes of something that was no message of ours.
    Unreadable(Vec<u8>),
}

/// The operator's side of a backend.
#[async_trait]
pub trait QueueAdmin: Send + Sync + 'static {
    /// How the queue is doing. Reads no bodies.
    async fn status(&self, queue: &QueueSpec) -> Result<QueueStatus, BusError>;

    /// How full the queue is.
    async fn depth(&self, queue: &QueueSpec) -> Result<Depth, BusError> {
        Ok(self.status(queue).await?.depth)
    }

    /// At most `max` messages, untouched: first those that are ready or in flight by the time at which they became
    /// ready, then the delayed ones by the time at which they will.
    async fn peek(&self, queue: &QueueSpec, max: usize) -> Result<Vec<QueuedMessage>, BusError>;

    /// The message `id`, untouched, unless it is gone.
    async fn message(&self, queue: &QueueSpec, id: Uuid)
    -> Result<Option<QueuedMessage>, BusError>;

    /// Makes delayed messages ready now, with their attempts as they are. Returns how many.
    async fn requeue(&self, queue: &QueueSpec, which: MessageSelector) -> Result<usize, BusError>;

    /// Throws away messages that are ready or delayed, not those that a worker holds. Returns how many.
    async fn drop_waiting(
        &self,
        queue: &QueueSpec,
        which: MessageSelector,
    ) -> Result<usize, BusError>;

    /// Stops or resumes reservations from the queue, in every process. Pushes go on, and so does what is in flight.
    async fn set_paused(&self, queue: &QueueSpec, paused: bool) -> Result<(), BusError>;

    /// The newest `max` dead letters whose reason contains `reason`. Reads no bodies.
    async fn dead(
        &self,
        queue: &QueueSpec,
        reason: &str,
        max: usize,
    ) -> Result<Vec<DeadLetter>, BusError>;

    /// The dead letter `id` with what it holds, unless it is gone.
    async fn dead_letter(
        &self,
        queue: &QueueSpec,
        id: &str,
    ) -> Result<Option<(DeadLetter, DeadLetterPayload)>, BusError>;

    /// Puts dead letters back into their queue, with their attempts at zero and in the order of `ids`. Returns how many
    /// there were.
    async fn requeue_dead(&self, queue: &QueueSpec, ids: &[String]) -> Result<usize, BusError>;

    /// Throws dead letters away. Returns how many there were.
    async fn drop_dead(&self, queue: &QueueSpec, ids: &[String]) -> Result<usize, BusError>;
}

/// The rate behind [`QueueStatus::finished_per_minute`]: `last` were finished in the last whole minute, and `current` in
/// the `seconds` since.
pub(crate) fn per_minute(last: u64, current: u64, seconds: u64) -> f64 {
    (last + current) as f64 * 60.0 / (60 + seconds) as f64
}

impl Policy {
    /// The bound that a queue in this state is at, if it is at one.
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
