//! What a listener counts.

use bus::EnqueueOutcome;
use metrics::{Counter, Gauge, Histogram};

/// The meters of one Pulse queue.
pub(crate) struct Meters {
    stored: Counter,
    repeated: Counter,
    /// Messages that no route asks for.
    pub(crate) unwanted: Counter,
    /// How often the connection had to be opened again.
    pub(crate) reconnects: Counter,
    /// How many messages wait on Pulse.
    pub(crate) depth: Gauge,
    /// How long messages took from being published to being stored on the bus, in seconds.
    pub(crate) lag: Histogram,
}

impl Meters {
    pub(crate) fn new(queue: &str) -> Self {
        let queue = || queue.to_owned();
        let came = |how: &'static str| metrics::counter!("pulse_messages_total", "queue" => queue(), "outcome" => how);
        Self {
            stored: came("stored"),
            repeated: came("repeated"),
            unwanted: came("unwanted"),
            reconnects: metrics::counter!("pulse_reconnects_total", "queue" => queue()),
            depth: metrics::gauge!("pulse_queue_depth", "queue" => queue()),
            lag: metrics::histogram!("pulse_lag_seconds", "queue" => queue()),
        }
    }

    pub(crate) fn count(&self, pushed: EnqueueOutcome) {
        self.stored.increment(pushed.inserted as u64);
        self.repeated.increment(pushed.duplicates as u64);
    }
}
