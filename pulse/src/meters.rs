//! The metrics of one Pulse queue, by its name.

use bus::EnqueueOutcome;
use metrics::{Counter, Gauge, Histogram};

/// The metrics of the queue itself.
pub(crate) struct QueueMeters {
    /// Connections after the first.
    pub(crate) reconnects: Counter,
    /// Messages that wait on Pulse.
    pub(crate) depth: Gauge,
}

impl QueueMeters {
    pub(crate) fn new(queue: &str) -> Self {
        Self {
            reconnects: metrics::counter!("pulse_reconnects_total", "queue" => queue.to_owned()),
            depth: metrics::gauge!("pulse_queue_depth", "queue" => queue.to_owned()),
        }
    }
}

/// The metrics of messages that go to the bus.
pub(crate) struct ForwardMeters {
    stored: Counter,
    duplicate: Counter,
    /// Messages that match no route.
    pub(crate) unrouted: Counter,
    /// Seconds from the publication of a message until it is stored on the bus.
    pub(crate) lag: Histogram,
}

impl ForwardMeters {
    pub(crate) fn new(queue: &str) -> Self {
        let messages = |outcome: &'static str| metrics::counter!("pulse_messages_total", "queue" => queue.to_owned(), "outcome" => outcome);
        Self {
            stored: messages("stored"),
            duplicate: messages("duplicate"),
            unrouted: messages("unrouted"),
            lag: metrics::histogram!("pulse_lag_seconds", "queue" => queue.to_owned()),
        }
    }

    pub(crate) fn count(&self, pushed: EnqueueOutcome) {
        self.stored.increment(pushed.inserted as u64);
        self.duplicate.increment(pushed.duplicates as u64);
    }
}
