//! How a queue treats its messages.

use std::{fmt, time::Duration};

use runtime::Clock;

/// A queue's rules. They stand beside the queue's name, as a const.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// How long a reserved message stays with its worker without a sign of life. The worker renews it at a third.
    pub lease: Duration,
    /// How often a message is tried before it becomes a dead letter. Attempts count at reservation, so one that its
    /// worker did not live to settle is counted too.
    pub attempts: u32,
    /// How often in a row a message may be taken and not settled (its worker died of it, or lost its lease) before it
    /// becomes a dead letter, however many attempts are left.
    pub max_unsettled_deliveries: u32,
    /// The waits between attempts.
    pub backoff: Backoff,
    /// How many messages one process handles at once.
    pub concurrency: usize,
    /// For a queue with partitions: how many messages of one partition a process handles at once.
    pub partition_concurrency: usize,
    /// The most messages that may wait (ready, in flight or delayed); a push beyond it is answered with
    /// [`crate::BusError::Full`]. What handlers send is never refused: it was accepted already.
    pub max_depth: Option<usize>,
    /// The bytes, about, from which on the waiting messages take too much; a push is then answered as one beyond `max_depth` is.
    pub max_bytes: Option<u64>,
    /// How long the key of a message sent with `send_deduplicated` is remembered.
    pub dedup_window: Duration,
}

impl Policy {
    /// Whether a push can be refused.
    pub(crate) fn is_bounded(&self) -> bool {
        self.max_depth.is_some() || self.max_bytes.is_some()
    }

    /// The rules that most queues keep.
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

/// What the bus knows of a queue: its name and its rules.
#[derive(Debug, Clone, Copy)]
pub struct QueueSpec {
    /// The queue's name, unique in a deployment.
    pub name: &'static str,
    /// Its rules.
    pub policy: Policy,
    /// Whether its messages belong to partitions. Messages of one partition are taken in order, different partitions
    /// side by side.
    pub partitions: bool,
}

/// What a queue may hold at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// So many messages.
    Messages(usize),
    /// Messages with so many bytes together.
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

/// Growing waits: `first`, `first × factor`, `first × factor²`, … up to `cap`.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The wait after the first failed attempt.
    pub first: Duration,
    /// What each wait is multiplied by to give the next.
    pub factor: u32,
    /// The longest wait.
    pub cap: Duration,
}

impl Backoff {
    /// The wait after attempt number `attempt` (from 1), with a jitter of ±10 % so that what failed together does
    /// not come back together.
    pub fn after(&self, attempt: u32, clock: &dyn Clock) -> Duration {
        let factor = self.factor.saturating_pow(attempt.saturating_sub(1));
        let base = self.first.saturating_mul(factor).min(self.cap);
        let spread = base / 5;
        let jitter = spread.mul_f64(clock.random() as f64 / u64::MAX as f64);
        base - spread / 2 + jitter
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::ManualClock;

    #[test]
    fn waits_grow_by_the_factor_within_the_jitter_and_stop_at_the_cap() {
        let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let backoff = Backoff {
            first: Duration::from_secs(6),
            factor: 6,
            cap: Duration::from_secs(1000),
        };
        for (attempt, expected) in [(1, 6.0), (2, 36.0), (3, 216.0), (4, 1000.0), (40, 1000.0)] {
            let wait = backoff.after(attempt, &clock).as_secs_f64();
            assert!(
                (expected * 0.9..=expected * 1.1).contains(&wait),
                "attempt {attempt}: {wait}"
            );
        }
    }
}
