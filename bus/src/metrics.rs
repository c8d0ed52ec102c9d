//! Metrics of consumers.

use metrics::{Counter, Histogram};

use crate::Settlement;

/// The metrics of one queue. They are registered once, so that counting is cheap.
pub(crate) struct Metrics {
    done: Counter,
    retried: Counter,
    deferred: Counter,
    dead: Counter,
    released: Counter,
    lease_lost: Counter,
    /// The durations of handlers, in seconds.
    pub(crate) handling: Histogram,
}

impl Metrics {
    pub(crate) fn new(queue: &'static str) -> Self {
        let ended = |how: &'static str| metrics::counter!("bus_messages_total", "queue" => queue, "outcome" => how);
        Self {
            done: ended("done"),
            retried: ended("retried"),
            deferred: ended("deferred"),
            dead: ended("dead"),
            released: ended("released"),
            lease_lost: ended("lease_lost"),
            handling: metrics::histogram!("bus_handler_duration_seconds", "queue" => queue),
        }
    }

    /// Counts a delivery by its settlement; `None` when its lease was lost.
    pub(crate) fn count(&self, how: Option<&Settlement>) {
        let counter = match how {
            Some(Settlement::Done { .. }) => &self.done,
            Some(Settlement::Retry { .. }) => &self.retried,
            Some(Settlement::Defer { .. }) => &self.deferred,
            Some(Settlement::Dead { .. }) => &self.dead,
            Some(Settlement::Release) => &self.released,
            None => &self.lease_lost,
        };
        counter.increment(1);
    }
}
