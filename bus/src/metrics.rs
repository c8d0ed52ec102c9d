//! What a consumer counts.

use metrics::{Counter, Histogram};

use crate::Settlement;

/// The counters of one queue. They are looked up once, and cost next to nothing from then on.
pub(crate) struct Metrics {
    done: Counter,
    retried: Counter,
    deferred: Counter,
    dead: Counter,
    released: Counter,
    lost: Counter,
    /// How long handlers worked, in seconds.
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
            lost: ended("lost"),
            handling: metrics::histogram!("bus_handling_seconds", "queue" => queue),
        }
    }

    /// Counts how a message ended; `None` when its lease was lost.
    pub(crate) fn count(&self, how: Option<&Settlement>) {
        let counter = match how {
            Some(Settlement::Done { .. }) => &self.done,
            Some(Settlement::Retry { .. }) => &self.retried,
            Some(Settlement::Defer { .. }) => &self.deferred,
            Some(Settlement::Dead { .. }) => &self.dead,
            Some(Settlement::Release) => &self.released,
            None => &self.lost,
        };
        counter.increment(1);
    }
}
