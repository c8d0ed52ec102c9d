//! Policies that queues of several features share.

use std::time::Duration;

use bus::{Backoff, Policy};

/// Waits for a service that is away: 5 s, 15 s, 45 s, then a minute each, so that everybody has their answer a minute
/// after it is back.
pub(super) const OUTSIDE: Backoff = Backoff {
    first: Duration::from_secs(5),
    factor: 3,
    cap: Duration::from_secs(60),
};

/// Requests to Taskcluster. While it is away, or refuses our credentials, that costs no attempt.
pub(super) const ELSEWHERE: Policy = Policy {
    backoff: OUTSIDE,
    attempts: 300,
    ..Policy::DEFAULT
};

/// Answers on build targets. One that cannot be published is retried for a week: nobody else would publish it.
pub(super) const PUBLISHING: Policy = Policy {
    backoff: OUTSIDE,
    attempts: 10_000,
    ..Policy::DEFAULT
};

/// Messages of Pulse. A queue on Pulse that grows is deleted, so these take everything. RabbitMQ redelivers a message soon,
/// if at all: one that is published again later is handled again.
pub(super) const FROM_PULSE: Policy = Policy {
    dedup_window: Duration::from_secs(3600),
    ..ELSEWHERE
};
